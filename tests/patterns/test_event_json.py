"""Events as JSON: one stable name for each kind, and nothing that JSON cannot say."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from pyagent_patterns import Budget, PyAgentError, WorkersFailedError
from pyagent_patterns.errors import BudgetExceeded, DeclinedError, RunSuspended
from pyagent_patterns.event_json import EventName, ending_of, error_record, event_record
from pyagent_patterns.events import Event
from pyagent_patterns.orchestration import Parallel
from pyagent_patterns.people import Wanted

from .streams import eventful, piecewise


async def yes(wanted: Wanted) -> bool:
    return True


async def test_each_event_of_a_run_is_json_and_says_its_kind() -> None:
    team = eventful(approve=["plan"])
    how = {"human": yes, "budget": Budget(max_calls=50)}
    records = [event_record(event) async for event in team.stream("the task", **how)]
    assert json.loads(json.dumps(records)) == records
    assert {record["type"] for record in records} == {*get_args(EventName)} - {"run_stopped"}
    by_type = {str(record["type"]): record for record in records}
    assert by_type["approval_wanted"]["wanted"]["key"].startswith("plan/consult:")
    assert by_type["call_settled"]["call"]["cost"] == "0.00006"
    assert by_type["budget_spent"]["budgets"][0]["budget"]["max_calls"] == 50
    assert by_type["run_done"]["result"]["output"] == "the final answer"
    assert {record["run_id"] for record in records} == {by_type["run_done"]["result"]["run_id"]}


def test_every_kind_of_event_has_a_name() -> None:
    assert len(get_args(EventName)) == len(get_args(Event)) + 1  # a run that failed has no event


async def test_a_run_that_failed_says_why_and_what_did_finish() -> None:
    with pytest.raises(WorkersFailedError) as failed:
        await Parallel([piecewise("a", ValueError("\x1b[31mit broke"))]).run("the task")
    record = error_record(None, failed.value)
    assert json.loads(json.dumps(record)) == record
    assert (record["type"], record["status"]) == ("run_stopped", "failed")
    assert "it broke" in str(record["error"])
    assert "\x1b" not in str(record["error"])
    assert failed.value.result is not None
    assert record["result"] == failed.value.result.to_dict()
    assert record["run_id"] == failed.value.result.run_id


def test_how_a_run_ended_is_told_from_its_error() -> None:
    waits = RunSuspended("r1", waiting_for=["approval"], wake_at=None)
    assert error_record("r1", waits)["waiting_for"] == ["approval"]
    ends: list[tuple[Exception, str]] = [
        (waits, "suspended"),
        (BudgetExceeded("no", agent="a", model="m"), "budget"),
        (DeclinedError("plan", "a", "no", "text"), "declined"),
        (PyAgentError("no"), "failed"),
        (ValueError("no"), "failed"),
    ]
    assert [ending_of(error) for error, _ in ends] == [ending for _, ending in ends]


def test_of_an_error_that_may_say_anything_only_the_type_is_told() -> None:
    record = error_record("r1", ValueError("the password is hunter2"))
    assert record["error"] == "internal error: ValueError"
