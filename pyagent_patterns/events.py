"""What a run tells about itself while it runs, for progress displays and logs.

`team.run(task, on_event=print)` shows them all. They are delivered in the run's own event loop,
one after another; an observer that raises is logged and does not disturb the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from pyagent_providers.semconv import Phase

from .budget import Spent
from .ledger import CallRecord
from .people import Decision, Wanted
from .plan import Assignment
from .result import Outcome, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A run begins, or goes on: this is its `execution`-th time, from 1."""

    run_id: str
    pattern: str
    task: str
    execution: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """An agent is being asked. `step` counts the run's questions from 1."""

    run_id: str
    step: int
    phase: Phase
    agent: str
    path: str
    model: str
    task_id: str | None
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """A piece of the answer of an agent that streams; an attempt after a failure begins anew.

    `closing` if it is of the run's own answer.
    """

    run_id: str
    step: int
    phase: Phase
    agent: str
    path: str
    task_id: str | None
    closing: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettled:
    """An attempt ended, well or not, and is in the ledger."""

    run_id: str
    call: CallRecord
    retry_in: float | None  # seconds until the next attempt; None: there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSpent:
    """An attempt ended that a budget limits.

    `budgets` are those that hold for it: the run's first, then those of patterns and scopes within.
    """

    run_id: str
    budgets: tuple[Spent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnded:
    """An agent answered (`output`), or failed for good (`error`). `seconds` is the duration."""

    run_id: str
    step: int
    phase: Phase
    agent: str
    path: str
    model: str
    task_id: str | None
    output: str | None
    error: str | None
    calls: tuple[CallRecord, ...]
    seconds: float
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStarted:
    """An agent calls a tool. `arguments` is the JSON text as the model wrote it."""

    run_id: str
    agent: str
    path: str
    task_id: str | None
    tool: str
    call_id: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolEnded:
    """A tool gave an `output`, or an `error` that the model is told."""

    run_id: str
    agent: str
    path: str
    task_id: str | None
    tool: str
    call_id: str
    output: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAccepted:
    """The plan is valid and is about to run. `path` are the patterns that it is within, if any."""

    run_id: str
    path: str
    assignments: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRejected:
    """The planner's answer is not a plan."""

    run_id: str
    faults: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeSettled:
    """An assignment completed, failed or was skipped."""

    run_id: str
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentStarted:
    """Everything that an assignment depends on is done, and it begins."""

    run_id: str
    path: str
    assignment: Assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalWanted:
    """The run, or a part of it, waits for a person."""

    run_id: str
    wanted: Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalGiven:
    """A person has decided."""

    run_id: str
    wanted: Wanted
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDone:
    """The run ended with this result. The last event of `Pattern.stream`."""

    run_id: str
    result: Result


Event: TypeAlias = (
    RunStarted
    | StepStarted
    | TextDelta
    | CallSettled
    | BudgetSpent
    | StepEnded
    | ToolStarted
    | ToolEnded
    | PlanAccepted
    | PlanRejected
    | AssignmentStarted
    | OutcomeSettled
    | ApprovalWanted
    | ApprovalGiven
    | RunDone
)
Observer: TypeAlias = Callable[[Event], None]
