"""config/luntrex-proxy.yaml is complete and true: every key, at its default. So are the examples beside it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from luntrex_proxy.settings.documents import parse_document
from luntrex_proxy.settings.loading import load
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.secrets import Surroundings
from luntrex_proxy.settings.section import model_in
from luntrex_proxy.settings.upstreams import Retention

CONFIG = Path(__file__).parents[2] / "config"
FILE = CONFIG / "luntrex-proxy.yaml"
TEXT = FILE.read_text()
LISTS = {"upstreams", "models"}
# Examples differ from the default where the default says nothing.
EXAMPLES = {"api_key", "retention", "training", "store_false", "price", "cached_input"}


def keys_of(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Every key that may stand in the file; list items without their number."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        below = model_in(field.annotation)
        if below is None or below is Retention or name == "tls":
            found.add(prefix + name)
        else:
            found |= keys_of(below, f"{prefix}{name}.")
    return found


def keys_in(value: object, prefix: str = "") -> set[str]:
    """Every key that stands in plain data."""
    if isinstance(value, dict) and not re.search(r"\.(retention|api_key)\.$", prefix):  # not the section of that name
        return set().union(*(keys_in(below, f"{prefix}{name}.") for name, below in value.items()))
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return keys_in(value[0], prefix)  # the first example has to be complete by itself
    return {prefix.removesuffix(".")}


def uncommented(text: str) -> str:
    """With the examples in force."""
    head, start, examples = text.partition("#upstreams:")
    return head + re.sub(r"(?m)^#(?=\S|  )", "", start + examples)  # `# ` and a word is prose


def problems(text: str) -> list[str]:
    """What keeps `text` from being the documented default file."""
    document = parse_document(text)
    if document.faults:
        return [sentence for _, _, sentence in document.faults]
    found = []
    if keys_in(document.data) != {key for key in keys_of(Settings) if key.split(".")[0] not in LISTS}:
        found.append("a key is missing from the active part, or stands there without existing")
    try:
        if Settings.model_validate(document.data) != Settings():
            found.append("a value is not the default")
    except ValidationError:
        found.append("a value is wrong")
    whole = parse_document(uncommented(text))
    if whole.faults or keys_in(whole.data) != keys_of(Settings):
        found.append("a key is missing from the examples")
    return found


def test_file_is_the_defaults() -> None:
    """Loading it changes nothing, and no key is undocumented."""
    assert problems(TEXT) == []
    assert load(FILE, {}).settings == Settings()


def _key_lines() -> list[int]:
    lines = TEXT.split("\n")
    second_model = lines.index('#  - name: "openai/*"')  # after it the example only repeats
    return [number for number, line in enumerate(lines[:second_model]) if re.match(r"#?[ -]*[a-z_0-9]+:", line)]


@pytest.mark.parametrize("number", _key_lines())
def test_no_line_can_go(number: int) -> None:
    """Removing any line with a key is noticed."""
    lines = TEXT.split("\n")
    del lines[number]
    assert problems("\n".join(lines))


def test_a_changed_default_is_noticed() -> None:
    """The file cannot say another value than the program has."""
    assert problems(TEXT.replace("pool_size: 4", "pool_size: 5")) == ["a value is not the default"]


def test_examples_load_and_show_defaults() -> None:
    """With the # removed the file is a working configuration whose optional keys are at their defaults."""
    data = yaml.safe_load(uncommented(TEXT))
    settings = Settings.model_validate(data, context=Surroundings({"OPENAI_API_KEY": "sk-x"}))
    for shown, model in ((data["upstreams"][0], settings.upstreams[0]), (data["models"][0], settings.models[0])):
        assert _off_default(shown, type(model)) <= EXAMPLES


def _off_default(shown: dict[str, Any], model: type[BaseModel]) -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        below = model_in(field.annotation)
        if below and below is not Retention:
            inner = shown[name][0] if isinstance(shown[name], list) else shown[name]
            found |= _off_default(inner, below)
        elif not field.is_required() and shown[name] != getattr(field.default, "value", field.default):
            found.add(name)
    return found


def test_every_line_of_the_file_says_why() -> None:
    """Each section and each key is under a comment, its own or its group's."""
    assert len([line for line in TEXT.split("\n") if re.match(r" *#+ ", line)]) > 40


@pytest.mark.parametrize("path", sorted((CONFIG / "deploy").glob("*.yaml")), ids=lambda path: path.stem)
def test_deployments_load(path: Path, tmp_path: Path) -> None:
    """Each example in config/deploy starts as it is when its credentials are there."""
    for name in ("openai-key", "anthropic-key"):
        (tmp_path / name).write_text("sk-x")
    for name in ("database-url", "database-direct-url"):
        (tmp_path / name).write_text("postgresql://u@h/d")
    loaded = load(path, {"CREDENTIALS_DIRECTORY": str(tmp_path)}, serving=True)
    assert loaded.settings.upstreams


def _descriptions(schema: dict[str, Any]) -> list[tuple[str, str]]:
    sections = {"": schema, **schema["$defs"]}
    return [
        # A section whose field would repeat its own sentence has it there only.
        (f"{section}.{name}", field.get("description") or sections[field["$ref"].split("/")[-1]]["description"])
        for section, body in sections.items()
        for name, field in body.get("properties", {}).items()
    ]


def test_schema_describes_every_key() -> None:
    """Editors show a sentence for each key."""
    described = _descriptions(Settings.model_json_schema())
    assert len(described) > 50
    assert [key for key, text in described if not text.endswith((".", "N}.")) or len(text) < 8] == []
