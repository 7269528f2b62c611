"""Options that several verbs share."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from luntrex_proxy.core.apikeys import mentions_key
from luntrex_proxy.store.errors import StoreError


class FiniteRange(click.FloatRange):
    """A number between two bounds; `nan`, which is neither too small nor too large, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail("nan is no number.", param, ctx)
        return number


class PublicText(click.types.StringParamType):
    """Words that are kept and shown; a key among them, also one with a typing error, is refused unsaid."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The words."""
        if mentions_key(str(value)):
            self.fail("there is an API key in it; say it without.", param, ctx)
        return str(value)


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


@contextlib.contextmanager
def new_private_file(path: Path) -> Iterator[IO[bytes]]:
    """A new file of mode 0600 that goes again when the block fails. StoreError: there is one, or it cannot be made."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{path} cannot be made ({error.strerror}); choose another name.") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


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
