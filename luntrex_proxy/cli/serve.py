"""`serve`: runs the daemon in the foreground and tells the person at the terminal how to reach it."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from luntrex_proxy.settings.errors import ConfigError

if TYPE_CHECKING:
    from luntrex_proxy.plan import Started

_DEMO_ACCOUNT = "demo"
_OWN_ACCOUNT = "default"


@click.command()
@click.option("--demo", is_flag=True, help="Try it without a provider: a simulated upstream and a key of its own.")
@click.option(
    "--plane",
    type=click.Choice(["all", "gateway", "control"]),
    default="all",
    show_default=True,
    help="gateway: the inference API; control: health, metrics and console.",
)
@click.pass_context
def serve(context: click.Context, demo: bool, plane: str) -> None:
    """Run the gateway until Ctrl-C or SIGTERM; SIGHUP reads models and upstreams again."""
    from luntrex_proxy.cli.policy_gaps import plain_files  # noqa: PLC0415 -- as below
    from luntrex_proxy.daemon import serve as run  # noqa: PLC0415 -- --help must not load the server
    from luntrex_proxy.plan import Plan  # noqa: PLC0415 -- as above
    from luntrex_proxy.settings.loading import load  # noqa: PLC0415 -- as above
    from luntrex_proxy.settings.policy import outsiders  # noqa: PLC0415 -- as above
    from luntrex_proxy.settings.privacy import contact_warnings, missing_contact  # noqa: PLC0415 -- as above
    from luntrex_proxy.settings.state import find_state_directory  # noqa: PLC0415 -- as above
    from luntrex_proxy.systemd import stdout_is_journal  # noqa: PLC0415 -- as above

    path: Path | None = context.obj["config"]
    loaded = load(path, serving=not demo)
    state = find_state_directory(loaded.settings.state)
    if state.note:
        click.echo(state.note, err=True)
    if not demo:
        why = missing_contact(loaded.settings)
        if why is not None:
            raise ConfigError([f"privacy.contact: needed, because {why}: an address people can ask about their data"])
        for sentence in (*outsiders(loaded.settings), *loaded.settings.keys.warnings()):
            click.echo(sentence, err=True)
    # A key in the journal would be a key at rest in plain text: there `keys create` is the way.
    own_key = (demo or loaded.from_environment) and plane != "control" and not stdout_is_journal()
    plan = Plan(
        settings=loaded.settings,
        state_directory=state.path / "demo" if demo else state.path,
        gateway=plane != "control",
        control=plane != "gateway",
        demo=demo,
        first_account=(_DEMO_ACCOUNT if demo else _OWN_ACCOUNT) if own_key else "",
        first_link=sys.stdout.isatty(),  # anywhere else it would be kept
        reload=None if demo else lambda: load(path, serving=True).settings,
    )

    def announce(started: "Started") -> None:
        _tell(started, demo=demo, state=plan.state_directory)
        for sentence in () if demo else contact_warnings(loaded.settings):  # a start that fails has one thing to say
            click.echo(sentence, err=True)
        if loaded.settings.security.policy == "strict":
            for sentence in plain_files(plan.state_directory):  # who is strict must not believe that nothing is left
                click.echo(sentence, err=True)

    run(plan, announce)


def _tell(started: "Started", *, demo: bool, state: Path) -> None:
    base = started.gateway_url
    lines = []
    if base.startswith("unix:"):
        lines.append(f"Socket       {base.removeprefix('unix:')}")
    elif base:
        lines.append(f"Base URL     {base}/v1   (anthropic SDKs: {base})")
    if started.control_url:
        lines.append(f"Control      {started.control_url}   (/readyz, /metrics)")
    lines.append(f"State        {state}")
    where = f"LUNTREX_STATE__DIRECTORY={shlex.quote(str(state))} " if demo else ""
    if started.first_link:
        lines += [
            f"First person {started.first_link}",
            "             It lets one person in within 15 minutes, who then runs this installation.",
        ]
    elif started.nobody:
        lines.append(f"First person {where}{_program()} people create ADDRESS --operator --affirm-16")
    if started.key:
        lines += [
            f"Key          {started.key}",
            "             It is shown this once and stored nowhere in plain text.",
            "",
            "Try it:",
            *_curl(started),
        ]
    elif started.key_id:
        lines += [
            f"Key id       {started.key_id}   (the key itself was shown once)",
            f"New key      {where}{_program()} keys rotate {started.key_id}",
        ]
    click.echo("\n".join(lines))


def _curl(started: "Started") -> list[str]:
    """A line that streams an answer, in the dialect the model speaks."""
    base, socket = started.gateway_url, ""
    if base.startswith("unix:"):
        base, socket = "http://localhost", f" --unix-socket {shlex.quote(base.removeprefix('unix:'))}"
    anthropic = started.dialect.value == "anthropic"
    path = "messages" if anthropic else "chat/completions"
    version = " -H 'anthropic-version: 2023-06-01'" if anthropic else ""
    limit = '"max_tokens":100,' if anthropic else ""
    body = f'{{"model":"{started.model}","stream":true,{limit}"messages":[{{"role":"user","content":"Hello"}}]}}'
    return [
        f"  curl -N{socket} {base}/v1/{path} -H 'Authorization: Bearer {started.key}'{version} \\",
        "    -H 'Content-Type: application/json' \\",
        f"    -d '{body}'",
    ]


def _program() -> str:
    """How this program can be called from here: by name, by its path when it is not on PATH, else as a module."""
    if shutil.which("luntrex-proxy"):
        return "luntrex-proxy"
    beside = Path(sys.executable).with_name("luntrex-proxy")
    return shlex.quote(str(beside)) if beside.exists() else f"{shlex.quote(sys.executable)} -m luntrex_proxy"
