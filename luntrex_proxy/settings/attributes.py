"""What known providers publish about their APIs, each entry with the day it was read and where.

They fill in what an upstream's own entry leaves out; what stands in the configuration always wins. An entry holds for
an account with no special terms. Where that depends on the plan or the account, the worst case stands, or unknown.
"""

from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

_MONTH: Final = {"kind": "abuse_monitoring", "days": 30}


@dataclass(frozen=True, slots=True)
class Known:
    """One provider, found by the host of the base URL; a leading dot stands for any name below."""

    provider: str
    hosts: tuple[str, ...]
    read: str  # the day
    evidence: tuple[str, ...]
    values: dict[str, Any] = field(default_factory=dict)  # of keys of an upstream

    @property
    def origin(self) -> str:
        """Where a value comes from, for `config show --origin`."""
        return f"{self.provider} as read on {self.read}: {self.evidence[0]}"


KNOWN: Final = (
    # Abuse monitoring logs up to 30 days, no training unless the organisation opts in. Chats are kept by default for
    # newer accounts. Without special terms it also keeps the tensors of cached prompts for up to 24 hours, unasked.
    Known(
        "OpenAI",
        ("api.openai.com", ".api.openai.com"),
        "2026-11-23",
        (
            "https://developers.openai.com/api/docs/guides/your-data",
            "https://developers.openai.com/api/docs/guides/migrate-to-responses",
            "https://developers.openai.com/api/docs/guides/prompt-caching",
        ),
        {"retention": _MONTH, "training": "never", "store_false": True},
    ),
    # Inputs and outputs deleted within 30 days unless flagged; no training on what comes through the API.
    Known(
        "Anthropic",
        ("api.anthropic.com",),
        "2026-11-23",
        (
            "https://privacy.claude.com/en/articles/7996866-how-long-do-you-store-my-organization-s-data",
            "https://platform.claude.com/docs/en/manage-claude/api-and-data-retention",
        ),
        {"retention": _MONTH, "training": "never"},
    ),
    # Abuse monitoring up to 30 days, in the resource's geography, which the host does not tell.
    Known(
        "Azure OpenAI",
        (".openai.azure.com",),
        "2026-11-23",
        ("https://learn.microsoft.com/en-us/legal/cognitive-services/openai/data-privacy",),
        {"retention": _MONTH, "training": "never"},
    ),
    # Nothing by default, but up to 30 days where reliability or abuse is looked into.
    Known(
        "Groq",
        ("api.groq.com",),
        "2026-11-23",
        ("https://console.groq.com/docs/your-data", "https://groq.com/privacy-policy"),
        {"retention": _MONTH, "training": "never"},
    ),
    Known(
        "xAI",
        ("api.x.ai", ".api.x.ai"),
        "2026-11-23",
        ("https://docs.x.ai/docs/faq/security",),
        {"retention": _MONTH, "training": "never"},
    ),
    # In volatile memory only; stored responses are a matter of `store`, which is false here always.
    Known(
        "Fireworks",
        ("api.fireworks.ai",),
        "2026-11-23",
        ("https://docs.fireworks.ai/guides/security_compliance/data_handling",),
        {"retention": "none", "training": "never"},
    ),
    # The free plan trains unless one opts out; a paid one does not: then write training: never.
    Known(
        "Mistral",
        ("api.mistral.ai",),
        "2026-11-23",
        ("https://legal.mistral.ai/terms/privacy-policy", "https://help.mistral.ai/en/collections/701684-trust"),
        {"retention": _MONTH, "training": "unless_opted_out"},
    ),
    # Abuse monitoring for 55 days. Paid projects are not trained on, free ones are: the host does not tell.
    Known(
        "Google",
        ("generativelanguage.googleapis.com",),
        "2026-11-23",
        ("https://ai.google.dev/gemini-api/docs/usage-policies", "https://ai.google.dev/gemini-api/terms"),
        {"retention": {"kind": "abuse_monitoring", "days": 55}},
    ),
    # One privacy policy for apps and API: trains unless opted out. No time of retention is published.
    Known(
        "DeepSeek",
        ("api.deepseek.com",),
        "2026-11-23",
        ("https://cdn.deepseek.com/policies/en-US/deepseek-privacy-policy.html",),
        {"training": "unless_opted_out"},
    ),
    # Training only by opting in. Whether it keeps prompts is a setting of the organisation, on by default.
    Known(
        "Together",
        ("api.together.xyz", "api.together.ai"),
        "2026-11-23",
        ("https://docs.together.ai/docs/zero-data-retention", "https://docs.together.ai/docs/privacy-and-security"),
        {"training": "never"},
    ),
    # OpenRouter is not here: each of the providers behind it has a policy of its own, and the account chooses among
    # them (https://openrouter.ai/docs/guides/privacy/provider-logging).
)
FILLED: Final = frozenset(key for known in KNOWN for key in known.values)


def find_known(base_url: object) -> Known | None:
    """The entry of a base URL's host; None when there is none, or when nobody can tell who answers (no TLS)."""
    if not isinstance(base_url, str):
        return None
    try:
        parts = urlsplit(base_url)
        host = parts.hostname or ""
    except ValueError:
        return None  # the URL's own error says so
    if parts.scheme != "https":
        return None
    for known in KNOWN:
        if any(host.endswith(name) if name.startswith(".") else host == name for name in known.hosts):
            return known
    return None


def fill_in(upstream: dict[str, Any]) -> dict[str, Any]:
    """Raw data of an upstream with what is known of its provider, for the keys that it leaves out."""
    known = find_known(upstream.get("base_url"))
    return upstream if known is None else {**known.values, **upstream}
