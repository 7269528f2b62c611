"""The one table of refusals: sane rows, every code in use is a row, every row in use, nothing of a request inside."""

import ast
import re
import string
from pathlib import Path

import pytest

import luntrex_proxy
from luntrex_proxy.core.refusals import FIELDS, REFUSALS, Refusal, Row

SOURCES = Path(luntrex_proxy.__file__).parent
STATUSES = {400, 401, 403, 404, 405, 408, 413, 414, 415, 417, 429, 431, 500, 502, 503, 504}
# Calls whose first argument, and names whose assigned text, is a refusal code.
TAKES_CODE = {"Refusal", "BadBodyError", "break_body", "_break", "_refuse", "cut", "failed", "refuse_bytes"}
HOLDS_CODE = {"failure", "code", "cut_code"}
NOT_REFUSALS = {"ok", "client_gone", "interrupted", ""}


def codes_in_use() -> set[str]:
    """Every literal code in the program, and where a code is chosen by an expression, its literals."""
    found: set[str] = set()
    for file in SOURCES.rglob("*.py"):
        if not {"gateway", "core"} & set(file.parts) or file.name == "refusals.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            values: list[ast.expr] = []
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                values = node.args[:1] if name in TAKES_CODE else []
            elif isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "REFUSALS":
                values = [node.slice]
            elif isinstance(node, ast.Assign):
                targets = [t for target in node.targets for t in getattr(target, "elts", [target])]
                parts = getattr(node.value, "elts", [node.value] * len(targets))
                pairs = zip(targets, parts, strict=False)
                values = [value for target, value in pairs if getattr(target, "attr", "") in HOLDS_CODE]
            found |= {text for value in values for text in literals(value)}
    return found - NOT_REFUSALS


def literals(value: ast.expr) -> set[str]:
    """The texts an expression can come to; what it compares with is not among them."""
    if isinstance(value, ast.Constant):
        return {value.value} if isinstance(value.value, str) else set()
    if isinstance(value, ast.IfExp):
        return literals(value.body) | literals(value.orelse)
    if isinstance(value, ast.BoolOp):
        return {text for one in value.values for text in literals(one)}
    return set()


def test_every_code_in_use_is_a_row() -> None:
    """A misspelt code would be a KeyError, and so a 500, at the moment it is needed."""
    used = codes_in_use()
    assert len(used) > 25, "the search finds too little to prove anything"
    assert used <= set(REFUSALS)


def test_every_row_is_in_use() -> None:
    """A row that nothing raises is a promise that nothing keeps."""
    assert set(REFUSALS) <= codes_in_use()


@pytest.mark.parametrize("row", REFUSALS.values(), ids=REFUSALS)
def test_rows_are_sane(row: Row) -> None:
    """Codes are snake case, statuses known, sentences whole, public and without a place for anything of a request."""
    assert REFUSALS[row.code] is row
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", row.code)
    assert row.status in STATUSES
    assert row.sentence[0].isupper()
    assert row.sentence.endswith((".", ")."))
    assert len(row.sentence) < 150
    assert [name for _, name, _, _ in string.Formatter().parse(row.sentence) if name is not None] == []
    assert "%" not in row.sentence
    assert row.sentence.isascii()
    assert set(row.sentence) <= set(string.printable) - set('\r\n\t\\"')


def test_retryable_rows_are_those_that_can_help() -> None:
    """A client's own mistake is never retryable; overload always is."""
    for row in REFUSALS.values():
        if row.status < 500 and row.status not in (408, 429):
            assert not row.retryable, row.code
        if row.status in (503, 504):
            assert row.retryable, row.code
    assert not REFUSALS["upstream_auth"].retryable
    assert not REFUSALS["internal_error"].retryable


def test_a_refusal_names_only_listed_fields() -> None:
    """Whatever a station passes as field, only a name of our own list can come out."""
    for name in FIELDS:
        assert Refusal("wrong_type", name).field == name
        assert re.fullmatch(r"[a-z_]+", name)
    for foreign in ("CANARY", "Model", "model ", "", None):
        assert Refusal("wrong_type", foreign).field is None


def test_a_refusals_text_is_its_code() -> None:
    """An exception that ends in a log says nothing of the request."""
    refusal = Refusal("wrong_type", "model")
    assert str(refusal) == "wrong_type"
    assert refusal.args == ("wrong_type",)


def test_when_to_come_back() -> None:
    """503 says a second unless told otherwise; others say nothing unless told."""
    assert Refusal("overloaded").retry_after_s == 1
    assert Refusal("overloaded", retry_after_s=9).retry_after_s == 9
    assert Refusal("upstream_timeout").retry_after_s is None
    assert Refusal("wrong_type").retry_after_s is None


def test_an_unknown_code_is_a_programming_error() -> None:
    """It shows at once, not as a strange answer."""
    with pytest.raises(KeyError):
        Refusal("no_such_code")
