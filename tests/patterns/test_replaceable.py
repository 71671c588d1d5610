"""Planner, workers and synthesiser: agents, patterns or functions; and the wording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import pytest

from pyagent_patterns import Agent, Budget, Member, OrchestratorWorkers, Outcome, Pipeline, Prompts
from pyagent_patterns.plan import Assignment
from pyagent_patterns.testing import capture_trace
from pyagent_providers import OutputSchema
from pyagent_providers.testing import ScriptedLLM

from .crews import DONE, agent, asked, crew, item, planned, refused, written
from .teams import plan_text, questions

CALL = Decimal("0.00006")
PLAN = plan_text(item("a", "find it", id="x"))


async def plan(prompt: str) -> str:
    """Plans by rule."""
    return PLAN


async def a(prompt: str) -> str:
    """Knows the sea."""
    return f"a's {prompt}"


async def write(prompt: str) -> str:
    return f"from {len(prompt)} characters"


async def test_functions_do_every_part_for_free_in_the_ledger_and_in_the_trace() -> None:
    team = OrchestratorWorkers(planner=plan, workers=[a], synthesizer=write)
    with capture_trace() as trace:
        result = await team.run("the task", budget=Budget(max_cost_usd="0.01"))
    assert result.output.startswith("from ")
    assert [o.output for o in result.outcomes] == ["a's find it"]
    assert [(c.phase, c.agent, c.cost) for c in result.calls] == [
        ("plan", "plan", 0),
        ("worker", "a", 0),
        ("synthesis", "write", 0),
    ]
    assert (result.cost_estimate, result.unpriced) == (0, 0)
    assert result.plan_estimate == 0
    assert "pyagent.agent.a worker x" in trace.tree()


async def test_a_functions_docstring_is_what_the_planner_is_told_of_it() -> None:
    team = crew([PLAN], {}, worker=a)
    await team.run("the task")
    assert "- a: Knows the sea." in planned(team)[0]


async def test_an_object_that_can_be_awaited_on_is_a_function_too() -> None:
    class Archive:
        """Looks it up."""

        async def __call__(self, prompt: str) -> str:
            return "found"

    team = crew([plan_text(item("Archive"))], {}, worker=Archive())
    result = await team.run("the task")
    assert [o.output for o in result.outcomes] == ["found"]


async def test_one_worker_stands_beside_the_others() -> None:
    both = plan_text(item("a"), item("b"))
    team = crew([both], {"b": ["beta"]}, worker=a)
    result = await team.run("the task")
    assert [o.worker for o in result.outcomes] == ["a", "b"]


async def test_a_function_that_raises_fails_its_assignment_alone() -> None:
    async def broken(prompt: str) -> str:
        raise LookupError("no such shelf")

    team = crew([plan_text(item("broken"), item("b"))], {"b": ["beta"]}, worker=broken)
    result = await team.run("the task")
    assert [o.status for o in result.outcomes] == ["failed", "completed"]
    assert "LookupError: no such shelf" in (result.outcomes[0].error or "")


async def test_patterns_plan_work_and_write() -> None:
    planners = Pipeline([agent("draft", "a draft"), agent("final", PLAN)], name="planners")
    desk = crew([PLAN], {"a": ["alpha"]}, final=["the desk's"], name="a")
    writers = Pipeline([agent("w1", "rough"), agent("w2", "smooth")], name="writers")
    team = OrchestratorWorkers(planner=planners, workers=[desk], synthesizer=writers)
    with capture_trace() as trace:
        result = await team.run("the task")
    assert result.output == "smooth"
    assert "the desk's" in questions(agent_of(writers, 0))[0]
    assert set(result.cost_by("path")) == {
        "planners/draft", "planners/final", "a/planner", "a/a", "a/writer", "writers/w1",
        "writers/w2",
    }  # fmt: skip
    assert result.cost_estimate == 7 * CALL
    assert len({span.context.trace_id for span in trace.spans if span.context}) == 1


async def test_a_pattern_that_plans_badly_is_sent_the_faults() -> None:
    planners = Pipeline([agent("p", "prose", PLAN)], name="planners")
    team = crew([], {"a": ["alpha"]}, planner=planners)
    result = await team.run("the task")
    assert result.status == "completed"
    assert "the answer is not JSON" in questions(agent_of(planners, 0))[1]


async def test_a_planner_has_a_fallback_like_any_agent() -> None:
    planner = agent("first", refused(), fallback=agent("second", PLAN))
    result = await crew([], {"a": ["alpha"]}, planner=planner).run("the task")
    assert [c.agent for c in result.calls if c.phase == "plan"] == ["first", "second"]


def agent_of(pipeline: Pipeline, n: int) -> Agent:
    member = pipeline.members[n]
    assert isinstance(member, Agent)
    return member


async def test_an_agent_that_both_works_and_writes_is_held_to_the_form_when_it_writes() -> None:
    both = agent("a", "alpha", '{"n": 1}')
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    team = crew([PLAN], {}, worker=both, synthesizer=both, output_type=schema)
    result = await team.run("the task")
    assert [o.output for o in result.outcomes] == ["alpha"]
    assert result.data == {"n": 1}


async def test_the_wording_is_replaceable_each_prompt_alone() -> None:
    def planning(task: str, workers: Sequence[Member], schema: OutputSchema) -> str:
        return f"plan {task} for {[w.name for w in workers]}"

    def next_step(
        task: str, workers: Sequence[Member], schema: OutputSchema, outcomes: Sequence[Outcome]
    ) -> str:
        return f"step after {[o.id for o in outcomes]}"

    def replanning(
        task: str, workers: Sequence[Member], schema: OutputSchema, outcomes: Sequence[Outcome]
    ) -> str:
        return f"again after {[o.status for o in outcomes]}"

    def subtask(assignment: Assignment, outputs: Mapping[Assignment, str]) -> str:
        return f"do {assignment.subtask} with {list(outputs.values())}"

    def synthesis(task: str, outcomes: Sequence[Outcome], shortfalls: Sequence[str]) -> str:
        return f"write {[o.output for o in outcomes]}"

    prompts = Prompts(
        planning=planning,
        next_step=next_step,
        replanning=replanning,
        subtask=subtask,
        synthesis=synthesis,
    )
    two = plan_text(item("a", "one", id="x"), item("b", "two", id="y", depends_on=["x"]))
    redone = plan_text(item("a", "three", id="y"))
    full = crew(
        [two, redone], {"a": ["alpha", "gamma"], "b": [refused()]}, prompts=prompts, max_replans=1
    )
    await full.run("it")
    assert planned(full) == ["plan it for ['a', 'b']", "again after ['completed', 'refused']"]
    assert asked(full, "b") == ["do two with ['alpha']"]
    assert written(full) == "write ['alpha', 'gamma']"
    steps = crew([PLAN, DONE], {"a": ["alpha"]}, prompts=prompts, planning="iterative")
    await steps.run("it")
    assert planned(steps) == ["step after []", "step after ['x']"]


async def test_without_a_wording_of_ones_own_it_is_ours() -> None:
    team = crew([PLAN], {"a": ["alpha"]}, prompts=Prompts(subtask=lambda a, given: a.subtask))
    await team.run("the task")
    assert "Break the task into assignments" in planned(team)[0]


def test_a_team_without_a_planner_or_a_writer_is_refused() -> None:
    worker = Agent("w", ScriptedLLM([]))
    with pytest.raises(TypeError, match="give an orchestrator, an Agent that plans; or a planner"):
        OrchestratorWorkers(workers=[worker], synthesizer=worker)
    with pytest.raises(TypeError, match="an Agent that writes the answer; or a synthesizer"):
        OrchestratorWorkers(workers=[worker], planner=worker)
    with pytest.raises(TypeError, match="planner must be an Agent, a Pattern or an async function"):
        OrchestratorWorkers(orchestrator=worker, planner="", workers=[worker])  # type: ignore[arg-type]
