"""Where the commands write: answers and tables to stdout, everything about them to stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from io import TextIOWrapper
from typing import TextIO

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from pyagent_patterns import events, ledger
from pyagent_providers.hostile import shown
from pyagent_providers.types import JSONValue

from .words import counted, dollars, line

_PIPE_WIDTH = 120  # columns of a table that no terminal limits


class Screen:
    """One command's output. Nothing that it is given is read as markup."""

    def __init__(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="replace")  # what its character set lacks
        self._out = _console(sys.stdout)
        self._err = _console(sys.stderr)
        self._started = time.monotonic()

    @property
    def width(self) -> int:
        return self._out.width

    def show(self, renderable: RenderableType) -> None:
        self._out.print(renderable)

    def json(self, value: JSONValue) -> None:
        typer.echo(json.dumps(value, indent=2))  # ASCII, so without control characters

    def line(self, text: str) -> None:
        typer.echo(line(text))

    def answer(self, text: str) -> None:
        """A model's answer: made safe for a terminal; anything else gets its exact bytes."""
        if sys.stdout.isatty():
            self._out.print(Text(shown(text)))
        else:
            typer.echo(text.encode(errors="surrogatepass"), nl=False)

    def note(self, text: str, style: str = "") -> None:
        self._say(Text(shown(text), style))

    def error(self, text: str) -> None:
        self._say(Text.assemble(("pyagent: ", "bold red"), shown(text)))

    def progress(self, event: events.Event) -> None:
        """One line for a step that ended, one for an attempt that will be made again."""
        match event:
            case events.StepEnded():
                self._step(event)
            case events.CallSettled(retry_in=float()):
                why = event.call.error or event.call.status
                what = f"{why}; tries again in {event.retry_in:.1f} s"
                self._progress(event.call.agent, event.call.task_id or event.call.phase, what)
            case _:
                pass

    def _step(self, event: events.StepEnded) -> None:
        if event.error is not None:
            what, style = f"failed: {event.error}", "red"
        elif event.replayed:
            what, style = "on record, not asked again", "dim"
        else:
            tokens = counted(ledger.total_usage(event.calls).total_tokens, "token")
            what, style = f"{tokens}, {_cost(event)}, {event.seconds:.1f} s", ""
        self._progress(event.agent, event.task_id or event.phase, what, style)

    def _progress(self, agent: str, task: str, what: str, style: str = "") -> None:
        elapsed = f"{time.monotonic() - self._started:5.1f} s"
        text = Text.assemble(
            (elapsed, "dim"), "  ", (f"{line(task):<10} {line(agent):<12} ", "bold")
        )
        self._say(text.append(line(what), style))

    def _say(self, text: Text) -> None:
        self._err.print(text, soft_wrap=not sys.stderr.isatty())


def _cost(event: events.StepEnded) -> str:
    return dollars(ledger.known_cost(event.calls))


def _console(stream: TextIO) -> Console:
    unlimited = not stream.isatty() and "COLUMNS" not in os.environ
    return Console(
        file=stream,
        width=_PIPE_WIDTH if unlimited else None,
        markup=False,
        highlight=False,
        emoji=False,
    )
