"""Events as JSON values, each with the name of its kind: for pipes, logs and browsers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Final, Literal, Protocol, cast, runtime_checkable

from pyagent_providers.errors import ProviderError
from pyagent_providers.hostile import shown
from pyagent_providers.types import JSONObject, JSONValue

from . import events
from .errors import BudgetError, BudgetExceeded, DeclinedError, PyAgentError, RunSuspended
from .events import Event
from .people import Wanted

EventName = Literal[
    "run_started",
    "step_started",
    "text_delta",
    "call_settled",
    "budget_spent",
    "step_ended",
    "tool_started",
    "tool_ended",
    "plan_accepted",
    "plan_rejected",
    "assignment_started",
    "outcome_settled",
    "approval_wanted",
    "approval_given",
    "run_done",
    "run_stopped",  # in place of `run_done`, where a run has no result
]
Ending = Literal["failed", "budget", "declined", "suspended"]

_NAMES: Final[Mapping[type[Event], EventName]] = {
    events.RunStarted: "run_started",
    events.StepStarted: "step_started",
    events.TextDelta: "text_delta",
    events.CallSettled: "call_settled",
    events.BudgetSpent: "budget_spent",
    events.StepEnded: "step_ended",
    events.ToolStarted: "tool_started",
    events.ToolEnded: "tool_ended",
    events.PlanAccepted: "plan_accepted",
    events.PlanRejected: "plan_rejected",
    events.AssignmentStarted: "assignment_started",
    events.OutcomeSettled: "outcome_settled",
    events.ApprovalWanted: "approval_wanted",
    events.ApprovalGiven: "approval_given",
    events.RunDone: "run_done",
}


def name_of(event: Event) -> EventName:
    """The name of its kind, the same in every version."""
    return _NAMES[type(event)]


def event_record(event: Event) -> JSONObject:
    """The event as JSON values, under `type` its name; money is a decimal string."""
    record: dict[str, JSONValue] = {"type": name_of(event)}
    for field in fields(event):
        record[field.name] = _value(getattr(event, field.name))
    return record


def error_record(run_id: str | None, error: Exception) -> JSONObject:
    """How a run ended, or was suspended, without a result: why, and all that did finish.

    Of an error that is neither ours nor a provider's, only the type is told: its text may be
    anything.
    """
    is_told = isinstance(error, PyAgentError | ProviderError)
    result = error.result if isinstance(error, PyAgentError) else None
    return {
        "type": "run_stopped",
        "run_id": result.run_id if run_id is None and result is not None else run_id,
        "status": ending_of(error),
        "error": shown(str(error)) if is_told else f"internal error: {type(error).__name__}",
        "waiting_for": list(error.waiting_for) if isinstance(error, RunSuspended) else [],
        "result": None if result is None else result.to_dict(),
    }


def ending_of(error: Exception) -> Ending:
    """How a run ended that raised this."""
    match error:
        case RunSuspended():
            return "suspended"
        case BudgetExceeded() | BudgetError():
            return "budget"
        case DeclinedError():
            return "declined"
        case _:
            return "failed"


@runtime_checkable
class _HasRecord(Protocol):
    def to_dict(self) -> JSONObject: ...


def _value(value: object) -> JSONValue:
    match value:
        case Wanted():
            return {"key": value.key, **value.to_dict()}
        case _HasRecord():
            return value.to_dict()
        case tuple():
            return [_value(one) for one in cast("Sequence[object]", value)]
        case _:
            return cast(JSONValue, value)
