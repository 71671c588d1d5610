"""What the store tells of runs and of what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, get_args

from .spans import Span

RunStatus = Literal[
    "running", "completed", "partial", "failed", "cancelled", "suspended", "unknown"
]
STATUSES: Final[tuple[RunStatus, ...]] = (
    *("running", "suspended", "completed", "partial", "failed", "cancelled", "unknown"),
)
Sort = Literal["start", "cost", "duration", "tokens"]
Dimension = Literal["agent", "phase", "model", "provider", "path", "tenant", "pattern"]
DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)
Bucket = Literal["hour", "day"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One run. Times are Unix time in nanoseconds, money US dollars.

    A run is known by its `pyagent.run.id`; a trace without any pattern by its trace id. `status` is
    "running" while its end has not come, and "unknown" when nothing has come for long. `trace_id`
    is that of its first execution, as far as that is known. `cost` is of what is priced,
    `unpriced` counts the calls that are not. `errors` counts what failed by itself: what failed
    because something within it did is not counted again. `duration_seconds` is how long it went
    on, without the time between its executions; None until it ended.
    """

    run_id: str
    trace_id: str
    pattern: str
    name: str
    service: str | None
    tenant: str | None
    user: str | None
    session: str | None
    status: RunStatus
    start: int
    end: int | None
    duration_seconds: float | None
    cost: Decimal
    unpriced: int
    calls: int
    input_tokens: int
    output_tokens: int
    errors: int
    spans: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuery:
    """Which runs are meant, and in which order.

    `text` is looked for in their ids, names, agents, models and errors, whatever the case. `since`
    and `until` bound when they began, in Unix nanoseconds: the first included, the second not.
    """

    text: str = ""
    status: RunStatus | None = None
    pattern: str | None = None
    tenant: str | None = None
    model: str | None = None
    since: int | None = None
    until: int | None = None
    sort: Sort = "start"
    descending: bool = True
    limit: int = 50
    offset: int = 0


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some of the runs that a query means, and how many it means in all."""

    runs: tuple[RunSummary, ...]
    total: int


@dataclass(frozen=True, slots=True)
class RunTrace:
    """One run with its spans by their start; parents come before their children."""

    summary: RunSummary
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What runs came to together."""

    cost: Decimal
    unpriced: int
    calls: int
    input_tokens: int
    output_tokens: int

    @classmethod
    def of(cls, rows: Sequence[CostRow]) -> Sums:
        return cls(
            cost=sum((row.cost for row in rows), Decimal(0)),
            unpriced=sum(row.unpriced for row in rows),
            calls=sum(row.calls for row in rows),
            input_tokens=sum(row.input_tokens for row in rows),
            output_tokens=sum(row.output_tokens for row in rows),
        )

    def share(self, row: CostRow) -> float:
        """What part of the cost a row is, between 0 and 1."""
        return float(row.cost / self.cost) if self.cost else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """What calls cost that have something in common, which is `key`; "" where nobody knows it.

    `bucket` is the beginning of their hour or day (UTC), in Unix nanoseconds; None when all time
    is one. `cost` is US dollars of the priced calls, `unpriced` counts the others.
    """

    key: str
    bucket: int | None
    cost: Decimal
    unpriced: int
    calls: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Choices:
    """What there is to filter by, each in alphabetical order."""

    patterns: tuple[str, ...]
    models: tuple[str, ...]
    tenants: tuple[str, ...]
    statuses: tuple[RunStatus, ...]
