"""The OpenAPI 3.1 document, made of the declarations: nothing in it is written twice."""

from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from luntrex_proxy import __version__
from luntrex_proxy.console.api.operations import PARAMETERS, Operation, Page, Shown, Who
from luntrex_proxy.console.api.problems import CONTENT_TYPE, PROBLEMS

_REF: Final = "#/components/schemas/{model}"
_DESCRIPTION: Final = (
    "What the console does, for programs: accounts, members, keys, usage, audit. Authenticate with a personal access "
    "token. Lists have cursors, creations take an Idempotency-Key, and what two people may change has an ETag."
)

_SESSION: Final = (
    "Of who signed in to the console. Changes must come from its own origin, as `Sec-Fetch-Site` or `Origin` says."
)


class FieldFault(Shown):
    """One field that is wrong."""

    field: str
    message: str


class ProblemShown(Shown):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldFault] | None = None
    id: str | None = None


def document(operations: tuple[Operation, ...], base: str, cookie: str) -> dict[str, Any]:
    """The document of these operations below `base`; sessions are known by `cookie`."""
    models: dict[type[BaseModel], Any] = {ProblemShown: "serialization"}
    for operation in operations:
        for model in (operation.body, operation.query):
            if model is not None:
                models[model] = "validation"
        if operation.answer is not None:
            models[_answer_of(operation)] = "serialization"
    references, definitions = models_json_schema(list(models.items()), ref_template=_REF)
    schemas = {model: references[model, mode] for model, mode in models.items()}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas, definitions)
    return {
        "openapi": "3.1.0",
        "info": {"title": "luntrex-proxy", "version": __version__, "description": _DESCRIPTION},
        "servers": [{"url": base}],
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "A personal access token, lxp_..."},
                "session": {"type": "apiKey", "in": "cookie", "name": cookie, "description": _SESSION},
            },
        },
    }


def problems_of(operation: Operation) -> set[str]:
    """The codes of all problems an operation can answer with."""
    codes = {"not_acceptable", "invalid", "internal", "unavailable", "method_not_allowed", *operation.problems}
    if operation.access is not Who.ANYONE:
        codes |= {"unauthenticated", "throttled"}
    if operation.access is Who.OPERATOR or isinstance(operation.access, tuple):
        codes |= {"denied"}
    if "{" in operation.path:
        codes |= {"not_found"}
    if operation.body is not None:
        codes |= {"not_json", "not_a_json_type", "body_too_large", "slow_body"}
    if operation.changes:
        codes |= {"conflict", "cross_site"}
    if _needs_session(operation):
        codes |= {"sign_in"}
    if operation.proven:
        codes |= {"prove_again"}
    if operation.paged:
        codes |= {"bad_cursor"}
    if operation.makes:
        codes |= {"bad_idempotency_key", "made_already"}
    if operation.conditional:
        codes |= {"bad_if_match", "stale"}
    return codes


def _needs_session(operation: Operation) -> bool:
    return operation.no_token or operation.access is Who.SIGNED_IN


def _answer_of(operation: Operation) -> Any:
    if not operation.paged or operation.answer is None:
        return operation.answer
    return Page.__class_getitem__(operation.answer)


def _operation(operation: Operation, schemas: dict[Any, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.name.partition(".")[0]],
        "parameters": _parameters(operation, schemas, definitions),
        "responses": _responses(operation, schemas),
    }
    if operation.access is not Who.ANYONE:
        said["security"] = [{"session": []}] if _needs_session(operation) else [{"token": []}, {"session": []}]
    if operation.body is not None:
        said["requestBody"] = {"required": True, "content": {"application/json": {"schema": schemas[operation.body]}}}
    return said


def _parameters(operation: Operation, schemas: dict[Any, Any], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for part in operation.path.split("/"):
        if part.startswith("{"):
            pattern, description = PARAMETERS[part[1:-1]]
            schema = {"type": "string", "pattern": f"^{pattern}$"}
            found.append(_parameter(part[1:-1], "path", schema, description, required=True))
    if operation.query is not None:
        name = schemas[operation.query]["$ref"].rpartition("/")[2]
        known = definitions["$defs"][name]
        for field, schema in known["properties"].items():
            required = field in known.get("required", ())
            found.append(_parameter(field, "query", schema, schema.get("description", ""), required=required))
    if operation.makes:
        schema = {"type": "string", "pattern": "^[!-~]{1,128}$"}
        found.append(_parameter("Idempotency-Key", "header", schema, "Sent again, nothing is made twice (24 hours)."))
    if operation.conditional:
        schema = {"type": "string", "pattern": r'^(\*|"[!#-~]{1,64}")$'}
        found.append(_parameter("If-Match", "header", schema, "The ETag of the state to be changed."))
    return found


def _parameter(
    name: str, place: str, schema: dict[str, Any], description: str, *, required: bool = False
) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema, "description": description}


def _responses(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    if operation.answer is None:
        responses["204"] = {"description": "Done."}
    else:
        content = {"application/json": {"schema": schemas[_answer_of(operation)]}}
        good: dict[str, Any] = {"description": "Made." if operation.makes else "Here it is.", "content": content}
        if operation.tagged:
            good["headers"] = {"ETag": {"schema": {"type": "string"}}}
        responses["201" if operation.makes else "200"] = good
    by_status: dict[int, list[str]] = {}
    for code in sorted(problems_of(operation)):
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    for status, codes in sorted(by_status.items()):
        responses[str(status)] = {
            "description": " ".join(f"{code}: {PROBLEMS[code].title}." for code in codes),
            "content": {CONTENT_TYPE: {"schema": schemas[ProblemShown]}},
        }
    return responses
