"""Privacy attributes of known providers: dated, with a link, filled in only where the configuration is silent."""

import re
from pathlib import Path

import pytest

from luntrex_proxy.core.policy import RetentionKind, Training
from luntrex_proxy.core.wire.endusers import EndUsers
from luntrex_proxy.settings.attributes import KNOWN, Known, find_known
from luntrex_proxy.settings.policy import outsiders
from luntrex_proxy.settings.upstreams import Upstream
from tests.settings.conftest import Complain
from tests.settings.test_loading import Load


def upstream(url: str, **more: object) -> Upstream:
    return Upstream.model_validate({"name": "a", "dialect": "openai", "base_url": url} | more)


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.provider)
def test_entries(known: Known) -> None:
    """Each has a day and links, its values are valid, and its hosts are found."""
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", known.read)
    assert known.evidence
    assert all(link.startswith("https://") for link in known.evidence)
    for host in known.hosts:
        found = upstream(f"https://{'name' if host.startswith('.') else ''}{host}/v1")
        shown = found.model_dump(mode="json")
        assert {name: shown[name] for name in known.values} == known.values


def test_what_is_stated_wins() -> None:
    """Also `unknown`: an account may have other terms, better or worse."""
    url = "https://api.openai.com/v1"
    filled = upstream(url)
    assert (filled.retention.kind, filled.retention.days, filled.training) == (
        RetentionKind.ABUSE_MONITORING, 30, Training.NEVER,
    )  # fmt: skip
    assert (filled.region, filled.store_false) == (None, True)
    stated = upstream(url, retention="none", training="unknown", region="EU", store_false=False)
    assert (stated.retention.kind, stated.training) == (RetentionKind.NONE, Training.UNKNOWN)
    assert (stated.region, stated.store_false) == ("eu", False)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.openai.com/v1",  # no TLS: nobody knows who answers
        "https://api.openai.com.example.org/v1",
        "https://xapi.openai.com/v1",
        "https://openai.azure.com/v1",
        "https://proxy.example.org/api.openai.com/v1",
        "http://127.0.0.1:9000/v1",
    ],
)
def test_others_are_unknown(url: str) -> None:
    """A host that only looks like a provider's promises nothing."""
    assert find_known(url) is None
    made = upstream(url)
    assert (made.region, made.retention.kind, made.training) == (None, RetentionKind.UNKNOWN, Training.UNKNOWN)
    assert made.end_users is EndUsers.PSEUDONYMISE


@pytest.mark.parametrize("url", [None, 7, "", "https://[", "https://[::1", "://"])
def test_what_is_no_url_is_nobodys(url: object) -> None:
    """The URL's own error says what is wrong with it."""
    assert find_known(url) is None


def test_the_origin_says_day_and_link(loaded: Load, config: Path) -> None:
    """`config show --origin` tells a value of ours from the operator's and from a default."""
    text = "upstreams:\n  - {name: a, dialect: openai, base_url: 'https://api.openai.com/v1', training: yes}\n"
    origins = loaded(text).origins
    said = "OpenAI as read on 2026-11-23: https://developers.openai.com/api/docs/guides/your-data"
    assert origins["upstreams[0].retention"] == origins["upstreams[0].store_false"] == said
    assert origins["upstreams[0].training"] == f"{config}:2"
    assert origins["upstreams[0].region"] == origins["upstreams[0].end_users"] == "default"
    assert origins["policy.training"] == "default"


def test_the_origin_of_a_provider_key(config: Path, loaded: Load) -> None:
    """A key in the environment makes the same upstream as a file would."""
    del config
    text = "upstreams: [{name: a, dialect: openai, base_url: 'https://api.groq.com/openai/v1'}]"
    assert loaded(text).origins["upstreams[0].retention"].startswith("Groq as read on ")


LOCAL = "upstreams: [{name: a, dialect: openai, base_url: 'http://127.0.0.1:1/v1'%s}]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LOCAL % ", retention: none, training: never", []),
        (LOCAL % "", ["retention and training", "state retention and training with the upstream"]),
        (LOCAL % ", retention: none", ["its training:", "state training with the upstream"]),
        (LOCAL % ", retention: none, training: yes", ["its training:", "widen the section policy"]),
        (
            "policy: {training: yes}\n" + LOCAL % ", retention: none, training: yes",
            ["may train on what it is sent", "`luntrex-proxy consents give ACCOUNT training`"],
        ),
        (
            "policy: {regions: [eu]}\n" + LOCAL % ", retention: none, training: never",
            ["its region:", "state region with"],
        ),
        ("policy: {regions: [EU]}\n" + LOCAL % ", region: eu, retention: none, training: never", []),
        ("policy: {retention: unknown, training: unknown}\n" + LOCAL % "", ["may train on what it is sent"]),
        ("policy: {retention: unknown, training: unknown}\n" + LOCAL % ", training: never", []),
    ],
)
def test_upstreams_outside_the_default_policy_are_told(loaded: Load, text: str, said: list[str]) -> None:
    """By name, with what to write; a configuration that serves everybody says nothing."""
    sentences = list(outsiders(loaded(text).settings))
    assert len(sentences) == bool(said)
    assert all(part in sentences[0] for part in ["Upstream a ", *said] if said)


def test_providers_without_a_promise_can_be_widened_to(complaints: Complain, loaded: Load) -> None:
    """A misspelt word of the policy is an error, not a wider policy."""
    assert complaints("policy: {training: always}\n") == [
        "F:1:20: policy.training: must be 'never', 'unless_opted_out', 'yes' or 'unknown'"
    ]
    assert loaded("policy: {training: yes}\n").settings.policy.training is Training.YES
