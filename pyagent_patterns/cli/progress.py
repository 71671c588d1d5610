"""A run on the screen while it goes on: a display that keeps up, or a line for each step."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from threading import Lock
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pyagent_patterns import events, ledger
from pyagent_patterns.budget import Spent

from .board import Board, Figures, Row
from .words import counted, dollars, line, total

_MARKS: Final = {
    "waiting": ("·", "dim"),
    "completed": ("✓", "green"),
    "truncated": ("✓", "yellow"),
    "rejected": ("✗", "yellow"),
    "skipped": ("-", "dim"),
    "cancelled": ("-", "dim"),
}
_FAILED: Final = ("✗", "red")


class Progress:
    """An observer that shows a run: `with Progress() as shown: team.run(..., on_event=shown)`.

    In a terminal, and within the `with` block, a table keeps up with the run: every assignment with
    its state, those of patterns within below it, with tokens and dollars so far, tool calls and
    retries. It steps aside while a person is asked. Elsewhere, or with `live=False`, there is a
    line for each step that ended. Without a `console` it is shown on stderr.
    """

    def __init__(self, console: Console | None = None, *, live: bool = True) -> None:
        self._console = console or Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._can_live = live and self._console.is_terminal and not self._console.is_dumb_terminal
        self._board = Board()
        self._lock = Lock()  # the display is drawn by a thread of its own
        self._spinner = Spinner("dots")
        self._live: Live | None = None
        self._is_entered = False

    def __enter__(self) -> Self:
        self._is_entered = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_entered = False
        self._stop()

    def __call__(self, event: events.Event) -> None:
        with self._lock:
            self._board.take(event)
        if not (self._can_live and self._is_entered):
            for text in _lines(event):
                self._say(text)
        elif self._board.wanted:
            self._stop()
        else:
            self._start()

    def _start(self) -> None:
        if self._live is None:
            self._live = Live(
                console=self._console,
                get_renderable=self._drawn,
                refresh_per_second=8,
                redirect_stdout=sys.stdout.isatty(),
            )
            self._live.start()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _drawn(self) -> RenderableType:
        with self._lock:
            return Group(_title(self._board), self._table())

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column(no_wrap=True, justify="right")
        for depth, row in self._board.rows():
            label = Text("  " * depth).append_text(self._mark(row))
            label.append(f" {line(row.label):<4} {line(row.name)}".replace("  ", " "), "bold")
            table.add_row(label, _doing(row), _figures(row, self._board.seconds(row)))
        table.expand = True
        return table

    def _mark(self, row: Row) -> Text:
        if row.state == "running":
            frame = self._spinner.render(self._console.get_time())
            return frame if isinstance(frame, Text) else Text("*")
        return Text(*_MARKS.get(row.state, _FAILED))

    def _say(self, text: Text) -> None:
        elapsed = f"{self._board.seconds_since_start:5.1f} s"
        whole = Text.assemble((elapsed, "dim"), "  ", text)
        self._console.print(whole, soft_wrap=not self._console.is_terminal)


def _title(board: Board) -> Text:
    """The run in a line: how long, how much, of how much."""
    title = Text.assemble((line(board.pattern), "bold"), f"  {board.seconds_since_start:.1f} s  ")
    title.append(_used(board.figures))
    for budget in board.budgets[:1]:
        title.append(_limits(budget), "dim")
    return title


def _limits(spent: Spent) -> str:
    """The limits of a budget that is spent from; those that time sets are seen on the clock."""
    budget = spent.budget
    limits = [
        "" if budget.max_cost_usd is None else dollars(budget.max_cost_usd),
        "" if budget.max_tokens is None else counted(budget.max_tokens, "token"),
        "" if budget.max_calls is None else counted(budget.max_calls, "call"),
        "" if budget.max_seconds is None else f"{budget.max_seconds:g} s",
    ]
    return f"  of {', '.join(limit for limit in limits if limit)}"


def _used(figures: Figures) -> str:
    if not figures.calls:
        return ""
    tokens, usd = counted(figures.tokens, "token"), total(figures.usd, figures.unpriced)
    return f"{counted(figures.calls, 'call')}, {tokens}, {usd}"


def _doing(row: Row) -> Text:
    if row.state == "waiting" and row.after:
        return Text(f"after {', '.join(line(name) for name in row.after)}", "dim")
    if row.why:
        return Text(f"{row.state}: {line(row.why)}", "dim" if row.state == "skipped" else "red")
    return Text(_tail(line(row.writing or row.doing)), "dim")


def _tail(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"…{text[1 - length :]}"


def _figures(row: Row, seconds: float | None) -> Text:
    parts = [
        counted(row.tools, "tool call") if row.tools else "",
        f"{row.retries} retried" if row.retries else "",
        counted(row.figures.tokens, "token") if row.figures.calls else "",
        total(row.figures.usd, row.figures.unpriced) if row.figures.calls else "",
        "" if seconds is None else f"{seconds:.1f} s",
    ]
    return Text(", ".join(part for part in parts if part), "dim")


def _lines(event: events.Event) -> Iterator[Text]:
    """What a log of the run says of an event: what has ended, and what waits."""
    match event:
        case events.StepEnded():
            yield _step(event)
        case events.CallSettled() if event.retry_in is not None:
            call = event.call
            what = f"{call.error or call.status}; tries again in {event.retry_in:.1f} s"
            yield _line(call.path or call.agent, call.task_id or call.phase, what)
        case events.ToolEnded():
            what = f"{event.tool} {'called' if event.error is None else f'failed: {event.error}'}"
            yield _line(event.path, event.task_id or "tool", what)
        case events.OutcomeSettled(outcome=outcome) if outcome.status == "skipped":
            yield _line(outcome.path, outcome.id, f"skipped: {outcome.error}", "dim")
        case events.ApprovalWanted(wanted=wanted):
            yield _line(wanted.who, wanted.kind, "waits for a person", "magenta")
        case _:
            return


def _step(event: events.StepEnded) -> Text:
    style = ""
    if event.error is not None:
        what, style = f"failed: {event.error}", "red"
    elif event.replayed:
        what, style = "on record, not asked again", "dim"
    else:
        tokens = counted(ledger.total_usage(event.calls).total_tokens, "token")
        what = f"{tokens}, {dollars(ledger.known_cost(event.calls))}, {event.seconds:.1f} s"
    return _line(event.path, event.task_id or event.phase, what, style)


def _line(who: str, task: str, what: str, style: str = "") -> Text:
    return Text.assemble((f"{line(task):<10} {line(who):<12} ", "bold"), (line(what), style))
