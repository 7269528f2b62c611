"""What stands in LiteLLM's configurations and what it is called here, or why it is not. Tables only.

Facts: https://docs.litellm.ai/docs/proxy/configs and its `config_settings` page, as read on 2026-11-29.
"""

from typing import Final

from luntrex_proxy.settings.providers import PROVIDERS, Provider

ENVIRONMENT: Final = "os.environ/"
_OWN_NAMES: Final = {"together": "together_ai"}  # where LiteLLM's prefix is another word than ours
KNOWN: Final = {_OWN_NAMES.get(provider.name, provider.name): provider for provider in PROVIDERS} | {
    "text-completion-openai": PROVIDERS[0],
    "fireworks_ai": Provider("fireworks", "FIREWORKS_AI_API_KEY", "https://api.fireworks.ai/inference/v1"),
    "cerebras": Provider("cerebras", "CEREBRAS_API_KEY", "https://api.cerebras.ai/v1"),
    "nvidia_nim": Provider("nvidia", "NVIDIA_NIM_API_KEY", "https://integrate.api.nvidia.com/v1"),
    "deepinfra": Provider("deepinfra", "DEEPINFRA_API_KEY", "https://api.deepinfra.com/v1/openai"),
}
# Servers of one's own that speak OpenAI's API: they need an address, and a key only where one is given.
SERVERS: Final = ("hosted_vllm", "openai_like", "custom_openai", "lm_studio", "llamafile", "ollama", "ollama_chat")
BESIDE_V1: Final = ("ollama", "ollama_chat")  # LiteLLM speaks Ollama's own API there; the one of OpenAI is under /v1
BARE: Final = {"claude": "anthropic", "gpt-": "openai", "o1": "openai", "o3": "openai", "o4": "openai",
                "chatgpt": "openai", "text-embedding": "openai", "ft:gpt": "openai"}  # fmt: skip
STRATEGIES: Final = {
    "simple-shuffle": "weighted",
    "least-busy": "least_busy",
    "latency-based-routing": "latency",
}
# LiteLLM's dollars per token -> our class.
PRICES: Final = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached_input",
    "cache_creation_input_token_cost": "cache_write_5m",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "input_cost_per_audio_token": "input_audio",
    "output_cost_per_reasoning_token": "reasoning",
    "output_cost_per_audio_token": "output_audio",
}
TIERS: Final = (128_000, 200_000, 272_000)  # above which their names end in `_above_200k_tokens`
_KEYS_HERE = "keys are made here anew, with `luntrex-proxy accounts create` and `keys create`: each is shown once"
_NO_CONTENT = "prompts and answers are kept nowhere and sent to nobody but the model"
_LIMITS = (
    "limits are of accounts and keys here: `luntrex-proxy limits set --account NAME --model MODEL requests/minute=N`"
)
_BUDGETS = "budgets are of accounts and keys here, and set while the daemon runs: `luntrex-proxy budgets --help`"
_IN_BOTH: Final = {
    "fallbacks": "names a model that is not here, or one that only speaks another dialect: requests are not translated",
    "default_fallbacks": "names a model that not all could fall back to: requests are not translated between dialects",
    "context_window_fallbacks": "the upstream says itself what is too long; applications choose the longer model",
    "content_policy_fallbacks": "what the upstream refuses is the answer; it is not sent to another one unasked",
    "num_retries": "a request is sent again only while nothing of it was sent, or it was refused whole",
}
WHY: Final = {
    "general_settings.master_key": _KEYS_HERE,
    "general_settings.database_url": "its keys and spending stay where they are; `database.url` is a database of ours",
    "environment_variables": "give them to the service instead, as with systemd's Environment= or a credential",
    "include": "the files it names were not read: import them one by one",
    "litellm_params.rpm": _LIMITS,
    "litellm_params.tpm": _LIMITS,
    "litellm_params.max_budget": _BUDGETS,
    "litellm_params.budget_duration": _BUDGETS,
    "litellm_params.order": "give targets that come later the weight 0: they are asked when the others have failed",
    "litellm_settings.max_budget": _BUDGETS,
    "litellm_settings.budget_duration": _BUDGETS,
    "litellm_settings.default_team_settings": _BUDGETS,
    "litellm_settings.default_internal_user_params": _BUDGETS,
    "router_settings.provider_budget_config": _BUDGETS,
    "litellm_settings.drop_params": "requests pass as they are: what the model does not take, it says itself",
    **{f"{section}.{key}": why for section in ("router_settings", "litellm_settings") for key, why in _IN_BOTH.items()},
    **{
        f"litellm_settings.{key}": _NO_CONTENT
        for key in ("callbacks", "success_callback", "failure_callback", "cache", "cache_params")
    },
}
OTHERWISE: Final = "has no equivalent here"
