"""What a run has to show so far: its ledger, its plan and outcomes, and who is told of them.

It grows while the run goes on, so that a run that ends early has lost nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from .events import Event, Observer, OutcomeSettled, PlanAccepted, PlanRejected
from .journal import Called
from .ledger import CallRecord
from .log import logger
from .plan import Assignment, InvalidPlan
from .result import Outcome, OutcomeStatus, Result, Resumed, workers_used
from .schedule import Done, Failed, Settled, Skipped
from .telemetry import PatternSpan


class RunRecord:
    """One run's findings. A pattern reports its plan and outcomes; the door reports the calls."""

    def __init__(
        self, *, run_id: str, pattern: str, observers: Sequence[Observer], span: PatternSpan
    ) -> None:
        self.run_id = run_id
        self.pattern = pattern
        self._observers = tuple(observers)
        self._span = span
        self._started_at = time.time()
        self._clock = time.perf_counter()
        self._steps = 0
        self._calls: list[CallRecord] = []
        self._calls_of: dict[str, list[CallRecord]] = {}
        self._assignments: tuple[Assignment, ...] = ()
        self._outcomes: dict[str, Outcome] = {}
        self._execution = 1
        self._replayed = 0
        self._doubtful: list[str] = []

    # What a pattern reports

    def plan_rejected(self, invalid: InvalidPlan) -> None:
        self._span.plan_rejected(invalid.faults)
        self.tell(PlanRejected(run_id=self.run_id, faults=invalid.faults, text=invalid.text))

    def plan_accepted(self, assignments: Sequence[Assignment]) -> None:
        self._assignments = tuple(assignments)
        self._span.planned(assignments)
        self.tell(PlanAccepted(run_id=self.run_id, assignments=self._assignments))

    def settled(self, assignment: Assignment, how: Settled[str]) -> None:
        match how:
            case Done(output):
                outcome = self._outcome(assignment, "completed", output=output)
            case Failed(error):
                outcome = self._outcome(assignment, "failed", error=str(error))
            case Skipped(because):
                why = f"it depends on {', '.join(because)}, which did not complete"
                outcome = self._outcome(assignment, "skipped", error=why)
        self._outcomes[assignment.id] = outcome
        self.tell(OutcomeSettled(run_id=self.run_id, outcome=outcome))

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What became of each assignment, in the plan's order; unsettled ones as cancelled."""
        return tuple(
            self._outcomes.get(assignment.id)
            or self._outcome(assignment, "cancelled", error="the run ended before it did")
            for assignment in self._assignments
        )

    # What the door reports

    def next_step(self) -> int:
        self._steps += 1
        return self._steps

    def call(self, call: CallRecord) -> None:
        self._calls.append(call)
        if call.task_id is not None:
            self._calls_of.setdefault(call.task_id, []).append(call)

    def goes_on(self, execution: int) -> None:
        """This is not the run's first execution."""
        self._execution = execution

    def called(self, key: str, called: Called) -> None:
        """Note where a call's value came from."""
        if called.made == "before":
            self._replayed += 1
        if called.doubtful:
            self._doubtful.append(key)

    @property
    def watched(self) -> bool:
        """Whether anybody is told of events; ask before building one on the hot path."""
        return bool(self._observers)

    def tell(self, event: Event) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except Exception:  # an observer's fault must not fail the run
                logger.exception("observer %r failed on %s", observer, type(event).__name__)

    # What comes out

    def result(self, output: str | None) -> Result:
        """The result; without an output, that of a run that did not finish."""
        outcomes = self.outcomes
        whole = output is not None and all(o.status == "completed" for o in outcomes)
        return Result(
            pattern=self.pattern,
            run_id=self.run_id,
            output=output or "",
            status="completed" if whole else "partial",
            outcomes=outcomes,
            calls=tuple(self._calls),
            metadata={
                "assignments": [assignment.to_dict() for assignment in self._assignments],
                "workers_used": workers_used(outcomes),
            },
            started_at=self._started_at,
            duration_seconds=time.perf_counter() - self._clock,
            trace_id=self._span.trace_id,
            resumed=None
            if self._execution == 1 and not self._replayed and not self._doubtful
            else Resumed(
                execution=self._execution,
                replayed=self._replayed,
                doubtful=tuple(self._doubtful),
            ),
        )

    def _outcome(
        self,
        assignment: Assignment,
        status: OutcomeStatus,
        *,
        output: str | None = None,
        error: str | None = None,
    ) -> Outcome:
        calls = tuple(self._calls_of.get(assignment.id, ()))
        return Outcome(
            assignment=assignment, status=status, output=output, error=error, calls=calls
        )
