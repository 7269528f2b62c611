"""What the key ring asks the tables. Statements only."""

# ruff: noqa: S608 -- statements of constants of this file
from typing import Final

from luntrex_proxy.core.consents import Purpose, routing_bits

# $1 and $2 are the fingerprints of our peppers, the present one and the one before (or the same again).


def _bits(column: str) -> str:
    """The consents in this column as `routing_bits` would have them."""
    terms = (f"{routing_bits((name,))} * ('{name}' = ANY ({column}))::int" for name in Purpose if routing_bits((name,)))
    return f"CASE WHEN {column} = '{{}}' THEN 0 ELSE {' + '.join(terms)} END"


RESTRICTED_PEOPLE: Final = "SELECT person_id FROM person WHERE restricted_at IS NOT NULL"
# Whose own keys are restricted as well: all members are.
RESTRICTED_ACCOUNTS: Final = f"""
SELECT account_id FROM membership JOIN person USING (person_id)
WHERE account_id IN (SELECT account_id FROM membership WHERE person_id IN ({RESTRICTED_PEOPLE}))
GROUP BY account_id HAVING bool_and(restricted_at IS NOT NULL)
"""
# Few, so always all of them: whatever has changed who they are, nothing is missed.
RESTRICTED: Final = f"""
SELECT ARRAY({RESTRICTED_ACCOUNTS}) AS accounts,
       ARRAY(SELECT uuid_send(person_id) FROM ({RESTRICTED_PEOPLE}) people) AS people
"""
_ACCOUNT: Final = f"""
SELECT account_id, status = 'active' AS active, policy, {_bits("consents")} AS consents FROM account
"""
ACCOUNTS: Final = f"{_ACCOUNT} WHERE status <> 'active' OR policy IS NOT NULL OR consents <> '{{}}'"
CHANGED_ACCOUNTS: Final = f"{_ACCOUNT} WHERE version > $1"
# Since $1, and those of $2: one just made has no change to be read by.
NEWEST_ACCOUNTS: Final = f"{_ACCOUNT} WHERE version > $1 OR account_id = ANY($2)"
THESE_ACCOUNTS: Final = f"{_ACCOUNT} WHERE account_id = ANY($1)"
_LIVE: Final = "k.status = 'active' AND (k.expires_at IS NULL OR k.expires_at > now())"
_COLUMNS: Final = f"""
       k.key_id, h.hashed, CASE WHEN h.hashed IS NULL THEN k.bcrypt_hash END AS unproven, k.account_id,
       uuid_send(k.person_id) AS person,
       coalesce(extract(epoch FROM k.not_before)::float8, 0) AS not_before,
       coalesce(extract(epoch FROM k.expires_at)::float8, 0) AS expires_at,
       k.endpoints, k.models, k.regions, k.networks::text[] AS networks, {_LIVE} AS live
"""
_FROM: Final = """
FROM api_key k, LATERAL (SELECT
    CASE WHEN k.pepper_fingerprint = $1 THEN k.lookup_hash
         WHEN k.old_pepper_fingerprint = $1 THEN k.old_lookup_hash
         WHEN k.pepper_fingerprint = $2 THEN k.lookup_hash
         WHEN k.old_pepper_fingerprint = $2 THEN k.old_lookup_hash END AS hashed) h
"""
ALL_LIVE: Final = f"SELECT {_COLUMNS} {_FROM} WHERE {_LIVE}"
CHANGED: Final = f"SELECT {_COLUMNS}, k.lookup_hash, k.old_lookup_hash {_FROM} WHERE k.version > $3"
ONE: Final = f"SELECT {_COLUMNS} {_FROM} WHERE k.key_id = $3"
# While many keys are read (somebody is erased, a restored database) these do not wait their turn. $3: the last version
# that they were asked for.
NEWEST: Final = f"{CHANGED} ORDER BY k.version DESC LIMIT 500"
# A restored database can be ahead of us again by the time we ask; its history is another one all the same. The audit
# log knows: each act has an entry, whose hash follows from all entries before. `known` is that of the entry that was
# the last one when we read last ($1). Whatever way a database was restored (our verb, psql, a disk's snapshot), that an
# act we knew of is undone shows. What cannot show: changes that have no entry, made by SQL of one's own.
STATE: Final = """
SELECT version, removed_version, pepper_fingerprint, old_pepper_fingerprint, h.sequence, h.hash,
       CASE WHEN h.kept_sequence = $1 THEN h.kept_hash
            ELSE (SELECT hash FROM audit_entry WHERE sequence = $1) END AS known
FROM change_version CROSS JOIN audit_head h LEFT JOIN installation ON true
"""
# The last change that a removed key had (erasure): its row cannot say that it is gone. It was revoked first, so who had
# read that far before it went knows.
REMOVED: Final = "SELECT removed_version FROM change_version"
