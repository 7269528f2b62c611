"""Options that several verbs share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def config_option(command: Decorated) -> Decorated:
    """Add `--config F`, before or after the verb. The path is `context.obj["config"]`, None when not given."""
    return click.option(
        "--config",
        metavar="FILE",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=_remember,
        help="The configuration file.  [default: $LUNTREX_CONFIG or /etc/luntrex-proxy/luntrex-proxy.yaml]",
    )(command)


def add_config_option(command: click.Command) -> None:
    """Let `--config` also stand after the verb, on every verb below `command`."""
    if isinstance(command, click.Group):
        for verb in command.commands.values():
            add_config_option(verb)
    elif all(parameter.name != "config" for parameter in command.params):
        config_option(command)


def _remember(context: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    chosen = context.ensure_object(dict)
    if path is not None or "config" not in chosen:
        chosen["config"] = path
