"""What becomes of a run when a question comes to nothing: policies, fallbacks, standing in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Unpack

import pytest

from pyagent_patterns import (
    Agent,
    AgentError,
    OrchestratorWorkers,
    RetryPolicy,
    RunAborted,
    RunTimeoutError,
    Timeouts,
    Traffic,
    WorkersFailedError,
)
from pyagent_patterns.base import Options
from pyagent_patterns.testing import capture_trace
from pyagent_providers.errors import AuthenticationError, ContentRefusedError
from pyagent_providers.testing import Answer, ScriptedLLM, Step
from tests.patterns.teams import item, plan_text, questions

from .solo import PRICE, Solo, cut_off

DENIED = AuthenticationError("bad key", provider="p", model="m")
REFUSED = ContentRefusedError("not that", provider="p", model="m")
CHAIN = plan_text(item("a", id="ta"), item("b", id="tb", depends_on=["ta"]), item("c", id="tc"))


def crew(
    workers: Mapping[str, Agent],
    *,
    plan: str = CHAIN,
    final: Answer | Step = "the final answer",
    **policies: Unpack[Options],
) -> OrchestratorWorkers:
    return OrchestratorWorkers(
        orchestrator=Agent("planner", ScriptedLLM([plan, final], price=PRICE)),
        workers=list(workers.values()),
        **{"traffic": Traffic(), **policies},
    )


def agents(**answers: Sequence[Answer | Step]) -> dict[str, Agent]:
    return {name: Agent(name, ScriptedLLM(steps, price=PRICE)) for name, steps in answers.items()}


async def test_by_default_what_depends_on_a_failure_is_skipped_and_the_answer_told() -> None:
    team = crew(agents(a=[DENIED], b=[], c=["gamma"]))
    result = await team.run("the task")
    assert result.status == "partial"
    assert [o.status for o in result.outcomes] == ["failed", "skipped", "completed"]
    assert "say in the answer what is missing:\n- a (ta), failed" in questions(team.synthesizer)[-1]


async def test_skip_lets_what_depends_on_a_failure_go_on_without_it() -> None:
    team = crew(agents(a=[DENIED], b=["beta"], c=["gamma"]), on_error="skip")
    result = await team.run("the task")
    assert [o.status for o in result.outcomes] == ["failed", "completed", "completed"]
    assert questions(team.workers["b"])[-1].count("do b's part") == 1
    assert result.status == "partial"


async def test_an_agents_own_policy_comes_before_the_runs() -> None:
    workers = agents(b=["beta"], c=["gamma"])
    first = Agent("a", ScriptedLLM([DENIED]), on_error="skip")
    result = await crew({"a": first, **workers}, on_error="abort").run("the task")
    assert [o.status for o in result.outcomes] == ["failed", "completed", "completed"]


async def test_abort_cancels_the_siblings_and_raises_with_what_is_done() -> None:
    slow = ScriptedLLM([Step("never", delay=60)], price=PRICE)
    plan = plan_text(item("a", id="ta"), item("b", id="tb", depends_on=["ta"]), item("c", id="tc"))
    team = crew(
        {**agents(a=["alpha"], b=[DENIED]), "c": Agent("c", slow)}, plan=plan, on_error="abort"
    )
    with pytest.raises(RunAborted, match="the run was aborted: agent 'b'") as aborted:
        await team.run("the task")
    assert isinstance(aborted.value.__cause__, AgentError)
    result = aborted.value.result
    assert result is not None
    assert [o.status for o in result.outcomes] == ["completed", "failed", "cancelled"]
    assert result.outcomes[0].output == "alpha"
    assert [c.status for c in result.calls if c.agent == "c"] == ["cancelled"]
    assert len(asyncio.all_tasks()) == 1


async def test_retry_asks_the_whole_question_once_more() -> None:
    policy = RetryPolicy(max_attempts=1)
    team = crew(agents(a=["", "alpha"], b=["beta"], c=["gamma"]), on_error="retry", retry=policy)
    result = await team.run("the task")
    assert result.status == "completed"
    assert [(c.status, c.error) for c in result.outcomes[0].calls] == [
        ("failed", "EmptyAnswerError"),
        ("ok", None),
    ]


async def test_a_fallback_agent_does_the_assignment_with_its_own_model_and_prompt() -> None:
    stand_in = Agent("senior", ScriptedLLM(["alpha"], model="big", price=PRICE), system_prompt="S")
    first = Agent("a", ScriptedLLM([DENIED], price=PRICE), fallback=stand_in)
    team = crew({"a": first, **agents(b=["beta"], c=["gamma"])})
    with capture_trace() as trace:
        result = await team.run("the task")
    assert result.status == "completed"
    outcome = result.outcomes[0]
    assert (outcome.worker, outcome.output) == ("a", "alpha")
    assert [(c.agent, c.model, c.status) for c in outcome.calls] == [
        ("a", "scripted", "failed"),
        ("senior", "big", "ok"),
    ]
    assert (
        questions(stand_in) == [questions(first)[0].replace("\n", "", 0)]
        or "S" in (questions(stand_in)[0])
    )
    names = [span.name for span in trace.spans if span.name.startswith("pyagent.agent.")]
    assert names.count("pyagent.agent.senior") == 1


async def test_the_planners_fallback_plans_and_also_answers_in_that_role() -> None:
    plan = plan_text(item("a"))
    stand_in = Agent("senior", ScriptedLLM([plan, "from the senior"]), system_prompt="JSON only")
    planner = Agent("planner", ScriptedLLM([DENIED, DENIED]), fallback=stand_in)
    team = OrchestratorWorkers(
        orchestrator=planner, workers=list(agents(a=["alpha"]).values()), traffic=Traffic()
    )
    result = await team.run("the task")
    assert result.output == "from the senior"
    assert "JSON only" not in questions(stand_in)[-1]


@pytest.mark.parametrize(
    ("answer", "status"), [("", "empty"), (REFUSED, "refused"), (DENIED, "failed")]
)
async def test_an_answer_that_is_none_is_an_outcome_of_its_own(answer: Answer, status: str) -> None:
    result = await crew(agents(a=[answer], b=[], c=["gamma"])).run("the task")
    assert [o.status for o in result.outcomes] == [status, "skipped", "completed"]
    assert result.to_dict()["outcomes"][0]["status"] == status  # type: ignore[index]


async def test_a_truncated_answer_is_used_and_never_a_silent_success() -> None:
    team = crew(agents(a=[cut_off("alph")], b=["beta"], c=["gamma"]))
    result = await team.run("the task")
    outcome = result.outcomes[0]
    assert (outcome.status, outcome.output) == ("truncated", "alph")
    assert outcome.error == "the answer was cut off at its token limit (max_tokens)"
    assert "alph" in questions(team.workers["b"])[-1]
    asked = questions(team.synthesizer)[-1]
    assert "alph" in asked
    assert "cut off before their end. Say so in the answer where it matters:\n- a (ta)" in asked
    assert result.status == "partial"
    assert "a: truncated: the answer was cut off" in str(result)


async def test_a_truncated_final_answer_makes_the_result_partial() -> None:
    team = crew(agents(a=["alpha"], b=["beta"], c=["gamma"]), final=cut_off("the fin"))
    result = await team.run("the task")
    assert (result.status, result.output) == ("partial", "the fin")
    assert {o.status for o in result.outcomes} == {"completed"}


async def test_a_single_agent_stands_in_and_is_given_what_is_paid_for() -> None:
    single = Agent("single", ScriptedLLM(["plain answer"], price=PRICE))
    team = crew(agents(a=["alpha"], b=["beta"], c=[DENIED]), final=DENIED, degrade_to=[single])
    with capture_trace() as trace:
        result = await team.run("the task")
    assert (result.output, result.status, result.degraded_to) == (
        "plain answer",
        "partial",
        "single",
    )
    [asked] = questions(single)
    assert "the task" in asked
    assert "alpha" in asked
    assert "beta" in asked
    assert [o.output for o in result.outcomes] == ["alpha", "beta", None]
    assert len({span.context.trace_id for span in trace.spans if span.context}) == 1


async def test_an_answer_of_who_stands_in_is_partial_though_all_work_was_done() -> None:
    single = Agent("single", ScriptedLLM(["plain answer"]))
    team = crew(agents(a=["alpha"], b=["beta"], c=["c"]), final=DENIED, degrade_to=[single])
    result = await team.run("the task")
    assert {o.status for o in result.outcomes} == {"completed"}
    assert result.status == "partial"


async def test_the_next_stands_in_when_the_first_fails_too_and_a_pattern_can() -> None:
    broken = Agent("broken", ScriptedLLM([DENIED]))
    inner_plan = plan_text(item("x", id="ta"))
    simpler = OrchestratorWorkers(
        orchestrator=Agent("lead", ScriptedLLM([inner_plan, "from the simpler one"])),
        workers=[Agent("x", ScriptedLLM(["xi"], price=PRICE))],
    )
    team = crew(agents(a=["alpha"], b=[""], c=[DENIED]), final=DENIED, degrade_to=[broken, simpler])
    result = await team.run("the task")
    assert result.output == "from the simpler one"
    assert result.degraded_to == "orchestrator_workers"
    # What was done before is not lost, though an inner assignment has the same id.
    assert [(o.id, o.worker, o.output) for o in result.outcomes] == [
        ("ta", "a", "alpha"),
        ("tb", "b", None),
        ("tc", "c", None),
        ("ta", "x", "xi"),
    ]
    assert sum(o.cost or 0 for o in result.outcomes) < result.cost_estimate
    assert sum(call.cost or 0 for call in result.calls) == result.cost_estimate


async def test_when_nobody_can_stand_in_the_first_failure_is_raised() -> None:
    broken = Agent("broken", ScriptedLLM([DENIED]))
    team = crew(agents(a=[DENIED], b=[], c=[DENIED]), degrade_to=[broken])
    with pytest.raises(WorkersFailedError) as failed:
        await team.run("the task")
    assert failed.value.result is not None
    assert [call.agent for call in failed.value.result.calls][-1] == "broken"


async def test_a_run_that_takes_too_long_ends_with_what_is_done() -> None:
    slow = Agent("c", ScriptedLLM([Step("never", delay=60)]))
    team = crew({**agents(a=["alpha"], b=["beta"]), "c": slow}, timeouts=Timeouts(run=0.15))
    with pytest.raises(RunTimeoutError, match=r"took longer than 0\.15 s") as late:
        await team.run("the task")
    assert late.value.result is not None
    assert [o.output for o in late.value.result.outcomes] == ["alpha", "beta", None]
    assert len(asyncio.all_tasks()) == 1


async def test_an_outcome_carries_the_workers_own_confidence_and_the_result_the_lowest() -> None:
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string"}, "confidence": {"type": "number"}},
    }
    sure = Agent(
        "a", ScriptedLLM([json.dumps({"answer": "x", "confidence": 0.9})]), output_schema=schema
    )
    unsure = Agent(
        "b", ScriptedLLM([json.dumps({"answer": "y", "confidence": 0.4})]), output_schema=schema
    )
    claims = Agent("c", ScriptedLLM([json.dumps({"confidence": 0.1})]))  # its schema has none
    team = crew({"a": sure, "b": unsure, "c": claims})
    result = await team.run("the task")
    assert [o.confidence for o in result.outcomes] == [0.9, 0.4, None]
    assert result.confidence == 0.4
    assert result.to_dict()["confidence"] == 0.4


@pytest.mark.parametrize("said", ["not JSON", "[]", '{"confidence": "very"}', '{"confidence": 7}'])
async def test_a_confidence_that_is_none_is_left_out(said: str) -> None:
    schema = {"type": "object", "properties": {"confidence": {"type": "number"}}}
    agent = Agent("a", ScriptedLLM([said]), output_schema=schema)
    team = crew({"a": agent}, plan=plan_text(item("a")))
    assert (await team.run("the task")).outcomes[0].confidence is None


def test_policies_that_are_none_are_refused() -> None:
    agent = Agent("a", ScriptedLLM([]))
    with pytest.raises(ValueError, match="on_error must be one of"):
        Solo(agent, on_error="explode")  # type: ignore[typeddict-item]
    with pytest.raises(TypeError, match="degrade_to must have Agents and Patterns; got 'x'"):
        Solo(agent, degrade_to=["x"])  # type: ignore[list-item]
