"""LiteLLM's configurations as ours: what is the same, what is listed instead, and that nothing falls between."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.cli import main
from luntrex_proxy.settings.litellm import import_litellm
from luntrex_proxy.settings.loading import load

SECRET = "sk-Literal0Secret"
WHOLE = f"""
model_list:
  - model_name: gpt-5-mini
    litellm_params: {{model: gpt-5-mini, region_name: EU, api_key: os.environ/OPENAI_API_KEY}}
  - model_name: "*"
    litellm_params: {{model: openai/*, api_key: os.environ/OPENAI_API_KEY}}
  - model_name: anthropic/*
    litellm_params: {{model: anthropic/*}}
  - model_name: local
    litellm_params:
      {{model: openai/facebook/opt-125m, api_base: "http://10.0.0.1:8000/v1", api_key: {SECRET}, rpm: 6, weight: 2,
       input_cost_per_token: 0.00000015, output_cost_per_token: 6.0e-07}}
  - model_name: local
    litellm_params: {{model: ollama/llama3, api_base: "http://10.0.0.2:11434", timeout: 300}}
  - model_name: claude
    litellm_params: {{model: bedrock/us.anthropic.claude-haiku, aws_region_name: us-east-1}}
router_settings:
  routing_strategy: least-busy
  model_group_alias: {{gpt-4: local, nobody: nothing}}
  fallbacks: [{{local: [gpt-5-mini]}}, {{local: [claude]}}]
  allowed_fails: 3
  cooldown_time: 30
litellm_settings: {{request_timeout: 600, success_callback: [langfuse], drop_params: true}}
general_settings: {{master_key: {SECRET}, database_url: "postgresql://u:{SECRET}@h/d"}}
environment_variables: {{LANGFUSE_SECRET: {SECRET}}}
"""
_ENVIRON = {"OPENAI_API_KEY": "k1", "ANTHROPIC_API_KEY": "k2", "IMPORTED_API_KEY_1": "k3"}


def _run(tmp_path: Path, text: str | bytes, *more: str) -> Result:
    file = tmp_path / "litellm.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return CliRunner().invoke(main, ["config", "import", "litellm", str(file), *more])


def test_what_it_prints_loads_and_does_the_same(tmp_path: Path) -> None:
    ran = _run(tmp_path, WHOLE)
    assert ran.exit_code == 0
    ours = tmp_path / "luntrex-proxy.yaml"
    ours.write_text(ran.stdout)
    settings = load(ours, _ENVIRON, serving=True).settings
    models = {model.name: model for model in settings.models}
    assert list(models) == ["gpt-5-mini", "*", "anthropic/*", "local", "gpt-4"]
    upstreams = {upstream.name: upstream for upstream in settings.upstreams}

    def served(name: str) -> list[tuple[str, str, int]]:
        return [(upstreams[to.upstream].base_url, to.model, to.weight) for to in models[name].targets]

    assert served("gpt-5-mini") == [("https://api.openai.com/v1", "gpt-5-mini", 1)]
    assert upstreams[models["gpt-5-mini"].targets[0].upstream].region == "eu"
    assert served("anthropic/*") == [("https://api.anthropic.com", "*", 1)]
    local = [
        ("http://10.0.0.1:8000/v1", "facebook/opt-125m", 2),
        ("http://10.0.0.2:11434/v1", "llama3", 1),
        ("https://api.openai.com/v1", "gpt-5-mini", 0),
    ]
    assert served("local") == served("gpt-4") == local
    assert models["local"].choice == "least_busy"
    assert models["local"].price is not None
    assert (float(models["local"].price.input), float(models["local"].price.output)) == (0.15, 0.6)
    assert upstreams["ollama"].timeouts.first_byte_s == 300
    assert upstreams["openai"].timeouts.first_byte_s == 600
    assert (upstreams["openai"].health.failures, upstreams["openai"].health.open_s) == (4, 30)
    assert upstreams["openai"].api_key is not None
    assert upstreams["openai"].api_key.reveal() == "k1"


def test_what_has_no_equivalent_is_listed_without_a_value(tmp_path: Path) -> None:
    ran = _run(tmp_path, WHOLE, "--json")
    left = json.loads(ran.stdout)["left"]
    keys = [one["key"] for one in left]
    assert keys == [
        "model_list[3].litellm_params.api_key", "model_list[3].litellm_params.rpm", "model_list[4].litellm_params",
        "model_list[5]", "router_settings.fallbacks", "router_settings.model_group_alias.nobody",
        "router_settings.fallbacks", "litellm_settings.success_callback", "litellm_settings.drop_params",
        "general_settings.master_key", "general_settings.database_url", "environment_variables",
    ]  # fmt: skip
    assert "IMPORTED_API_KEY_1" in left[0]["why"]
    plain = _run(tmp_path, WHOLE)
    assert [line.split(":")[0].strip() for line in plain.stderr.splitlines()[1:]] == keys
    assert SECRET not in ran.stdout + ran.stderr + plain.stdout + plain.stderr


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("model_list: [", 2, "litellm.yaml:1:"),
        ("- a\n- b\n", 2, "must be a mapping"),
        (b"\xff\xfe\x00", 2, "is not UTF-8 text"),
        ("", 2, "has no model in its model_list that could be served"),
        ("model_list: {a: 1}", 2, "has no model in its model_list that could be served"),
        ("model_list: [5, {model_name: 3}, {litellm_params: []}]", 2, "model_list[2]: needs model_name"),
        ("model_list: [{model_name: a b, litellm_params: {model: openai/x}}]", 2, "without spaces"),
        ("model_list: [{model_name: a, litellm_params: {model: openai/x, timeout: 1.0e+99}}]", 2, "first_byte_s"),
        ("model_list: [{model_name: a, litellm_params: {model: azure/x, api_base: 'https://a'}}]", 2, "/openai/v1"),
        ("model_list: [{model_name: a, litellm_params: {model: hosted_vllm/x}}]", 2, "write it into api_base"),
    ],
)
def test_a_file_that_would_do_nothing_is_refused(tmp_path: Path, text: str | bytes, status: int, said: str) -> None:
    ran = _run(tmp_path, text)
    assert ran.exit_code == status
    assert said in ran.stderr
    assert not ran.stdout


def test_weights_fallbacks_and_parallel_requests() -> None:
    """Weights need be no whole numbers there; a fallback becomes a target of weight 0, in the same dialect only."""
    params = [("openai/a", {"weight": 0.9}), ("openai/b", {"weight": 0.1, "max_parallel_requests": 5, "tpm": 9})]
    found = import_litellm(
        {
            "model_list": [
                *({"model_name": "m", "litellm_params": {"model": name, **more}} for name, more in params),
                {"model_name": "n", "litellm_params": {"model": "openai/c"}},
                {"model_name": "claude", "litellm_params": {"model": "anthropic/x"}},
            ],
            "litellm_settings": {"fallbacks": [{"m": ["n"]}, {"claude": ["m"]}], "max_budget": 10},
            "router_settings": {"default_fallbacks": ["n"], "context_window_fallbacks": [{"m": ["n"]}]},
        }
    )
    models = {each["name"]: [(to["model"], to.get("weight", 1)) for to in each["targets"]] for each in found.models}
    assert models == {"m": [("a", 900), ("b", 100), ("c", 0)], "n": [("c", 1)], "claude": [("x", 1)]}
    assert [each["max_connections"] for each in found.upstreams if "max_connections" in each] == [5]
    assert [one.key for one in found.left] == [
        "model_list[1].litellm_params.tpm", "litellm_settings.fallbacks", "litellm_settings.max_budget",
        "router_settings.default_fallbacks", "router_settings.context_window_fallbacks",
    ]  # fmt: skip
    assert "limits set" in found.left[0].why
    assert "budgets" in found.left[2].why


def test_prices_that_differ_are_listed() -> None:
    """Here a model has one, there each deployment: whoever is charged another one than there reads of it."""
    own = {"input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06}
    params = [("m", own), ("m", {}), ("n", {}), ("n", own), ("o", {}), ("same", {}), ("own", own), ("alike", own)]
    data = {
        "model_list": [
            {"model_name": name, "litellm_params": {"model": f"openai/{name}{place}", **more}}
            for place, (name, more) in enumerate(params)
        ],
        "router_settings": {"fallbacks": [{"o": ["same"]}, {"own": ["alike"]}]},
        "litellm_settings": {"fallbacks": [{"o": ["own"]}]},
    }
    found = import_litellm(data)
    assert [one.key for one in found.left if "one price" in one.why] == [
        "model_list[1].litellm_params", "model_list[3].litellm_params", "litellm_settings.fallbacks"
    ]  # fmt: skip
    assert len(found.left) == 3
    assert len(import_litellm({**data, "litellm_settings": {"default_fallbacks": ["own"]}}).left) == 3


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    ran = CliRunner().invoke(main, ["config", "import", "litellm", str(tmp_path / "none.yaml")])
    assert (ran.exit_code, ran.stderr) == (2, f"{tmp_path / 'none.yaml'}: there is no such file\n")


_words = st.sampled_from(
    ("model", "api_base", "api_key", "rpm", "timeout", "weight", "model_info", "litellm_params", "model_name", "order",
     "routing_strategy", "model_group_alias", "input_cost_per_token", "output_cost_per_token", "custom_llm_provider"),
)  # fmt: skip
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(("openai/x", "", "http://h/v1", "x/*")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=4),
    max_leaves=12,
)
_deployments = st.fixed_dictionaries(
    {"model_name": st.sampled_from(("a", "b/*", "*")) | _values,
     "litellm_params": st.fixed_dictionaries({"model": st.sampled_from(("openai/x", "groq/*", "gpt-4o"))},
                                             optional={"api_base": _values, "weight": _values, "rpm": _values,
                                                       "timeout": _values, "input_cost_per_token": _values,
                                                       "output_cost_per_token": _values, "api_key": _values})},
    optional={"model_info": _values},
)  # fmt: skip


def _says_something(value: Any) -> bool:
    """Not a mapping with nothing in it but such mappings."""
    return any(map(_says_something, value.values())) if isinstance(value, dict) else True


@given(
    st.fixed_dictionaries(
        {"model_list": st.lists(_deployments | _values, max_size=4) | _values},
        optional={"router_settings": _values, "litellm_settings": _values, "anything": _values},
    )
)
def test_whatever_stands_there_gives_a_configuration_that_loads(tmp_path_factory: Any, data: dict[str, Any]) -> None:
    found = import_litellm(data)
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(yaml.safe_dump({"upstreams": found.upstreams, "models": found.models}))
    load(file, {})
    if "anything" in data and data["anything"] is not None and _says_something(data["anything"]):
        assert any(one.key.startswith("anything") for one in found.left)
    deployments = data["model_list"]
    if isinstance(deployments, list):
        served = len({model["name"] for model in found.models})
        assert served or not deployments or found.left


@pytest.mark.parametrize("value", [10**400, -(10**400), "1e999999", {None: 3}])
def test_what_is_no_number_of_anything_is_listed(tmp_path: Path, value: Any) -> None:
    """Beyond all numbers, or a key without a name: no traceback."""
    params = dict.fromkeys(("input_cost_per_token", "timeout", "weight"), value)
    models = [{"model_name": "m", "litellm_params": {"model": "openai/m", **params}}]
    ran = _run(tmp_path, yaml.safe_dump({"model_list": models, "router_settings": {"allowed_fails": value}}))
    assert (ran.exit_code, ran.stderr.count("has no equivalent here")) == (0, 4)


def test_prices_of_larger_requests_come_along(tmp_path: Path) -> None:
    """What a tier leaves out costs what it costs below; a size that is none here is listed."""
    cost = "input_cost_per_token"
    prices = {
        cost: 3e-06, "output_cost_per_token": 1.5e-05, "cache_read_input_token_cost": 3e-07,
        f"{cost}_above_200k_tokens": 6e-06, "output_cost_per_token_above_200k_tokens": 2.25e-05,
    }  # fmt: skip
    params = {"model": "anthropic/claude-sonnet-4-5", **prices, f"{cost}_above_512k_tokens": 9e-06}
    ran = _run(tmp_path, json.dumps({"model_list": [{"model_name": "sonnet", "litellm_params": params}]}))
    assert ran.exit_code == 0
    (entry,) = yaml.safe_load(ran.stdout)["models"]
    tier = {"above_input_tokens": 200_000, "input": 6, "output": 22.5, "cached_input": 0.3}
    assert {**entry["price"], "tiers": [dict(each) for each in entry["price"]["tiers"]]} == {
        "input": 3, "output": 15, "cached_input": 0.3, "tiers": [tier]
    }  # fmt: skip
    assert "input_cost_per_token_above_512k_tokens" in ran.stderr
    assert "above_200k" not in ran.stderr
