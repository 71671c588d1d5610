"""What a run is doing right now, kept up from its events: rows for a display, nested by pattern."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from pyagent_patterns import events
from pyagent_patterns.budget import Spent
from pyagent_patterns.ledger import CallRecord
from pyagent_patterns.result import OutcomeStatus

RowState = Literal["waiting", "running", OutcomeStatus]
_TAIL = 200  # characters kept of what an agent writes right now


@dataclass(slots=True)
class Figures:
    """What was used so far; `usd` is of what has a price."""

    calls: int = 0
    tokens: int = 0
    usd: Decimal = Decimal(0)
    unpriced: int = 0

    def add(self, call: CallRecord) -> None:
        self.calls += 1
        self.tokens += 0 if call.usage is None else call.usage.total_tokens
        self.usd += call.cost or 0
        self.unpriced += call.cost is None


@dataclass(slots=True)
class Row:
    """An assignment; or an agent in a phase of its pattern, or a pattern, without one.

    `doing` is what happens there now, `writing` the end of what is written there, `why` what became
    of it if not well: all of it may be what models wrote. `began` and `ended` are seconds on the
    board's clock.
    """

    label: str
    name: str
    state: RowState = "waiting"
    after: tuple[str, ...] = ()
    figures: Figures = field(default_factory=Figures)
    tools: int = 0
    retries: int = 0
    doing: str = ""
    writing: str = ""
    why: str = ""
    began: float | None = None
    ended: float | None = None
    is_assigned: bool = False


class Board:
    """All rows of a run, and its totals. `wanted` is what waits for a person, by its key."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rows: dict[str, dict[str, Row]] = {"": {}}  # by the path of the pattern
        self._began = clock()
        self.pattern = ""
        self.figures = Figures()
        self.budgets: tuple[Spent, ...] = ()
        self.wanted: dict[str, str] = {}

    def rows(self, path: str = "", depth: int = 0) -> Iterator[tuple[int, Row]]:
        """Each row with its depth; those of a pattern within below the row that it is."""
        shown: set[str] = set()
        for row in list(self._rows[path].values()):
            yield depth, row
            within = f"{path}{row.name}/"
            if within in self._rows and within not in shown:
                shown.add(within)
                yield from self.rows(within, depth + 1)

    @property
    def seconds_since_start(self) -> float:
        return self._clock() - self._began

    def seconds(self, row: Row) -> float | None:
        """How long it took, or takes already."""
        if row.began is None:
            return None
        return (self._clock() if row.ended is None else row.ended) - row.began

    def take(self, event: events.Event) -> None:
        """Keep up with the run."""
        match event:
            case events.RunStarted():
                self.pattern = event.pattern
            case events.PlanAccepted():
                self._plan(event)
            case events.AssignmentStarted(assignment=assignment):
                self._begin(self._assigned(event.path, assignment.id, assignment.worker))
            case events.OutcomeSettled():
                self._settle(event)
            case events.StepStarted() | events.TextDelta() | events.StepEnded():
                self._step(event)
            case events.CallSettled():
                self._call(event)
            case events.ToolStarted() | events.ToolEnded():
                self._tool(event)
            case events.BudgetSpent():
                self.budgets = event.budgets
            case events.ApprovalWanted(wanted=wanted):
                self.wanted[wanted.key] = f"{wanted.kind} of {wanted.who}"
            case events.ApprovalGiven():
                self.wanted.pop(event.wanted.key, None)
            case _:
                pass

    def _plan(self, event: events.PlanAccepted) -> None:
        for assignment in event.assignments:
            row = self._assigned(event.path, assignment.id, assignment.worker)
            row.after = assignment.depends_on

    def _settle(self, event: events.OutcomeSettled) -> None:
        outcome = event.outcome
        path = outcome.path.removesuffix(outcome.worker)
        row = self._assigned(path, outcome.id, outcome.worker)
        self._end(row, outcome.status, outcome.error or "")

    def _step(self, event: events.StepStarted | events.TextDelta | events.StepEnded) -> None:
        row = self._row(event.path, event.agent, event.task_id, event.phase)
        match event:
            case events.StepStarted():
                self._begin(row)
                row.doing = "" if event.agent == row.name else event.agent
            case events.TextDelta():
                row.doing, row.writing = "", (row.writing + event.text)[-_TAIL:]
            case events.StepEnded():
                row.doing = row.writing = ""
                if not row.is_assigned:
                    failed = event.error is not None
                    self._end(row, "failed" if failed else "completed", event.error or "")

    def _call(self, event: events.CallSettled) -> None:
        call = event.call
        self.figures.add(call)
        row = self._row(call.path, call.agent, call.task_id, call.phase)
        row.figures.add(call)
        row.writing = ""
        if event.retry_in is not None:
            row.retries += 1
            row.doing = f"{call.error or call.status}; tries again in {event.retry_in:.1f} s"

    def _tool(self, event: events.ToolStarted | events.ToolEnded) -> None:
        row = self._row(event.path, event.agent, event.task_id, "")
        if isinstance(event, events.ToolStarted):
            row.tools += 1
            row.doing = f"{event.tool} {event.arguments}"[:_TAIL]
        else:
            row.doing = "" if event.error is None else f"{event.tool}: {event.error}"[:_TAIL]

    def _begin(self, row: Row) -> None:
        if row.state != "running":
            row.state, row.ended, row.why = "running", None, ""
            row.began = self._clock() if row.began is None else row.began

    def _end(self, row: Row, state: RowState, why: str) -> None:
        row.state, row.why, row.doing, row.writing = state, why, "", ""
        row.ended = self._clock()

    def _assigned(self, path: str, task_id: str, worker: str) -> Row:
        rows = self._within(path)
        row = rows.setdefault(task_id, Row(task_id, worker))
        row.is_assigned = True
        return row

    def _row(self, path: str, agent: str, task_id: str | None, phase: str) -> Row:
        """The row of an assignment, else that of the agent in its phase."""
        rows = self._within(path[: len(path) - len(agent)])
        if task_id is not None and task_id in rows:
            return rows[task_id]
        if not phase:  # a tool, of an agent that was asked before
            asked = [row for row in rows.values() if row.name == agent]
            if asked:
                return asked[-1]
        return rows.setdefault(f"{phase}/{agent}", Row(phase, agent))

    def _within(self, path: str) -> dict[str, Row]:
        """The rows of the pattern at a path; it is a row itself in the one around it."""
        if path not in self._rows:
            self._rows[path] = {}
            name = path.rstrip("/").rpartition("/")[2]
            around = self._within(path[: len(path) - len(name) - 1])
            if not any(row.name == name for row in around.values()):
                row = around[f"within/{name}"] = Row("", name)
                self._begin(row)
        return self._rows[path]
