"""`luntrex-proxy config ...`: is it right, what is in force and why, and the schema for editors."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from luntrex_proxy.cli.printing import print_json, print_table

if TYPE_CHECKING:
    from luntrex_proxy.settings.litellm import Imported
    from luntrex_proxy.settings.loading import Loaded

# The settings package is imported inside the verbs: pydantic is slow and `--help` must be quick.


@click.group()
def config() -> None:
    """Check and show the configuration."""


@config.command()
@click.option("--egress", is_flag=True, help="List every remote place there is, why, and what leaves for there.")
@click.option("--json", "as_json", is_flag=True, help="With --egress: print JSON.")
@click.pass_context
def check(context: click.Context, egress: bool, as_json: bool) -> None:
    """Say everything that is wrong, as `serve` would see it; exit status 2 if anything is."""
    if as_json and not egress:
        raise click.UsageError("--json goes with --egress.")
    from luntrex_proxy.settings.loading import load  # noqa: PLC0415 -- see above
    from luntrex_proxy.settings.policy import outsiders  # noqa: PLC0415 -- see above

    loaded = load(context.obj["config"], serving=True)
    if egress:
        _print_egress(loaded, as_json)
        return
    click.echo(_summary(loaded))
    for sentence in (*outsiders(loaded.settings), *loaded.settings.keys.warnings()):
        click.echo(sentence, err=True)


@config.command()
@click.option("--origin", is_flag=True, help="Say for each key which file line or variable set it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def show(context: click.Context, origin: bool, as_json: bool) -> None:
    """Print the settings in force; secrets appear as *** or as the reference that the file has."""
    from luntrex_proxy.settings.loading import load  # noqa: PLC0415 -- see above

    loaded = load(context.obj["config"])
    values = loaded.settings.model_dump(mode="json")
    if as_json:
        print_json({"settings": values, "origins": loaded.origins} if origin else values)
    elif origin:
        _print_origins(loaded, values)
    else:
        import yaml  # noqa: PLC0415 -- only here

        click.echo(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), nl=False)


@config.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from luntrex_proxy.settings.model import Settings  # noqa: PLC0415 -- see above

    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()})


@config.group("import")
def import_() -> None:
    """Make a configuration of another program's."""


@import_.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the configuration and what has no equivalent as JSON.")
def litellm(file: Path, as_json: bool) -> None:
    """Print the configuration of ours that does what LiteLLM's FILE does.

    What has no equivalent is listed, on standard error: nothing is dropped unsaid, and no value of the file is shown
    there. Keys that stand in the file are not written down again; it says which variables to put them in.

    \b
    luntrex-proxy config import litellm config.yaml > luntrex-proxy.yaml
    luntrex-proxy config check --config luntrex-proxy.yaml
    """
    from luntrex_proxy.settings.errors import ConfigError  # noqa: PLC0415 -- see above
    from luntrex_proxy.settings.litellm import import_litellm  # noqa: PLC0415 -- see above
    from luntrex_proxy.settings.loading import read_document  # noqa: PLC0415 -- see above

    found = import_litellm(read_document(file).data)
    if not found.models:
        raise ConfigError([f"{file}: has no model in its model_list that could be served", *_left_lines(found)])
    values = {"upstreams": found.upstreams, "models": found.models}
    if as_json:
        print_json({"settings": values, "left": [asdict(one) for one in found.left]})
        return
    click.echo(_as_yaml(values), nl=False)
    if found.left:
        click.echo(f"{len(found.left)} settings have no equivalent:", err=True)
        for line in _left_lines(found):
            click.echo(line, err=True)


def _left_lines(found: "Imported") -> list[str]:
    return [f"  {one.key}: {one.why}" for one in found.left]


def _as_yaml(values: object) -> str:
    """Written out: no `*id001` for what stands in two places."""
    import yaml  # noqa: PLC0415 -- only here

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 -- PyYAML's signature
            return True

    text: str = yaml.dump(values, Dumper=Plain, sort_keys=False, allow_unicode=True)
    return text


def _summary(loaded: "Loaded") -> str:
    settings = loaded.settings
    where = loaded.file or "No configuration file; the environment"
    listens = ", ".join((*settings.gateway.listen, *settings.control.listen))
    return f"{where}: good. {len(settings.upstreams)} upstreams, {len(settings.models)} models; listens on {listens}."


def _print_egress(loaded: "Loaded", as_json: bool) -> None:
    from luntrex_proxy.settings.egress import destinations  # noqa: PLC0415 -- see above

    found = list(destinations(loaded.settings))
    if as_json:
        print_json([asdict(one) for one in found])
        return
    rows = [(one.place, "yes" if one.tls else "no", one.purpose, one.leaves) for one in found]
    print_table(("PLACE", "TLS", "PURPOSE", "WHAT LEAVES"), rows)
    if not any("database" in one.purpose for one in found):
        click.echo("The database is embedded: a Unix socket in the state directory.")


def _print_origins(loaded: "Loaded", values: object) -> None:
    import orjson  # noqa: PLC0415 -- only here

    from luntrex_proxy.settings.section import find_value  # noqa: PLC0415 -- see above

    for key, origin in loaded.origins.items():
        click.echo(f"{key}: {orjson.dumps(find_value(values, key)).decode()}  # {origin}")
