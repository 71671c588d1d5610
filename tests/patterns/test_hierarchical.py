"""Hierarchical: a manager, teams with subtasks of their own, and teams that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from pyagent_patterns import (
    Agent,
    AgentError,
    Budget,
    DeclinedError,
    Hierarchical,
    Parallel,
    Pipeline,
    PlanError,
    RetryPolicy,
    Team,
    Timeouts,
    Wanted,
    WorkersFailedError,
)
from pyagent_patterns.base import Member
from pyagent_patterns.testing import capture_trace
from pyagent_providers.errors import RateLimitError
from pyagent_providers.testing import ScriptedLLM, Step

from .members import REFUSED, asked, says
from .teams import QUICK, item, plan_text, questions


def group(
    name: str, *answers: Any, description: str = "", lead: Sequence[Any] = (), **policies: Any
) -> Team:
    """A team of one worker, "<name>-worker", that gives these answers."""
    worker = f"{name}-worker"
    plan = plan_text(item(worker, f"the details of {name}"))
    return Team(
        name,
        says(f"{name}-lead", *(lead or (plan, f"the answer of {name}"))),
        [says(worker, *(answers or (f"{name} done",)))],
        description,
        **policies,
    )


def lead(team: Member) -> Agent:
    assert isinstance(team, Team)
    assert isinstance(team.orchestrator, Agent)
    return team.orchestrator


def boss(*plan: dict[str, object], final: str = "the final answer") -> Agent:
    return says("boss", plan_text(*plan), final)


async def test_each_team_gets_its_own_subtask_and_the_manager_answers_from_what_they_made() -> None:
    crew = Hierarchical(
        manager=boss(item("backend", "build the server"), item("frontend", "draw the page")),
        teams=[group("backend", description="does servers"), group("frontend")],
    )
    result = await crew.run("build a shop")
    assert result.output == "the final answer"
    assert result.status == "completed"
    plan, synthesis = questions(crew.manager)
    assert "- backend: does servers" in plan
    assert "build a shop" in plan
    assert "backend-worker" not in plan  # how a team does it is its lead's affair
    backend, frontend = (questions(lead(team))[0] for team in crew.teams.values())
    assert "build the server" in backend
    assert "draw the page" not in backend
    assert "build a shop" not in backend
    assert "draw the page" in frontend
    assert "the answer of backend" in synthesis
    assert "the answer of frontend" in synthesis
    assert "build a shop" in synthesis


async def test_the_managers_plan_is_the_phase_manage_in_ledger_and_spans() -> None:
    crew = Hierarchical(manager=boss(item("a")), teams=[group("a")])
    with capture_trace() as trace:
        result = await crew.run("the task")
    assert [(call.phase, call.path) for call in result.calls] == [
        ("manage", "boss"),
        ("plan", "a/a-lead"),
        ("worker", "a/a-worker"),
        ("synthesis", "a/a-lead"),
        ("synthesis", "boss"),
    ]
    assert trace.tree() == (
        "pyagent.pattern.hierarchical\n"
        "  pyagent.agent.boss manage\n"
        "    chat boss-model\n"
        "  pyagent.pattern.team t1\n"
        "    pyagent.agent.a-lead plan\n"
        "      chat a-lead-model\n"
        "    pyagent.agent.a-worker worker t1\n"
        "      chat a-worker-model\n"
        "    pyagent.agent.a-lead synthesis\n"
        "      chat a-lead-model\n"
        "  pyagent.agent.boss synthesis\n"
        "    chat boss-model"
    )
    assert result.cost_by("phase")["manage"] == result.calls[0].cost


async def test_a_team_starts_when_those_it_depends_on_are_done_and_is_given_their_answers() -> None:
    crew = Hierarchical(
        manager=boss(item("b", "use it", depends_on=["a"]), item("a", "make it")),
        teams=[group("a"), group("b")],
    )
    result = await crew.run("the task")
    assert result.metadata["workers_used"][0] == "a"
    assert (
        '<output from="a" id="t2">\nthe answer of a\n</output>'
        in questions(lead(crew.teams["b"]))[0]
    )


async def test_three_levels_are_three_hierarchies_deep() -> None:
    inner = Hierarchical(
        name="engineering",
        description="engineers",
        manager=says("vp", plan_text(item("backend", "the server")), "engineered"),
        teams=[group("backend")],
    )
    crew = Hierarchical(manager=boss(item("engineering", "all of it")), teams=[inner])
    result = await crew.run("the task")
    assert result.output == "the final answer"
    assert [(call.path, call.phase) for call in result.calls] == [
        ("boss", "manage"),
        ("engineering/vp", "manage"),
        ("engineering/backend/backend-lead", "plan"),
        ("engineering/backend/backend-worker", "worker"),
        ("engineering/backend/backend-lead", "synthesis"),
        ("engineering/vp", "synthesis"),
        ("boss", "synthesis"),
    ]
    assert [(o.path, o.cost) for o in result.outcomes] == [
        ("engineering", 5 * result.calls[0].cost),
        ("engineering/backend", 3 * result.calls[0].cost),
        ("engineering/backend/backend-worker", result.calls[0].cost),
    ]


async def test_the_synthesis_is_told_of_a_team_that_failed_and_the_others_finish() -> None:
    crew = Hierarchical(
        manager=boss(item("a", "part a"), item("b", "part b")),
        teams=[group("a", REFUSED), group("b")],
    )
    result = await crew.run("the task")
    assert (result.output, result.status) == ("the final answer", "partial")
    a, b, *_ = result.outcomes
    assert (a.status, b.status) == ("failed", "completed")
    assert "a-worker" in str(a.error)
    synthesis = questions(crew.manager)[-1]
    assert "- a (t1), failed: part a" in synthesis
    assert "the answer of b" in synthesis


async def test_when_every_team_fails_there_is_nothing_to_answer_from() -> None:
    crew = Hierarchical(manager=boss(item("a")), teams=[group("a", REFUSED)])
    with pytest.raises(WorkersFailedError, match="a-worker") as caught:
        await crew.run("the task")
    assert caught.value.result is not None
    assert [call.path for call in caught.value.result.calls] == [
        *("boss", "a/a-lead", "a/a-worker"),
    ]


async def test_a_lead_that_cannot_plan_fails_its_team_only() -> None:
    crew = Hierarchical(
        manager=boss(item("a"), item("b")),
        teams=[group("a", lead=["no plan", "still none"]), group("b")],
    )
    result = await crew.run("the task")
    assert [o.status for o in result.outcomes[:2]] == ["failed", "completed"]
    assert "no valid plan" in str(result.outcomes[0].error)


async def test_a_manager_that_plans_for_a_team_there_is_not_is_told() -> None:
    manager = says("boss", plan_text(item("sales")), plan_text(item("a")), "done")
    result = await Hierarchical(manager=manager, teams=[group("a")]).run("the task")
    assert result.output == "done"
    assert "no worker 'sales'" in questions(manager)[1]
    manager = says("boss", plan_text(item("sales")), plan_text(item("sales")))
    with pytest.raises(PlanError):
        await Hierarchical(manager=manager, teams=[group("a")]).run("the task")


async def test_any_pattern_agent_or_function_is_a_team() -> None:
    async def lookup(prompt: str) -> str:
        return f"looked up {prompt}"

    crew = Hierarchical(
        manager=boss(item("writers"), item("critics"), item("alone"), item("lookup", "it")),
        teams=[
            Pipeline([says("w", "written")], name="writers", description="write"),
            Parallel([says("c", "criticised"), says("d", "dissected")], name="critics"),
            says("alone", "all alone"),
            lookup,
        ],
    )
    result = await crew.run("the task")
    synthesis = questions(crew.manager)[-1]
    for made in ("written", "criticised", "dissected", "all alone", "looked up it"):
        assert made in synthesis
    assert "- writers: write" in questions(crew.manager)[0]
    assert result.status == "completed"


# What a team may be told for itself


async def test_a_teams_budget_holds_in_it_and_fails_only_it() -> None:
    crew = Hierarchical(
        manager=boss(item("a"), item("b")),
        teams=[group("a", budget=Budget(max_calls=1)), group("b")],
    )
    result = await crew.run("the task")
    assert [o.status for o in result.outcomes[:2]] == ["failed", "completed"]
    assert "max_calls" in str(result.outcomes[0].error)
    assert sum(call.path.startswith("a/") for call in result.calls) <= 1


async def test_a_teams_time_is_its_own() -> None:
    slow = group("a", Step("late", delay=30), timeouts=Timeouts(run=0.05))
    crew = Hierarchical(manager=boss(item("a"), item("b")), teams=[slow, group("b")])
    result = await crew.run("the task")
    assert [o.status for o in result.outcomes[:2]] == ["failed", "completed"]
    assert "took longer than 0.05 s" in str(result.outcomes[0].error)
    assert [call.status for call in result.calls if call.path == "a/a-worker"] == ["cancelled"]


async def test_a_team_retries_as_it_is_told_and_else_as_the_run_does() -> None:
    limited = [RateLimitError("slow down", provider="p", model="m"), "a done"]
    once = RetryPolicy(max_attempts=1)

    async def status(**policies: Any) -> str:
        crew = Hierarchical(
            manager=boss(item("a"), item("b")),
            teams=[group("a", *limited, **policies), group("b")],
            retry=once,
        )
        return (await crew.run("the task")).outcomes[0].status

    assert await status() == "failed"
    assert await status(retry=QUICK) == "completed"


async def test_a_person_is_asked_about_the_managers_plan_and_about_a_teams() -> None:
    seen: list[tuple[str, str]] = []

    async def approve(wanted: Wanted) -> bool:
        seen.append((wanted.kind, wanted.who))
        return wanted.who != "b/b-lead"

    crew = Hierarchical(
        manager=boss(item("a"), item("b")),
        teams=[group("a"), group("b", approve=["plan"])],
        approve=["plan", "answer"],
    )
    result = await crew.run("the task", human=approve)
    assert seen == [("plan", "boss"), ("plan", "b/b-lead"), ("answer", "hierarchical")]
    assert [o.status for o in result.outcomes[:2]] == ["completed", "failed"]
    assert "declined" in str(result.outcomes[1].error)

    async def decline(wanted: Wanted) -> bool:
        return False

    crew = Hierarchical(manager=boss(item("a")), teams=[group("a")], approve=["plan"])
    with pytest.raises(DeclinedError):
        await crew.run("the task", human=decline)


async def test_max_parallel_is_how_many_teams_work_at_once() -> None:
    running = most = 0

    def member(name: str) -> Any:
        async def work(prompt: str) -> str:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.005)
            running -= 1
            return name

        work.__name__ = name
        return work

    names = ["a", "b", "c", "d"]
    crew = Hierarchical(
        manager=boss(*map(item, names)), teams=[member(n) for n in names], max_parallel=2
    )
    await crew.run("the task")
    assert most == 2


async def test_the_answer_is_the_synthesizers_where_there_is_one_in_the_form_asked_for() -> None:
    class Done(BaseModel):
        done: bool

    manager = says("boss", plan_text(item("a")))
    writer = says("writer", '{"done": true}', system_prompt="You write.")
    crew = Hierarchical(manager=manager, teams=[group("a")], synthesizer=writer, output_type=Done)
    result = await crew.run("the task")
    assert result.data == Done(done=True)
    assert asked(writer).startswith("You write.")


async def test_a_manager_that_gives_no_answer_fails_the_run_and_loses_no_work() -> None:
    crew = Hierarchical(
        manager=Agent("boss", ScriptedLLM([plan_text(item("a")), REFUSED])), teams=[group("a")]
    )
    with pytest.raises(AgentError, match="agent 'boss'") as caught:
        await crew.run("the task")
    assert caught.value.result is not None
    assert caught.value.result.outcomes[0].output == "the answer of a"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"teams": []}, "teams is empty"),
        ({"teams": [says("a"), says("a")]}, "two agents named 'a'"),
        ({"teams": ["a"]}, r"teams\[0\] must be an Agent"),
        ({"manager": Pipeline([says("a")])}, "manager must be an Agent"),
        ({"max_parallel": 0}, "max_parallel must be at least 1"),
    ],
)
def test_teams_that_cannot_work_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        Hierarchical(**{"manager": says("boss"), "teams": [says("a")], **options})


def test_a_lead_that_is_no_agent_is_refused() -> None:
    with pytest.raises(TypeError, match="lead must be an Agent"):
        Team("team", Pipeline([says("a")]), [says("b")])  # type: ignore[arg-type]
