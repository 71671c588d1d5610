"""Agents that the planner defines for itself: made by the application, for one run."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pyagent_patterns import Agent, Budget, BudgetError, NewAgent, PlanError, asking
from pyagent_patterns.errors import AgentFactoryError
from pyagent_patterns.plan import Plan
from pyagent_patterns.testing import capture_trace
from pyagent_providers import OpenAILLM
from pyagent_providers.errors import ConfigurationError
from pyagent_providers.testing import ScriptedLLM, Step

from .crews import DONE, agent, asked, crew, item, new, planned, with_agents
from .teams import plan_text, questions, scripted

CALL = Decimal("0.00006")
POET = with_agents(new("poet", "writes verse", "You rhyme."), items=[item("poet", "a sonnet")])


class Factory:
    """Makes agents on scripts by name, and keeps what it was asked for and what it made."""

    def __init__(self, **scripts: list[str | Step]) -> None:
        self.scripts = scripts
        self.wanted: list[NewAgent] = []
        self.made: list[Agent] = []

    def __call__(self, wanted: NewAgent) -> Agent:
        self.wanted.append(wanted)
        self.made.append(
            agent(
                wanted.name,
                *self.scripts.get(wanted.name, []),
                system_prompt=wanted.prompt,
                description=wanted.role,
            )
        )
        return self.made[-1]


async def test_the_planner_defines_an_agent_and_gives_it_work() -> None:
    factory = Factory(poet=["a rose"])
    team = crew([POET], {"a": []}, agent_factory=factory)
    result = await team.run("the task")
    [question] = planned(team)
    assert "you may define up to 5 new agents" in question
    assert factory.wanted == [NewAgent("poet", "writes verse", "You rhyme.")]
    assert questions(factory.made[0]) == ["You rhyme.\na sonnet"]
    assert [(o.worker, o.output, o.cost) for o in result.outcomes] == [("poet", "a rose", CALL)]
    assert result.metadata["workers_used"] == ["poet"]
    assert result.cost_by("agent")["poet"] == CALL


async def test_the_plans_schema_has_agents_only_where_there_is_a_factory() -> None:
    for options in ({"agent_factory": Factory()}, {}):
        team = crew([plan_text(item("a"))], {"a": ["alpha"]}, **options)
        await team.run("the task")
        planner = team.members[0]
        assert isinstance(planner, Agent)
        schema = scripted(planner).requests[0].schema
        assert schema is not None
        assert ('"agents"' in schema.text) == bool(options)
        assert ("new agents" in planned(team)[0]) == bool(options)


def test_the_plans_schema_with_agents_is_within_what_strict_modes_accept() -> None:
    def objects(schema: Any) -> Iterator[Any]:
        if isinstance(schema, dict):
            if schema.get("type") == "object":
                yield schema
            for value in schema.values():
                yield from objects(value)

    schema = Plan.schema(["a"], new_agents=True)
    found = list(objects(schema.schema))
    assert schema.strict
    assert len(found) == 3
    for each in found:
        assert each["required"] == list(each["properties"])
        assert each["additionalProperties"] is False


async def test_without_a_factory_a_plan_that_defines_agents_is_not_valid() -> None:
    team = crew([POET, POET], {"a": []})
    with pytest.raises(PlanError, match="it defines 1 agents of its own; at most 0 are allowed"):
        await team.run("the task")


async def test_all_faults_of_new_agents_are_told_at_once_and_mended_once() -> None:
    bad = with_agents(
        new("a"),
        new("twice"),
        new("twice"),
        new("../etc"),
        new("silent", prompt="  "),
        new("idle", role=""),
        items=[item("nobody")],
    )
    factory = Factory(poet=["a rose"])
    team = crew([bad, POET], {"a": []}, agent_factory=factory)
    result = await team.run("the task")
    repair = planned(team)[1]
    assert "it defines 6 agents of its own; at most 5 are allowed" in repair
    assert "the agent 'a' is there already; use it, or another name" in repair
    assert "the agent 'twice' is defined 2 times" in repair
    assert "the agent's name '../etc' is not one" in repair
    assert "the agent 'silent' has an empty prompt" in repair
    assert "the agent 'idle' has an empty role" in repair
    assert "no worker 'nobody'" in repair
    assert [wanted.name for wanted in factory.wanted] == ["poet"]  # none of the bad plan's
    assert result.status == "completed"


async def test_an_agent_is_made_once_in_a_run_and_used_again_in_later_steps() -> None:
    factory = Factory(poet=["a rose", "a lily"])
    steps = [POET, plan_text(item("poet", "an ode")), DONE]
    team = crew(steps, {"a": []}, agent_factory=factory, planning="iterative")
    result = await team.run("the task")
    assert "- poet: writes verse" in planned(team)[1]
    assert len(factory.made) == 1
    assert [o.output for o in result.outcomes] == ["a rose", "a lily"]


async def test_no_more_agents_are_defined_in_a_run_than_the_cap() -> None:
    second = with_agents(new("painter"), items=[item("painter")])
    factory = Factory(poet=["a rose"])
    team = crew(
        [POET, second, second],
        {"a": []},
        agent_factory=factory,
        max_new_agents=1,
        planning="iterative",
    )
    result = await team.run("the task")
    first, step, _ = planned(team)
    assert "up to 1 new agents" in first
    assert "new agents" not in step
    assert "it defines 1 agents of its own; at most 0 are allowed" in result.shortfalls[0]
    assert [wanted.name for wanted in factory.wanted] == ["poet"]


async def test_two_runs_at_once_do_not_see_each_others_agents() -> None:
    async def planner(prompt: str) -> str:
        await asyncio.sleep(0.002)
        color = "red" if "red task" in prompt else "blue"
        other = "blue" if color == "red" else "red"
        assert f"- {other}" not in prompt
        if "first step" in prompt:
            return with_agents(new(color), items=[item(color)])
        return DONE

    def factory(wanted: NewAgent) -> Agent:
        return Agent(wanted.name, ScriptedLLM([Step(f"{wanted.name} paint", delay=0.005)]))

    team = crew(
        [], {"a": []}, planner=planner, agent_factory=factory, planning="iterative",
        final=["one", "two"],
    )  # fmt: skip
    red, blue = await asyncio.gather(team.run("red task"), team.run("blue task"))
    assert [o.output for o in red.outcomes] == ["red paint"]
    assert [o.output for o in blue.outcomes] == ["blue paint"]
    assert list(team.workers) == ["a"]


async def test_a_factory_that_raises_ends_the_run_with_what_it_was_asked_for() -> None:
    def factory(wanted: NewAgent) -> Agent:
        raise KeyError("no model for poets")

    team = crew([POET], {"a": []}, agent_factory=factory)
    with pytest.raises(
        AgentFactoryError,
        match="agent_factory made no 'poet', an agent that 'planner' defined: it raised KeyError",
    ) as caught:
        await team.run("the task")
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.result is not None
    assert caught.value.result.cost_estimate == CALL


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (None, "it returned None, not an Agent"),
        (Agent("muse", ScriptedLLM([])), "it named it 'muse'; the plan gives work to 'poet'"),
    ],
)
async def test_a_factory_must_give_the_agent_that_was_defined(made: object, why: str) -> None:
    team = crew([POET], {"a": []}, agent_factory=lambda wanted: made)
    with pytest.raises(AgentFactoryError, match=why):
        await team.run("the task")


async def test_a_new_agents_model_is_checked_before_any_of_the_plan_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    plan = with_agents(new("poet"), items=[item("a"), item("poet")])
    team = crew([plan], {"a": []}, agent_factory=lambda w: Agent(w.name, OpenAILLM("gpt-4o-mini")))
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        await team.run("the task")
    assert asked(team, "a") == []


async def test_under_a_budget_a_new_agent_without_a_price_is_refused_before_it_is_asked() -> None:
    unpriced = ScriptedLLM(["a rose"], model="nobody-knows")
    plan = with_agents(new("poet"), items=[item("a"), item("poet")])
    team = crew(
        [plan],
        {"a": []},
        agent_factory=lambda w: Agent(w.name, unpriced),
        budget=Budget(max_cost_usd="1"),
    )
    with pytest.raises(BudgetError, match="no price is known for 'nobody-knows'") as caught:
        await team.run("the task")
    assert unpriced.requests == []
    assert asked(team, "a") == []
    assert caught.value.result is not None
    assert len(caught.value.result.calls) == 1


async def test_a_fallback_of_a_new_agent_is_checked_like_itself() -> None:
    unpriced = Agent("backup", ScriptedLLM([], model="nobody-knows"))
    team = crew(
        [POET],
        {"a": []},
        agent_factory=lambda w: agent(w.name, "a rose", fallback=unpriced),
        budget=Budget(max_cost_usd="1"),
    )
    with pytest.raises(BudgetError, match="nobody-knows"):
        await team.run("the task")


async def test_a_new_agent_is_paid_for_from_the_runs_budget() -> None:
    plan = with_agents(new("poet"), items=[item("poet", f"verse {n}") for n in range(9)])
    team = crew(
        [plan],
        {"a": []},
        agent_factory=Factory(poet=["a rose"] * 9),
        budget=Budget(max_calls=5),
    )
    result = await team.run("the task")
    assert len(result.calls) == 5
    assert result.status == "partial"


async def test_on_going_on_the_agents_are_made_again_and_nothing_is_paid_twice(
    tmp_path: Path,
) -> None:
    file = tmp_path / "runs.db"
    plan = with_agents(
        new("poet"),
        items=[item("poet", "verse 1", id="v1"), item("poet", "verse 2", depends_on=["v1"])],
    )
    hangs = Factory(poet=["a rose", Step("never", delay=60)])
    before = crew([plan], {"a": []}, agent_factory=hangs)
    running = asyncio.create_task(before.run("the task", run_id="r", durable=file))
    while not hangs.made or len(scripted(hangs.made[0]).requests) < 2:
        await asyncio.sleep(0.002)
    running.cancel()
    await asyncio.wait([running])

    factory = Factory(poet=["a lily"])
    result = await crew([], {"a": []}, agent_factory=factory).run(
        "the task", run_id="r", durable=file
    )
    assert [wanted.name for wanted in factory.wanted] == ["poet"]
    assert [o.output for o in result.outcomes] == ["a rose", "a lily"]
    assert [c.replayed for c in result.calls] == [True, True, False, False]
    assert result.cost_estimate == 4 * CALL


async def test_a_new_agent_is_in_the_trace_like_any_other() -> None:
    team = crew([POET], {"a": []}, agent_factory=Factory(poet=["a rose"]))
    with capture_trace() as trace:
        await team.run("the task")
    assert "pyagent.agent.poet worker t1\n    chat poet-model" in trace.tree()


async def test_agents_of_finished_runs_are_not_kept_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asking, "_MOST_LABELS", 8)
    factory = Factory()
    team = crew([], {"a": []}, agent_factory=factory, planner=planner_of_poets, final=["x"] * 30)
    for _ in range(30):
        factory.scripts["poet"] = ["a rose"]
        await team.run("the task")
    poets = [weakref.ref(made.llm) for made in factory.made]
    factory.made.clear()
    gc.collect()
    assert sum(poet() is not None for poet in poets) <= 8


async def planner_of_poets(prompt: str) -> str:
    return POET


def test_the_cap_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="max_new_agents must be at least 1; got 0"):
        crew([], {"a": []}, max_new_agents=0)
