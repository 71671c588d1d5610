"""The ledger: one entry for each attempt at each call, from which every total is added up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal, cast

from pyagent_providers.base import Usage
from pyagent_providers.semconv import Phase
from pyagent_providers.types import JSONObject, JSONValue, PriceSource

CostKey = Literal["agent", "phase", "model", "provider", "path"]
CallStatus = Literal["ok", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One attempt at one call: who asked which model, what it used and what it cost.

    `model` is the model that answered (the requested one when none did). `usage` is None when the
    provider reported none. `cost` is US dollars, None when there is no price for the call, and
    `cache_savings` what tokens read from a prompt cache would have cost more. `path`
    are the names of the patterns within the run's that asked, and the agent's, as in
    "backend/coder". `started_at` is Unix time and `seconds` the duration, both in seconds. `step`
    numbers the run's questions from 1, `attempt` the tries at one question; `task_id` is the
    assignment it was made for, if any. `replayed` calls were paid for by an earlier process: they
    count in this result, but not again in any metric.
    """

    step: int
    attempt: int
    phase: Phase
    agent: str
    path: str = ""
    task_id: str | None = None
    provider: str
    requested_model: str
    model: str
    status: CallStatus
    usage: Usage | None = None
    cost: Decimal | None = None
    cache_savings: Decimal = Decimal(0)
    price_source: PriceSource | None = None
    price_version: str | None = None
    error: str | None = None
    finish_reason: str | None = None
    response_id: str | None = None
    started_at: float = 0.0
    seconds: float = 0.0
    replayed: bool = False

    def to_dict(self) -> JSONObject:
        """The record as JSON values; money is a decimal string."""
        record: dict[str, JSONValue] = {
            "step": self.step,
            "attempt": self.attempt,
            "phase": self.phase,
            "agent": self.agent,
            "path": self.path,
            "task_id": self.task_id,
            "provider": self.provider,
            "requested_model": self.requested_model,
            "model": self.model,
            "status": self.status,
            "usage": None if self.usage is None else self.usage.to_dict(),
            "cost": None if self.cost is None else str(self.cost),
            "price_source": self.price_source,
            "price_version": self.price_version,
            "error": self.error,
            "finish_reason": self.finish_reason,
            "response_id": self.response_id,
            "started_at": self.started_at,
            "seconds": self.seconds,
            "replayed": self.replayed,
        }
        if self.cache_savings:
            record["cache_savings"] = str(self.cache_savings)
        return record

    @classmethod
    def from_dict(cls, stored: JSONObject) -> CallRecord:
        """The record that `to_dict` wrote."""
        fields = {"path": stored["agent"], **stored}
        usage = cast("dict[str, int] | None", fields["usage"])
        cost = cast("str | None", fields["cost"])
        fields["usage"] = None if usage is None else Usage(**usage)  # pyright: ignore[reportArgumentType]
        fields["cost"] = None if cost is None else Decimal(cost)  # pyright: ignore[reportArgumentType]
        fields["cache_savings"] = Decimal(cast(str, fields.get("cache_savings", "0")))  # pyright: ignore[reportArgumentType]
        return cls(**fields)  # pyright: ignore[reportArgumentType]

    def as_replayed(self) -> CallRecord:
        return replace(self, replayed=True)


def total_cost(calls: Iterable[CallRecord]) -> Decimal:
    """US dollars of what is priced; see `unpriced` for what is not."""
    return sum([call.cost for call in calls if call.cost is not None], Decimal(0))


def total_usage(calls: Iterable[CallRecord]) -> Usage:
    """Tokens of what was reported."""
    total = Usage()
    for call in calls:
        if call.usage is not None:
            total += call.usage
    return total


def known_cost(calls: Iterable[CallRecord]) -> Decimal | None:
    """US dollars of what is priced, None when nothing that was billed has a price."""
    billed = [call.cost for call in calls if call.price_source != "not-billed"]
    known = [cost for cost in billed if cost is not None]
    return None if billed and not known else sum(known, Decimal(0))


def unpriced(calls: Iterable[CallRecord]) -> int:
    """How many attempts have no price."""
    return sum([call.cost is None for call in calls])


def cost_by(calls: Iterable[CallRecord], key: CostKey) -> dict[str, Decimal]:
    """US dollars of what is priced, by agent, phase, model, provider or path, dearest first."""
    totals: dict[str, Decimal] = {}
    for call in calls:
        name = str(getattr(call, key))
        totals[name] = totals.get(name, Decimal(0)) + (call.cost or 0)
    return dict(sorted(totals.items(), key=lambda item: -item[1]))
