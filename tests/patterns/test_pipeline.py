"""Pipeline: stages one after another or side by side, gates between them, and stages that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from pydantic import BaseModel

from pyagent_patterns import (
    Agent,
    Budget,
    BudgetError,
    DeclinedError,
    Pipeline,
    Review,
    RunAborted,
    StageError,
    Verdict,
    Wanted,
)
from pyagent_patterns.events import OutcomeSettled, PlanAccepted
from pyagent_providers import Message
from pyagent_providers.testing import ScriptedLLM, Step

from .members import REFUSED, accepted, asked, says
from .teams import questions, scripted


async def test_each_stage_sees_the_task_and_the_output_before_it_and_the_last_one_answers() -> None:
    a, b, c = says("a", "alpha"), says("b", "beta"), says("c", "gamma")
    result = await Pipeline([a, b, c]).run("the task")
    assert result.output == "gamma"
    assert result.status == "completed"
    assert asked(a) == "the task"
    assert '<output from="1-a">\nalpha\n</output>' in asked(b)
    assert "the task" in asked(c)
    assert "beta" in asked(c)
    assert "alpha" not in asked(c)
    assert [(o.id, o.worker, o.status) for o in result.outcomes] == [
        ("1-a", "a", "completed"),
        ("2-b", "b", "completed"),
        ("3-c", "c", "completed"),
    ]
    assert [(call.phase, call.task_id) for call in result.calls] == [
        ("stage", "1-a"),
        ("stage", "2-b"),
        ("stage", "3-c"),
    ]


async def test_a_stage_can_see_all_outputs_before_it() -> None:
    a, b, c = says("a", "alpha"), says("b", "beta"), says("c", "gamma")
    await Pipeline([a, b, c], sees="all").run("the task")
    assert asked(c).index("alpha") < asked(c).index("beta")


async def test_stages_side_by_side_see_the_same_run_at_once_and_are_all_seen_by_the_next() -> None:
    both = asyncio.Barrier(2)

    async def together(messages: Sequence[Message]) -> str:
        await asyncio.wait_for(both.wait(), 5)
        return f"saw {'alpha' in messages[-1].content}"

    last = says("last", "the end")
    crew = Pipeline([says("a", "alpha"), [Agent("l", together), Agent("r", together)], last])
    result = await crew.run("the task")
    assert result.output == "the end"
    assert '<output from="2-l">\nsaw True\n</output>' in asked(last)
    assert '<output from="2-r">\nsaw True\n</output>' in asked(last)
    assert "alpha" not in asked(last)
    assert result.outcomes[-1].assignment.depends_on == ("2-l", "2-r")


async def test_a_last_stage_side_by_side_answers_with_all_of_its_outputs() -> None:
    result = await Pipeline([says("a", "alpha"), [says("b", "beta"), says("c", "gamma")]]).run("t")
    assert result.output == "## b\n\nbeta\n\n## c\n\ngamma"
    assert result.status == "completed"


async def test_one_stage_alone_is_a_pipeline() -> None:
    result = await Pipeline([says("a", "alpha")]).run("the task")
    assert result.output == "alpha"


async def test_one_agent_may_be_several_stages() -> None:
    a = says("a", "first", "second", "third")
    result = await Pipeline([a, [a, says("b", "beta")], a]).run("the task")
    assert result.output == "third"
    assert [o.id for o in result.outcomes] == ["1-a", "2-a", "2-b", "3-a"]
    assert len({o.id for o in result.outcomes}) == 4
    assert [len(o.calls) for o in result.outcomes] == [1, 1, 1, 1]


async def test_a_stage_may_be_an_async_function_and_costs_nothing() -> None:
    async def shout(prompt: str) -> str:
        return "HELLO" if "hello" in prompt else "WHAT?"

    result = await Pipeline([says("a", "hello"), shout]).run("the task")
    assert result.output == "HELLO"
    assert result.unpriced == 0
    assert result.cost_by("agent")["shout"] == 0


async def test_a_function_that_raises_is_a_stage_that_fails() -> None:
    async def broken(prompt: str) -> str:
        raise RuntimeError("a bug")

    with pytest.raises(StageError, match=r"'broken' of 'pipeline' failed.*RuntimeError: a bug"):
        await Pipeline([broken]).run("the task")


# Gates


async def test_a_gate_sends_the_work_back_with_reasons_until_it_is_good_enough() -> None:
    writer = says("writer", "draft", "better draft")
    judge = says("judge", accepted("too short"), accepted())
    last = says("last", "done")
    result = await Pipeline([writer, Review(judge, criteria="be long"), last]).run("the task")
    first, again = questions(writer)
    assert first == "the task"
    assert "draft" in again
    assert "too short" in again
    assert "be long" in questions(judge)[0]
    assert "better draft" in asked(last)
    assert result.status == "completed"
    assert [(c.phase, c.agent) for c in result.calls] == [
        ("stage", "writer"),
        ("evaluate", "judge"),
        ("stage", "writer"),
        ("evaluate", "judge"),
        ("stage", "last"),
    ]
    assert len(result.outcomes[0].calls) == 4  # a gate's calls are part of what the stage costs


async def test_work_that_never_passes_its_gate_ends_the_run_and_is_kept() -> None:
    last = says("last")
    gate = Review(lambda work: Verdict(False, f"{work} is bad"), max_rounds=2)
    with pytest.raises(StageError, match=r"'w' of 'pipeline' rejected: .*three is bad") as caught:
        await Pipeline([says("w", "one", "two", "three"), gate, last]).run("the task")
    result = caught.value.result
    assert result is not None
    assert [(o.status, o.output) for o in result.outcomes] == [
        ("rejected", "three"),
        ("skipped", None),
    ]
    assert scripted(last).requests == []


async def test_a_gate_after_the_last_stage_guards_the_answer() -> None:
    crew = Pipeline([says("a", "alpha"), says("b", "bad", "good"), Review(lambda w: w != "bad")])
    assert (await crew.run("the task")).output == "good"
    crew = Pipeline(
        [[says("a", "good"), says("b", "bad", "bad")], Review(lambda w: w != "bad", max_rounds=1)]
    )
    with pytest.raises(StageError, match="'b' of 'pipeline' rejected"):
        await crew.run("the task")


async def test_every_output_of_a_stage_side_by_side_passes_the_gate_for_itself() -> None:
    seen: list[str] = []

    async def check(work: str) -> bool:
        seen.append(work)
        return work != "bad"

    last = says("last", "done")
    crew = Pipeline([[says("a", "good"), says("b", "bad", "mended")], Review(check), last])
    await crew.run("the task")
    assert sorted(seen) == ["bad", "good", "mended"]
    assert "mended" in asked(last)


async def test_several_gates_all_hold() -> None:
    crew = Pipeline(
        [says("a", "x", "xy", "xyz"), Review(lambda w: "y" in w), Review(lambda w: "z" in w)]
    )
    assert (await crew.run("the task")).output == "xyz"


async def test_a_budget_must_know_what_a_gate_costs_too() -> None:
    judge = Agent("judge", ScriptedLLM([]))  # it has no price
    crew = Pipeline([says("a", "alpha"), Review(judge), says("b")])
    with pytest.raises(BudgetError, match="no price is known for 'scripted'"):
        await crew.run("the task", budget=Budget(max_cost_usd=1))


# Stages that fail


async def test_a_failing_stage_ends_the_run_after_its_siblings_have_finished() -> None:
    last = says("last")
    crew = Pipeline([[says("a", REFUSED), says("b", Step("beta", delay=0.02))], last])
    with pytest.raises(
        StageError, match=r"stage 'a' of 'pipeline' refused: .*ContentRefused"
    ) as caught:
        await crew.run("the task")
    result = caught.value.result
    assert result is not None
    assert [(o.id, o.status, o.output) for o in result.outcomes] == [
        ("1-a", "refused", None),
        ("1-b", "completed", "beta"),
        ("2-last", "skipped", None),
    ]
    assert caught.value.outcome == result.outcomes[0]
    assert scripted(last).requests == []


async def test_a_stage_that_may_be_skipped_leaves_the_next_what_was_made_before_it() -> None:
    a, c = says("a", "alpha"), says("c", "gamma")
    lost = says("b", REFUSED, on_error="skip")
    result = await Pipeline([says("z", "zeta"), a, lost, c]).run("the task")
    assert result.output == "gamma"
    assert result.status == "partial"
    assert '<output from="2-a">\nalpha\n</output>' in asked(c)
    assert "zeta" not in asked(c)


async def test_a_first_stage_that_is_skipped_leaves_the_next_the_task() -> None:
    b = says("b", "beta")
    result = await Pipeline([says("a", REFUSED), b], on_error="skip").run("the task")
    assert asked(b) == "the task"
    assert result.output == "beta"


async def test_a_last_stage_that_is_skipped_has_no_answer_to_give() -> None:
    crew = Pipeline([says("a", REFUSED), says("b", "beta"), says("c", REFUSED)], on_error="skip")
    with pytest.raises(StageError, match="stage 'c' of 'pipeline' refused"):
        await crew.run("the task")


async def test_what_one_of_several_last_stages_made_is_a_partial_answer() -> None:
    result = await Pipeline([[says("a", REFUSED), says("b", "beta")]]).run("the task")
    assert result.output == "beta"
    assert result.status == "partial"


async def test_a_stage_that_must_not_fail_aborts_and_cancels_its_siblings() -> None:
    slow = says("slow", Step("never", delay=30))
    crew = Pipeline([[says("a", Step(REFUSED, delay=0.01), on_error="abort"), slow]])
    with pytest.raises(RunAborted) as caught:
        await crew.run("the task")
    assert caught.value.result is not None
    assert [o.status for o in caught.value.result.outcomes] == ["refused", "cancelled"]


async def test_a_stages_fallback_takes_its_place() -> None:
    a = says("a", REFUSED, fallback=says("spare", "from the spare"))
    b = says("b", "beta")
    result = await Pipeline([a, b]).run("the task")
    assert result.output == "beta"
    assert "from the spare" in asked(b)
    assert result.status == "completed"


async def test_who_stands_in_is_given_the_work_that_is_done() -> None:
    spare = says("spare", "saved")
    crew = Pipeline([says("a", "alpha"), says("b", REFUSED)], degrade_to=[spare])
    result = await crew.run("the task")
    assert (result.output, result.status, result.degraded_to) == ("saved", "partial", "spare")
    assert "alpha" in asked(spare)


# The answer


class Capital(BaseModel):
    city: str


async def test_only_the_last_stage_is_held_to_the_output_type() -> None:
    a = says("a", "alpha", '{"town": 1}', '{"city": "Rome"}')
    result = await Pipeline([a, a], output_type=Capital).run("the capital of Italy?")
    first, second, repair = questions(a)
    assert "schema" not in first
    assert "schema" in second
    assert '{"town": 1}' in repair
    assert result.data == Capital(city="Rome")


def test_an_answer_put_together_from_several_has_no_output_type() -> None:
    with pytest.raises(ValueError, match="put together from what several wrote"):
        Pipeline([[says("a"), says("b")]], output_type=Capital)


async def test_a_person_may_edit_the_answer_or_decline_it() -> None:
    async def edit(wanted: Wanted) -> str:
        assert (wanted.kind, wanted.who) == ("answer", "pipeline")
        return '{"city": "Oslo"}'

    def crew() -> Pipeline:
        a = says("a", '{"city": "Rome"}')
        return Pipeline([a], output_type=Capital, approve=["answer"])

    result = await crew().run("the task", human=edit)
    assert result.output == '{"city": "Oslo"}'
    assert result.data == Capital(city="Oslo")

    async def decline(wanted: Wanted) -> bool:
        return False

    with pytest.raises(DeclinedError):
        await crew().run("the task", human=decline)


async def test_nothing_is_kept_back_of_a_budget_for_an_answer_that_nobody_writes() -> None:
    crew = Pipeline([[says("a", "alpha"), says("b", "beta")]])
    result = await crew.run("the task", budget=Budget(max_calls=2))
    assert result.status == "completed"


async def test_enough_is_kept_for_the_last_stage() -> None:
    crew = Pipeline(
        [[says("a", "1"), says("b", "2"), says("c", "3")], says("z", "the end")], on_error="skip"
    )
    result = await crew.run("the task", budget=Budget(max_calls=3))
    assert result.output == "the end"
    assert len(result.calls) == 3


async def test_the_whole_plan_is_told_before_anything_runs() -> None:
    events: list[object] = []
    await Pipeline([says("a", "alpha"), says("b", "beta")]).run("t", on_event=events.append)
    [plan] = [e for e in events if isinstance(e, PlanAccepted)]
    assert [a.id for a in plan.assignments] == ["1-a", "2-b"]
    settled = [e.outcome.id for e in events if isinstance(e, OutcomeSettled)]
    assert settled == ["1-a", "2-b"]


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([], "stages is empty"),
        ([Review(lambda work: True)], "cannot begin with a Review"),
        ([[]], r"stages\[0\] is empty"),
        ([["not one"]], r"stages\[0\]\[0\] must be an Agent, a Pattern or an async function"),
        ([len], r"stages\[0\] must be an Agent"),
        ([[Agent("a", ScriptedLLM([])), Agent("a", ScriptedLLM([]))]], "two agents named 'a'"),
    ],
)
def test_stages_that_cannot_work_are_refused(stages: Sequence[object], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        Pipeline(stages)  # type: ignore[arg-type]


def test_what_a_stage_sees_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="'previous' output or 'all'; got 'some'"):
        Pipeline([says("a")], sees="some")  # type: ignore[arg-type]
