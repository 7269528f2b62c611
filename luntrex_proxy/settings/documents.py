"""YAML text to plain data with the place of every key and value; syntax and structure faults with their places.

PyYAML's own messages can quote the text (an alias, a tag), so only the harmless ones are passed on.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from luntrex_proxy.settings.section import Loc

Place = tuple[int, int]  # line and column, both from 1

MAX_FILE_BYTES: Final = 1_048_576
_MAX_NODES: Final = 100_000  # aliases repeat whole branches: nine lines can ask for a billion values
_MAX_DEPTH: Final = 32
_SCALAR_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp"))
_QUOTING_PROBLEMS = ("alias", "anchor", "tag", "directive")


@dataclass
class Document:
    """A parsed file: data, where each value and each key stands, and what is wrong with it as text."""

    data: dict[str, Any] = field(default_factory=dict)
    values: dict[Loc, Place] = field(default_factory=dict)
    keys: dict[Loc, Place] = field(default_factory=dict)
    faults: list[tuple[Place, Loc, str]] = field(default_factory=list)

    def place_of(self, loc: Loc) -> Place:
        """Where `loc` stands, or else the part it belongs to."""
        upwards = (loc[:depth] for depth in range(len(loc), -1, -1))
        return next((self.values[part] for part in upwards if part in self.values), (1, 1))


def parse_document(text: str) -> Document:
    """Read YAML. Faults are collected, so that they can be reported with all others."""
    document = Document()
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _Reader(document, yaml.SafeLoader("")).read_root(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        document.faults.append((place, (), _harmless(error)))
    except yaml.reader.ReaderError as error:
        document.faults.append((_place_of(text, error.position), (), "there is a character that YAML does not allow"))
    except (_TooMuchError, RecursionError):
        document.faults.append(((1, 1), (), "the file is nested too deeply or repeats too much through aliases"))
    return document


class _TooMuchError(Exception):
    pass


class _Reader:
    def __init__(self, document: Document, loader: yaml.SafeLoader) -> None:
        self._document = document
        self._loader = loader
        self._nodes = 0

    def read_root(self, root: yaml.Node) -> None:
        value = self._read(root, ())
        if isinstance(value, dict):
            self._document.data = value
        elif value is not None:
            self._fault(root, (), "must be a mapping of sections, such as `gateway:` and `upstreams:`")

    def _read(self, node: yaml.Node, loc: Loc) -> Any:
        self._nodes += 1
        if self._nodes > _MAX_NODES or len(loc) > _MAX_DEPTH:
            raise _TooMuchError
        self._document.values[loc] = _place(node)
        if isinstance(node, yaml.MappingNode):
            return self._read_mapping(node, loc)
        if isinstance(node, yaml.SequenceNode):
            return [self._read(item, (*loc, index)) for index, item in enumerate(node.value)]
        return self._read_scalar(node, loc)

    def _read_mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._fault(key, loc, "a key must be a word")
                continue
            # The word as written: YAML would make True of `on` and 8 of `010`.
            name, below = key.value, (*loc, key.value)
            if name in result:
                first = self._document.keys[below]
                self._fault(key, below, f"is here twice; the first is in line {first[0]}")
                continue
            self._document.keys[below] = _place(key)
            result[name] = self._read(value, below)
        return result

    def _read_scalar(self, node: yaml.Node, loc: Loc) -> Any:
        if node.tag not in _SCALAR_TAGS:
            self._fault(node, loc, "tags (words that begin with !) and merge keys are not used here")
            return None
        try:
            return self._loader.construct_object(node)
        except (ValueError, yaml.MarkedYAMLError):
            self._fault(node, loc, "is not a value YAML can read; put it in quotes if it is text")
            return None

    def _fault(self, node: yaml.Node, loc: Loc, sentence: str) -> None:
        self._document.faults.append((_place(node), loc, sentence))


def _place(node: yaml.Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _place_of(text: str, position: int) -> Place:
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1


def _harmless(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or ""
    if "\\t" in problem:
        return "not valid YAML: a tab cannot stand here; indent with spaces"
    if any(word in problem for word in _QUOTING_PROBLEMS):
        return "not valid YAML: a word that begins with *, & or ! must be in quotes, or stands where it cannot"
    if problem.startswith("but "):
        problem = f"{error.context}, {problem}"
    return f"not valid YAML: {problem}"
