"""The graph runner: eager start, bounded width, survival, and nothing left running."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping

import pytest

from pyagent_patterns.schedule import Done, Failed, Node, Skipped, run_graph


class Lost(Exception):
    """The failure that the graph survives."""


class Trail:
    """Writes down what starts and ends, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.running = 0
        self.most = 0

    def node(self, name: str, *needs: str, after: float = 0.0, error: Exception | None = None):
        async def work(inputs: Mapping[str, str]) -> str:
            self.events.append(f"{name} starts")
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await asyncio.sleep(after)
            finally:
                self.running -= 1
            self.events.append(f"{name} ends")
            if error:
                raise error
            return name + "".join(inputs.values())

        return Node(needs, work)


async def test_a_task_starts_when_its_own_dependencies_are_done_not_in_waves() -> None:
    trail = Trail()
    await run_graph(
        {
            "slow": trail.node("slow", after=0.2),
            "a": trail.node("a", after=0.02),
            "b": trail.node("b", "a"),
        },
        survive=Lost,
    )
    assert trail.events.index("b ends") < trail.events.index("slow ends")


async def test_a_diamond_gives_each_task_its_dependencies_results() -> None:
    trail = Trail()
    settled = await run_graph(
        {
            "d": trail.node("d", "b", "c"),
            "b": trail.node("b", "a", after=0.02),
            "c": trail.node("c", "a"),
            "a": trail.node("a"),
        },
        survive=Lost,
    )
    assert settled == {"d": Done("dbaca"), "b": Done("ba"), "c": Done("ca"), "a": Done("a")}
    assert list(settled) == ["d", "b", "c", "a"]


@pytest.mark.parametrize("limit", [1, 3])
async def test_no_more_than_the_limit_run_at_once(limit: int) -> None:
    trail = Trail()
    nodes = {str(n): trail.node(str(n), after=0.005) for n in range(10)}
    settled = await run_graph(nodes, survive=Lost, limit=limit)
    assert len(settled) == 10
    assert trail.most == limit


async def test_a_failure_skips_what_depends_on_it_and_the_rest_goes_on() -> None:
    trail = Trail()
    error = Lost("gone")
    settled = await run_graph(
        {
            "bad": trail.node("bad", error=error),
            "next": trail.node("next", "bad"),
            "last": trail.node("last", "next", "fine"),
            "fine": trail.node("fine", after=0.02),
        },
        survive=Lost,
    )
    assert settled["bad"] == Failed(error)
    assert settled["next"] == Skipped(("bad",))
    assert settled["last"] == Skipped(("next",))
    assert settled["fine"] == Done("fine")
    assert "next starts" not in trail.events
    assert "last starts" not in trail.events


async def test_any_other_exception_ends_the_graph_and_cancels_what_runs() -> None:
    trail = Trail()
    nodes = {
        "bug": trail.node("bug", error=ZeroDivisionError("a bug"), after=0.01),
        "slow": trail.node("slow", after=30),
    }
    with pytest.raises(ZeroDivisionError, match="a bug"):
        await run_graph(nodes, survive=Lost)
    assert trail.running == 0
    assert "slow ends" not in trail.events


async def test_cancelling_cancels_every_task_and_leaves_none() -> None:
    trail = Trail()
    nodes = {str(n): trail.node(str(n), after=30) for n in range(5)}
    task = asyncio.create_task(run_graph(nodes, survive=Lost))
    await asyncio.sleep(0.01)
    assert trail.running == 5
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert trail.running == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_each_settling_is_told_as_it_happens() -> None:
    trail = Trail()
    told: list[str] = []
    await run_graph(
        {"slow": trail.node("slow", after=0.03), "fast": trail.node("fast")},
        survive=Lost,
        on_settled=lambda name, settled: told.append(name),
    )
    assert told == ["fast", "slow"]


async def test_a_task_does_not_inherit_the_context_of_the_one_that_made_room_for_it() -> None:
    color = contextvars.ContextVar("color", default="none")
    seen: list[str] = []

    async def work(inputs: Mapping[str, str]) -> str:
        seen.append(color.get())
        color.set("stained")
        return ""

    color.set("callers")
    nodes = {"a": Node((), work), "b": Node(("a",), work), "c": Node(("b",), work)}
    await run_graph(nodes, survive=Lost, limit=1)
    assert seen == ["callers", "callers", "callers"]


async def test_an_empty_graph_is_done_at_once() -> None:
    assert await run_graph({}, survive=Lost) == {}


async def test_a_task_settles_once_and_not_before_all_it_depends_on() -> None:
    trail = Trail()
    told: list[str] = []
    await run_graph(
        {
            "fast": trail.node("fast"),
            "slow": trail.node("slow", after=0.02),
            "join": trail.node("join", "fast", "slow"),
        },
        survive=Lost,
        on_settled=lambda name, how: told.append(f"{name} {type(how).__name__}"),
    )
    assert told == ["fast Done", "slow Done", "join Done"]
