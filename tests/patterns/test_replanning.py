"""Planning anew after failures, in full mode: bounded, and only what failed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pyagent_patterns import WorkersFailedError
from pyagent_providers.testing import Step

from .crews import DONE, asked, crew, item, planned, refused, written
from .teams import plan_text

PLAN = plan_text(
    item("a", "find it", id="x"), item("b", "use it", id="y", depends_on=["x"]), item("b", id="z")
)
ANEW = plan_text(item("b", "find it", id="x"), item("b", "use it", id="y", depends_on=["x"]))


async def test_unless_asked_for_nothing_is_planned_anew() -> None:
    team = crew([PLAN], {"a": [refused()], "b": ["zeta"]})
    result = await team.run("the task")
    assert result.status == "partial"
    assert len(planned(team)) == 1


async def test_what_failed_and_what_was_skipped_for_it_is_planned_anew() -> None:
    team = crew([PLAN, ANEW], {"a": [refused()], "b": ["zeta", "found", "used"]}, max_replans=1)
    result = await team.run("the task")
    question = planned(team)[1]
    assert (
        "- a (x), refused: find it\n  agent 'a' (a-model): ContentRefusedError: p/m: no" in question
    )
    assert "- b (y), skipped: use it" in question
    assert '<output from="b" id="z">' in question
    assert [(o.id, o.output) for o in result.outcomes] == [
        ("z", "zeta"),
        ("x", "found"),
        ("y", "used"),
    ]
    assert '<output from="b" id="x">\nfound\n</output>' in asked(team, "b")[-1]
    assert result.status == "completed"
    assert "missing" not in written(team)


async def test_finished_work_is_not_paid_for_again() -> None:
    both = plan_text(item("b", "find it", id="x"), item("b", "do b's part", id="z2"))
    team = crew(
        [PLAN, both, ANEW], {"a": [refused()], "b": ["zeta", "found", "used"]}, max_replans=1
    )
    result = await team.run("the task")
    assert "'b' has finished that subtask already; leave it out" in planned(team)[2]
    assert [c.task_id for c in result.calls if c.phase == "worker"].count("z") == 1
    assert "z2" not in [o.id for o in result.outcomes]


async def test_a_plan_anew_has_no_cycle_either() -> None:
    cycle = plan_text(item("b", id="x", depends_on=["y"]), item("b", id="y", depends_on=["x"]))
    workers = {"a": [refused()], "b": ["zeta", "found", "used"]}
    team = crew([PLAN, cycle, ANEW], workers, max_replans=1)
    result = await team.run("the task")
    assert "these assignments wait for each other" in planned(team)[2]
    assert result.status == "completed"


async def test_what_is_under_way_anew_is_no_longer_what_failed() -> None:
    first = plan_text(item("a", "find it", id="x"))
    anew = plan_text(item("b", "find it", id="x"))
    team = crew([first, anew], {"a": [refused()], "b": [Step("never", delay=60)]}, max_replans=1)
    running = asyncio.create_task(team.run("the task"))
    while not asked(team, "b"):
        await asyncio.sleep(0.002)
    running.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await running
    [outcome] = caught.value.result.outcomes  # type: ignore[attr-defined]
    assert (outcome.worker, outcome.status) == ("b", "cancelled")


async def test_planning_anew_is_bounded() -> None:
    plans = [
        plan_text(item("a", f"try {n}", id="x"), *extra)
        for n, extra in enumerate([[item("b", id="z")], [], []])
    ]
    team = crew(plans, {"a": [refused() for _ in range(3)], "b": ["zeta"]}, max_replans=2)
    result = await team.run("the task")
    assert len(planned(team)) == 3
    assert result.status == "partial"
    assert result.output == "the final answer"
    assert "- a (x), refused: try 2" in written(team)


async def test_a_planner_may_leave_what_failed() -> None:
    team = crew([PLAN, DONE], {"a": [refused()], "b": ["zeta"]}, max_replans=3)
    result = await team.run("the task")
    assert len(planned(team)) == 2
    assert result.status == "partial"
    assert "- a (x), refused: find it" in written(team)


async def test_an_invalid_plan_after_failures_leaves_what_is_done() -> None:
    team = crew([PLAN, "prose", "prose"], {"a": [refused()], "b": ["zeta"]}, max_replans=1)
    result = await team.run("the task")
    assert result.output == "the final answer"
    assert "planning stopped: the answer is not JSON" in result.shortfalls[0]


async def test_when_all_fails_each_time_there_is_nothing_to_answer_from() -> None:
    plan = plan_text(item("a", id="x"))
    team = crew([plan, plan], {"a": [refused(), refused()]}, max_replans=1)
    with pytest.raises(WorkersFailedError) as caught:
        await team.run("the task")
    assert caught.value.result is not None
    assert len(caught.value.result.calls) == 4


async def test_work_that_went_well_costs_no_further_plan() -> None:
    team = crew([plan_text(item("a"))], {"a": ["alpha"]}, max_replans=5)
    result = await team.run("the task")
    assert len(planned(team)) == 1
    assert result.status == "completed"


async def test_a_run_that_planned_anew_is_replayed_unpaid(tmp_path: Path) -> None:
    file = tmp_path / "runs.db"
    team = crew([PLAN, ANEW], {"a": [refused()], "b": ["zeta", "found", "used"]}, max_replans=1)
    first = await team.run("the task", run_id="r", durable=file)
    again = await crew([], {"a": [], "b": []}, final=[], max_replans=1).run(
        "the task", run_id="r", durable=file
    )
    assert all(call.replayed for call in again.calls)
    assert [o.to_dict() for o in again.outcomes] == [o.to_dict() for o in first.outcomes]
    assert again.cost_estimate == first.cost_estimate
