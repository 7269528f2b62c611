"""Whether an upstream should be asked: its breaker, its error ratio, its wish to be left alone, its speed.

    closed -> (failures in a row) -> open -> (its time is over) -> one request -> closed, or open for twice as long

Beside what requests show there is what probes found (`probed`) and what the operator decided (`maintenance`). Times are
seconds on any clock that only goes forward; the caller reads it. Nothing here happens by itself: every state is looked
at when somebody asks, and `troubled` says in one attribute whether looking is worth while.
"""

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_MAX_DOUBLINGS = 4
_MAX_PAUSES = 256  # models of one upstream that are paused together
_SPEED_WEIGHT = 0.2  # of the newest measurement
_SPEED_HALF_LIFE_S = 30.0


class Verdict(enum.Enum):
    """What one request says about the upstream that served it."""

    GOOD = "good"
    ALIVE = "alive"  # it refused, which is its right: no failure, and no proof that it can do its work
    BAD = "bad"
    NOTHING = "nothing"  # the client left, or we gave up, before anything could be known


class Standing(enum.IntEnum):
    """How willingly an upstream is asked, best first."""

    READY = 0
    EJECTED = 1  # too many errors: the others first
    PAUSED = 2  # it said Retry-After for this model: the others first
    FAILING = 3  # its probe fails: the others first
    OPEN = 4  # not at all
    MAINTENANCE = 5  # not at all, whatever its condition: the operator said so


# As people and records say it. An open breaker whose time is over is `trying` in a condition: a request will find out.
STANDING_WORDS: Final = {
    Standing.READY: "ready",
    Standing.EJECTED: "ejected",
    Standing.PAUSED: "paused",
    Standing.FAILING: "probe_fails",
    Standing.OPEN: "breaker_open",
    Standing.MAINTENANCE: "maintenance",
}
_TRYING: Final = "trying"


@dataclass(frozen=True, slots=True)
class Condition:
    """How an upstream is, to be shown. Of what one process saw of it, but for `maintenance`."""

    name: str
    standing: str  # one of STANDING_WORDS, or `trying`
    health: float  # 1 asked as usual, 0 not at all, 0.5 between
    in_flight: int
    maintenance: bool
    last_error: str = ""  # a refusal code or http_STATUS; "": none yet
    last_error_age_s: int | None = None
    wait_s: int = 0  # until an open breaker lets a request try
    paused: tuple[str, ...] = ()  # of the models that were asked about: the upstream said Retry-After


@dataclass(frozen=True, slots=True)
class HealthRules:
    """When an upstream is avoided, and for how long."""

    failures: int = 5
    open_s: float = 5.0
    error_percent: int = 50
    error_requests: int = 20
    window_s: float = 30.0
    pause_cap_s: float = 60.0


class Health:
    """What is known of one upstream's condition. `good` and `troubled` are the hot path's; the rest has its rules."""

    __slots__ = (
        "_bad", "_ejected_until_s", "_good_before", "_maintenance", "_open_until_s", "_openings", "_paused_until_s",
        "_pauses", "_probe", "_probed", "_window_until_s", "credentials_refused", "failing", "good", "last_error",
        "last_error_s", "rules", "streak", "troubled",
    )  # fmt: skip

    def __init__(self, rules: HealthRules) -> None:
        self.rules = rules
        self.troubled = False  # `standing` may be something else than READY
        self.good = 0  # good answers, ever
        self.streak = 0  # bad ones in a row
        self.credentials_refused = 0  # answers that said that our key is wrong, ever
        self.failing = False  # its probe says so
        self.last_error = ""  # a refusal code or http_STATUS, of the last request or probe that spoke against it
        self.last_error_s = 0.0
        self._maintenance = False
        self._probed = 0  # probes in a row: > 0 that passed, < 0 that failed
        self._openings = 0  # in a row; 0: the breaker is closed
        self._open_until_s = 0.0
        self._probe = ""  # the request that tries whether an open breaker may close; only one does
        self._pauses: dict[int, float] = {}  # until when; by hash, because a name may be a client's own words
        self._paused_until_s = 0.0  # the last of them
        self._ejected_until_s = 0.0
        self._window_until_s = 0.0
        self._bad = 0  # in the window
        self._good_before = 0  # `good` at its start

    def standing(self, now: float, model: str | None = None) -> Standing:
        """Whether to ask it for `model`, its own name there; None: for whichever is the worst off.

        An open breaker whose time is over counts as READY until somebody probes.
        """
        if not self.troubled:
            return Standing.READY
        if self._maintenance or self._openings:
            return self._barred(now)
        if self.failing:
            return Standing.FAILING
        if now >= self._paused_until_s:
            self._pauses.clear()
        elif model is None or now < self._pauses.get(hash(model), 0.0):
            return Standing.PAUSED
        if now < self._ejected_until_s:
            return Standing.EJECTED
        self.troubled = bool(self._pauses)
        return Standing.READY

    def _barred(self, now: float) -> Standing:
        if self._maintenance:
            return Standing.MAINTENANCE
        return Standing.OPEN if self._probe or now < self._open_until_s else Standing.READY

    def admit(self, now: float, request_id: str) -> bool:
        """Whether this request may be sent; with a half-open breaker it becomes the probe."""
        if self.standing(now) >= Standing.OPEN:
            return False
        if self._openings:
            self._probe = request_id
        return True

    @property
    def maintenance(self) -> bool:
        """Whether the operator lets nothing new go there."""
        return self._maintenance

    @maintenance.setter
    def maintenance(self, on: bool) -> None:
        self._maintenance = on
        self.troubled = self.troubled or on

    def probed(self, now: float, *, passed: bool, fails: int, passes: int, error: str = "") -> None:
        """Take in what a probe found: so many failed ones in a row put the others first, so many good ones end that.

        Then a request may try an open breaker at once.
        """
        self._probed = max(self._probed, 0) + 1 if passed else min(self._probed, 0) - 1
        if not passed:
            self.last_error, self.last_error_s = error, now
        if self._probed <= -fails:
            self.failing = self.troubled = True
        elif self._probed >= passes:
            self.failing = False
            self._open_until_s = min(self._open_until_s, now)

    def forget_probes(self) -> None:
        """It is not probed any more."""
        self._probed, self.failing = 0, False

    def note(self, verdict: Verdict, now: float, request_id: str, error: str = "") -> None:
        """Take in how an admitted request ended, and with which error, if it was one."""
        if verdict is Verdict.BAD:
            self.last_error, self.last_error_s = error, now
        if self._openings:
            # What was under way when the breaker opened says nothing about now.
            if self._probe == request_id:
                self._probe = ""
                self._conclude(verdict, now)
        elif verdict is Verdict.GOOD:
            self.good += 1
            self.streak = 0
        elif verdict is Verdict.BAD:
            self._count_bad(now)

    def answers(self, request_id: str) -> None:
        """An answer has begun well: the others need not wait for a probe's end, which may be an hour away.

        Until something has ended well the next failure, of the probe itself too, opens the breaker again.
        """
        if self._openings and self._probe == request_id:
            self._probe = ""
            self._openings = 0
            self.streak = self.rules.failures - 1

    def pause(self, model: str, wait_s: float, now: float) -> None:
        """It asked to be left alone with this model for a while; limits are a model's, so the others go on."""
        key = hash(model)
        pauses = self._pauses
        if len(pauses) >= _MAX_PAUSES and key not in pauses:
            del pauses[min(pauses, key=pauses.__getitem__)]
        until_s = pauses[key] = max(pauses.get(key, 0.0), now + min(wait_s, self.rules.pause_cap_s))
        self._paused_until_s = max(self._paused_until_s, until_s)
        self.troubled = True

    def wait_s(self, now: float) -> float:
        """How long until an open breaker lets a request try; 0 when nobody knows or need not wait."""
        return max(0.0, self._open_until_s - now) if self._openings else 0.0

    def value(self, now: float) -> float:
        """For the metric: 1 asked as usual, 0 not at all, 0.5 only after others or to find out."""
        standing = self.standing(now)
        if standing is Standing.READY and not self._openings:
            return 1.0
        return 0.0 if standing is Standing.MAINTENANCE or (standing is Standing.OPEN and not self._probe) else 0.5

    def condition(self, name: str, in_flight: int, now: float, models: Iterable[str] = ()) -> Condition:
        """How it is, and for which of these models, by its names for them, it is paused."""
        standing = self.standing(now)
        return Condition(
            name=name,
            standing=_TRYING if self._openings and standing is Standing.READY else STANDING_WORDS[standing],
            health=self.value(now),
            in_flight=in_flight,
            maintenance=self._maintenance,
            last_error=self.last_error,
            last_error_age_s=int(now - self.last_error_s) if self.last_error else None,
            wait_s=math.ceil(self.wait_s(now)),
            paused=tuple(model for model in models if now < self._pauses.get(hash(model), 0.0)),
        )

    def take_on(self, condition: Condition, now: float) -> None:
        """Be as another process said that it is."""
        self.maintenance = condition.maintenance
        self.failing = condition.standing == STANDING_WORDS[Standing.FAILING]
        if condition.standing == STANDING_WORDS[Standing.OPEN]:
            self._open(now)
            self._open_until_s = now + max(1, condition.wait_s)
        if condition.standing == STANDING_WORDS[Standing.EJECTED]:
            self._ejected_until_s = math.inf
        for model in condition.paused:
            self.pause(model, self.rules.pause_cap_s, now)
        self.troubled = True

    def _conclude(self, verdict: Verdict, now: float) -> None:
        if verdict is Verdict.BAD:
            self._open(now)
        elif verdict is not Verdict.NOTHING:
            self._openings = self.streak = 0

    def _open(self, now: float) -> None:
        self._open_until_s = now + self.rules.open_s * (1 << min(self._openings, _MAX_DOUBLINGS))
        self._openings += 1
        self.troubled = True

    def _count_bad(self, now: float) -> None:
        if now >= self._window_until_s:  # a window begins with an error: while all is well there is nothing to do
            self._window_until_s = now + self.rules.window_s
            self._good_before = self.good
            self._bad = 0
        self._bad += 1
        self.streak += 1
        if self.streak >= self.rules.failures:
            self._open(now)
            return
        requests = self._bad + self.good - self._good_before
        if requests >= self.rules.error_requests and self._bad * 100 >= requests * self.rules.error_percent:
            self._ejected_until_s = now + self.rules.window_s
            self._window_until_s = now  # counted anew when it is back
            self.troubled = True


class Speed:
    """A moving average that is forgotten: a slow upstream that nobody measures any more gets another try."""

    __slots__ = ("_measured_s", "_wait_s")

    def __init__(self) -> None:
        self._wait_s = 0.0
        self._measured_s = 0.0

    def note(self, wait_s: float, now: float) -> None:
        """One measurement, made at `now`; of a wait that brought nothing, what it would have taken at least."""
        if self._measured_s:
            wait_s = self._wait_s + (wait_s - self._wait_s) * _SPEED_WEIGHT
        self._wait_s = wait_s
        self._measured_s = now

    def expect_s(self, now: float) -> float:
        """What to expect; 0 when it was never measured."""
        return self._wait_s * math.exp2((self._measured_s - now) / _SPEED_HALF_LIFE_S)
