"""The OpenAPI document: it is one, and the API does as it says. tests/long/fuzz_api.py asks for longer."""

from pathlib import Path

import pytest
from openapi_spec_validator import validate

from luntrex_proxy.console.api.operations import Who
from luntrex_proxy.console.api.problems import PROBLEMS
from luntrex_proxy.console.api.resources import OPERATIONS
from luntrex_proxy.store.database import Pool
from tests.console.conftest import Api, running_api
from tests.console.fuzzing import PATIENT, fuzz


async def test_the_document_is_valid_and_whole(api: Api) -> None:
    """OpenAPI 3.1, every operation in it, every field bounded or described by its model."""
    document = (await api.ask("GET", "/openapi.json")).body
    validate(document)
    named = {each["operationId"] for path in document["paths"].values() for each in path.values()}
    assert named == {operation.name for operation in OPERATIONS}
    assert document["openapi"].startswith("3.1")
    codes = {code for operation in OPERATIONS for code in operation.problems}
    assert codes <= PROBLEMS.keys()


@pytest.mark.parametrize("by_session", [False, True], ids=["token", "session"])
async def test_the_api_does_as_the_document_says(database: Pool, tmp_path: Path, by_session: bool) -> None:
    """A bounded, seeded run: statuses, bodies, headers, refusals, no failure. By session: what tokens cannot."""
    bounds = ("--phases", "fuzzing", "--max-examples", "3", "--seed", "1")
    asked = [each for each in OPERATIONS if each.access is Who.SIGNED_IN or not by_session]
    which = [option for each in asked for option in ("--include-operation-id", each.name)] if by_session else []
    async with running_api(database, tmp_path, **PATIENT) as api:
        status, report = await fuzz(api, tmp_path, *bounds, *which, by_session=by_session)
    assert status == 0, report
    assert f"Tested: {len(asked)}\n" in report
