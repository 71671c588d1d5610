"""What happens in a run, told as events to those who follow it.

It is loaded for the first run that somebody follows, and with it the classes of all events.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyagent_providers.types import ToolCall

from .budget import Spent
from .events import (
    ApprovalGiven,
    ApprovalWanted,
    AssignmentStarted,
    BudgetSpent,
    CallSettled,
    Event,
    Observer,
    OutcomeSettled,
    PlanAccepted,
    PlanRejected,
    RunStarted,
    StepEnded,
    StepStarted,
    TextDelta,
    ToolEnded,
    ToolStarted,
)
from .ledger import CallRecord
from .log import logger
from .people import Decision, Wanted
from .plan import Assignment, InvalidPlan
from .question import Question, Reply
from .result import Outcome


class Telling:
    """Those who follow one run. One that raises is logged, and does not disturb the run."""

    def __init__(self, run_id: str, observers: Sequence[Observer]) -> None:
        self._run_id = run_id
        self._observers = tuple(observers)

    def run_started(self, pattern: str, task: str, execution: int) -> None:
        self._tell(RunStarted(run_id=self._run_id, pattern=pattern, task=task, execution=execution))

    def step_started(self, question: Question) -> None:
        self._tell(
            StepStarted(
                run_id=self._run_id,
                step=question.step,
                phase=question.phase,
                agent=question.agent.name,
                path=question.path,
                model=question.agent.llm.model,
                task_id=question.task_id,
                prompt=question.prompt,
            )
        )

    def text(self, question: Question, text: str, *, closing: bool) -> None:
        self._tell(
            TextDelta(
                run_id=self._run_id,
                step=question.step,
                phase=question.phase,
                agent=question.agent.name,
                path=question.path,
                task_id=question.task_id,
                closing=closing,
                text=text,
            )
        )

    def call_settled(
        self, call: CallRecord, retry_in: float | None, budgets: tuple[Spent, ...]
    ) -> None:
        self._tell(CallSettled(run_id=self._run_id, call=call, retry_in=retry_in))
        if budgets:
            self._tell(BudgetSpent(run_id=self._run_id, budgets=budgets))

    def step_ended(
        self, question: Question, reply: Reply, *, seconds: float, replayed: bool
    ) -> None:
        self._tell(
            StepEnded(
                run_id=self._run_id,
                step=question.step,
                phase=question.phase,
                agent=question.agent.name,
                path=question.path,
                model=question.agent.llm.model,
                task_id=question.task_id,
                output=reply.text,
                error=reply.error,
                calls=reply.calls,
                seconds=seconds,
                replayed=replayed,
            )
        )

    def tool_started(self, asked: Question, call: ToolCall) -> None:
        self._tell(
            ToolStarted(
                run_id=self._run_id,
                agent=asked.agent.name,
                path=asked.path,
                task_id=asked.task_id,
                tool=call.name,
                call_id=call.id,
                arguments=call.arguments,
            )
        )

    def tool_ended(
        self,
        asked: Question,
        call: ToolCall,
        *,
        output: str | None = None,
        error: str | None = None,
    ) -> None:
        self._tell(
            ToolEnded(
                run_id=self._run_id,
                agent=asked.agent.name,
                path=asked.path,
                task_id=asked.task_id,
                tool=call.name,
                call_id=call.id,
                output=output,
                error=error,
            )
        )

    def plan_accepted(self, path: str, assignments: tuple[Assignment, ...]) -> None:
        self._tell(PlanAccepted(run_id=self._run_id, path=path, assignments=assignments))

    def plan_rejected(self, invalid: InvalidPlan) -> None:
        self._tell(PlanRejected(run_id=self._run_id, faults=invalid.faults, text=invalid.text))

    def assignment_started(self, path: str, assignment: Assignment) -> None:
        self._tell(AssignmentStarted(run_id=self._run_id, path=path, assignment=assignment))

    def outcome_settled(self, outcome: Outcome) -> None:
        self._tell(OutcomeSettled(run_id=self._run_id, outcome=outcome))

    def approval_wanted(self, wanted: Wanted) -> None:
        self._tell(ApprovalWanted(run_id=self._run_id, wanted=wanted))

    def approval_given(self, wanted: Wanted, decision: Decision) -> None:
        self._tell(ApprovalGiven(run_id=self._run_id, wanted=wanted, decision=decision))

    def _tell(self, event: Event) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except Exception:  # an observer's fault must not fail the run
                logger.exception("observer %r failed on %s", observer, type(event).__name__)
