"""What a key is limited to: words are read strictly, and what is not said limits nothing."""

import ipaddress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from luntrex_proxy.core.policy import Policy
from luntrex_proxy.core.scope import ANYTHING, ENDPOINTS, BadScopeError, Scope, read_scope


def test_nothing_said_limits_nothing() -> None:
    """An empty scope allows every endpoint, model and address, known or not, and leaves the policy as it is."""
    assert read_scope() == ANYTHING
    assert all(ANYTHING.allows_endpoint(name) for name in ENDPOINTS)
    assert ANYTHING.allows_model("any/thing")
    assert ANYTHING.allows_address("")
    policy = Policy(regions=frozenset({"eu"}))
    assert ANYTHING.narrow(policy) is policy


def test_each_kind_limits_its_own() -> None:
    """Endpoints by name, models by name or beginning, addresses by network, regions by the policy."""
    scope = read_scope(
        ["chat.completions"], ["gpt-4o", "claude-*"], ["eu", "ch"], ["192.0.2.0/24", "2001:db8::/32", "203.0.113.7"]
    )
    assert [name for name in ENDPOINTS if scope.allows_endpoint(name)] == ["chat.completions"]
    models = ["gpt-4o", "gpt-4o-mini", "claude-", "claude-3", "xclaude-3", "GPT-4o"]
    assert [name for name in models if scope.allows_model(name)] == ["gpt-4o", "claude-", "claude-3"]
    inside, outside = ["192.0.2.255", "2001:db8:9::1", "203.0.113.7"], ["192.0.3.0", "203.0.113.8", "::1", "", "unix"]
    assert [address for address in inside + outside if scope.allows_address(address)] == inside
    assert scope.narrow(Policy(regions=frozenset({"eu", "us"}))).regions == frozenset({"eu"})
    assert scope.narrow(Policy()).regions == frozenset({"eu", "ch"})


@pytest.mark.parametrize(
    ("kind", "word", "sentence"),
    [
        ("endpoints", "chat", "'chat' is no endpoint; choose from chat.completions, "),
        ("endpoints", "none", "is no endpoint"),
        ("models", "", "is no model name"),
        ("models", "a b", "is no model name"),
        ("models", "a*b", "is no model name"),
        ("models", "x" * 129, "is no model name"),
        ("models", "lx_" + "k" * 62, "is no model name"),  # a key, which limits would show
        ("models", "m\udcff", "is no model name"),
        ("regions", "EU", "is no region"),
        ("networks", "192.0.2.1/24", "did you mean 192.0.2.0/24?"),
        ("networks", "300.1.1.1", "is no network; write it as"),
        ("networks", "", "is no network"),
        ("networks", "localhost", "is no network"),
        ("networks", "::ffff:10.0.0.0/104", "names a zone or an IPv4 address in IPv6"),
        ("networks", "fe80::1%eth0", "names a zone or an IPv4 address in IPv6"),
    ],
)
def test_a_wrong_word_is_named(kind: str, word: str, sentence: str) -> None:
    """One sentence says which word it is and what would be right."""
    with pytest.raises(BadScopeError) as refused:
        read_scope(**{kind: [word]})
    assert sentence in str(refused.value)


def test_a_scope_is_bounded() -> None:
    """It is looked through at every request, so it cannot be endless; the same word twice counts once."""
    assert read_scope(models=["m"] * 1000).models == ("m",)
    with pytest.raises(BadScopeError, match="64 models at most, not 65"):
        read_scope(models=[f"m{n}" for n in range(65)])


@given(st.lists(st.ip_addresses(), min_size=1, max_size=4), st.ip_addresses(), st.integers(0, 128))
def test_networks_as_the_library_means_them(
    nets: list[ipaddress.IPv4Address | ipaddress.IPv6Address],
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    length: int,
) -> None:
    """An address is allowed exactly when it is in one of the networks."""
    networks = [ipaddress.ip_network((net, min(length, net.max_prefixlen)), strict=False) for net in nets]
    mapped = ipaddress.IPv6Network("::ffff:0:0/96")
    assume(not any(isinstance(net, ipaddress.IPv6Network) and net.subnet_of(mapped) for net in networks))
    scope = read_scope(networks=[str(network) for network in networks])
    assert scope.allows_address(str(address)) == any(address in network for network in networks)
    assert scope == Scope(networks=scope.networks)
