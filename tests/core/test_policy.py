"""Policies: what is unknown is the worst, intersections only narrow, and the request's header is read strictly."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.core.policy import (
    ATTRIBUTES,
    NO_TRAINING,
    BadPolicyError,
    Policy,
    RetentionKind,
    Training,
    Traits,
    name_exclusion,
    narrow_by_header,
)

NOTHING, ABUSE, STATE, ANYTHING = RetentionKind
NEVER, UNLESS, YES, ANY_TRAINING = Training
BEST = Traits.of("eu", NOTHING, None, NEVER)


def traits_of(kind: RetentionKind, days: int | None = None, training: Training = NEVER) -> Traits:
    return Traits.of("eu", kind, days, training)


DAYS = st.integers(1, 40)
RETENTIONS = st.one_of(
    st.tuples(st.sampled_from([NOTHING, ANYTHING]), st.none()), st.tuples(st.sampled_from([ABUSE, STATE]), DAYS)
)
REGIONS = st.sampled_from(["eu", "us", "ch"])
TRAITS = st.builds(lambda r, k, t: Traits.of(r, *k, t), st.none() | REGIONS, RETENTIONS, st.sampled_from(Training))
POLICIES = st.builds(
    lambda r, k, t: Policy.of(r, *k, t),
    st.none() | st.frozensets(REGIONS),
    RETENTIONS,
    st.sampled_from(Training),
)


@given(POLICIES, POLICIES, TRAITS)
def test_an_intersection_admits_what_both_admit(one: Policy, other: Policy, traits: Traits) -> None:
    """Nothing more and nothing less, whichever comes first."""
    both = one.admits(traits) and other.admits(traits)
    assert one.narrowed(other).admits(traits) is other.narrowed(one).admits(traits) is both


@given(POLICIES, TRAITS)
def test_the_attributes_named_are_those_that_exclude(policy: Policy, traits: Traits) -> None:
    """None for an upstream that is admitted."""
    assert policy.admits(traits) is (policy.excluded_by(traits) == ())


@given(POLICIES, TRAITS)
def test_unknown_is_the_worst(policy: Policy, traits: Traits) -> None:
    """A policy that admits an upstream of which nothing is known admits every other as well."""
    if policy.admits(Traits()):
        assert policy.admits(traits) or policy.regions is not None
    assert Policy().admits(traits)


@pytest.mark.parametrize(
    ("traits", "excluded"),
    [
        (BEST, ()),
        (Traits.of(None, ABUSE, 30, NEVER), ()),
        (traits_of(ABUSE, 31), ("retention",)),
        (traits_of(STATE, 1), ("retention",)),
        (traits_of(ANYTHING), ("retention",)),
        (traits_of(NOTHING, None, UNLESS), ("training",)),
        (traits_of(NOTHING, None, YES), ("training",)),
        (traits_of(NOTHING, None, ANY_TRAINING), ("training",)),
        (Traits(), ("retention", "training")),
    ],
)
def test_the_default(traits: Traits, excluded: tuple[str, ...]) -> None:
    """No training, abuse monitoring up to 30 days, no application state; what is unknown is outside."""
    assert NO_TRAINING.excluded_by(traits) == excluded


def test_the_scales_are_in_order() -> None:
    """Each step of a scale admits all before it."""
    for scale, kept in (("retention", list(RetentionKind)), ("training", list(Training))):
        for bound, step in itertools.product(range(4), range(4)):
            if scale == "retention":
                admitted = Policy.of(None, kept[bound], None, ANY_TRAINING).admits(
                    Traits.of("eu", kept[step], 1, NEVER)
                )
            else:
                admitted = Policy.of(None, ANYTHING, None, kept[bound]).admits(traits_of(NOTHING, None, kept[step]))
            assert admitted is (step <= bound), (scale, bound, step)


def test_regions_are_exact_words() -> None:
    """`eu-west-2` is in London: no prefix stands for a place. An unknown region is in no list."""
    policy = Policy.of(frozenset({"eu"}), ANYTHING, None, ANY_TRAINING)
    found = {
        region: policy.admits(Traits.of(region, NOTHING, None, NEVER)) for region in ("eu", "eu-west-2", "us", None)
    }
    assert found == {"eu": True, "eu-west-2": False, "us": False, None: False}


def test_the_attribute_that_excludes_most_is_named() -> None:
    """Its change helps most; a draw goes to the first of the fixed order, whatever the order of targets."""
    policy = Policy.of(frozenset({"eu"}), NOTHING, None, NEVER)
    us, kept = Traits.of("us", NOTHING, None, NEVER), traits_of(ABUSE, 1)
    for order in itertools.permutations([us, kept, kept]):
        assert name_exclusion(policy, list(order)) == "retention"
    assert name_exclusion(policy, [kept, us]) == name_exclusion(policy, [us, kept]) == "region"
    assert ATTRIBUTES == ("region", "retention", "training")


def test_state() -> None:
    """What the provider's own features may keep: days count, and lesser kinds are none."""
    assert Policy.of(None, STATE, 1, NEVER).allows_state(1)
    assert not Policy.of(None, STATE, 29, NEVER).allows_state(30)
    assert not NO_TRAINING.allows_state(1)
    assert Policy().allows_state(10**6)


def test_strangers() -> None:
    """Somebody of whom nothing is known may be told only where everything is allowed."""
    assert Policy().allows_strangers()
    for narrower in (
        Policy.of(frozenset({"eu"}), ANYTHING, None, ANY_TRAINING),
        Policy.of(None, STATE, 3650, ANY_TRAINING),
        Policy.of(None, ANYTHING, None, YES),
    ):
        assert not narrower.allows_strangers()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"region=eu", Policy.of(frozenset({"eu"}), ANYTHING, None, ANY_TRAINING)),
        (b"region=EU, ch", Policy.of(frozenset({"eu", "ch"}), ANYTHING, None, ANY_TRAINING)),
        (b"retention=none", Policy.of(None, NOTHING, None, ANY_TRAINING)),
        (b"retention=abuse_monitoring", Policy.of(None, ABUSE, None, ANY_TRAINING)),
        (b"retention=abuse_monitoring:7", Policy.of(None, ABUSE, 7, ANY_TRAINING)),
        (b"training=never", Policy.of(None, ANYTHING, None, NEVER)),
        (b" Training = never ;\tretention=none;region=eu", Policy.of(frozenset({"eu"}), NOTHING, None, NEVER)),
        (b"retention=unknown;training=unknown", Policy()),
    ],
)
def test_the_header(header: bytes, expected: Policy) -> None:
    """Parts between semicolons, in any order and case."""
    assert narrow_by_header(Policy(), header) == Policy().narrowed(expected)


@given(POLICIES, st.sampled_from([b"region=eu,us", b"retention=unknown", b"training=yes", b"retention=none"]), TRAITS)
def test_the_header_never_widens(policy: Policy, header: bytes, traits: Traits) -> None:
    """Whatever it says, what the policy excludes stays excluded."""
    assert policy.admits(traits) or not narrow_by_header(policy, header).admits(traits)


@pytest.mark.parametrize(
    "header",
    [
        b"", b";", b"region", b"region=", b"region=eu,", b"region=e u", b"region=eu;", b"region=eu;region=eu",
        b"region=eu, region=us", b"retention=", b"retention=forever", b"retention=none:3", b"retention=unknown:3",
        b"retention=abuse_monitoring:", b"retention=abuse_monitoring:-1", b"retention=abuse_monitoring:1e3", b"days=3",
        b"training=no", b"training=never,never", b"zdr", b"training=never retention=none", b"region=\xc3\xa9",
        b"retention=abuse_monitoring:999999", b"region=" + b"x" * 64, b"=", b"region=eu=us",
    ],
)  # fmt: skip
def test_a_header_that_is_no_policy(header: bytes) -> None:
    """A misspelt wish must not pass for none; two headers arrive joined by a comma and are none either."""
    with pytest.raises(BadPolicyError):
        narrow_by_header(Policy(), header)
