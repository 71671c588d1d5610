"""Loop: work that is judged and done again until it is good enough, or is no more."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from pyagent_patterns import Budget, Loop, Pipeline, Verdict, WorkersFailedError, loop

from .members import REFUSED, accepted, asked, says
from .teams import questions


async def test_work_that_is_accepted_at_once_is_done_once() -> None:
    worker, judge = says("worker", "good"), says("judge", accepted())
    result = await loop(worker, judge, criteria="must be good").run("the task")
    assert (result.output, result.status) == ("good", "completed")
    assert asked(worker) == "the task"
    assert "the task" in asked(judge)
    assert "good" in asked(judge)
    assert "must be good" in asked(judge)
    assert [(c.phase, c.agent) for c in result.calls] == [
        ("worker", "worker"),
        ("evaluate", "judge"),
    ]
    [outcome] = result.outcomes
    assert (outcome.worker, outcome.status, outcome.output) == ("worker", "completed", "good")
    assert outcome.cost == result.cost_estimate


async def test_work_is_done_again_with_the_reasons_until_it_is_accepted() -> None:
    worker = says("worker", "one", "two", "three")
    judge = says("judge", accepted("too short"), accepted("still short"), accepted())
    result = await Loop(worker, judge).run("the task")
    assert (result.output, result.status) == ("three", "completed")
    first, second, third = questions(worker)
    assert first == "the task"
    assert "one" in second
    assert "too short" in second
    assert "two" in third
    assert "still short" in third
    assert "too short" not in third


async def test_what_is_never_accepted_is_the_answer_all_the_same_and_says_so() -> None:
    result = await loop(
        says("worker", "one", "two", "three"),
        lambda work: Verdict(False, f"{work} is bad"),
        max_rounds=2,
    ).run("the task")
    assert (result.output, result.status) == ("three", "partial")
    assert result.shortfalls == ("the answer did not pass its review: three is bad",)
    assert result.outcomes[0].status == "rejected"
    assert result.outcomes[0].output == "three"


async def test_a_judge_may_be_a_function_sync_or_async() -> None:
    async def long_enough(work: str) -> bool:
        return len(work) > 3

    assert (await loop(says("w", "a", "abcd"), long_enough).run("t")).output == "abcd"
    assert (
        await loop(says("w", "a", "abcd"), lambda work: len(work) > 3).run("t")
    ).output == "abcd"


async def test_work_is_not_lost_with_a_judge_that_fails() -> None:
    result = await loop(says("worker", "good"), says("judge", REFUSED)).run("the task")
    assert (result.output, result.status) == ("good", "partial")
    assert "agent 'judge'" in result.shortfalls[0]


async def test_work_is_not_lost_when_it_cannot_be_done_again() -> None:
    worker = says("worker", "draft", REFUSED)
    result = await loop(worker, says("judge", accepted("too short"))).run("the task")
    assert (result.output, result.status) == ("draft", "partial")
    assert "agent 'worker'" in result.shortfalls[0]


async def test_work_is_not_lost_when_there_is_no_budget_to_judge_it() -> None:
    crew = loop(says("worker", "good"), says("judge"))
    result = await crew.run("the task", budget=Budget(max_calls=1))
    assert (result.output, result.status) == ("good", "partial")


async def test_a_worker_that_gives_nothing_fails_the_run() -> None:
    with pytest.raises(WorkersFailedError, match="ContentRefused"):
        await loop(says("worker", REFUSED), lambda work: True).run("the task")


async def test_every_draft_is_held_to_the_output_type_and_the_last_is_the_data() -> None:
    class Sum(BaseModel):
        total: int

    worker = says("worker", '{"total": 1}', '{"total": 2}')
    result = await loop(worker, lambda work: "2" in work, output_type=Sum).run("the task")
    assert result.data == Sum(total=2)


async def test_worker_and_judge_may_be_patterns() -> None:
    worker = Pipeline([says("a", "1", "2"), says("b", "one", "two")], name="writing")
    judge = Pipeline([says("c", "hm", "ah"), says("d", accepted("no"), accepted())], name="judging")
    result = await loop(worker, judge).run("the task")
    assert result.output == "two"
    assert [call.path for call in result.calls] == [
        *("writing/a", "writing/b", "judging/c", "judging/d"),
    ] * 2


async def test_who_stands_in_is_given_the_task() -> None:
    spare = says("spare", "saved")
    result = await loop(says("worker", REFUSED), lambda work: True, degrade_to=[spare]).run("t")
    assert (result.output, result.degraded_to) == ("saved", "spare")


def test_a_loop_that_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="max_rounds must be at least 1"):
        loop(says("a"), lambda work: True, max_rounds=0)
    with pytest.raises(TypeError, match="worker must be an Agent"):
        loop("a", lambda work: True)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="judge must be an Agent or a function"):
        loop(says("a"), "b")  # type: ignore[arg-type]
