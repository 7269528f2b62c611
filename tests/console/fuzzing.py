"""schemathesis against a running API: requests made of the OpenAPI document, answers held against it. No tests here."""

import asyncio
import sys
from pathlib import Path

from luntrex_proxy.core.roles import Role
from tests.console.conftest import Api

# What the document cannot say is refused with these: a cursor that is none of ours, a policy's words, a network's bits.
_CONFIGURATION = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "401", "403", "404", "409", "412", "422", "429"]
"""
# It sends a wrong token to each operation, which is more than a network may do in a minute.
PATIENT = {"gateway": {"limits": {"key_failures_per_minute": 100_000}}}


async def fuzz(api: Api, directory: Path, *options: str, by_session: bool) -> tuple[int, str]:
    """Run it as an operator who owns an account, by a token or a session; exit status and report."""
    person = await api.person({await api.account("fuzzed"): Role.OWNER}, operator=True)
    if by_session:
        sent = ["-H", f"Cookie: luntrex={await api.session(person)}", "-H", "Sec-Fetch-Site: same-origin"]
        sent += ["--exclude-checks", "negative_data_rejection"]  # one is to leave out the cookie, which we send anyway
    else:
        sent = ["-H", f"Authorization: Bearer {await api.token(person)}"]
    configuration = directory / "schemathesis.toml"
    configuration.write_text(_CONFIGURATION)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", str(configuration)),
        *("run", f"{api.url}/openapi.json", "--url", api.url, "--warnings", "off", *sent, *options),
        cwd=directory,  # it keeps what it found where it runs
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    report, _ = await process.communicate()
    return process.returncode or 0, report.decode(errors="replace")
