"""What a run tells about itself while it runs, for progress displays and logs.

`team.run(task, on_event=print)` shows them all. They are delivered in the run's own event loop,
one after another; an observer that raises is logged and does not disturb the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from pyagent_providers.semconv import Phase

from .ledger import CallRecord
from .plan import Assignment
from .result import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """An agent is being asked. `step` counts the run's questions from 1."""

    run_id: str
    step: int
    phase: Phase
    agent: str
    model: str
    task_id: str | None
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """A piece of the answer of an agent that streams; an attempt after a failure begins anew."""

    run_id: str
    step: int
    phase: Phase
    agent: str
    task_id: str | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettled:
    """An attempt ended, well or not, and is in the ledger."""

    run_id: str
    call: CallRecord
    retry_in: float | None  # seconds until the next attempt; None: there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnded:
    """An agent answered (`output`), or failed for good (`error`). `seconds` is the duration."""

    run_id: str
    step: int
    phase: Phase
    agent: str
    model: str
    task_id: str | None
    output: str | None
    error: str | None
    calls: tuple[CallRecord, ...]
    seconds: float
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAccepted:
    """The plan is valid and is about to run."""

    run_id: str
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


Event: TypeAlias = (
    StepStarted | TextDelta | CallSettled | StepEnded | PlanAccepted | PlanRejected | OutcomeSettled
)
Observer: TypeAlias = Callable[[Event], None]
