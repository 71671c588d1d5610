"""Parallel: the same task to several at once, merged or one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from pydantic import BaseModel

from pyagent_patterns import Agent, Budget, Parallel, RunAborted, WorkersFailedError, parallel
from pyagent_providers import Message
from pyagent_providers.testing import Step

from .members import REFUSED, asked, says
from .teams import scripted


async def test_every_member_does_the_whole_task_at_once() -> None:
    all_three = asyncio.Barrier(3)
    seen: list[str] = []

    def member(name: str) -> Agent:
        async def answer(messages: Sequence[Message]) -> str:
            seen.append(messages[-1].content)
            await asyncio.wait_for(all_three.wait(), 5)
            return name.upper()

        return Agent(name, answer)

    result = await parallel(member("a"), member("b"), member("c")).run("the task")
    assert result.output == "## a\n\nA\n\n## b\n\nB\n\n## c\n\nC"
    assert seen == ["the task"] * 3
    assert result.status == "completed"
    assert [o.worker for o in result.outcomes] == ["a", "b", "c"]


async def test_a_merge_makes_one_answer_of_all() -> None:
    merge = says("merge", "in one")
    result = await Parallel([says("a", "alpha"), says("b", "beta")], merge=merge).run("the task")
    assert result.output == "in one"
    assert "the task" in asked(merge)
    assert "alpha" in asked(merge)
    assert "beta" in asked(merge)
    assert [call.phase for call in result.calls] == ["worker", "worker", "synthesis"]


async def test_a_merge_may_be_a_function() -> None:
    async def longest(prompt: str) -> str:
        return "beta" if "beta" in prompt else "?"

    result = await parallel(says("a", "alpha"), says("b", "beta"), merge=longest).run("the task")
    assert result.output == "beta"


async def test_the_merge_is_told_who_failed_and_the_others_finish() -> None:
    merge = says("merge", "what there is")
    crew = parallel(says("a", REFUSED), says("b", Step("beta", delay=0.02)), merge=merge)
    result = await crew.run("the task")
    assert (result.output, result.status) == ("what there is", "partial")
    assert "- a (a), refused" in asked(merge)
    assert "beta" in asked(merge)


async def test_without_a_merge_a_member_that_failed_is_missing() -> None:
    crew = parallel(says("a", "alpha"), says("b", REFUSED), says("c", "gamma"))
    result = await crew.run("the task")
    assert result.output == "## a\n\nalpha\n\n## c\n\ngamma"
    assert result.status == "partial"


async def test_when_all_fail_there_is_nothing_to_merge() -> None:
    merge = says("merge")
    with pytest.raises(WorkersFailedError, match="a \\(a\\) refused"):
        await parallel(says("a", REFUSED), says("b", REFUSED), merge=merge).run("the task")
    assert scripted(merge).requests == []


async def test_one_that_must_not_fail_cancels_the_others() -> None:
    crew = parallel(
        says("a", Step(REFUSED, delay=0.01)), says("b", Step("no", delay=30)), on_error="abort"
    )
    with pytest.raises(RunAborted) as caught:
        await crew.run("the task")
    assert caught.value.result is not None
    assert [o.status for o in caught.value.result.outcomes] == ["refused", "cancelled"]


async def test_all_of_a_budget_can_be_spent_on_members_that_nobody_merges() -> None:
    crew = parallel(says("a", "alpha"), says("b", "beta"), budget=Budget(max_calls=2))
    assert (await crew.run("the task")).status == "completed"


async def test_enough_of_a_budget_is_kept_for_the_merge() -> None:
    crew = parallel(says("a", "alpha"), says("b", "beta"), merge=says("merge", "in one"))
    result = await crew.run("the task", budget=Budget(max_calls=2))
    assert (result.output, result.status) == ("in one", "partial")


async def test_the_merge_is_held_to_the_output_type() -> None:
    class Sum(BaseModel):
        total: int

    crew = parallel(
        says("a", "3"), says("b", "4"), merge=says("m", '{"total": 7}'), output_type=Sum
    )
    assert (await crew.run("the task")).data == Sum(total=7)
    with pytest.raises(ValueError, match="put together from what several wrote"):
        parallel(says("a"), says("b"), output_type=Sum)


def test_members_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="members is empty"):
        parallel()
    with pytest.raises(ValueError, match="two agents named 'a'"):
        parallel(says("a"), says("a"))
    with pytest.raises(TypeError, match=r"members\[0\] must be an Agent"):
        parallel("a")  # type: ignore[arg-type]
