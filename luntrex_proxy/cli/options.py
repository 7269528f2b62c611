"""Options that several verbs share."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click


class FiniteRange(click.FloatRange):
    """A number between two bounds; `nan`, which is neither too small nor too large, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail("nan is no number.", param, ctx)
        return number


class NamedPath(click.Path):
    """A path that somebody wrote: an empty word, say of a variable that is not set, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        if not os.fspath(value).strip():
            self.fail("an empty name is no path.", param, ctx)
        path = super().convert(value, param, ctx)
        if not self.file_okay and os.path.exists(path) and not os.path.isdir(path):  # noqa: PTH110, PTH112 -- click's type
            self.fail("it is no directory.", param, ctx)  # click itself lets pipes and devices pass
        return path


Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def config_option(command: Decorated) -> Decorated:
    """Add `--config F`, before or after the verb. The path is `context.obj["config"]`, None when not given."""
    return click.option(
        "--config",
        metavar="FILE",
        type=NamedPath(path_type=Path),
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
