"""What a run gives back: the answer, who did what, what every call used and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from operator import itemgetter
from typing import Literal, NotRequired, TypedDict, cast

from pyagent_providers.base import Usage
from pyagent_providers.hostile import shown
from pyagent_providers.types import JSONObject, JSONValue

from . import ledger
from .ledger import CallRecord, CostKey
from .plan import Assignment, AssignmentDict

OutcomeStatus = Literal[
    "completed",
    "rejected",  # it did not pass its review: there is an output, and it is not good enough
    "truncated",  # cut off at the token limit: there is an output, and it is not whole
    "failed",
    "empty",  # the model answered with nothing
    "refused",  # the model or its provider declined
    "skipped",
    "cancelled",
]
ResultStatus = Literal["completed", "partial"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one assignment.

    `output` is the worker's answer, None unless `completed`, `truncated` or `rejected`; `error`
    says why there is none, or not a good one. `path` are the names of the patterns within the run's
    that it is in, and the worker's. `confidence` is the worker's own, from 0 to 1, where its
    `output_schema` has one. `calls` are its attempts; the rest is read off them: `usage`, `cost`
    (US dollars of those with a price, None when none of those billed has one), `attempts`,
    `started_at` and `ended_at` (Unix time in seconds, None for an assignment that never started).
    """

    assignment: Assignment
    status: OutcomeStatus
    path: str = ""
    output: str | None = None
    error: str | None = None
    calls: tuple[CallRecord, ...] = ()
    confidence: float | None = None

    @property
    def id(self) -> str:
        return self.assignment.id

    @property
    def worker(self) -> str:
        return self.assignment.worker

    @property
    def usage(self) -> Usage:
        return ledger.total_usage(self.calls)

    @property
    def cost(self) -> Decimal | None:
        return ledger.known_cost(self.calls)

    @property
    def attempts(self) -> int:
        return len(self.calls)

    @property
    def started_at(self) -> float | None:
        return min((call.started_at for call in self.calls), default=None)

    @property
    def ended_at(self) -> float | None:
        return self.calls[-1].started_at + self.calls[-1].seconds if self.calls else None

    def to_dict(self) -> JSONObject:
        return {
            **cast(JSONObject, self.assignment.to_dict()),
            "path": self.path,
            "status": self.status,
            "output": self.output,
            "error": self.error,
            "usage": self.usage.to_dict(),
            "cost": None if self.cost is None else str(self.cost),
            "attempts": self.attempts,
            "confidence": self.confidence,
            "started_at": _iso(self.started_at),
            "ended_at": _iso(self.ended_at),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What a run that went on from its record found there.

    This is its `execution`-th time, from 1; `replayed` calls came from the record, unpaid.
    `doubtful` are the keys of calls that an earlier execution had sent and left without an answer
    on record, and that were made again: each of them may have been paid for twice.
    """

    execution: int
    replayed: int
    doubtful: tuple[str, ...]

    def to_dict(self) -> JSONObject:
        return {
            "execution": self.execution,
            "replayed": self.replayed,
            "doubtful": list(self.doubtful),
        }


class RouteDict(TypedDict):
    """A route that was chosen, and why; `confidence` is the classifier's own, from 0 to 1.

    `path` are the names of the patterns within the run's that it is in, and its own.
    """

    route: str
    path: str
    confidence: float | None
    reason: str


class Metadata(TypedDict):
    """The plan that was run, who worked on it, and routes that were chosen, as JSON values."""

    assignments: list[AssignmentDict]
    workers_used: list[str]
    routes: NotRequired[list[RouteDict]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run of a pattern.

    `status` is `partial` when an assignment did not complete, which `outcomes` tells, when the
    answer was cut off, when it is that of `degraded_to`, the name of a simpler pattern or agent
    that stood in, or for one of the reasons in `shortfalls`. `plan_estimate` is what the plan was
    expected to cost, in US dollars, beside what all did: `cost_estimate`. `data` is the answer as a
    value, where the pattern has an `output_type`. `calls` is the ledger, one entry per attempt, in
    the order they settled. `metadata` has the `assignments` as JSON values and `workers_used`, the
    names in order of first use. `trace_id` is 32 hex digits, None when nothing traces. `resumed` is
    None unless the run went on from the record of an earlier execution, or of the run it was forked
    from. The result that an exception carries has all that did finish; its `output` is empty.
    """

    pattern: str
    run_id: str
    output: str
    status: ResultStatus
    data: object = None
    outcomes: tuple[Outcome, ...] = ()
    calls: tuple[CallRecord, ...] = ()
    metadata: Metadata = field(default_factory=lambda: Metadata(assignments=[], workers_used=[]))
    started_at: float = 0.0
    duration_seconds: float = 0.0
    trace_id: str | None = None
    resumed: Resumed | None = None
    degraded_to: str | None = None
    shortfalls: tuple[str, ...] = ()
    plan_estimate: Decimal | None = None

    @property
    def cost_estimate(self) -> Decimal:
        """US dollars: the sum of every call that has a price; `unpriced` counts the others."""
        return ledger.total_cost(self.calls)

    @property
    def unpriced(self) -> int:
        """How many calls have no price and so are not in `cost_estimate`."""
        return ledger.unpriced(self.calls)

    @property
    def estimated(self) -> int:
        """How many calls were cut off, and are in `cost_estimate` with their worst case."""
        return sum(call.price_source == "estimate" for call in self.calls)

    @property
    def confidence(self) -> float | None:
        """The lowest of the outcomes' own, None where none has one."""
        return min((o.confidence for o in self.outcomes if o.confidence is not None), default=None)

    @property
    def usage(self) -> Usage:
        """Tokens of all calls that reported them."""
        return ledger.total_usage(self.calls)

    def cost_by(self, key: CostKey) -> dict[str, Decimal]:
        """US dollars by "agent", "phase", "model", "provider" or "path", dearest first.

        A path are the names of the patterns within the run's that asked, and the agent's.

        The figures add up to `cost_estimate`.
        """
        return ledger.cost_by(self.calls, key)

    def to_dict(self) -> JSONObject:
        """The whole result as JSON values: money as decimal strings, times as ISO 8601 UTC."""
        return {
            "pattern": self.pattern,
            "run_id": self.run_id,
            "trace_id": self.trace_id,
            "status": self.status,
            "output": self.output,
            "cost_estimate": str(self.cost_estimate),
            "unpriced": self.unpriced,
            "estimated": self.estimated,
            "confidence": self.confidence,
            "degraded_to": self.degraded_to,
            "shortfalls": list(self.shortfalls),
            "plan_estimate": None if self.plan_estimate is None else str(self.plan_estimate),
            "data": as_json_value(self.data),
            "usage": self.usage.to_dict(),
            "started_at": _iso(self.started_at),
            "duration_seconds": self.duration_seconds,
            "resumed": None if self.resumed is None else self.resumed.to_dict(),
            "metadata": cast(JSONObject, dict(self.metadata)),
            "outcomes": [outcome.to_dict() for outcome in self.outcomes],
            "calls": [call.to_dict() for call in self.calls],
        }

    def __repr__(self) -> str:
        return (
            f"<Result {self.pattern} {self.run_id} {self.status}: "
            f"{len(self.calls)} calls, {_tokens(self.usage)}, {_dollars(self)}, "
            f"{self.duration_seconds:.1f}s>"
        )

    def __str__(self) -> str:
        """For a terminal: what a model wrote is shown without escape sequences."""
        lines = [repr(self)]
        lines += [_outcome_line(outcome) for outcome in self.outcomes]
        lines += [f"  {why}" for why in self.shortfalls]
        if self.output:
            lines += ["", self.output]
        return shown("\n".join(lines))

    def _repr_html_(self) -> str:
        """For a notebook: a tree of who was asked, with what each cost."""
        from .html import as_html  # loaded when a notebook shows one

        return as_html(self)


def as_json_value(value: object) -> JSONValue:
    """A value as JSON values, also one that pydantic knows how to write."""
    if value is None:
        return None
    from pydantic_core import to_jsonable_python

    return cast(JSONValue, to_jsonable_python(value))


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    from datetime import UTC, datetime  # loaded when a result is written down

    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _tokens(usage: Usage) -> str:
    return f"{usage.input_tokens}+{usage.output_tokens} tokens"


def _dollars(result: Result) -> str:
    unpriced = f" + {result.unpriced} unpriced" if result.unpriced else ""
    estimated = f" ({result.estimated} calls estimated)" if result.estimated else ""
    return f"${result.cost_estimate:.4f}{estimated}{unpriced}"


def _outcome_line(outcome: Outcome) -> str:
    after = f" after {', '.join(outcome.assignment.depends_on)}"
    how = outcome.status if outcome.error is None else f"{outcome.status}: {outcome.error}"
    who = outcome.path or outcome.worker
    return f"  {outcome.id} {who}{after if outcome.assignment.depends_on else ''}: {how}"


def workers_used(outcomes: Sequence[Outcome]) -> list[str]:
    """The workers that were asked, in order of first use."""
    started = [(min([c.started_at for c in o.calls]), o.worker) for o in outcomes if o.calls]
    started.sort(key=itemgetter(0))
    return list(dict.fromkeys([worker for _, worker in started]))
