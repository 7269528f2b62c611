"""What the key ring asks the tables. Statements only."""

from typing import Final

from luntrex_proxy.core.consents import Purpose, routing_bits
from luntrex_proxy.core.scope import RESTRICTED

# $1 and $2 are the fingerprints of our peppers, the present one and the one before (or the same again).


def _bits(column: str) -> str:
    """The consents in this column as `routing_bits` would have them."""
    terms = (f"{routing_bits((name,))} * ('{name}' = ANY ({column}))::int" for name in Purpose if routing_bits((name,)))
    return f"CASE WHEN {column} = '{{}}' THEN 0 ELSE {' + '.join(terms)} END"


# Keys of people who asked that their data only be stored, and those of accounts whose members all did. Asked once per
# statement, not per key.
_RESTRICTED: Final = """
    (k.person_id = ANY (ARRAY(SELECT person_id FROM person WHERE status = 'restricted')) OR k.person_id IS NULL AND
     k.account_id = ANY (ARRAY(SELECT m.account_id FROM membership m JOIN person p USING (person_id)
        WHERE m.account_id IN (SELECT account_id FROM membership JOIN person r USING (person_id)
            WHERE r.status = 'restricted')
        GROUP BY m.account_id HAVING bool_and(p.status = 'restricted'))))
"""
_COLUMNS: Final = f"""
       k.key_id, h.hashed, CASE WHEN h.hashed IS NULL THEN k.bcrypt_hash END AS unproven, k.account_id,
       coalesce(extract(epoch FROM k.not_before)::float8, 0) AS not_before,
       coalesce(extract(epoch FROM k.expires_at)::float8, 0) AS expires_at,
       a.policy, {_bits("a.consents")} AS consents,
       CASE WHEN {_RESTRICTED} THEN ARRAY['{RESTRICTED}'] ELSE k.endpoints END AS endpoints,
       k.models, k.regions, k.networks::text[] AS networks,
       k.status = 'active' AND a.status = 'active' AND (k.expires_at IS NULL OR k.expires_at > now()) AS live
"""
_FROM: Final = """
FROM api_key k JOIN account a USING (account_id), LATERAL (SELECT
    CASE WHEN k.pepper_fingerprint = $1 THEN k.lookup_hash
         WHEN k.old_pepper_fingerprint = $1 THEN k.old_lookup_hash
         WHEN k.pepper_fingerprint = $2 THEN k.lookup_hash
         WHEN k.old_pepper_fingerprint = $2 THEN k.old_lookup_hash END AS hashed) h
"""
ALL_LIVE: Final = (
    f"SELECT {_COLUMNS} {_FROM}"
    " WHERE k.status = 'active' AND a.status = 'active' AND (k.expires_at IS NULL OR k.expires_at > now())"
)
_CHANGED_COLUMNS: Final = f"SELECT {_COLUMNS}, k.lookup_hash, k.old_lookup_hash {_FROM}"
CHANGED: Final = (
    f"{_CHANGED_COLUMNS} WHERE k.version > $3 UNION ALL {_CHANGED_COLUMNS}"  # noqa: S608 -- constants of this file
    " WHERE k.account_id IN (SELECT account_id FROM account WHERE version > $3) AND k.version <= $3"
    " AND k.status = 'active'"
)
ONE: Final = f"SELECT {_COLUMNS} {_FROM} WHERE k.key_id = $3"
# While many keys are read (an account with a million is suspended, somebody is erased) these do not wait their
# turn. $3: the last version that they were asked for.
NEWEST: Final = f"{_CHANGED_COLUMNS} WHERE k.version > $3 ORDER BY k.version DESC LIMIT 500"
HALTED: Final = "SELECT account_id, version FROM account WHERE version > $1 AND status <> 'active'"
HALTED_KEYS: Final = "SELECT key_id FROM api_key WHERE key_id = ANY($1) AND account_id = ANY($2)"
# A restored database can be ahead of us again by the time we ask; its history is another one all the same. The audit
# log knows: each act has an entry, whose hash follows from all entries before. `known` is that of the entry that was
# the last one when we read last ($1). Whatever way a database was restored (our verb, psql, a disk's snapshot), that an
# act we knew of is undone shows. What cannot show: changes that have no entry, made by SQL of one's own. Removed keys
# (erasure) look like a restore: their rows cannot say that they are gone.
STATE: Final = """
SELECT version, pepper_fingerprint, old_pepper_fingerprint, h.sequence, h.hash,
       CASE WHEN $1 < removed_at_sequence THEN NULL WHEN h.kept_sequence = $1 THEN h.kept_hash
            ELSE (SELECT hash FROM audit_entry WHERE sequence = $1) END AS known
FROM change_version CROSS JOIN audit_head h LEFT JOIN installation ON true
"""
