"""What a run has to show so far: its ledger, its plan and outcomes.

It grows while the run goes on, so that a run that ends early has lost nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from .errors import AgentError, BudgetExceeded, RejectedError
from .journal import Called
from .ledger import CallRecord
from .plan import Assignment, InvalidPlan
from .result import (
    Metadata,
    Outcome,
    OutcomeStatus,
    Result,
    Resumed,
    RouteDict,
    workers_used,
)
from .schedule import Done, Failed, Settled, Skipped
from .telemetry import PatternSpan

if TYPE_CHECKING:
    from .telling import Telling


class RunRecord:
    """One run's findings. A pattern reports its plan and outcomes; the door reports the calls."""

    def __init__(
        self,
        *,
        run_id: str,
        pattern: str,
        span: PatternSpan,
        telling: Telling | None = None,
        path: str = "",
        around: RunRecord | None = None,
        task_id: str | None = None,
    ) -> None:
        self.run_id = run_id
        self.path = path
        self._around = around
        self._task_id = task_id
        self._beside: list[RunRecord] = []
        self.pattern = pattern
        self.telling = telling  # None: nobody follows the run
        self._span = span
        self._started_at = time.time()
        self._clock = time.perf_counter()
        self._steps = 0
        self._calls: list[CallRecord] = []
        self._calls_of: dict[str, list[CallRecord]] = {}
        self._confidence: dict[str, float] = {}
        self._assignments: tuple[Assignment, ...] = ()
        self._outcomes: dict[str, Outcome] = {}
        self._execution = 1
        self._replayed = 0
        self._from_record: list[tuple[str, bool]] = []  # each call's key, and whether it was
        self._doubtful: list[str] = []
        self._degraded_to: str | None = None
        self._rejected: dict[str, str] = {}
        self._shortfalls: list[str] = []
        self._routes: list[RouteDict] = []
        self._expected: list[Decimal | None] = []
        self.refusal: BudgetExceeded | None = None  # the first, if the budget refused a call
        self.data: object = None  # the answer as a value

    def within(self, pattern: str, path: str, span: PatternSpan, task_id: str | None) -> RunRecord:
        """For a pattern within the run: a plan and outcomes of its own, in the same ledger.

        What it calls is also called for the assignment `task_id` that it works on, if any.
        """
        record = RunRecord(
            run_id=self.run_id,
            pattern=pattern,
            span=span,
            telling=self.telling,
            path=path,
            around=self,
            task_id=task_id,
        )
        self._beside.append(record)
        return record

    # What a pattern reports

    def plan_rejected(self, invalid: InvalidPlan) -> None:
        self._span.plan_rejected(invalid.faults)
        if self.telling is not None:
            self.telling.plan_rejected(invalid)

    def plan_accepted(self, assignments: Sequence[Assignment]) -> None:
        self._assignments = tuple(assignments)
        self._span.planned(assignments)
        if self.telling is not None:
            self.telling.plan_accepted(self.path, self._assignments)

    def planned_on(self, assignments: Sequence[Assignment]) -> None:
        """More assignments, beside those that were planned before; the same ids do them anew."""
        anew = {assignment.id for assignment in assignments}
        for name in anew & self._outcomes.keys():
            del self._outcomes[name]
        kept = (a for a in self._assignments if a.id not in anew)
        self.plan_accepted((*kept, *assignments))

    def expected(self, usd: Decimal | None) -> None:
        """What a plan is expected to cost, in US dollars; None: nobody knows."""
        self._expected.append(usd)

    def routed(self, route: str, confidence: float | None, reason: str) -> None:
        """A route was chosen."""
        self._routes.append(
            {
                "route": route,
                "path": f"{self.path}{route}",
                "confidence": confidence,
                "reason": reason,
            }
        )

    def rejected(self, task_id: str | None, reasons: str) -> None:
        """What was done for an assignment, or the answer, did not pass its review in the end."""
        if task_id is None:
            self.fell_short(f"the answer did not pass its review: {reasons}")
        else:
            self._rejected[task_id] = reasons

    def fell_short(self, why: str) -> None:
        """The answer is not what it could have been, for another reason than a lost assignment."""
        self._shortfalls.append(why)

    def started(self, assignment: Assignment) -> None:
        if self.telling is not None:
            self.telling.assignment_started(self.path, assignment)

    def settled(self, assignment: Assignment, how: Settled[str]) -> None:
        match how:
            case Done(output) if _is_cut_off(self._calls_of.get(assignment.id, ())):
                outcome = self._outcome(assignment, "truncated", output=output, error=_CUT_OFF)
            case Done(output) if assignment.id in self._rejected:
                why = f"it did not pass its review: {self._rejected[assignment.id]}"
                outcome = self._outcome(assignment, "rejected", output=output, error=why)
            case Done(output):
                outcome = self._outcome(assignment, "completed", output=output)
            case Failed(RejectedError() as error):
                outcome = self._outcome(
                    assignment, "rejected", output=error.work, error=error.reason
                )
            case Failed(error):
                outcome = self._outcome(assignment, _status_of(error), error=str(error))
            case Skipped(because):
                why = f"it depends on {', '.join(because)}, which did not complete"
                outcome = self._outcome(assignment, "skipped", error=why)
        self._outcomes[assignment.id] = outcome
        if self.telling is not None:
            self.telling.outcome_settled(outcome)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What became of each assignment, in the plan's order; unsettled ones as cancelled."""
        return tuple(
            [
                self._outcomes.get(assignment.id)
                or self._outcome(assignment, "cancelled", error="the run ended before it did")
                for assignment in self._assignments
            ]
        )

    @property
    def outputs(self) -> dict[str, str]:
        """What the assignments gave that are done, by id."""
        outcomes = self._outcomes.items()
        return {name: done.output for name, done in outcomes if done.output is not None}

    @property
    def all_outcomes(self) -> tuple[Outcome, ...]:
        """Those of patterns within the run, too, to any depth."""
        return sum((record.all_outcomes for record in self._beside), self.outcomes)

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """Why the answer is not whole, other than by its outcomes; of patterns within, too."""
        return sum((record.shortfalls for record in self._beside), tuple(self._shortfalls))

    # What the door reports

    def next_step(self) -> int:
        if self._around is not None:
            return self._around.next_step()
        self._steps += 1
        return self._steps

    def call(self, call: CallRecord) -> None:
        self._enter(call, call.task_id)

    def _enter(self, call: CallRecord, task_id: str | None) -> None:
        """Into the ledger, and that around it, whose assignments have ids of their own."""
        if self._around is not None:
            self._around._enter(call, self._task_id)
        self._calls.append(call)
        if task_id is not None:
            self._calls_of.setdefault(task_id, []).append(call)

    def refused(self, error: BudgetExceeded) -> None:
        """The budget refused a call: what the run comes to may come of that."""
        if self._around is not None:
            self._around.refused(error)
        self.refusal = self.refusal or error

    def confident(self, task_id: str, confidence: float) -> None:
        """The agent's own confidence in what it did for the assignment."""
        self._confidence[task_id] = confidence

    def degraded(self, name: str) -> None:
        """A simpler pattern or agent stands in."""
        self._degraded_to = name

    def goes_on(self, execution: int) -> None:
        """This is not the run's first execution."""
        self._execution = execution

    def called(self, key: str, called: Called) -> None:
        """Note where a call's value came from."""
        if self._around is not None:
            self._around.called(key, called)
        self._from_record.append((key, called.made == "before"))
        if called.made == "before":
            self._replayed += 1
        if called.doubtful:
            self._doubtful.append(key)

    def is_replay(self, path: str) -> bool:
        """Whether all that was called in the scope of this path was on record."""
        if not self._replayed:
            return False
        calls = [before for key, before in self._from_record if key.startswith(path)]
        return bool(calls) and all(calls)

    # What comes out

    def result(self, output: str | None) -> Result:
        """The result; without an output, that of a run that did not finish."""
        outcomes = self.all_outcomes
        assignments = self._all_assignments()
        whole = (
            output is not None
            and all(o.status == "completed" for o in outcomes)
            and not _is_cut_off(self._calls)
            and not self._is_degraded()
            and not self.shortfalls
        )
        metadata = Metadata(
            assignments=[assignment.to_dict() for assignment in assignments],
            workers_used=workers_used(outcomes),
        )
        if routes := self._all_routes():
            metadata["routes"] = routes
        return Result(
            pattern=self.pattern,
            run_id=self.run_id,
            output=output or "",
            data=self.data,
            status="completed" if whole else "partial",
            outcomes=outcomes,
            calls=tuple(self._calls),
            shortfalls=self.shortfalls,
            plan_estimate=self._estimate(),
            metadata=metadata,
            started_at=self._started_at,
            duration_seconds=time.perf_counter() - self._clock,
            trace_id=self._span.trace_id,
            degraded_to=self._degraded_to,
            resumed=None
            if self._execution == 1 and not self._replayed and not self._doubtful
            else Resumed(
                execution=self._execution,
                replayed=self._replayed,
                doubtful=tuple(self._doubtful),
            ),
        )

    def _all_assignments(self) -> tuple[Assignment, ...]:
        return sum((record._all_assignments() for record in self._beside), self._assignments)

    def _all_routes(self) -> list[RouteDict]:
        return sum((record._all_routes() for record in self._beside), self._routes)

    def _estimate(self) -> Decimal | None:
        """What all plans were expected to cost; None if that is not known of one of them."""
        known = [usd for usd in self._expected if usd is not None]
        return sum(known, Decimal(0)) if known and len(known) == len(self._expected) else None

    def _is_degraded(self) -> bool:
        """Whether anything stood in, here or in a pattern within."""
        return self._degraded_to is not None or any(r._is_degraded() for r in self._beside)

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
            assignment=assignment,
            path=f"{self.path}{assignment.worker}",
            status=status,
            output=output,
            error=error,
            calls=calls,
            confidence=self._confidence.get(assignment.id),
        )


_CUT_OFF = "the answer was cut off at its token limit (max_tokens)"


def _is_cut_off(calls: Sequence[CallRecord]) -> bool:
    """Whether the last answer among these was."""
    for call in reversed(calls):
        if call.status == "ok" and call.phase != "evaluate":
            return call.finish_reason == "length"
    return False


def _status_of(error: Exception) -> OutcomeStatus:
    if isinstance(error, AgentError) and error.kind in ("empty", "refused"):
        return error.kind
    return "failed"
