"""Where the commands write: answers and tables to stdout, everything about them to stderr."""

from __future__ import annotations

import json
import os
import sys
from io import TextIOWrapper
from typing import TextIO

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from pyagent_providers.hostile import shown
from pyagent_providers.types import JSONValue

from .progress import Progress
from .words import line

_PIPE_WIDTH = 120  # columns of a table that no terminal limits


class Screen:
    """One command's output. Nothing that it is given is read as markup."""

    def __init__(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="replace")  # what its character set lacks
        self._out = _console(sys.stdout)
        self._err = _console(sys.stderr)
        self._is_amid_line = False

    @property
    def width(self) -> int:
        return self._out.width

    def show(self, renderable: RenderableType) -> None:
        self._out.print(renderable)

    def json(self, value: JSONValue) -> None:
        typer.echo(json.dumps(value, indent=2))  # ASCII, so without control characters

    def json_line(self, value: JSONValue) -> None:
        typer.echo(json.dumps(value))

    def line(self, text: str) -> None:
        typer.echo(line(text))

    def answer(self, text: str) -> None:
        """A model's answer: made safe for a terminal; anything else gets its exact bytes."""
        if self.is_terminal:
            self._out.print(Text(shown(text)))
        else:
            typer.echo(text.encode(errors="surrogatepass"), nl=False)

    @property
    def is_terminal(self) -> bool:
        """Whether the answer goes to a terminal."""
        return sys.stdout.isatty()

    def piece(self, text: str) -> None:
        """A piece of an answer, as by `answer`."""
        if self.is_terminal:
            self._out.print(Text(shown(text)), end="", soft_wrap=True)
            self._is_amid_line = not text.endswith("\n")
        else:
            typer.echo(text.encode(errors="surrogatepass"), nl=False)

    def fresh_line(self) -> None:
        """After pieces of an answer, a terminal goes on on a line of its own."""
        if self._is_amid_line:
            self._out.print()
            self._is_amid_line = False

    def note(self, text: str, style: str = "") -> None:
        self._say(Text(shown(text), style))

    def error(self, text: str) -> None:
        self._say(Text.assemble(("pyagent: ", "bold red"), shown(text)))

    def watch(self, *, live: bool = True) -> Progress:
        """An observer that shows a run on stderr; see `Progress`."""
        return Progress(self._err, live=live)

    def _say(self, text: Text) -> None:
        self._err.print(text, soft_wrap=not sys.stderr.isatty())


def _console(stream: TextIO) -> Console:
    unlimited = not stream.isatty() and "COLUMNS" not in os.environ
    return Console(
        file=stream,
        width=_PIPE_WIDTH if unlimited else None,
        markup=False,
        highlight=False,
        emoji=False,
    )
