"""The `luntrex-proxy` command: which verbs there are, and how failures are said.

Each verb is one module of this package with a click command of the same name; it is imported when it is used, so that
`--help` is quick. Exit status: 0 good, 1 refused or failed, 2 wrong use or configuration.
"""

import errno
import importlib
import os
import re
from typing import Any, Final

import click

from luntrex_proxy import __version__
from luntrex_proxy.cli.options import add_config_option, config_option
from luntrex_proxy.settings.errors import ConfigError

VERBS: Final = {
    "serve": "Run the gateway.",
    "config": "Check and show the configuration.",
    "people": "Who may sign in.",
    "accounts": "Who keys and usage belong to.",
    "keys": "API keys of accounts.",
    "limits": "How much accounts and keys may ask for.",
    "budgets": "How much money accounts, keys, members and labels may cost.",
    "routes": "Where requests go, and why.",
    "upstreams": "How upstreams are, and which get nothing for a while.",
    "apply": "Accounts, members and keys as a file says.",
    "tokens": "Access tokens for the API.",
    "usage": "What was used, and what it cost.",
    "requests": "What happened to one request.",
    "billing": "What accounts are billed.",
    "ledger": "Records on their way to the database.",
    "retention": "How long data is kept.",
    "db": "The database: schema, backup, upgrade.",
    "privacy": "What is kept about people, and why.",
    "registry": "Who else gets data: sub-processors, and objections to them.",
    "children": "Reports that somebody here is under 16.",
    "incidents": "Breaches of personal data: the register, who is affected, the notices.",
    "privacy-check": "Look for anything of what was said in all that is kept.",
    "consents": "What accounts' owners agreed to.",
    "rights": "What people may ask for by right.",
    "audit": "Who did what, and whether the log is whole.",
    "attempts": "Requests that were refused for their key.",
    "debug-capture": "Copy a key's next requests, readable to you alone.",
    "secrets": "What the installation keeps secret.",
    "doctor": "Check this installation and say what to mend.",
}
_LIKE_A_KEY: Final = re.compile(r"(lxp?_)[0-9A-Za-z]{12}_[0-9A-Za-z]+")
DEBUG_VARIABLE: Final = "LUNTREX_DEBUG"


class LazyGroup(click.Group):
    """Knows its verbs' names and one-line helps; imports a verb when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        """The verbs, in the order in which people meet them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 -- as above
        """Import one verb."""
        if cmd_name not in VERBS:
            return None
        module = cmd_name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"luntrex_proxy.cli.{module}"), module)
        add_config_option(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 -- as above
        """Write the list of verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; what fails becomes sentences on stderr and an exit status, never a traceback."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.args = (_masked(error.message),)
            error.__dict__["message"] = error.args[0]  # click calls it final; it quotes what was typed
            raise
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click says these itself
        except ConfigError as error:
            click.echo(_masked("\n".join(error.lines)), err=True)
            raise click.exceptions.Exit(2) from None
        except Exception as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            click.echo(_masked(_sentence(error)), err=True)
            raise click.exceptions.Exit(1) from None


def _masked(sentence: str) -> str:
    """Whatever a sentence quotes: a key or token is not said again, also one with a typing error."""
    return _LIKE_A_KEY.sub(r"\1***", sentence)


def _sentence(error: Exception) -> str:
    from luntrex_proxy.control.application import UnfitInstallError  # noqa: PLC0415 -- --help needs none of these
    from luntrex_proxy.core.listening import ListenError  # noqa: PLC0415 -- as above
    from luntrex_proxy.gateway.upstreams import UnusableUpstreamError  # noqa: PLC0415 -- as above
    from luntrex_proxy.store.errors import StoreError  # noqa: PLC0415 -- as above

    if isinstance(error, StoreError | ListenError | UnfitInstallError | UnusableUpstreamError):
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "luntrex-proxy could not write all of it: no space is left there."
    # Any other text may quote what it stumbled over, a key for example.
    return f"luntrex-proxy failed with an unexpected {type(error).__name__}. {DEBUG_VARIABLE}=1 shows where."


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="luntrex-proxy")
@config_option
def main() -> None:
    """Reverse proxy for language-model APIs: keys, routing, exact usage, and no trace of what was said."""
