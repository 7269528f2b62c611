"""What an operation can answer instead of doing it: RFC 9457 problems with fixed types and texts. One table.

Nothing of a request comes back but the place of a field. Refusals of `store` and `control` carry a code of this table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiohttp import web

CONTENT_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of problem."""

    status: int
    title: str
    detail: str


_NOT_JSON = "Send one JSON object in UTF-8, no name in it twice, at most 16 levels deep, numbers that JSON has."
PROBLEMS: Final = {
    "not_json": Row(400, "The body is not JSON", _NOT_JSON),
    "bad_cursor": Row(400, "The cursor is not valid", "Give `next_cursor` of the page before, with the same query."),
    "bad_idempotency_key": Row(
        400, "The Idempotency-Key is not valid", "Give 1 to 128 printable ASCII characters without spaces, once."
    ),
    "bad_if_match": Row(400, "The If-Match header is not valid", "Give the ETag of an earlier answer, or `*`."),
    "unauthenticated": Row(
        401, "Who asks is not known", "Sign in, or send a valid token as `Authorization: Bearer lxp_...`."
    ),
    "denied": Row(403, "This is not allowed", "The role, or the token's scopes, do not allow this operation."),
    "sign_in": Row(403, "Sign in for this", "A token cannot do this; sign in to the console."),
    "prove_again": Row(
        403, "Prove again that it is you", "This needs the password or a second factor within the last ten minutes."
    ),
    "not_a_member": Row(
        403, "Only a member can have a key of their own", "Make one that is the account's: `owner` `account`."
    ),
    "cross_site": Row(
        403, "The request comes from another site", "Changes with a session must come from the console's own origin."
    ),
    "wider_policy": Row(
        403,
        "The policy is too wide",
        "It is wider than the installation's and than what the account's owner agreed to (consents).",
    ),
    "not_found": Row(404, "There is no such thing", "It does not exist, or it is not yours to see."),
    "method_not_allowed": Row(405, "This method is not known here", "The Allow header names those that are."),
    "not_acceptable": Row(406, "Only JSON is spoken here", "Accept application/json."),
    "slow_body": Row(408, "The body did not arrive in time", "Send the whole body within ten seconds."),
    "conflict": Row(409, "This does not fit the present state", "Read the present state, then try again."),
    "made_already": Row(
        409,
        "This was made already",
        "The same request with this Idempotency-Key made the thing named by `id`. A secret is shown once only.",
    ),
    "name_taken": Row(409, "The name is taken", "Choose another name."),
    "other_text": Row(409, "The text is another one by now", "Read the present text, then agree to that one."),
    "no_objection": Row(409, "There is no such objection", "It was not made, or it was withdrawn already."),
    "no_consent": Row(409, "There is no such consent", "It was not given, or it was withdrawn already."),
    "no_longer_time": Row(
        409, "There is no longer time to take", "It was taken before, the law has none, or the request has ended."
    ),
    "under_way": Row(409, "One of these is under way", "Wait until it has ended; GET /work shows how far it is."),
    "needs_link": Row(409, "This needs the invitation's link", "Where no mail goes out, open the link you were given."),
    "unproven_address": Row(409, "The address is not proven", "Send a link to it from the profile, and open that."),
    "ended": Row(409, "The request has ended", "It was carried out, refused or withdrawn."),
    "last_owner": Row(
        409, "An account has to have an owner", "Make another member its owner first, or close the account."
    ),
    "address_taken": Row(409, "There is a person with this address", "Each address is one person's."),
    "suspended": Row(409, "The person is suspended", "Resume the person first."),
    "member_already": Row(409, "This person is a member already", "Change the member's role instead."),
    "invited_already": Row(
        409, "The address was invited at the same moment", "Look at the invitations, then try again."
    ),
    "last_operator": Row(
        409,
        "An installation has to have an operator",
        "Make another person one first: `luntrex-proxy people operator`.",
    ),
    "no_upstream": Row(404, "There is no such upstream", "GET /upstreams lists those of the configuration."),
    "closed": Row(403, "Only the operator adds new people here", "Ask whoever runs this installation."),
    "exercise": Row(409, "This is an exercise", "Nobody is told of one."),
    "closed_already": Row(409, "The incident is closed already", "What is closed stays in the register as it is."),
    "not_stated": Row(
        409,
        "Not everything is stated yet",
        "Each entry of `errors` names what people have to be told; state it, `contact` in the configuration.",
    ),
    "decided": Row(
        409, "The report was decided on", "It was confirmed or dismissed already, or nobody has the address."
    ),
    "not_confirmed": Row(
        409, "There is nothing to take back", "The report is not confirmed, or the person is erased already."
    ),
    "unchanged": Row(409, "The entry says so already", "Send what is to be another than before."),
    "no_capture_consent": Row(
        409,
        "The account did not consent",
        "A service key is captured while the consent debug_capture is in force.",
    ),
    "captured_already": Row(409, "The key is captured already", "Stop that capture first."),
    "bad_public_key": Row(422, "This is no public key", "Give the one that `debug-capture keygen` printed."),
    "account_suspended": Row(409, "The account is suspended", "It has to be resumed first."),
    "key_ended": Row(409, "The key has ended", "It is revoked or expired for good; make a new one."),
    "key_suspended": Row(409, "The key is suspended", "Resume it first."),
    "person_suspended": Row(409, "Who owns the key is suspended", "The person has to be resumed first."),
    "suspended_by_admin": Row(403, "An admin suspended this key", "An admin of the account has to resume it."),
    "limited_by_admin": Row(
        403, "An admin set this limit of the key", "An admin of the account has to change it; other kinds are yours."
    ),
    "label_in_use": Row(
        409, "Keys or budgets have this label", "Give those keys another value or none, and clear those budgets, first."
    ),
    "key_rotated": Row(409, "The key was rotated already", "Rotate its successor: the one with this `rotated_from`."),
    "stale": Row(412, "It was changed meanwhile", "Read it again, and send its new ETag."),
    "body_too_large": Row(413, "The body is too large", "Send at most 65,536 bytes."),
    "not_a_json_type": Row(415, "The body has another type", "Send application/json, without a content-encoding."),
    "invalid": Row(422, "Some fields are not valid", "Each entry of `errors` names a field and says what it must be."),
    "bad_times": Row(
        422, "The times are not valid", "It has to end in the future, before the year 10000, and after it begins."
    ),
    "ahead": Row(422, "The time lies ahead", "Give a time that has passed."),
    "bad_reach": Row(
        422, "This cannot be reached", "It has to end after it begins; a table is one that /privacy/inventory names."
    ),
    "bad_text": Row(422, "The text is too long", "A title has 1 to 200 characters, what is stated at most 4,000 each."),
    "bad_note": Row(422, "The note is not valid", "A note has 1 to 500 characters, on one line."),
    "bad_name": Row(422, "The name is not valid", "A name has at most 200 characters that can be seen, on one line."),
    "no_account": Row(422, "There is no such account", "Give the name of an account that is there."),
    "not_affirmed_16": Row(
        422, "This is for people of 16 and older", "Affirm that the person is; else nothing of them is kept here."
    ),
    "bad_address": Row(422, "The address is not valid", "Give a mail address such as ada@example.org, in ASCII."),
    "bad_expiry": Row(422, "The time is not valid", "A token ends in the future, within a year at most."),
    "bad_policy": Row(
        422,
        "The policy is not valid",
        "Write it as `region=eu,ch; retention=abuse_monitoring:30; training=never`; only region may be left out.",
    ),
    "bad_limits": Row(
        422,
        "These limits cannot be",
        "A shorter time cannot allow more than a longer one, and at most 64 models have limits of their own.",
    ),
    "bad_routes": Row(
        422,
        "These routes cannot be",
        "Targets are upstreams of the configuration, each once, one with a weight; models are ones that are allowed.",
    ),
    "bad_month": Row(422, "The month is not valid", "A month is shown once it has begun, and closed once it is over."),
    "bad_labels": Row(
        422,
        "These labels cannot be",
        "An account declares up to five labels with their values; keys carry those, from a day on that is not ahead.",
    ),
    "bad_budgets": Row(
        422,
        "These budgets cannot be",
        "A hard budget of a shorter time cannot exceed that of a longer one; a soft one has to tell at some part.",
    ),
    "bad_time_zone": Row(422, "There is no such time zone", "Give a name of the IANA list, such as Europe/Berlin."),
    "reused_idempotency_key": Row(
        422, "The Idempotency-Key was used for another request", "Use a new key for each new request."
    ),
    "throttled": Row(429, "Too many tries", "Wait as long as Retry-After says."),
    "internal": Row(500, "The server failed", "Its log says where."),
    "unavailable": Row(503, "The database does not answer", "Try again shortly."),
}


class Problem(Exception):  # noqa: N818 -- it is an answer, not a programming error
    """Raised anywhere below an operation; rendered once, in routing.py."""

    def __init__(
        self,
        code: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        object_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code if code in PROBLEMS else "conflict"  # a refusal's own code need not have a text here
        self.errors = errors
        self.object_id = object_id
        self.headers = headers or {}

    def response(self) -> web.Response:
        """The answer."""
        row = PROBLEMS[self.code]
        body: dict[str, Any] = {
            "type": f"urn:luntrex:problem:{self.code}",
            "title": row.title,
            "status": row.status,
            "detail": row.detail,
        }
        if self.errors:
            body["errors"] = self.errors
        if self.object_id is not None:
            body["id"] = self.object_id
        return web.Response(
            status=row.status, body=orjson.dumps(body), headers={**self.headers, "Content-Type": CONTENT_TYPE}
        )


def invalid(place: str, sentence: str) -> Problem:
    """One field is wrong: a JSON pointer into the body (`/scope/models/0`) or the name of a query parameter."""
    return Problem("invalid", errors=({"field": place, "message": sentence},))


def unauthenticated() -> Problem:
    """Nobody was named, or nobody known."""
    return Problem("unauthenticated", headers={"WWW-Authenticate": 'Bearer realm="luntrex-proxy"'})
