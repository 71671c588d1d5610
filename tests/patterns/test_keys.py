"""What a call is called in a journal: a run that an earlier version began goes on by these keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pyagent_patterns import (
    Hierarchical,
    Loop,
    OrchestratorWorkers,
    Parallel,
    Pipeline,
    Review,
    Router,
    Team,
)
from pyagent_patterns.base import Pattern
from pyagent_patterns.durable import Runs

from .members import accepted, says
from .teams import item, plan_text


def orchestrator_workers() -> Pattern:
    return OrchestratorWorkers(
        orchestrator=says(
            "boss",
            "no plan at all",
            plan_text(item("a", id="t1"), item("b", id="t2", depends_on=["t1"])),
            plan_text(item("a", "again", id="t3")),
            plan_text(),
            "the answer",
        ),
        workers=[says("a", "alpha", "anew", "alpha"), says("b", "beta")],
        planning="iterative",
        review=Review(says("judge", accepted("worse"), *[accepted()] * 3), of="outcome"),
    )


def hierarchical() -> Pattern:
    team = Team("red", says("lead", plan_text(item("w", id="p")), "red's"), [says("w", "work")])
    plan = plan_text(item("red", id="x"), item("alone", id="y"))
    return Hierarchical(
        manager=says("boss", "no plan at all", plan, "the answer"),
        teams=[team, says("alone", "done")],
    )


def pipeline() -> Pattern:
    gate = Review(says("judge", accepted("worse"), accepted()))
    sides = [says("left", "l"), says("right", "r")]
    return Pipeline([says("draft", "d", "better"), gate, sides, says("last", "the answer")])


def router() -> Pattern:
    return Router(
        [says("a", "alpha"), says("b", "beta")],
        classifier=says(
            "guide",
            '{"routes": [{"route": "a", "confidence": 1}, {"route": "b", "confidence": 1}], '
            '"reason": "both"}',
        ),
        top_k=2,
        merge=says("merge", "the answer"),
    )


def parallel() -> Pattern:
    return Parallel([says("a", "alpha"), says("b", "beta")], merge=says("merge", "the answer"))


def loop() -> Pattern:
    return Loop(says("w", "worse", "the answer"), says("judge", accepted("why"), accepted()))


KEYS = {
    orchestrator_workers: [
        *("plan/ask:0", "plan/ask:1"),
        *("work/t1/ask:0", "work/t1/ask:1", "work/t1/ask:2", "work/t1/ask:3"),
        *("work/t2/ask:0", "work/t2/ask:1"),
        "plan/ask:2",
        *("work-2/t3/ask:0", "work-2/t3/ask:1"),
        "plan/ask:3",
        "synthesis/ask:0",
    ],
    hierarchical: [
        *("manage/ask:0", "manage/ask:1"),
        *(f"work/x/red:0/{key}" for key in ("plan/ask:0", "work/p/ask:0", "synthesis/ask:0")),
        "work/y/ask:0",
        "synthesis/ask:0",
    ],
    pipeline: [
        *("1-draft/ask:0", "1-draft/ask:1", "1-draft/ask:2", "1-draft/ask:3"),
        *("2-left/ask:0", "2-right/ask:0"),
        "3-last/ask:0",
    ],
    router: ["route/ask:0", "work/a/ask:0", "work/b/ask:0", "merge/ask:0"],
    parallel: ["work/a/ask:0", "work/b/ask:0", "merge/ask:0"],
    loop: ["work/w/ask:0", "work/w/ask:1", "work/w/ask:2", "work/w/ask:3"],
}


@pytest.mark.parametrize("make", KEYS, ids=lambda make: make.__name__)
async def test_a_call_keeps_its_key(make: Callable[[], Pattern], tmp_path: Path) -> None:
    with Runs(tmp_path / "runs.db") as runs:
        result = await make().run("the task", run_id="r", durable=runs)
        assert result.output == "the answer"
        keys = [call.key for call in (await runs.get("r")).calls]
        assert sorted(keys) == sorted(KEYS[make])
