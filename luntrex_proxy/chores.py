"""What runs beside the requests, each a loop of its own that a failure does not end.

The log's lines, the audit log's anchors, secrets set meanwhile, the watchdog, and trouble told once.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import structlog

from luntrex_proxy import systemd
from luntrex_proxy.control import children
from luntrex_proxy.control.alerts import Sender, raise_due
from luntrex_proxy.control.mailing import Postman
from luntrex_proxy.gateway.pipeline import Pipeline
from luntrex_proxy.gateway.upstreams import UnusableUpstreamError
from luntrex_proxy.observe import logs
from luntrex_proxy.observe.batches import Batches
from luntrex_proxy.observe.refusedkeys import RefusedKeys
from luntrex_proxy.observe.requestlog import RequestLog
from luntrex_proxy.settings.alerts import Alerts
from luntrex_proxy.store import audit, checkjournal
from luntrex_proxy.store.anchors import AnchorKey, append_anchor
from luntrex_proxy.store.attempts import AttemptBook
from luntrex_proxy.store.capturing import CaptureBook
from luntrex_proxy.store.database import DRIVER_ERRORS, Pool
from luntrex_proxy.store.debugcapture import delete_old
from luntrex_proxy.store.errors import StoreError, StoreUnavailableError
from luntrex_proxy.store.keeping import ClockError, SteadyClock
from luntrex_proxy.store.keyring import KeyRing
from luntrex_proxy.store.sealedsecrets import SecretBook
from luntrex_proxy.store.shipper import Shipper
from luntrex_proxy.store.wrapping import WrappingUnavailableError
from luntrex_proxy.store.wrappings import Wrappings

_LOG_FLUSH_S = 0.2
_SECRETS_EVERY_S = 1.0
_KEEPER_EVERY_S = 30.0
_KEEPER_AGAIN_S = 5.0
_ATTEMPTS_EVERY_S = 2.0
_WEBHOOKS_EVERY_S = 1.0
_CAPTURES_EVERY_S = 0.5
_CHECK_LEFTOVERS_EVERY_S = 10.0
_SWEEP_EVERY_S = 60.0
_MAIL_EVERY_S = 1.0
_CHILD_REPORTS_EVERY_S = 30.0
_ANCHOR_EVERY_S = 10.0
_TROUBLE_EVERY_S = 1.0
_TROUBLE_AGAIN_S = 60.0

log = structlog.get_logger()


def today() -> date:
    """The day of the tables, in UTC."""
    return utc_now().date()


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.fromtimestamp(time.time(), UTC)


async def flush_log(outcomes: Batches, requests: RequestLog, refused_keys: RefusedKeys) -> None:
    """Write what requests left for the log, several times a second."""
    while True:
        await asyncio.sleep(_LOG_FLUSH_S)
        outcomes.hand_on()
        requests.tell_left_out()
        refused_keys.flush()


async def feed_watchdog(loop: asyncio.AbstractEventLoop) -> None:
    """Tell systemd that the loop turns."""
    interval_s = systemd.watchdog_interval_s()
    while interval_s is not None:
        due = loop.time() + interval_s
        await asyncio.sleep(interval_s)
        if loop.time() - due < interval_s:  # a loop that hangs must not be vouched for
            systemd.watchdog()


async def keep_attempts(book: AttemptBook, pool: Pool, alerts: Alerts, *, by_mail: bool) -> None:
    """Write counts of refused keys, and alert when they are many. While the database is away they wait in memory."""
    while True:
        await asyncio.sleep(_ATTEMPTS_EVERY_S)
        with contextlib.suppress(StoreError):
            if await book.write(pool):
                for raised in await raise_due(pool, alerts, by_mail=by_mail):
                    which = {"key_id": raised.subject} if raised.kind == "key" else {"network": raised.subject}
                    log.warning("luntrex.attempts", count=raised.count, **which)


async def follow_captures(book: CaptureBook, pool: Pool, changes: Callable[[], object], pipeline: Pipeline) -> None:
    """Let requests be captured while somebody's capture runs; with none, the way of a request knows of nothing."""
    seen, swept_at, told = None, 0.0, 0
    while True:
        try:
            if book.active or changes() != seen:
                seen = changes()
                await book.refresh()
                pipeline.captures = book if book.active else None
                await book.write()
            if time.monotonic() - swept_at > _SWEEP_EVERY_S:
                swept_at = time.monotonic()
                await delete_old(pool)
        except StoreError:
            seen = None  # the next round asks again; until then captures end by their own clock
        if book.lost > told:
            log.warning("luntrex.captures_lost", count=book.lost - told)
            told = book.lost
        await asyncio.sleep(_CAPTURES_EVERY_S)


async def store_last_captures(book: CaptureBook, wait_s: float) -> None:
    """When no request is under way any more: what was captured last, or that it is lost."""
    left = await book.finish(wait_s)
    if left:
        log.warning("luntrex.captures_lost", count=left)


async def remove_check_leftovers(pool: Pool, directory: Path) -> None:
    """Remove what a `privacy-check` of this machine has left that was killed."""
    told = False
    while True:
        try:
            if await checkjournal.remove_leftovers(pool, directory):
                log.info("luntrex.check_leftovers_removed")
            told = False
        except StoreUnavailableError:
            pass  # luntrex.database_lost says so
        except StoreError as error:
            if not told:
                log.warning("luntrex.check_leftovers_stay", **logs.describe(error))
            told = True
        await asyncio.sleep(_CHECK_LEFTOVERS_EVERY_S)


async def deliver_webhooks(sender: Sender) -> None:
    """Send what is queued for the webhook."""
    while True:
        reason = None
        with contextlib.suppress(StoreError):
            reason = await sender.send_next(time.time())
        if reason:
            log.warning("luntrex.webhook_failed", reason=reason)
        if reason is None:
            await asyncio.sleep(_WEBHOOKS_EVERY_S)


async def send_mail(postman: Postman) -> None:
    """Take queued letters to the server; say it once when that fails, and once when it works again."""
    trouble = ""
    while True:
        reason, sent = trouble, 0
        try:
            for ended in await postman.send_due():
                sent += ended.outcome == "sent"
                reason = "" if ended.outcome == "sent" else ended.reason or reason
        except StoreError:
            pass  # luntrex.database_lost says so
        except Exception as error:  # noqa: BLE001 -- one letter that cannot be made must not stop all others
            log.warning("luntrex.letter_failed", **logs.describe(error))
        if reason != trouble:
            log.warning("luntrex.mail_fails" if reason else "luntrex.mail_goes_out", reason=reason)
            trouble = reason
        await asyncio.sleep(_MAIL_EVERY_S)


async def keep_child_reports(pool: Pool, directory: Path, audit_days: int) -> None:
    """Let confirmed reports of children come to their end, and say when one's 72 hours run out. Each stage once."""
    told: set[tuple[str, str]] = set()
    clock = SteadyClock()
    while True:
        try:
            now, is_right = utc_now(), True
            try:
                now = await clock.believed(pool, now)
            except ClockError:
                is_right = False  # luntrex.erasures_wait says so
            found = await children.keep(pool, now, directory, audit_days, clock_is_right=is_right)
            near = {(str(report.report_id), stage.value) for report, stage in found}
            for report_id, stage in sorted(near - told):
                log.warning("luntrex.child_erasure_is_due", request_id=report_id, state=stage)
            told = near
        except StoreUnavailableError:
            pass  # luntrex.database_lost says so
        except Exception as error:  # noqa: BLE001 -- the next round tries again
            log.warning("luntrex.child_reports_failed", **logs.describe(error))
        await asyncio.sleep(_CHILD_REPORTS_EVERY_S)


async def anchor_audit(pool: Pool, directory: Path, wrappings: Wrappings) -> None:
    """Sign the audit log's end soon after each act, in a file and a log line, so that it cannot be made anew."""
    key, signed, told = None, 0, False
    while True:
        try:
            key = key or await AnchorKey.open(directory, wrappings)
            sequence, hashed = await audit.head(pool)
            if sequence > signed:
                anchor = key.sign(sequence, hashed, utc_now())
                await asyncio.to_thread(append_anchor, directory, anchor)  # it waits for the disk
                log.info("luntrex.audit_anchored", **anchor.as_text())
                signed = sequence
            told = False
        except StoreUnavailableError:
            pass  # luntrex.database_lost says so
        except StoreError as error:
            if not told:
                log.warning("luntrex.audit_not_anchored", **logs.describe(error))
            told = True
        await asyncio.sleep(_ANCHOR_EVERY_S)


async def follow_secrets(secrets: SecretBook, changes: Callable[[], object], renew: Callable[[], None]) -> None:
    """Use secrets that are set while we run. What cannot be opened or used is told once; the old ones serve on."""
    seen, waits = changes(), False
    while True:
        await asyncio.sleep(_SECRETS_EVERY_S)
        if changes() == seen:
            continue
        seen = changes()
        try:
            if await secrets.refresh():
                renew()
                log.info("luntrex.secrets_changed")
        except WrappingUnavailableError as error:
            if not waits:
                log.warning("luntrex.secrets_wait", hint=str(error)[:256])
            waits, seen = True, None
            await asyncio.sleep(_KEEPER_AGAIN_S)
            continue
        except (StoreError, UnusableUpstreamError) as error:
            log.warning("luntrex.secrets_refused", hint=str(error)[:256])
        except DRIVER_ERRORS:
            seen = None  # the next round asks again
        waits = False


async def watch_keeper(secrets: SecretBook) -> None:
    """Notice when AWS KMS is away, before somebody needs it: requests do not, their data keys are in memory."""
    while True:
        answered = secrets.keeper_answers
        await asyncio.sleep(_KEEPER_EVERY_S)
        with contextlib.suppress(StoreError):
            await secrets.ask_keeper()
        if secrets.keeper_answers != answered:
            log.warning("luntrex.kms_back" if secrets.keeper_answers else "luntrex.kms_lost")


async def tell_trouble(keys: KeyRing, shipper: Shipper, troubles: Callable[[], dict[str, int]]) -> None:
    """Say it once when the database or the ledger is in trouble, and once when it is over."""
    reachable, failure, expired, said_s = True, "", 0, 0.0
    told = troubles()
    while True:
        await asyncio.sleep(_TROUBLE_EVERY_S)
        if keys.answers() != reachable:
            reachable = not reachable
            log.warning("luntrex.database_back" if reachable else "luntrex.database_lost")
        if str(shipper.trouble) != failure:
            failure = str(shipper.trouble)
            log.warning(
                "luntrex.ledger_stalled" if failure else "luntrex.ledger_moves", reason=failure, rows=shipper.spooled
            )
        if shipper.expired != expired:
            log.warning("luntrex.usage_expired", rows=shipper.expired - expired)
            expired = shipper.expired
        now = troubles()
        if now != told and time.monotonic() - said_s > _TROUBLE_AGAIN_S:
            for trouble, count in now.items():
                if count > told[trouble]:
                    log.error("luntrex.ledger_trouble", reason=trouble, count=count - told[trouble])
            told, said_s = now, time.monotonic()
