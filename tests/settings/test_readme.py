"""The README's examples of configurations load, and do what the text beside them says."""

import re
from pathlib import Path

import pytest
import yaml

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import shares
from luntrex_proxy.settings.catalogue import build_catalogue
from luntrex_proxy.settings.litellm import import_litellm
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.secrets import Surroundings

TEXT = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = [block for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL) if "models:" in block]
PLACES = ("openai", "trial", "openrouter")
KEYS = Surroundings(dict.fromkeys(("OPENAI_API_KEY", "OPENROUTER_API_KEY", "GROQ_API_KEY"), "k"))


def of(text: str) -> Settings:
    """A block as a configuration; one that shows models alone gets the upstreams that they name."""
    data = yaml.safe_load(text)
    places = [{"name": name, "dialect": "openai", "base_url": "http://127.0.0.1:1/v1"} for name in PLACES]
    return Settings.model_validate({"upstreams": places} | data, context=KEYS)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_they_load(block: str) -> None:
    """All of them."""
    settings = of(block)
    names = {upstream.name for upstream in settings.upstreams}
    assert {target.upstream for model in settings.models for target in model.targets} <= names


def test_they_do_what_is_said() -> None:
    """A canary of one in a hundred, a spare, a default, and a fallback to OpenRouter."""
    (routing,) = (block for block in BLOCKS if "canary" in block)
    settings = of(routing)
    catalogue = build_catalogue(settings.models, settings.upstreams)
    fast, other = catalogue.resolve("fast", Dialect.OPENAI), catalogue.resolve("anything", Dialect.OPENAI)
    assert fast is not None
    assert other is not None
    assert shares(fast.candidates) == [0.99, 0.01, 0]
    assert other.candidates[0].model == "gpt-4o-mini"
    (moving,) = (block for block in BLOCKS if "groq" in block)
    settings = of(moving)
    llama = build_catalogue(settings.models, settings.upstreams).resolve(
        "meta-llama/llama-3.1-8b-instruct", Dialect.OPENAI
    )
    assert llama is not None
    assert [(each.upstream, each.weight) for each in llama.candidates] == [("groq", 1), ("openrouter", 0)]


def test_the_example_of_litellm_is_imported() -> None:
    """Weights, the fallback, and what is said to have no equivalent."""
    found = re.search(r"cat > litellm.yaml <<'EOF'\n(.*?)EOF", TEXT, re.DOTALL)
    assert found is not None
    imported = import_litellm(yaml.safe_load(found[1]))
    assert [one.key for one in imported.left] == ["model_list[0].litellm_params.rpm"]
    assert "limits set" in imported.left[0].why
    settings = Settings.model_validate({"upstreams": imported.upstreams, "models": imported.models}, context=KEYS)
    catalogue = build_catalogue(settings.models, settings.upstreams)
    smart = catalogue.resolve("smart", Dialect.OPENAI)
    assert smart is not None
    assert shares(smart.candidates) == [1, 0, 0]
    fast = catalogue.resolve("fast", Dialect.OPENAI)
    assert fast is not None
    assert shares(fast.candidates) == [0.99, 0.01]
