"""The plan as a graph: who waits for whom, and how far each of them is, at any time."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from pyagent_exporters.viewer import run_page
from pyagent_exporters.viewer.plan_graph import Box, PlanGraph
from pyagent_exporters.viewer.runs import RunTrace
from pyagent_exporters.viewer.spans import Span
from pyagent_patterns.base import Pattern
from pyagent_providers import semconv
from tests.exporters.spans import START
from tests.patterns.crews import crew, refused
from tests.patterns.streams import PATTERNS, eventful
from tests.patterns.teams import item, plan_text, team

from .real_runs import only_run, trace_of


def graphs(trace: RunTrace) -> tuple[PlanGraph, ...]:
    return run_page.view(trace).graphs


async def graph_of(pattern: Pattern) -> PlanGraph:
    [graph] = graphs(await trace_of(pattern))
    return graph


def states(graph: PlanGraph) -> dict[str, str]:
    return {box.task or box.what: box.state for box in graph.boxes}


def by_task(graph: PlanGraph) -> dict[str, Box]:
    return {box.task or box.what: box for box in graph.boxes}


def diamond() -> Pattern:
    plan = plan_text(
        item("a", id="t1", depends_on=[]),
        item("b", id="t2", depends_on=["t1"]),
        item("c", id="t3", depends_on=["t1"]),
        item("d", id="t4", depends_on=["t2", "t3"]),
    )
    return team([plan], {name: [f"{name} did it"] for name in "abcd"})


async def test_a_diamond_is_drawn_as_one_between_the_planning_and_the_synthesis() -> None:
    graph = await graph_of(diamond())
    boxes = by_task(graph)
    assert list(boxes) == ["plan", "t1", "t2", "t3", "t4", "synthesis"]
    columns = sorted({box.x for box in graph.boxes})
    assert [columns.index(box.x) for box in boxes.values()] == [0, 1, 2, 2, 3, 4]
    assert boxes["t4"].waits_for == ("t2", "t3")
    assert len(graph.lines) == 6
    assert all(line.is_done for line in graph.lines)
    assert set(states(graph).values()) == {"done"}
    assert (graph.tasks, graph.plans, graph.rejected) == (4, 1, 0)


async def test_each_box_says_what_it_cost_and_how_long_it_took() -> None:
    box = by_task(await graph_of(diamond()))["t2"]
    assert box.who == "b"
    assert box.figures.cost == Decimal("0.00006")
    assert box.seconds is not None
    assert "$0.000060" in box.figures_line
    assert box.told.startswith("t2 b: done, ")
    assert box.told.endswith("after t1")


async def test_what_failed_and_what_was_skipped_for_it_look_different() -> None:
    graph = await graph_of(eventful())
    assert states(graph) == {
        "plan": "done", "t1": "done", "t2": "failed", "t3": "skipped", "synthesis": "done",
    }  # fmt: skip
    assert (graph.plans, graph.rejected) == (2, 1)
    skipped = by_task(graph)["t3"]
    assert (skipped.key, skipped.seconds, skipped.figures_line) == (None, None, "skipped")


async def test_a_team_within_the_plan_is_marked_and_has_a_graph_of_its_own() -> None:
    outer, inner = graphs(await trace_of(PATTERNS["hierarchical"]()))
    [box] = [box for box in outer.boxes if box.task]
    assert box.is_team
    assert (outer.within, inner.within) == (("hierarchical",), ("hierarchical", "team"))
    assert [b.who for b in inner.boxes if b.task] == ["a"]
    assert box.figures.cost == sum(b.figures.cost for b in inner.boxes)


async def test_stages_are_a_chain() -> None:
    graph = await graph_of(PATTERNS["pipeline"]())
    assert [(box.who, box.state, box.waits_for) for box in graph.boxes] == [
        ("a", "done", ()),
        ("b", "done", ("1-a",)),
    ]


@pytest.mark.parametrize("name", ["router", "loop"])
async def test_one_piece_of_work_that_nobody_planned_is_no_graph(name: str) -> None:
    assert graphs(await trace_of(PATTERNS[name]())) == ()


async def test_what_is_planned_anew_takes_the_place_of_what_failed() -> None:
    plan = plan_text(item("a", "find it", id="x"), item("b", "use it", id="y", depends_on=["x"]))
    crew_of = crew([plan, plan], {"a": [refused(), "found"], "b": ["used"]}, max_replans=1)
    graph = await graph_of(crew_of)
    assert states(graph) == {"plan": "done", "x": "done", "y": "done", "synthesis": "done"}
    assert (graph.tasks, graph.plans) == (2, 2)
    assert by_task(graph)["x"].figures.calls == 2


# While it runs


def span(name: str, parent: str | None = "run", *, end: float | None, **given: object) -> Span:
    known = {
        "task": semconv.TASK_ID, "after": semconv.TASK_DEPENDS_ON, "agent": semconv.AGENT_NAME,
        "phase": semconv.PHASE, "tasks": semconv.PLAN_TASKS, "workers": semconv.PLAN_WORKERS,
        "waits": "pyagent.plan.depends_on", "status": semconv.STATUS,
        "replayed": semconv.REPLAYED,
    }  # fmt: skip
    return Span(
        trace_id="t",
        span_id=name,
        parent_id=parent,
        name=("pyagent.agent." if parent else "pyagent.pattern.") + name,
        start=START,
        end=None if end is None else START + round(end * 1e9),
        attributes={semconv.RUN_ID: "r"} | {known[key]: value for key, value in given.items()},  # pyright: ignore
    )


PLAN = {"tasks": ("t1", "t2", "t3"), "workers": ("a", "b", "c"), "waits": ("", "t1", "t1, t2")}


def test_a_plan_fills_in_while_it_is_worked_on() -> None:
    run = span("run", None, end=None, **PLAN)
    planner = span("planner", end=1, phase="plan")
    first = span("a", end=2, phase="worker", task="t1")
    second = span("b", end=None, phase="worker", task="t2", after=("t1",))
    [graph] = graphs(only_run([run, planner, first, second]))
    assert states(graph) == {"plan": "done", "t1": "done", "t2": "running", "t3": "pending"}
    assert by_task(graph)["t3"].waits_for == ("t1", "t2")
    assert [line.is_done for line in graph.lines] == [True, True, True, False]


def test_what_never_began_when_the_run_has_ended_was_skipped() -> None:
    run = span("run", None, end=9, status="failed", **PLAN)
    [graph] = graphs(only_run([run, span("a", end=2, phase="worker", task="t1")]))
    assert states(graph) == {"t1": "done", "t2": "skipped", "t3": "skipped"}


def test_what_an_earlier_execution_did_is_done_in_the_next_and_paid_for_once() -> None:
    first = [
        span("run", None, end=5, status="failed", **PLAN),
        span("a", end=2, phase="worker", task="t1"),
    ]
    call = Span(
        trace_id="t", span_id="call", parent_id="a", name="chat m", start=START, end=START + 9,
        attributes={semconv.OPERATION_NAME: "chat", semconv.COST_USD: 0.25},
    )  # fmt: skip
    later = [
        replace(s, trace_id="t-2", start=START + 10**11, end=START + 2 * 10**11)
        for s in (
            span("run", None, end=5, status="completed", **PLAN),
            span("a", end=2, phase="worker", task="t1", replayed=True),
            span("b", end=3, phase="worker", task="t2"),
            span("c", end=3, phase="worker", task="t3"),
        )
    ]
    [graph] = graphs(only_run([*first, call, *later]))
    assert set(states(graph).values()) == {"done"}
    box = by_task(graph)["t1"]
    assert box.is_replayed
    assert box.figures.cost == Decimal("0.25")


def test_a_plan_that_makes_no_sense_is_drawn_as_far_as_it_goes() -> None:
    odd = {"tasks": ("x", "x", "y"), "workers": ("a", "b", "c"), "waits": ("x", "y", "nobody")}
    [graph] = graphs(only_run([span("run", None, end=9, status="completed", **odd)]))
    assert states(graph) == {"x": "skipped", "y": "skipped"}


def test_of_a_plan_that_is_too_large_the_rest_is_counted() -> None:
    names = tuple(f"t{n}" for n in range(500))
    [graph] = graphs(only_run([span("run", None, end=None, tasks=names, workers=names)]))
    assert (len(graph.boxes), graph.left_out, graph.tasks) == (200, 300, 500)
