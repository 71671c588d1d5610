"""What is wrong with a definition: every fault of a file, each with its line and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from pyagent_providers.hostile import shown

Path: TypeAlias = "tuple[str | int, ...]"
"""The way to a value in a definition, such as `("agents", "writer", "stop", 0)`."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a value stands in its file, from 1. Its text begins on line `body`."""

    line: int
    column: int
    body: int


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong. `at` is the place in the definition: `agents.writer.llm`."""

    file: str
    line: int
    column: int
    at: str
    message: str

    def saying(self, message: str) -> Fault:
        """This fault, with another message."""
        return replace(self, message=message)

    def __str__(self) -> str:
        at = f"{self.at}: " if self.at else ""
        return shown(f"{self.file}:{self.line}:{self.column}: {at}{self.message}")


class DefinitionError(ValueError):
    """A definition that cannot be used. The message lists all `faults`, in the file's order."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: Sequence[Fault] = sorted(set(faults))
        super().__init__("\n".join(map(str, self.faults)))


class Faults:
    """Collects what is wrong with one file."""

    def __init__(self, file: str, marks: Mapping[Path, Mark]) -> None:
        self._file = file
        self._marks = marks
        self._found: list[Fault] = []

    def add(self, path: Path, message: str, *, line: int | None = None) -> None:
        """A fault at this place; at the nearest that has one, where the file does not say it.

        `line` is one of the text that stands there, from 1.
        """
        fault = self.at(path)
        if line is not None:
            fault = replace(fault, line=self._mark(path).body + line - 1, column=1)
        self._found.append(fault.saying(message))

    def at(self, path: Path) -> Fault:
        """The place of a fault, with nothing said of it yet."""
        mark = self._mark(path)
        return Fault(self._file, mark.line, mark.column, ".".join(map(str, path)), "")

    def error(self) -> DefinitionError:
        """The error with all that was found."""
        return DefinitionError(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def _mark(self, path: Path) -> Mark:
        while path and path not in self._marks:
            path = path[:-1]
        return self._marks.get(path, Mark(1, 1, 1))


def meant(name: str, known: Iterable[str]) -> str:
    """A question to end a message with, if there is a name like the one that is not known."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def meant_or_all(name: str, known: Iterable[str]) -> str:
    """The same; where no name is alike, all there are."""
    names = list(known)
    listed = ", ".join(map(repr, names))
    return meant(name, names) or (f"; there are {listed}" if names else "; there are none")
