"""Runs on a journal file: gone on with, taken over, cancelled, forked, replayed, cleared away."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from pyagent_patterns import Agent, OrchestratorWorkers, Pattern
from pyagent_patterns.durable import Runs
from pyagent_patterns.errors import (
    InputChanged,
    JournalError,
    LeaseLost,
    RunBusyError,
    RunCancelled,
    UnknownRunError,
    WorkersFailedError,
)
from pyagent_patterns.events import Event, StepEnded, StepStarted
from pyagent_patterns.run import RunContext
from pyagent_patterns.testing import capture_trace
from pyagent_providers import Completion, semconv
from pyagent_providers.errors import AuthenticationError, OverloadedError
from pyagent_providers.testing import Answer, ScriptedLLM, Step
from pyagent_providers.types import Request
from tests.patterns.teams import PRICE, item, plan_text, questions, scripted, team

PLAN = plan_text(item("a", id="x"), item("b", id="y", depends_on=["x"]))
CALL = Decimal("0.00006")  # of one scripted call


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


async def cut_off(
    crew: OrchestratorWorkers, runs: Runs, *, while_asking: str, run_id: str = "r"
) -> None:
    """Run until a worker is being asked, then cancel, as a process that is told to stop."""
    running = asyncio.create_task(crew.run("the task", run_id=run_id, durable=runs))
    while not scripted(crew.workers[while_asking]).requests:
        await asyncio.sleep(0.002)
    running.cancel()
    await asyncio.wait([running])


class Held(ScriptedLLM):
    """Answers like a worker of `team` when it is let go."""

    def __init__(self, worker: str, answer: str) -> None:
        super().__init__([answer], model=f"{worker}-model", price=PRICE)
        self.asked, self.let_go = asyncio.Event(), asyncio.Event()

    async def _complete(self, request: Request) -> Completion:
        self.asked.set()
        await self.let_go.wait()
        return await super()._complete(request)


def hanging(worker: str, answers: Mapping[str, list[Answer | Step]]) -> OrchestratorWorkers:
    return team([PLAN], {**answers, worker: [Step("never", delay=60)]})


async def test_a_run_by_path_is_kept_and_gives_the_same_again_unpaid(file: Path) -> None:
    crew = team([PLAN], {"a": ["alpha"], "b": ["beta"]})
    steps: list[bool] = []

    def look(event: Event) -> None:
        if isinstance(event, StepEnded):
            steps.append(event.replayed)

    first = await crew.run("the task", run_id="r", durable=file, on_event=look)
    # The scripts are used up.
    again = await crew.run("the task", run_id="r", durable=str(file), on_event=look)
    assert steps == [False] * 4 + [True] * 4
    assert first.resumed is None
    assert again.resumed is not None
    assert (again.resumed.execution, again.resumed.replayed, again.resumed.doubtful) == (2, 4, ())
    assert (again.output, again.cost_estimate) == (first.output, first.cost_estimate)
    assert [o.to_dict() for o in again.outcomes] == [o.to_dict() for o in first.outcomes]
    assert all(call.replayed for call in again.calls)


async def test_nothing_is_written_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await team([PLAN], {"a": ["alpha"], "b": ["beta"]}).run("the task")
    with Runs("runs.db") as runs:
        assert await runs.list() == []
        with pytest.raises(UnknownRunError, match="no run 'r'"):
            await runs.get("r")
    assert list(tmp_path.iterdir()) == []


async def test_an_answer_is_on_disk_before_the_pattern_sees_it(file: Path) -> None:
    on_disk: dict[str, str] = {}

    def look(event: Event) -> None:
        if isinstance(event, StepEnded | StepStarted):
            with sqlite3.connect(file) as db:
                rows = db.execute("SELECT key, state FROM call").fetchall()
            on_disk[f"{type(event).__name__} {event.phase}"] = str(sorted(rows))

    await team([plan_text(item("a", id="x"))], {"a": ["alpha"]}).run(
        "the task", durable=file, on_event=look
    )
    assert on_disk["StepEnded plan"] == "[('plan/ask:0', 'done')]"
    assert "('work/x/ask:0', 'done')" in on_disk["StepEnded worker"]
    assert "('synthesis/ask:0', 'done')" in on_disk["StepEnded synthesis"]


async def test_what_was_sent_and_not_answered_is_asked_again_and_named(file: Path) -> None:
    with Runs(file) as runs:
        await cut_off(hanging("b", {"a": ["alpha"]}), runs, while_asking="b")
        [run] = await runs.list()
        assert (run.status, run.is_owned, run.cost) == ("running", False, 2 * CALL)

        crew = team([], {"a": [], "b": ["beta"]})
        result = await runs.resume("r", crew)

        assert result.status == "completed"
        assert [o.output for o in result.outcomes] == ["alpha", "beta"]
        assert [c.replayed for c in result.calls] == [True, True, False, False]
        assert result.resumed is not None
        assert result.resumed.doubtful == ("work/y/ask:0",)
        assert result.to_dict()["resumed"] == {
            "execution": 2,
            "replayed": 2,
            "doubtful": ["work/y/ask:0"],
        }
        detail = await runs.get("r")
        assert [(c.key, c.begun) for c in detail.doubtful] == [("work/y/ask:0", 2)]
        assert detail.cost == result.cost_estimate == detail.run.cost == 4 * CALL


async def test_a_replay_is_a_trace_of_its_own_linked_to_the_first(file: Path) -> None:
    crew = team([PLAN], {"a": ["alpha"], "b": ["beta"]})
    with capture_trace() as before:
        first = await crew.run("the task", run_id="r", durable=file)
    with capture_trace() as after:
        again = await crew.run("the task", run_id="r", durable=file)
    assert first.trace_id != again.trace_id
    root = before.spans[0]
    [link] = after.spans[0].links
    assert (link.context.trace_id, link.context.span_id) == (
        root.context.trace_id,
        root.context.span_id,
    )
    assert after.metric(semconv.COST_COUNTER).points == ()
    counted = sum(point.total for point in before.metric(semconv.COST_COUNTER).points)
    assert counted == pytest.approx(float(first.cost_estimate))
    assert counted > 0


async def test_a_run_that_goes_on_is_not_begun_a_second_time(file: Path) -> None:
    a = Held("a", "alpha")
    crew = team([PLAN], {"a": a, "b": ["beta"]})
    with Runs(file) as runs, Runs(file) as others:
        running = asyncio.create_task(crew.run("the task", run_id="r", durable=runs))
        await a.asked.wait()
        with pytest.raises(RunBusyError, match="run 'r' is going on"):
            await others.resume("r", team([], {"a": [], "b": []}))
        assert await others.resume_all() == {}
        a.let_go.set()
        assert (await running).status == "completed"


async def test_the_run_of_a_dead_process_is_taken_over_at_once(file: Path) -> None:
    program = f"""
        import asyncio, os
        from pyagent_patterns import Agent, OrchestratorWorkers
        from pyagent_patterns.events import StepStarted

        async def model(messages):
            return {PLAN!r} if "assignments" in messages[-1].content else "alpha"

        def die(event):
            if isinstance(event, StepStarted) and event.task_id == "y":
                os._exit(9)

        crew = OrchestratorWorkers(
            orchestrator=Agent("planner", model), workers=[Agent("a", model), Agent("b", model)]
        )
        asyncio.run(crew.run("the task", run_id="r", durable={str(file)!r}, on_event=die))
    """
    died = subprocess.run([sys.executable, "-c", textwrap.dedent(program)])
    assert died.returncode == 9

    async def model(messages: object) -> str:
        return "beta"

    crew = OrchestratorWorkers(
        orchestrator=Agent("planner", model), workers=[Agent("a", model), Agent("b", model)]
    )
    with Runs(file) as runs:
        result = await runs.resume("r", crew)
    assert [o.output for o in result.outcomes] == ["alpha", "beta"]


async def test_a_silent_owner_loses_its_run_and_what_it_does_then_is_refused(file: Path) -> None:
    a = Held("a", "alpha")
    slow = team([PLAN], {"a": a, "b": ["beta"]})
    with Runs(file, lease=0.1) as silent, Runs(file) as peer:
        silent._leases.operation = lambda connection: None  # as if the process were stopped
        running = asyncio.create_task(slow.run("the task", run_id="r", durable=silent))
        await a.asked.wait()
        await asyncio.sleep(0.12)
        result = await peer.resume("r", team([], {"a": ["alpha of the peer"], "b": ["beta"]}))
        a.let_go.set()
        assert result.outcomes[0].output == "alpha of the peer"
        with pytest.raises(LeaseLost, match="taken over by another process") as lost:
            await running
        assert lost.value.unrecorded["work/x/ask:0"]["text"] == "alpha"  # paid for: not lost
        assert lost.value.result is not None
        detail = await peer.get("r")
        assert detail.calls[1].value is not None
        assert detail.calls[1].value["text"] == "alpha of the peer"
        assert detail.run.status == "completed"


async def test_the_lease_of_a_run_that_takes_long_is_renewed(file: Path) -> None:
    a = Held("a", "alpha")
    crew = team([PLAN], {"a": a, "b": ["beta"]})
    with Runs(file, lease=0.2) as runs, Runs(file) as others:
        running = asyncio.create_task(crew.run("the task", run_id="r", durable=runs))
        await a.asked.wait()
        await asyncio.sleep(0.3)
        with pytest.raises(RunBusyError):
            await others.resume("r", team([], {"a": [], "b": []}))
        a.let_go.set()
        assert (await running).status == "completed"


async def test_cancelling_from_another_process_stops_the_run_and_its_calls(file: Path) -> None:
    crew = hanging("b", {"a": ["alpha"]})
    with Runs(file, lease=0.15) as runs, Runs(file) as others:
        running = asyncio.create_task(crew.run("the task", run_id="r", durable=runs))
        while not scripted(crew.workers["b"]).requests:
            await asyncio.sleep(0.002)
        await others.cancel("r")
        async with asyncio.timeout(5):
            with pytest.raises(RunCancelled, match="run 'r' was cancelled") as stopped:
                await running
        assert stopped.value.result is not None
        assert [o.status for o in stopped.value.result.outcomes] == ["completed", "cancelled"]
        assert (await others.get("r")).run.status == "cancelled"
        with pytest.raises(RunCancelled):
            await others.resume("r", crew)
        with pytest.raises(JournalError, match="is cancelled already"):
            await others.cancel("r")


async def test_another_task_under_the_same_id_is_refused(file: Path) -> None:
    crew = team([PLAN], {"a": ["alpha"], "b": ["beta"]})
    await crew.run("the task", run_id="r", durable=file)
    with pytest.raises(InputChanged, match="'r' has call 'task'"):
        await crew.run("another task", run_id="r", durable=file)


async def test_a_prompt_edited_mid_run_is_named_and_a_fork_pays_only_what_it_changes(
    file: Path,
) -> None:
    plan = plan_text(
        item("a", id="x"),
        item("b", id="y"),
        item("c", id="z", depends_on=["x"]),
    )

    def crew(
        plans: list[Answer], a: str, c: str | Step, final: str, role: str
    ) -> OrchestratorWorkers:
        made = team(plans, {"a": [a], "b": ["beta"], "c": [c]}, final=final)
        agents = [
            agent.with_system_prompt(role) if name == "a" else agent
            for name, agent in made.workers.items()
        ]
        return OrchestratorWorkers(orchestrator=made.orchestrator, workers=agents)

    with Runs(file) as runs:
        before = crew([plan], "alpha", Step("never", delay=60), "none", "Be short.")
        await cut_off(before, runs, while_asking="c")

        edited = crew([], "ALPHA", "GAMMA", "THE ANSWER", "Be long.")
        with pytest.raises(InputChanged, match=r"'work/x/ask:0'.*fork"):
            await runs.resume("r", edited)
        assert (await runs.get("r")).run.status == "running"  # it can go on with the old prompt

        forked = await runs.fork("r")
        result = await runs.resume(forked, edited)

        assert result.output == "THE ANSWER"
        assert [o.output for o in result.outcomes] == ["ALPHA", "beta", "GAMMA"]
        paid = {c.task_id or c.phase for c in result.calls if not c.replayed}
        assert paid == {"x", "z", "synthesis"}  # what changed, and what depends on it
        assert (await runs.get(forked)).run.forked_from == "r"
        assert (await runs.get("r")).calls[1].reply.text == "alpha"  # the old run is as it was


async def test_a_fork_asks_again_from_a_key_and_what_had_failed(file: Path) -> None:
    denied = AuthenticationError("bad key", provider="p", model="m")
    plan = plan_text(item("a", id="x"), item("b", id="y"))
    with Runs(file) as runs:
        first = await team([plan], {"a": [denied], "b": ["beta"]}).run(
            "the task", run_id="r", durable=runs
        )
        assert first.status == "partial"
        again = await runs.resume("r", team([], {"a": [], "b": []}))
        assert again.outcomes[0].error == first.outcomes[0].error  # what is recorded stays

        forked = await runs.fork("r")
        mended = await runs.resume(forked, team([], {"a": ["alpha"], "b": []}))
        assert mended.status == "completed"
        assert [c.agent for c in mended.calls if not c.replayed] == ["a", "planner"]

        forked = await runs.fork(forked, from_key="work/y/ask:0")
        other = await runs.resume(forked, team([], {"a": [], "b": ["BETA"]}))
        assert [o.output for o in other.outcomes] == ["alpha", "BETA"]
        with pytest.raises(LookupError, match="no finished call 'nope'; it has 'plan/ask:0'"):
            await runs.fork("r", from_key="nope")


async def test_a_run_that_failed_is_on_record_with_its_error(file: Path) -> None:
    down = OverloadedError("down", provider="p", model="m")
    plan = plan_text(item("a", id="x"))
    with Runs(file) as runs:
        with pytest.raises(WorkersFailedError):
            await team([plan], {"a": [down] * 3}).run("the task", run_id="r", durable=runs)
        run = (await runs.get("r")).run
        assert run.status == "failed"
        assert run.error is not None
        assert "no assignment completed" in run.error
        assert await runs.resume_all() == {}  # it has ended; going on with it is a choice


async def test_replaying_a_worker_without_changes_makes_no_call(file: Path) -> None:
    crew = team([PLAN], {"a": ["alpha"], "b": ["beta \u2028 \x1b[31m"]})
    with Runs(file) as runs:
        await crew.run("the task", run_id="r", durable=runs)
        asked = len(scripted(crew.workers["b"]).requests)
        replay = await runs.replay("r", "y", crew)
        assert replay.again is None
        assert replay.recorded.text == "beta \u2028 \x1b[31m"
        assert len(scripted(crew.workers["b"]).requests) == asked
        with pytest.raises(LookupError, match="no answered question of 'nope'"):
            await runs.replay("r", "nope", crew)


async def test_replaying_a_worker_with_changes_asks_it_with_the_recorded_rest(file: Path) -> None:
    crew = team([PLAN], {"a": ["alpha"], "b": ["beta", "beta in rhyme"]})
    other = ScriptedLLM(["from another model"], model="other", price=PRICE)
    with Runs(file) as runs:
        await crew.run("the task", run_id="r", durable=runs)

        replay = await runs.replay("r", "y", crew, system_prompt="Rhyme.")
        assert replay.again is not None
        assert replay.again.text == "beta in rhyme"
        assert (replay.cost, replay.cost_again) == (CALL, CALL)
        recorded, asked = questions(crew.workers["b"])
        assert asked == f"Rhyme.\n{recorded}"
        assert "alpha" in asked  # what it depended on came from the record

        replay = await runs.replay("r", "work/y/ask:0", llm=other)
        assert replay.again is not None
        assert replay.again.text == "from another model"
        assert [message.content for message in other.requests[0].messages] == [recorded]
        assert len((await runs.get("r")).calls) == 4  # nothing of it was recorded


async def test_pruning_clears_what_has_ended_and_nothing_else(file: Path) -> None:
    large = "x" * 300_000
    with Runs(file) as runs:
        await team([PLAN], {"a": [large], "b": ["beta"]}).run("t", run_id="old", durable=runs)
        await cut_off(hanging("b", {"a": ["alpha"]}), runs, while_asking="b", run_id="open")
        assert await runs.prune(older_than=3600) == 0
        assert await runs.prune(older_than=0) == 1
        assert [run.run_id for run in await runs.list()] == ["open"]


async def test_a_prefix_finds_a_run_only_if_it_is_the_only_one(file: Path) -> None:
    with Runs(file) as runs:
        for run_id in ("abc", "abd", "x"):
            await team([PLAN], {"a": ["1"], "b": ["2"]}).run("t", run_id=run_id, durable=runs)
        assert await runs.find("x") == "x"
        assert await runs.find("abc") == "abc"
        with pytest.raises(LookupError, match="2 runs begin with 'ab'"):
            await runs.find("ab")
        with pytest.raises(UnknownRunError):
            await runs.find("y")


class Dice(Pattern):
    """Rolls a die, on record."""

    name = "dice"
    members = ()
    rolls = iter(range(1, 100))

    async def _execute(self, ctx: RunContext, task: str) -> str:
        async def roll() -> int:
            return next(self.rolls)

        first = await ctx.call("roll", roll, input={"sides": 6})
        second = await ctx.child("again").call("roll", roll)
        return f"{first} {second}"


async def test_other_work_is_recorded_too_and_not_done_again(file: Path) -> None:
    first = await Dice().run("roll", run_id="r", durable=file)
    again = await Dice().run("roll", run_id="r", durable=file)
    assert first.output == again.output == "1 2"
    with Runs(file) as runs:
        calls = (await runs.get("r")).calls
    assert [(c.key, c.activity) for c in calls] == [
        ("roll:0", "roll"),
        ("again/roll:0", "roll"),
    ]


HERE = team([], {"a": [], "b": ["beta"]})
ELSEWHERE = team([], {"a": [], "b": ["beta of the others"]})


async def test_a_team_goes_on_with_its_own_runs_only(file: Path) -> None:
    with Runs(file) as runs:
        await cut_off(hanging("b", {"a": ["alpha"]}), runs, while_asking="b")
        with sqlite3.connect(file) as db:
            db.execute("UPDATE run SET team = 'tests.durable.test_runs:HERE'")
        assert await runs.resume_all(ELSEWHERE) == {}
        outcomes = await runs.resume_all()
        [result] = outcomes.values()
        assert not isinstance(result, Exception)
        assert [o.output for o in result.outcomes] == ["alpha", "beta"]


async def test_what_a_fork_takes_from_the_record_is_told(file: Path) -> None:
    with Runs(file) as runs:
        await team([PLAN], {"a": ["alpha"], "b": ["beta"]}).run("t", run_id="r", durable=runs)
        forked = await runs.fork("r", from_key="work/y/ask:0")
        result = await runs.resume(forked, team([], {"a": [], "b": ["beta"]}, final="no"))
        assert result.resumed is not None
        assert (result.resumed.execution, result.resumed.replayed) == (1, 3)
        assert result.output == "the final answer"  # the same answers lead to the same question


async def test_a_store_that_a_fork_inherited_says_so(file: Path) -> None:
    with Runs(file) as runs:
        await team([PLAN], {"a": ["1"], "b": ["2"]}).run("t", run_id="r", durable=runs)
        process = runs._database._process
        runs._database._process = -1  # as it is seen in a process that was forked off
        with pytest.raises(JournalError, match="before this process was forked off"):
            await runs.list()
        runs._database._process = process


async def test_an_edited_team_does_not_undo_a_run_that_has_its_result(file: Path) -> None:
    crew = team([PLAN], {"a": ["alpha"], "b": ["beta"]})
    with Runs(file) as runs:
        first = await crew.run("t", run_id="r", durable=runs)
        edited = OrchestratorWorkers(
            orchestrator=crew.orchestrator.with_system_prompt("Plan well."),
            workers=list(crew.workers.values()),
        )
        with pytest.raises(InputChanged):
            await runs.resume("r", edited)
        detail = await runs.get("r")
        assert (detail.run.status, detail.run.is_owned) == ("completed", False)
        assert detail.output == first.output
        assert await runs.resume_all(edited) == {}
