"""/accounts/{account_id}/debug-captures: requests copied for debugging, encrypted to who asked for it."""

import base64
import binascii
import uuid
from datetime import datetime
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from luntrex_proxy.console.api.operations import Body, Call, Listed, Made, Operation, PageQuery, Shown, page
from luntrex_proxy.control import debugcapture
from luntrex_proxy.control.debugcapture import Capture
from luntrex_proxy.core.capture import MINUTES_MAX, REQUESTS_MAX
from luntrex_proxy.core.roles import Permission
from luntrex_proxy.settings.section import fault

_CHANGE: Final = (Permission.KEYS_WRITE, Permission.KEYS_OWN)
_KEY_BYTES: Final = 32


def _check_public_key(text: str) -> str:
    try:
        if len(base64.b64decode(text, validate=True)) == _KEY_BYTES:
            return text
    except (binascii.Error, ValueError):
        pass
    raise fault("must be the base64 of 32 bytes, as `luntrex-proxy debug-capture keygen` prints it")


class CaptureBody(Body):
    """A new capture."""

    public_key: Annotated[str, Field(pattern="^[A-Za-z0-9+/]{43}=$"), AfterValidator(_check_public_key)] = Field(
        description="Base64 of the X25519 public key that it is encrypted to."
    )
    requests: int = Field(20, ge=1, le=REQUESTS_MAX, description="How many at most.")
    minutes: int = Field(10, ge=1, le=MINUTES_MAX, description="How long at most.")


class CaptureShown(Shown):
    """A capture, without what it captured."""

    id: uuid.UUID
    key_id: str
    person_id: uuid.UUID = Field(description="Who started it, and alone gets what it captured.")
    live: bool
    requests_left: int
    records: int = Field(description="Requests captured and not deleted yet.")
    started_at: datetime
    expires_at: datetime
    ended_at: datetime | None


class RecordShown(Shown):
    """A captured request."""

    id: int
    at: datetime
    sealed: str = Field(description="Base64, encrypted to the capture's public key.")


async def _start(call: Call) -> Made:
    body: CaptureBody = call.body
    public_key = base64.b64decode(body.public_key)
    made = await debugcapture.start(
        call.services.pool, call.person, call.account_id, call.place["key_id"], public_key, body.requests, body.minutes
    )
    return _made(made)


async def _started(call: Call, object_id: str) -> Made:
    return _made(await debugcapture.get(call.services.pool, call.person, call.account_id, uuid.UUID(object_id)))


async def _list(call: Call) -> Listed:
    after = None if call.after is None else (call.after[0], call.after[1])
    found = await debugcapture.list_page(call.services.pool, call.person, call.account_id, after, call.rows)
    return page(call, found, _shown, lambda one: (one.started_at.isoformat(), str(one.capture_id)))


async def _stop(call: Call) -> CaptureShown:
    return _shown(await debugcapture.stop(call.services.pool, call.person, call.account_id, _id(call)))


async def _records(call: Call) -> Listed:
    after = 0 if call.after is None else int(call.after[0])
    found = await debugcapture.records(call.services.pool, call.person, call.account_id, _id(call), after, call.rows)
    return page(
        call,
        found,
        lambda one: RecordShown(id=one.record_id, at=one.at, sealed=base64.b64encode(one.sealed).decode()),
        lambda one: (one.record_id,),
    )


def _id(call: Call) -> uuid.UUID:
    return uuid.UUID(call.place["capture_id"])


def _shown(capture: Capture) -> CaptureShown:
    return CaptureShown(
        id=capture.capture_id,
        key_id=capture.key_id,
        person_id=capture.person_id,
        live=capture.live,
        requests_left=capture.requests_left,
        records=capture.records,
        started_at=capture.started_at,
        expires_at=capture.expires_at,
        ended_at=capture.ended_at,
    )


def _made(capture: Capture) -> Made:
    location = f"/accounts/{capture.account_id}/debug-captures/{capture.capture_id}"
    return Made(_shown(capture), str(capture.capture_id), location=location)


async def _get(call: Call) -> CaptureShown:
    return _shown(await debugcapture.get(call.services.pool, call.person, call.account_id, _id(call)))


OPERATIONS: Final = (
    Operation(
        name="debug_captures.start", method="POST", path="/accounts/{account_id}/keys/{key_id}/debug-captures",
        summary="Copy the next requests of a key, encrypted to one's own public key. Of one's own key, or of a service "
        "key with the account's consent.",
        access=_CHANGE, members_only=True, handler=_start, replay=_started, body=CaptureBody, answer=CaptureShown,
        makes=True, proven=True,
        problems=("no_capture_consent", "captured_already", "bad_public_key"),
    ),
    Operation(
        name="debug_captures.list", method="GET", path="/accounts/{account_id}/debug-captures",
        summary="List debug captures, newest first.",
        access=(Permission.KEYS_READ, *_CHANGE), handler=_list, query=PageQuery, answer=CaptureShown,
    ),
    Operation(
        name="debug_captures.get", method="GET", path="/accounts/{account_id}/debug-captures/{capture_id}",
        summary="Show a debug capture.",
        access=(Permission.KEYS_READ, *_CHANGE), handler=_get, answer=CaptureShown,
    ),
    Operation(
        name="debug_captures.stop", method="POST", path="/accounts/{account_id}/debug-captures/{capture_id}/stop",
        summary="End a debug capture, everywhere within a second.",
        access=_CHANGE, handler=_stop, answer=CaptureShown,
    ),
    Operation(
        name="debug_captures.records", method="GET",
        path="/accounts/{account_id}/debug-captures/{capture_id}/records",
        summary="Get what was captured, for who started it: ciphertext, kept for 24 hours.",
        access=_CHANGE, handler=_records, query=PageQuery, answer=RecordShown, members_only=True,
    ),
)  # fmt: skip
