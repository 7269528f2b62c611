"""SECURITY.md has a row for every sentence of the privacy policy, and every test that it names is there."""

import ast
import functools
import re
from pathlib import Path

from luntrex_proxy.control.policytext import sentences

ROOT = Path(__file__).parents[1]
# Sentences without a mechanism yet. It only gets shorter.
NOT_YET: frozenset[str] = frozenset()


@functools.cache
def functions_in(path: Path) -> frozenset[str]:
    """The names of the test functions in a file."""
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, kinds) and node.name.startswith("test_"))


def faults(text: str) -> list[str]:
    """What is missing from the table in this text, or wrong in it."""
    section = text.partition("## The privacy policy, sentence by sentence")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("| ").split(" | ")] for line in section.splitlines() if line[:1] == "|"
    ]
    table = {row[0]: row[1:] for row in rows[2:]}
    found = [f"no row: {sentence}" for sentence in sentences() if sentence not in table]
    found += [f"no sentence of the policy: {sentence}" for sentence in table if sentence not in sentences()]
    for sentence, cells in table.items():
        if len(cells) != 2 or not cells[0]:
            found.append(f"three columns: {sentence}")
            continue
        named = re.findall(r"`([^`]+)::([^`]+)`", cells[1])
        if cells[0] == "not yet":
            found += [] if sentence in NOT_YET else [f"not yet: {sentence}"]
        elif not named:
            found.append(f"no test: {sentence}")
        for path, test in named:
            if not (ROOT / path).is_file() or test not in functions_in(ROOT / path):
                found.append(f"no such test: {path}::{test}")
    return found


def test_every_sentence_has_its_row() -> None:
    """Split at full stops; headings and the day are none."""
    assert faults((ROOT / "SECURITY.md").read_text()) == []


def test_a_table_that_is_wrong_is_noticed() -> None:
    """A row that goes, a test that is renamed, a sentence that is not the policy's, a mechanism that is not there."""
    text = (ROOT / "SECURITY.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| Your data belongs to you."))
    assert faults(text.replace(row + "\n", "")) == ["no row: Your data belongs to you."]
    assert len(faults(text.replace("::test_an_export_is_all_of_one_person", "::test_nothing"))) == 1
    assert len(faults(text.replace("| Your data belongs to you.", "| Your data belongs to us."))) == 2
    assert faults(text.replace(row, "| Your data belongs to you. | not yet |  |"))
    assert faults(text.replace(row, "| Your data belongs to you. | it does | somebody said so |"))


def test_the_policy_is_split_into_its_sentences() -> None:
    """So many there are, and "e.g." ends none."""
    assert len(sentences()) == 28
    assert all(sentence.endswith(".") for sentence in sentences())
    assert any("(e.g., API keys)" in sentence for sentence in sentences())
