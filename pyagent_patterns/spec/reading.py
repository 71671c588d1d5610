"""YAML text as plain values, and where each stands; nothing of YAML that is code or a trap.

Values are those of YAML 1.2's core schema: `no` and `on` are words, not truth values. A tag, a key
that comes twice and whatever grows or nests without bound are faults.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from .faults import Fault, Mark, Path

if TYPE_CHECKING:
    import yaml

Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value] | None"

_MOST_CHARACTERS: Final = 1_000_000
_MOST_VALUES: Final = 50_000  # with every alias written out
_DEEPEST: Final = 40

_NULL: Final = frozenset(("", "~", "null", "Null", "NULL"))
_TRUTH: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False,
                 "FALSE": False}  # fmt: skip
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")


class Unreadable(Exception):
    """The text is no YAML that is read here; nothing further can be said of it."""

    def __init__(self, line: int, column: int, why: str) -> None:
        super().__init__(why)
        self.line = line
        self.column = column

    def as_fault(self, file: str) -> Fault:
        return Fault(file, self.line, self.column, "", str(self))


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says, and where it says it: of a mapping's value, where its key is."""

    value: Value
    marks: dict[Path, Mark]


def read(text: str) -> Document:
    """The one document in the text. Raises `Unreadable`, ImportError without PyYAML."""
    try:
        import yaml
    except ImportError as error:
        raise ImportError('definitions need PyYAML: pip install "pyagent-sdk[spec]"') from error
    if len(text) > _MOST_CHARACTERS:
        raise Unreadable(1, 1, f"the file has more than {_MOST_CHARACTERS:,} characters")
    try:
        parse = cast("Callable[..., Iterator[yaml.Event]]", yaml.parse)  # pyright: ignore[reportUnknownMemberType]
        root = _Reader(parse(text, Loader=yaml.SafeLoader)).root()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = ", ".join(filter(None, (error.context, error.problem)))
        raise Unreadable(line, column, f"this is not YAML: {said}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(line, 1, f"character #x{error.character:04x} cannot stand here") from None
    marks: dict[Path, Mark] = {}
    return Document(_plain(root, (), root.mark, marks), marks)


@dataclass(slots=True)
class _Node:
    """A value in the file; an alias is the node that its anchor names."""

    mark: Mark
    value: str | int | float | bool | list[_Node] | dict[str, tuple[Mark, _Node]] | None


class _Reader:
    """Makes nodes of the parser's events."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._anchors: dict[str, _Node] = {}

    def root(self) -> _Node:
        import yaml

        next(self._events)  # the stream begins
        if not isinstance(next(self._events), yaml.DocumentStartEvent):
            raise Unreadable(1, 1, "the file is empty; a definition has agents and a team")
        root = self._node(next(self._events), 1)
        next(self._events)  # the document ends
        following = next(self._events)
        if isinstance(following, yaml.DocumentStartEvent):
            raise _unreadable(following, "a file holds one definition; this begins another")
        return root

    def _node(self, event: yaml.Event, depth: int) -> _Node:
        import yaml

        if depth > _DEEPEST:
            raise _unreadable(event, f"this is nested more than {_DEEPEST} deep")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _unreadable(event, f"no value is anchored as {event.anchor!r} before this")
            return self._anchors[event.anchor]
        assert isinstance(event, yaml.NodeEvent)  # noqa: S101 - else it is the parser's fault
        tag = cast("str | None", getattr(event, "tag", None))
        if tag is not None:
            raise _unreadable(event, f"tags are not read; leave out {tag!r}")
        mark = _mark(event)
        if isinstance(event, yaml.SequenceStartEvent):
            node = _Node(mark, self._items(depth))
        elif isinstance(event, yaml.MappingStartEvent):
            node = _Node(mark, self._entries(depth))
        else:
            assert isinstance(event, yaml.ScalarEvent)  # noqa: S101
            body = mark.line + 1 if event.style in ("|", ">") else mark.line
            plain = event.style is None or event.style == ""
            value = _scalar(event.value) if plain else event.value
            node = _Node(Mark(mark.line, mark.column, body), value)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _items(self, depth: int) -> list[_Node]:
        import yaml

        items: list[_Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return items

    def _entries(self, depth: int) -> dict[str, tuple[Mark, _Node]]:
        import yaml

        entries: dict[str, tuple[Mark, _Node]] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise _unreadable(event, "a key must be a word, not a list, a mapping or an alias")
            if event.value in entries:
                first = entries[event.value][0].line
                raise _unreadable(event, f"{event.value!r} is on line {first} already")
            if event.value == "<<" and not event.style:
                raise _unreadable(event, "'<<' is not read; write the keys out, or alias a value")
            entries[event.value] = _mark(event), self._node(next(self._events), depth + 1)
        return entries


def _plain(node: _Node, path: Path, mark: Mark, marks: dict[Path, Mark]) -> Value:
    """The node's value; notes where it and all in it stand."""
    if len(path) > _DEEPEST:
        raise Unreadable(mark.line, mark.column, f"this is nested more than {_DEEPEST} deep")
    marks[path] = Mark(mark.line, mark.column, node.mark.body)
    if len(marks) > _MOST_VALUES:
        raise Unreadable(
            mark.line,
            mark.column,
            f"with all aliases the file has more than {_MOST_VALUES:,} values",
        )
    if isinstance(node.value, list):
        return [_plain(item, (*path, n), item.mark, marks) for n, item in enumerate(node.value)]
    if isinstance(node.value, dict):
        return {
            key: _plain(item, (*path, key), at, marks) for key, (at, item) in node.value.items()
        }
    return node.value


def _scalar(text: str) -> str | int | float | bool | None:
    if text in _NULL:
        return None
    if text in _TRUTH:
        return _TRUTH[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _mark(event: yaml.Event) -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1, event.start_mark.line + 1)


def _unreadable(event: yaml.Event, why: str) -> Unreadable:
    mark = _mark(event)
    return Unreadable(mark.line, mark.column, why)
