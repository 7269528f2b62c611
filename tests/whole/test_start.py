"""`serve` as people meet it: the demo, provider keys in the environment, and what it says when it cannot start."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import anthropic
import openai
import pytest

from tests.upstreams.simulated import SimulatedUpstream
from tests.whole import calls
from tests.whole.daemon import REPOSITORY, clean_environment, free_port, get

KEY = re.compile(r"lx_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}")
START_SECONDS = 120  # ends a start that hangs
SAID: list[dict[str, str]] = [{"role": "user", "content": "hi"}]


class Serve:
    """`luntrex-proxy serve` in a terminal's place: stdout and stderr are files."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        self.port, self.control_port = free_port(), free_port()
        self.state = directory / "state"
        self.out, self.err = directory / "out", directory / "err"
        self._arguments = arguments
        self._environment = clean_environment(
            LUNTREX_GATEWAY__LISTEN=f"127.0.0.1:{self.port}",
            LUNTREX_CONTROL__LISTEN=f"127.0.0.1:{self.control_port}",
            LUNTREX_STATE__DIRECTORY=str(self.state),
            **environment,
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until ready and until something was printed."""
        started = time.monotonic()
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "luntrex_proxy", "serve", *self._arguments],
                env=self._environment, cwd=self.out.parent, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            )  # fmt: skip
        while get(self.control_port, "/readyz")[0] != 200 or "Base URL" not in self.printed:
            assert self.process.poll() is None, self.err.read_text()
            assert time.monotonic() - started < START_SECONDS, self.err.read_text()
            time.sleep(0.02)

    @property
    def printed(self) -> str:
        """Everything on stdout so far."""
        return self.out.read_text()

    @property
    def url(self) -> str:
        """The base URL it printed."""
        return re.findall(r"http://127\.0\.0\.1:\d+/v1", self.printed)[0]

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A verb in the same environment."""
        command = [sys.executable, "-m", "luntrex_proxy", *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=60)

    def agree_to_training(self) -> None:
        """Nothing is known of a server at another base URL, so whose account it is has to agree; the daemon knows."""
        agreed = self.cli("consents", "give", "default", "training")
        assert agreed.returncode == 0, agreed.stderr
        since = time.monotonic()
        while _lag_s(self.control_port) >= time.monotonic() - since:
            assert time.monotonic() - since < START_SECONDS
            time.sleep(0.02)

    def stop(self, sign: signal.Signals = signal.SIGINT) -> int:
        """End it and return its exit status."""
        assert self.process is not None
        self.process.send_signal(sign)
        return self.process.wait(30)

    def kill(self) -> None:
        """End it whatever it takes."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def postgres_pids(self) -> list[int]:
        """Processes that work inside our state directory."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str((process / "cwd").readlink()).startswith(str(self.state.resolve())):
                    found.append(int(process.name))
        return found


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path."""
    directory = Path(tempfile.mkdtemp(prefix="lx-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def demo(place: Path) -> Iterator[Serve]:
    serve = Serve(place, "--demo")
    yield serve
    serve.kill()


def wait_gone(serve: Serve, seconds: float = 15) -> None:
    """Wait until nothing of ours works in the state directory."""
    deadline = time.monotonic() + seconds
    while left := serve.postgres_pids():
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.05)


def curl_lines(printed: str) -> str:
    """The curl command as it was printed, continuation lines included."""
    match = re.search(r"^ *curl(?:.*\\\n)*.*$", printed, re.MULTILINE)
    assert match, printed
    return match[0]


async def test_the_demo_from_first_start_to_second(demo: Serve) -> None:
    """First start: base URL, key, a curl line that streams, both SDKs work. Second: same data, key id, no key."""
    demo.start()
    first = demo.printed
    assert demo.url == f"http://127.0.0.1:{demo.port}/v1"
    keys = set(KEY.findall(first))
    assert len(keys) == 1
    key = keys.pop()

    done = subprocess.run(["sh", "-c", curl_lines(first)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("data: ") > 5
    assert done.stdout.rstrip().endswith("data: [DONE]")

    client, claude = calls.openai_client(demo.url, key), calls.anthropic_client(demo.url, key)
    assert {"demo-small", "demo-large"} <= {one.id for one in client.models.list()}
    streamed = await calls.chat_stream_usage(client, "demo-large")
    assert streamed.text
    assert streamed.tokens is not None
    assert claude.messages.create(model="demo-claude", max_tokens=64, messages=SAID).content[0].text  # type: ignore[arg-type, union-attr] -- plain dicts are what people write
    assert demo.stop(signal.SIGINT) == 0
    wait_gone(demo)

    demo.start()
    second = demo.printed
    assert not KEY.search(second + demo.err.read_text())
    assert key.split("_")[1] in second
    assert "keys rotate" in second
    assert calls.openai_client(demo.url, key).models.list().data
    assert demo.stop(signal.SIGTERM) == 0
    wait_gone(demo)


def test_the_rotate_command_it_prints_works(demo: Serve) -> None:
    """The second start's way to a new key, pasted as it is, gives a key that works."""
    demo.start()
    demo.stop()
    demo.start()
    line = next(line for line in demo.printed.splitlines() if "keys rotate" in line)
    command = line[line.index("LUNTREX_") :]
    environment = clean_environment() | {"HOME": str(demo.out.parent)}
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=60, env=environment, cwd=demo.out.parent
    )
    assert done.returncode == 0, done.stderr
    assert calls.openai_client(demo.url, KEY.findall(done.stdout)[0]).models.list().data


def test_the_command_for_a_first_person_that_it_prints_works(demo: Serve) -> None:
    """Pasted with an address, it gives a link that the demo knows."""
    demo.start()
    command = re.findall(r"First person +(.*)", demo.printed)[0].replace("ADDRESS", "ada@example.org")
    environment = clean_environment() | {"HOME": str(demo.out.parent)}
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=60, env=environment, cwd=demo.out.parent
    )
    assert done.returncode == 0, done.stderr
    status, page = get(demo.control_port, "/link?token=" + re.findall(r"token=([\w-]{43})", done.stdout)[0])
    assert status == 200
    assert b"ada@example.org" in page


def test_kill_leaves_nothing_of_the_demo(demo: Serve) -> None:
    """After kill -9 the database ends by itself, and the next start works."""
    demo.start()
    assert demo.postgres_pids()
    demo.kill()
    wait_gone(demo)
    demo.start()


def test_a_second_demo_on_the_same_data_is_refused(demo: Serve, place: Path) -> None:
    """Two daemons on one embedded database: the second says so in a sentence and leaves the first alone."""
    demo.start()
    other = Serve(place, "--demo")
    other.out, other.err = place / "out2", place / "err2"
    done = other.cli("serve", "--demo")
    assert done.returncode == 1
    assert_one_sentence(done.stderr)
    assert get(demo.control_port, "/readyz")[0] == 200


def test_provider_keys_in_the_environment_are_enough(place: Path, simulator: SimulatedUpstream) -> None:
    """No file, two provider keys set: a working gateway with one printed key; any model name passes."""
    serve = Serve(
        place,
        OPENAI_API_KEY=simulator.secret,
        OPENAI_BASE_URL=simulator.url,
        ANTHROPIC_API_KEY=simulator.secret,
        ANTHROPIC_BASE_URL=simulator.url.removesuffix("/v1"),
        LUNTREX_POLICY__RETENTION__KIND="unknown",  # nothing is known of a server at another base URL
        LUNTREX_POLICY__TRAINING="unknown",
    )
    try:
        serve.start()
        keys = KEY.findall(serve.printed)
        assert len(set(keys)) == 1
        client, claude = calls.openai_client(serve.url, keys[0]), calls.anthropic_client(serve.url, keys[0])
        with pytest.raises(openai.PermissionDeniedError, match="account consent to training"):
            client.chat.completions.create(model="demo-small", messages=SAID)  # type: ignore[arg-type] -- as above
        serve.agree_to_training()
        assert client.chat.completions.create(model="demo-small", messages=SAID).choices[0].message.content  # type: ignore[arg-type] -- as above
        assert claude.messages.create(model="demo-claude", max_tokens=9, messages=SAID).usage.output_tokens == 9  # type: ignore[arg-type] -- as above
        with pytest.raises(anthropic.NotFoundError):
            claude.messages.create(model="not-there-either", max_tokens=9, messages=SAID)  # type: ignore[arg-type] -- as above
        assert "demo-small" in {one.id for one in client.models.list()}
        assert serve.stop() == 0
        assert simulator.secret not in serve.printed + serve.err.read_text()
    finally:
        serve.kill()


def _lag_s(control_port: int) -> float:
    """How old what the daemon knows of accounts is."""
    return float(re.findall(rb"^luntrex_revocation_lag_seconds (\S+)$", get(control_port, "/metrics")[1], re.M)[0])


def assert_one_sentence(said: str) -> None:
    """One line for a person, no traceback."""
    lines = [line for line in said.strip().splitlines() if not line.startswith("{")]
    assert "Traceback" not in said
    assert len(lines) == 1, said
    assert len(lines[0]) < 500


def test_nothing_to_serve(place: Path) -> None:
    """No file and no provider key: one sentence that names the ways out, exit status 2."""
    done = Serve(place).cli("serve")
    assert done.returncode == 2
    assert_one_sentence(done.stderr)
    assert "OPENAI_API_KEY" in done.stderr
    assert "--demo" in done.stderr


@pytest.mark.parametrize("plane", ["gateway", "control"])
def test_a_taken_port(place: Path, plane: str) -> None:
    """A port somebody else has: one sentence that names it, exit status 1, no database left behind."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        serve = Serve(place)
        serve._environment[f"LUNTREX_{plane.upper()}__LISTEN"] = f"127.0.0.1:{port}"
        done = serve.cli("serve", "--demo")
    assert done.returncode == 1
    assert_one_sentence(done.stderr)
    assert str(port) in done.stderr
    assert not KEY.search(done.stdout)
    wait_gone(serve)


def test_a_bad_configuration(place: Path) -> None:
    """Every error at once with file, line and column, a did-you-mean, exit status 2, nothing started."""
    file = place / "bad.yaml"
    file.write_text("gateway: {listen: ['0.0.0.0:1']}\nupstream:\n  - 1\nmodels:\n  - {name: 'a b', targets: []}\n")
    serve = Serve(place)
    del serve._environment["LUNTREX_GATEWAY__LISTEN"]
    done = serve.cli("serve", "--config", str(file))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "bad.yaml:1:" in done.stderr
    assert "bad.yaml:2:1" in done.stderr
    assert "did you mean 'upstreams'?" in done.stderr
    assert "bad.yaml:5:" in done.stderr
    assert not serve.state.exists()


def test_a_database_that_cannot_be_reached(place: Path) -> None:
    """A DSN nobody answers at: one sentence without its password, exit status 1."""
    url = f"postgresql://somebody:canary-password@127.0.0.1:{free_port()}/db"
    done = Serve(place, LUNTREX_DATABASE__URL=url).cli("serve", "--demo")
    assert done.returncode == 1
    assert_one_sentence(done.stderr)
    assert "canary-password" not in done.stderr + done.stdout


def test_data_of_another_major_version(place: Path) -> None:
    """A data directory of another PostgreSQL: one sentence, exit status 1, the data untouched."""
    serve = Serve(place)
    data = serve.state / "demo" / "postgres"
    data.mkdir(parents=True, mode=0o700)
    (data / "PG_VERSION").write_text("9\n")
    done = serve.cli("serve", "--demo")
    assert done.returncode == 1
    assert_one_sentence(done.stderr)
    assert (data / "PG_VERSION").read_text() == "9\n"


def test_only_one_plane(place: Path) -> None:
    """`--plane control` opens no gateway port; `--plane gateway` no control port."""
    for plane in ("control", "gateway"):
        serve = Serve(place, "--demo", "--plane", plane)
        out, err = place / f"out-{plane}", place / f"err-{plane}"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            serve.process = subprocess.Popen(
                [sys.executable, "-m", "luntrex_proxy", "serve", "--demo", "--plane", plane],
                env=serve._environment, stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL, cwd=place,
            )  # fmt: skip
        ours, theirs = (serve.control_port, serve.port) if plane == "control" else (serve.port, serve.control_port)
        try:
            deadline = time.monotonic() + START_SECONDS
            while get(ours, "/readyz")[0] != 200:
                assert serve.process.poll() is None, err.read_text()
                assert time.monotonic() < deadline, err.read_text()
                time.sleep(0.05)
            assert get(theirs, "/readyz")[0] == 0
            assert serve.stop() == 0
        finally:
            serve.kill()
        wait_gone(serve)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_needs_no_rights(simulator: SimulatedUpstream) -> None:
    """Started by an ordinary user with nothing but a home directory, state goes to ~/.local/state, and it says so."""
    home = Path(tempfile.mkdtemp(prefix="lx-home-", dir="/tmp"))
    os.chown(home, 65534, 65534)
    if subprocess.run(["su", "-s", "/bin/sh", "nobody", "-c", f"cd {REPOSITORY} && {sys.executable} -V"],
                      capture_output=True).returncode != 0:  # fmt: skip
        shutil.rmtree(home)
        pytest.skip("the user nobody cannot reach this Python or the repository")
    serve = Serve(home)
    del serve._environment["LUNTREX_STATE__DIRECTORY"]
    serve._environment |= {"HOME": str(home), "USER": "nobody"}
    out, err = home / "out", home / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        serve.process = subprocess.Popen(
            [sys.executable, "-m", "luntrex_proxy", "serve", "--demo"],
            env=serve._environment, stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL, cwd=home,
            user=65534, group=65534, extra_groups=[],
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_SECONDS
        while get(serve.control_port, "/readyz")[0] != 200:
            assert serve.process.poll() is None, err.read_text()
            assert time.monotonic() < deadline, err.read_text()
            time.sleep(0.05)
        assert str(home / ".local" / "state") in err.read_text() + out.read_text()
        assert (home / ".local/state/luntrex-proxy").stat().st_mode & 0o777 == 0o700
        assert serve.stop() == 0
    finally:
        serve.kill()
        shutil.rmtree(home, ignore_errors=True)
