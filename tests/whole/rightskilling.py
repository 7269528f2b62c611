"""SIGKILL during an erasure, an export, and while notices go out; what must hold after each. No tests here.

erasure    it finishes by itself, nothing of the person comes back or is left, sums stay, nobody writes to them
export     what was fetched is no archive, its link gives nothing again, another one gives all
notices    none counts as told that the mail server has not taken, none goes out more than twice, each comes to an end
"""

import asyncio
import collections
import contextlib
import email
import hashlib
import http.client
import json
import random
import secrets
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.mailserver import MailServer
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole.daemon import Daemon, model, upstream
from tests.whole.erasures import fill, left_in_files, left_of, until, whole_export
from tests.whole.raw import ask, post
from tests.whole.scene import chat_request

_IN_START = 0.4  # of the kills are followed by one while it starts
_START_S = 1.0  # within
_LETTERS_MAX = 2
_MAIL_TAKES_S = 0.05
_LIVE = 3
_DONE_S = 60.0
_TOTALS = (
    "SELECT count(*) AS rows, coalesce(sum(cost_pico), 0)::bigint AS cost,"
    " (SELECT coalesce(sum(requests), 0)::bigint FROM usage_rollup) AS hours,"
    " (SELECT coalesce(sum(requests), 0)::bigint FROM usage_rollup_daily) AS days FROM usage"
)


@dataclass
class Found:
    """What came of it."""

    kills: collections.Counter[str] = field(default_factory=collections.Counter)
    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    complaints: list[str] = field(default_factory=list)

    def expect(self, holds: object, what: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.complaints.append(what)


class CountingMailServer(MailServer):
    """Knows of each letter how often its text came, and how often it said that it has it. Takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.came: collections.Counter[str] = collections.Counter()  # by mail_id
        self.taken: collections.Counter[str] = collections.Counter()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """The text; a kill may come before it, between it and the answer, and after that."""
        assert isinstance(envelope.content, bytes)
        letter = email.message_from_bytes(envelope.content)
        mail_id = str(letter["Message-ID"]).strip("<>").partition("@")[0]
        self.got.append(letter)
        self.came[mail_id] += 1
        await asyncio.sleep(random.uniform(0, _MAIL_TAKES_S))
        self.taken[mail_id] += 1
        return self.answers["DATA"]


@dataclass
class Rounds:
    """A daemon that sends mail, and how to kill it."""

    daemon: Daemon
    mail: CountingMailServer
    dice: random.Random
    in_start: float = _IN_START
    found: Found = field(default_factory=Found)
    _made: int = 0

    def kill(self, what: str) -> None:
        """Once, sometimes once more while it starts; it runs afterwards."""
        self.daemon.kill()
        self.found.kills[what] += 1
        if self.dice.random() < self.in_start:
            self.daemon.spawn()
            time.sleep(self.dice.uniform(0, _START_S))
            self.daemon.kill()
            self.found.kills[f"{what}, in the start"] += 1
        self.daemon.start()

    # Erasure.

    def erase(self, rows: int, window_s: float | None) -> float:
        """One person, killed at a random moment within the window after it began; how long it took in all.

        `window_s` None: not killed.
        """
        self._made += 1
        daemon, canary = self.daemon, f"canary{self._made}x{secrets.token_hex(4)}"
        made = daemon.make_key(canary)
        person = fill(daemon, made["id"], rows, canary, days=3)
        ids, before, graves = [made["id"], person], self._totals(), self._graves()
        for _ in range(_LIVE):  # still in the spool, or just stored
            assert ask(daemon, post(daemon, "/v1/chat/completions", chat_request(), key=made["key"])).status == 200
        reference = secrets.token_hex(13).upper().translate(str.maketrans("0189", "WXYZ"))
        daemon.query(
            "INSERT INTO rights_request (reference, kind, state, channel, law, person_id, confirmed_at, act_at)"
            " VALUES ($1, 'erase', 'waiting', 'self', 'gdpr', $2, now(), now())", reference, uuid.UUID(person),
        )  # fmt: skip
        until(lambda: self._graves() > graves, _DONE_S, "begun")
        began_s = time.monotonic()
        if window_s is not None:
            time.sleep(self.dice.uniform(0, window_s))
            self.kill("erasure")
        state = "SELECT state, outcome, receipt FROM rights_request WHERE reference = $1"
        until(lambda: daemon.query(state, reference)[0]["state"] == "done", _DONE_S, f"erased: {canary}")
        took_s = time.monotonic() - began_s
        receipt = json.loads(daemon.query(state, reference)[0]["receipt"])
        self.found.expect(receipt["erased"].get("person") == 1, f"{canary}: the receipt says {receipt['erased']}")
        with contextlib.suppress(AssertionError):
            until(lambda: not left_in_files(daemon, ids), _DONE_S)
        left = left_of(daemon, [canary], ids)
        self.found.expect(not left, f"{canary}: left in {left[:5]}")
        after = self._totals()
        wanted = {name: count + _LIVE * (name != "cost") for name, count in before.items()}
        self.found.expect(after == wanted, f"{canary}: sums {wanted} are {after}")
        refused = ask(daemon, post(daemon, "/v1/chat/completions", chat_request(), key=made["key"]))
        self.found.expect(refused.status == 401, f"{canary}: the key gets {refused.status}")
        written_to = [one["To"] for one in self.mail.got if canary in str(one["To"])]
        self.found.expect(not written_to, f"{canary}: was written to")
        self.found.counts["people erased"] += 1
        return took_s

    def _totals(self) -> dict[str, int]:
        until(lambda: self.daemon.metric("luntrex_ledger_spooled_total") == 0, _DONE_S, "stored")
        return self.daemon.query(_TOTALS)[0]

    def _graves(self) -> int:
        path = self.daemon.state / "tombstones.jsonl"
        return path.stat().st_size if path.exists() else 0

    # Export.

    def someone(self, rows: int) -> str:
        """A person to export; the id."""
        self.daemon.query(
            "INSERT INTO api_key (key_id, account_id, name, bcrypt_hash, version)"
            " SELECT 'exportedKey0', min(account_id), 'exported', '$2b$', 0 FROM account"
        )
        return fill(self.daemon, "exportedKey0", rows, "exported", days=3)

    def export(self, person: str, rows: int, whole_bytes: int) -> None:
        """Fetch, killed after a random part of `whole_bytes`; then the same link, and another one."""
        token, target = self._link(person), self.daemon.directory / "export.zip"
        status = self._fetch(token, target, self.dice.randrange(whole_bytes))
        if status == "whole":  # all of it was on its way
            self.found.expect(whole_export(target, rows), "an export that ended well is not whole")
            self.found.counts["exports that ended before the kill"] += 1
        else:
            self.found.expect(not whole_export(target, rows), "an export that was cut is an archive")
            self.found.counts["exports cut"] += 1
        self.found.expect(self._fetch(token, target) != "whole", "a used link works again")
        until(lambda: not self._writers(), _DONE_S, "ended: a process that writes an export")
        files = [path for path in self.daemon.state.rglob("*") if path.suffix == ".zip"]
        self.found.expect(not files, f"an export lies in {files}")

    def whole(self, person: str, rows: int) -> int:
        """Fetch an export undisturbed; its size."""
        target = self.daemon.directory / "export.zip"
        status = self._fetch(self._link(person), target)
        self.found.expect(status == "whole" and whole_export(target, rows), f"no whole export: {status}")
        self.found.counts["exports whole"] += 1
        return target.stat().st_size

    def _link(self, person: str) -> str:
        token = secrets.token_urlsafe(32)
        self.daemon.query(
            "INSERT INTO export_link (person_id, token_hash) VALUES ($1, $2)",
            uuid.UUID(person), hashlib.sha256(token.encode()).digest(),
        )  # fmt: skip
        return token

    def _fetch(self, token: str, target: Path, kill_after: int | None = None) -> str:
        """As a browser would, into a file: `whole`, `cut`, or the status of a refusal."""
        connection = http.client.HTTPConnection("127.0.0.1", self.daemon.control_port, timeout=_DONE_S)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
        killed, received = kill_after is None, 0
        try:
            connection.request("POST", "/rights/download", f"token={token}", headers)
            answer = connection.getresponse()
            if answer.status != 200 or answer.headers.get_content_type() != "application/zip":
                return str(answer.status)
            with target.open("wb") as file:
                while piece := answer.read1(1 << 14):
                    file.write(piece)
                    received += len(piece)
                    if not killed and received > (kill_after or 0):
                        killed = True
                        self.kill("export")
            return "whole"
        except (http.client.HTTPException, OSError):
            return "cut"
        finally:
            connection.close()
            if not killed:
                self.kill("export")

    def _writers(self) -> list[int]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                is_ours = (process / "cwd").readlink() == self.daemon.directory
                if is_ours and b"luntrex_proxy.store.exportchild" in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
        return found

    # Notices.

    def people(self, count: int) -> None:
        """Whom incidents reach."""
        self.daemon.query(
            "WITH made AS (INSERT INTO person (email, affirmed_16_at) SELECT 'reader' || n || '@example.org', now()"
            " FROM generate_series(1, $1::int) n RETURNING person_id)"
            " INSERT INTO membership SELECT person_id, (SELECT min(account_id) FROM account), 'viewer' FROM made",
            count,
        )

    def incident(self, kills_max: int, window_s: float) -> int:
        """Notify of one, killed again and again until every notice has its end; how many kills that took."""
        daemon, kills = self.daemon, 0
        said = ("--nature", "n", "--consequences", "c", "--measures", "m")
        opened = json.loads(
            daemon.cli(
                "incidents", "open", "A leak", "--table", "person", "--from", "2020-01-01", *said, "--json"
            ).stdout
        )
        number = opened["incident_id"]
        daemon.cli("incidents", "notify", str(number))
        waiting = "SELECT count(*) AS n FROM incident_notice WHERE incident_id = $1 AND ended_at IS NULL"
        while kills < kills_max and daemon.query(waiting, number)[0]["n"]:
            time.sleep(self.dice.uniform(0, window_s))
            self.kill("notices")
            kills += 1
            self._check(number)
            # A claim of who is dead lasts for minutes.
            daemon.query("UPDATE mail SET due_at = now() WHERE ended_at IS NULL AND kind = 'incident'")
        ends = time.monotonic() + _DONE_S
        while daemon.query(waiting, number)[0]["n"] and time.monotonic() < ends:
            daemon.query("UPDATE mail SET due_at = now() WHERE ended_at IS NULL AND kind = 'incident' AND tries < 2")
            time.sleep(0.2)
        self.found.expect(not daemon.query(waiting, number)[0]["n"], f"incident {number}: notices without an end")
        for row in self._check(number):
            self.found.counts[f"notices {row['outcome']}"] += 1
        self.found.counts["letters that came twice"] = sum(count == _LETTERS_MAX for count in self.mail.came.values())
        return kills

    def _check(self, number: int) -> list[dict[str, Any]]:
        rows = self.daemon.query(
            "SELECT mail_id::text AS mail_id, outcome FROM incident_notice WHERE incident_id = $1", number
        )
        for row in rows:
            if row["outcome"] == "sent":
                self.found.expect(self.mail.taken[row["mail_id"]], f"told, and not taken: {row}")
            times = self.mail.came[row["mail_id"]]
            self.found.expect(times <= _LETTERS_MAX, f"a letter came {times} times")
        return rows

    def end(self) -> Found:
        """Whether it met bugs of its own, and what was found."""
        log = self.daemon.stderr.read_bytes()
        self.found.expect(b"Traceback" not in log and b"luntrex.bug" not in log, "the daemon met a bug of its own")
        return self.found


@contextlib.contextmanager
def rounds(servers: LoopThread, dice: random.Random, in_start: float = _IN_START) -> Iterator[Rounds]:
    """A daemon with an owner, an upstream and a mail server."""
    scripted, mail = ScriptedUpstream(servers), CountingMailServer()
    servers.run(mail.start())
    configuration = {
        "upstreams": [upstream("oai", "openai", f"{scripted.url}/v1")],
        "models": [model("plain", "oai")],
        "mail": {"host": "127.0.0.1", "port": mail.port, "security": "none", "sender": "proxy@example.org"},
        "console": {"public_url": "https://proxy.example.org"},
        "privacy": {"contact": "privacy@example.org"},
        "gateway": {"limits": {"key_failures_per_minute": None}},
    }
    daemon = Daemon(servers, configuration)
    try:
        daemon.start()
        owner = uuid.uuid4()
        daemon.query("INSERT INTO person (person_id, email, affirmed_16_at) VALUES ($1, 'o@x.org', now())", owner)
        daemon.query("INSERT INTO membership SELECT $1, min(account_id), 'owner' FROM account", owner)
        yield Rounds(daemon, mail, dice, in_start)
    finally:
        daemon.remove()
        servers.run(mail.stop())
        scripted.stop()
