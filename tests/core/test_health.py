"""Breaker, ejection, pause and speed, on a clock of the test's own."""

from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.core.health import Condition, Health, HealthRules, Speed, Standing, Verdict

GOOD, ALIVE, BAD, NOTHING = Verdict.GOOD, Verdict.ALIVE, Verdict.BAD, Verdict.NOTHING
RULES = HealthRules(failures=3, open_s=10, error_percent=50, error_requests=10, window_s=30, pause_cap_s=60)


def after(*verdicts: Verdict, at: float = 100.0) -> Health:
    """An upstream whose requests ended so."""
    health = Health(RULES)
    for number, verdict in enumerate(verdicts):
        assert health.admit(at, f"r{number}")
        health.note(verdict, at, f"r{number}")
    return health


def test_failures_in_a_row_open_the_breaker() -> None:
    """The third failure stops requests; two of them do not, and a good answer between them begins anew."""
    assert after(BAD, BAD).standing(100) is Standing.READY
    assert after(BAD, BAD, GOOD, BAD, BAD).standing(100) is Standing.READY
    health = after(BAD, BAD, BAD)
    assert health.standing(100) is Standing.OPEN
    assert not health.admit(109.9, "x")
    assert health.wait_s(104) == 6
    assert health.value(100) == 0


def test_refusals_of_clients_never_open_it() -> None:
    """A thousand client mistakes say nothing, and do not hide failures between them either."""
    assert not after(*[ALIVE] * 1000).troubled
    assert not after(*[NOTHING] * 1000).troubled
    assert after(BAD, ALIVE, BAD, ALIVE, BAD).standing(100) is Standing.OPEN


def test_maintenance_lets_nothing_new_in_whatever_its_condition() -> None:
    """Its breaker goes its own way meanwhile, and counts again afterwards."""
    health = after(GOOD)
    assert health.admit(100, "runs")
    health.maintenance = True
    assert health.standing(100) is Standing.MAINTENANCE
    assert not health.admit(100, "new")
    assert health.value(100) == 0
    health.note(BAD, 101, "runs", "http_500")
    health.maintenance = False
    assert health.standing(101) is Standing.READY
    assert health.condition("a", 3, 111) == Condition("a", "ready", 1.0, 3, False, "http_500", 10)
    broken = after(BAD, BAD, BAD)
    broken.maintenance = True
    broken.maintenance = False
    assert broken.standing(105) is Standing.OPEN


def test_what_probes_find_joins_the_breaker() -> None:
    """Two failed ones in a row put the others first, three good ones end that; an open breaker may be tried at once."""
    health = after(GOOD)
    counts = {"fails": 2, "passes": 3}
    health.probed(100, passed=False, **counts)
    assert health.standing(100) is Standing.READY
    health.probed(101, passed=False, **counts)
    assert health.standing(101) is Standing.FAILING
    assert health.value(101) == 0.5
    assert health.admit(101, "when there is nobody else")
    for second in (102, 103):
        health.probed(second, passed=True, **counts)
    assert health.standing(103) is Standing.FAILING
    health.probed(104, passed=True, **counts)
    assert health.standing(104) is Standing.READY
    broken = after(BAD, BAD, BAD)
    for _ in range(3):
        assert broken.standing(101) is Standing.OPEN
        broken.probed(101, passed=True, **counts)
    assert broken.admit(101, "finds out")
    assert not broken.admit(101, "waits for that")
    broken.probed(102, passed=False, **counts)
    broken.forget_probes()
    broken.note(GOOD, 102, "finds out")
    assert broken.standing(102) is Standing.READY


def test_a_condition_can_be_taken_on() -> None:
    """What one process says of an upstream, another that looks shows: standing, pauses, the breaker's wait."""
    paused = after(GOOD)
    paused.pause("m", 5, 100)
    failing, maintained = after(GOOD), after(GOOD)
    failing.probed(100, passed=False, fails=1, passes=1)
    maintained.maintenance = True
    ejected = after(*[BAD, BAD, GOOD] * 4)
    for health in (after(GOOD), after(BAD, BAD, BAD), paused, failing, maintained, ejected):
        said = health.condition("a", 0, 100, ["m", "x"])
        other = Health(RULES)
        other.take_on(said, 100)
        for model in ("m", "x"):
            assert other.standing(100, model) is health.standing(100, model)
        assert other.condition("a", 0, 100, ["m", "x"]).standing == said.standing


def test_exactly_one_probe() -> None:
    """When its time is over one request is let through; the others wait for what becomes of it."""
    health = after(BAD, BAD, BAD)
    assert health.standing(110) is Standing.READY
    assert health.admit(110, "probe")
    assert not any(health.admit(110 + n, f"other{n}") for n in range(500))
    assert health.value(111) == 0.5
    health.note(GOOD, 112, "probe")
    assert health.admit(112, "next")
    assert health.admit(112, "and another")
    assert health.value(112) == 1


def test_a_failed_probe_opens_it_for_longer() -> None:
    """10, 20, 40, 80, 160 seconds, and no longer than that."""
    health = after(BAD, BAD, BAD)
    now = 100.0
    for wait_s in (10, 20, 40, 80, 160, 160, 160):
        assert health.wait_s(now) == wait_s
        now += wait_s
        assert health.admit(now, "probe")
        health.note(BAD, now, "probe")
    health = after(BAD, BAD, BAD)
    assert health.admit(110, "probe")
    health.note(GOOD, 110, "probe")
    for number in range(3):
        health.note(BAD, 200, f"later{number}")
    assert health.wait_s(200) == 10, "a closed breaker must forget how often it was open"


def test_a_probe_whose_client_left_is_not_lost() -> None:
    """It says nothing, and the next request becomes the probe."""
    health = after(BAD, BAD, BAD)
    assert health.admit(110, "left")
    health.note(NOTHING, 111, "left")
    assert health.admit(111, "next")
    assert not health.admit(111, "third")


def test_a_refused_probe_shows_that_it_lives() -> None:
    """An upstream that answers 400 or 429 works."""
    health = after(BAD, BAD, BAD)
    assert health.admit(110, "probe")
    health.note(ALIVE, 110, "probe")
    assert health.value(110) == 1


def test_what_began_before_it_opened_does_not_count() -> None:
    """Old streams that end well do not close it, and old failures do not keep it open."""
    health = after(BAD, BAD, BAD)
    health.note(GOOD, 105, "old stream")
    assert health.standing(105) is Standing.OPEN
    health.note(BAD, 109, "old timeout")
    assert health.admit(110, "probe")
    health.note(BAD, 110, "another old timeout")
    health.note(GOOD, 111, "probe")
    assert health.admit(111, "next")


def test_too_many_errors_eject() -> None:
    """Half of at least ten requests: asked after the others until the window is over, then counted anew."""
    health = after(*[BAD, GOOD] * 4, BAD)
    assert health.standing(100) is Standing.READY, "nine requests are too few"
    health = after(*[BAD, GOOD] * 5)
    assert health.standing(100) is Standing.READY, "a good one cannot be what ejects"
    health.note(BAD, 100, "x")
    assert health.standing(100) is Standing.EJECTED
    assert health.admit(100, "y"), "it may be asked when there is nobody else"
    assert health.standing(130) is Standing.READY
    assert not health.troubled
    health.note(BAD, 131, "z")
    assert health.standing(131) is Standing.READY


def test_few_errors_among_many_do_not_eject() -> None:
    """Good answers since the window began count, earlier ones do not."""
    health = Health(RULES)
    health.good = 1_000_000
    for _ in range(20):
        health.note(BAD, 100, "r")
        health.good += 2  # as the hot path counts
        health.note(GOOD, 100, "r")
    assert not health.troubled
    for _ in range(200):
        if health.standing(500) is not Standing.READY:
            break
        health.note(BAD, 500, "r")
        health.note(GOOD, 500, "r")
    assert health.standing(500) is Standing.EJECTED


def test_retry_after_is_kept_up_to_the_cap() -> None:
    """Others first for as long as it asked, but not for a day; a shorter wish does not shorten a longer one."""
    health = after(GOOD)
    health.pause("m", 7, 100)
    health.pause("m", 1, 100)
    assert health.standing(106.9, "m") is Standing.PAUSED
    assert health.admit(106.9, "only one there is")
    assert health.value(101) == 0.5
    assert health.standing(107, "m") is Standing.READY
    assert not health.troubled
    health.pause("m", 86_400, 200)
    assert health.standing(259, "m") is Standing.PAUSED
    assert health.standing(260, "m") is Standing.READY


def test_a_pause_is_one_models() -> None:
    """The others are asked as before, and the pause is not forgotten over that."""
    health = after(GOOD)
    health.pause("x", 10, 100)
    health.pause("y", 20, 100)
    assert health.standing(105, "m") is Standing.READY
    assert health.standing(105, "x") is Standing.PAUSED
    assert health.standing(105) is Standing.PAUSED
    assert health.standing(115, "x") is Standing.READY
    assert health.standing(115, "y") is Standing.PAUSED


def test_pauses_are_bounded() -> None:
    """However many names a wildcard lets through: the pause that is over first makes room."""
    health = after(GOOD)
    for number in range(10_000):
        health.pause(f"m{number}", 10 + number / 1000, 100)
    assert len(health._pauses) == 256
    assert health.standing(101, "m9999") is Standing.PAUSED
    assert health.standing(101, "m0") is Standing.READY
    health.standing(161)
    assert not health._pauses


def test_a_probe_that_answers_lets_the_others_in_on_parole() -> None:
    """They need not wait for its end; what fails next opens the breaker again, what ends well clears it."""
    for end, value in ((BAD, 0), (GOOD, 1), (NOTHING, 1)):
        health = after(BAD, BAD, BAD)
        assert health.admit(110, "probe")
        health.answers("somebody else")
        assert not health.admit(110, "too early")
        health.answers("probe")
        assert health.admit(110, "next")
        assert health.admit(110, "and another")
        health.note(end, 120, "probe")
        assert health.value(120) == value
    health = after(BAD, BAD, BAD)
    assert health.admit(110, "probe")
    health.answers("probe")
    health.note(GOOD, 111, "next")
    health.note(BAD, 112, "probe")
    assert health.value(112) == 1, "a cut is one failure again"
    health = after(BAD)
    health.answers("r0")
    assert health.streak == 1, "nobody probes a closed breaker"


@given(st.lists(st.tuples(st.sampled_from(list(Verdict)), st.floats(0, 40)), max_size=120))
def test_never_two_probes_and_never_stuck(history: list[tuple[Verdict, float]]) -> None:
    """Whatever happens, an open breaker has at most one request on the way, and lets one try in the end."""
    health, now = Health(RULES), 0.0
    running: list[str] = []
    for number, (verdict, pause_s) in enumerate(history):
        now += pause_s
        was_open = health.value(now) != 1 and health.wait_s(now) == 0 and health.troubled
        first, second = health.admit(now, f"a{number}"), health.admit(now, f"b{number}")
        if was_open and health.standing(now) is Standing.OPEN:
            assert not (first and second)
        running += [f"a{number}"] * first + [f"b{number}"] * second
        for request in running:
            health.note(verdict, now, request)
        running.clear()
    assert health.admit(now + 161, "last")


def test_speed_follows_and_forgets() -> None:
    """New measurements pull the average; an old one fades, so that a slow upstream is tried again."""
    speed = Speed()
    assert speed.expect_s(5) == 0
    speed.note(1.0, 100)
    assert speed.expect_s(100) == 1
    for _ in range(50):
        speed.note(3.0, 100)
    assert 2.9 < speed.expect_s(100) <= 3
    assert speed.expect_s(130) < 1.6
    assert speed.expect_s(1000) < 0.001
