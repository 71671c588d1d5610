"""What a store keeps has no secrets, and is what the run goes on with: also when it goes on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyagent_patterns import Agent, Budget, OrchestratorWorkers, Pattern, tool
from pyagent_patterns.durable import Runs
from pyagent_patterns.errors import AgentError, InputChanged
from pyagent_patterns.events import RunStarted, StepEnded
from pyagent_patterns.journal import MemoryStore
from pyagent_patterns.orchestration import Pipeline
from pyagent_patterns.redacted import redacted_reply
from pyagent_patterns.run import RunContext
from pyagent_providers import redaction
from pyagent_providers.errors import AuthenticationError
from pyagent_providers.redaction import redact
from pyagent_providers.testing import ScriptedLLM, Step
from tests.patterns.crews import ONCE, agent, item
from tests.patterns.teams import QUICK, plan_text, questions
from tests.patterns.tools import told, wishes

from .secrets import standing

TOKEN, SECRET = standing("github")
GONE = "[redacted: GitHub token]"


@pytest.fixture(autouse=True)
def own_patterns() -> Iterator[None]:
    before = redaction._own.given
    yield
    redaction._own.given = before


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    with Runs(tmp_path / "runs.db") as runs:
        yield runs


async def cut_off(team: Pattern, at: ScriptedLLM, task: str, runs: Runs) -> None:
    """Run until that model is asked, then cancel, as when a process is told to stop."""
    running = asyncio.create_task(team.run(task, run_id="r", durable=runs))
    while not at.requests:
        await asyncio.sleep(0.002)
    running.cancel()
    await asyncio.wait([running])


def crew(*, second: list[str | Step]) -> OrchestratorWorkers:
    plan = plan_text(item("a", f"use {TOKEN}", id="x"), item("b", id="y", depends_on=["x"]))
    return OrchestratorWorkers(
        planner=agent("planner", plan),
        workers=[agent("a", f"made {TOKEN}"), agent("b", *second)],
        synthesizer=agent("writer", f"all of {TOKEN}"),
        retry=QUICK,
    )


def model(team: OrchestratorWorkers, worker: str) -> ScriptedLLM:
    member = team.workers[worker]
    assert isinstance(member, Agent)
    assert isinstance(member.llm, ScriptedLLM)
    return member.llm


async def test_a_run_goes_on_with_what_is_on_record_and_pays_nothing_again(runs: Runs):
    first, task = crew(second=[Step("never", delay=60)]), f"keep {TOKEN}"
    await cut_off(first, model(first, "b"), task, runs)
    second = crew(second=[f"done with {TOKEN}"])
    result = await second.run(task, run_id="r", durable=runs)
    assert result.output == f"all of {GONE}"
    assert [call.agent for call in result.calls if not call.replayed] == ["b", "writer"]
    third = await runs.resume("r", crew(second=[]))
    assert third.output == f"all of {GONE}"
    assert all(call.replayed for call in third.calls)


async def test_the_first_execution_asks_what_the_next_one_would(runs: Runs):
    team = crew(second=["done"])
    await team.run(f"keep {TOKEN}", run_id="r", durable=runs)
    assert all(SECRET not in text for text in questions(team.synthesizer))
    assert GONE in questions(team.synthesizer)[0]
    detail = await runs.get("r")
    assert detail.run.task == f"keep {GONE}"
    asked = {call.asked("agent"): call.asked("prompt") for call in detail.calls}
    assert asked["writer"] == questions(team.synthesizer)[0]


async def test_a_failure_is_told_in_the_words_of_the_record_with_its_cause(runs: Runs):
    bad = AuthenticationError(f"no such key: {TOKEN}", provider="p", model="m")
    team = Pipeline([agent("a", bad)], retry=ONCE)
    with pytest.raises(Exception, match="no such key") as failed:
        await team.run("go", run_id="r", durable=runs)
    assert SECRET not in str(failed.value)
    assert GONE in str(failed.value)
    with pytest.raises(Exception, match="no such key") as again:
        await runs.resume("r", team)
    assert str(again.value) == str(failed.value)


async def test_the_cause_of_a_redacted_failure_is_still_there(runs: Runs):
    class Alone(Pattern):
        name = "alone"
        members = (agent("a", AuthenticationError(f"no: {TOKEN}", provider="p", model="m")),)

        async def _execute(self, ctx: RunContext, task: str) -> str:
            try:
                return await ctx.ask(self.members[0], task, phase="worker")
            except AgentError as error:
                return f"{type(error.__cause__).__name__}, {error.reason}"

    assert (await Alone(retry=ONCE).run("go", durable=runs)).output == (
        f"AuthenticationError, AuthenticationError: p/m: no: {GONE}"
    )


async def test_a_tool_is_called_with_what_is_on_record_and_so_is_what_it_gives(runs: Runs):
    given: list[str] = []

    @tool(effect="unsafe")
    async def login(key: str) -> str:
        """Logs in."""
        given.append(key)
        return f"session {TOKEN}"

    clerk = agent("clerk", wishes(("login", {"key": TOKEN})), "in", tools=[login])
    result = await Pipeline([clerk]).run("log in", run_id="r", durable=runs)
    assert (given, told(clerk), result.output) == ([GONE], [f"session {GONE}"], "in")


async def test_events_tell_what_is_on_record(runs: Runs):
    seen: list[str | None] = []

    def watch(event: object) -> None:
        match event:
            case RunStarted():
                seen.append(event.task)
            case StepEnded():
                seen.append(event.output)
            case _:
                pass

    await Pipeline([agent("a", f"a {TOKEN}")]).run(f"t {TOKEN}", durable=runs, on_event=watch)
    assert seen == [f"t {GONE}", f"a {GONE}"]


async def test_other_work_is_kept_without_secrets_and_goes_on_so(runs: Runs):
    class Looking(Pattern):
        name = "looking"
        members = ()

        async def _execute(self, ctx: RunContext, task: str) -> str:
            async def look() -> dict[str, object]:
                return {"rows": [1, {"key": TOKEN}], "n": 4111}

            return json.dumps(await ctx.call("look", look, input=TOKEN))

    result = await Looking().run("go", run_id="r", durable=runs)
    assert json.loads(result.output) == {"rows": [1, {"key": GONE}], "n": 4111}
    assert await Looking().run("go", run_id="r", durable=runs)
    [call] = (await runs.get("r")).calls
    assert call.input == {"input": GONE}


async def test_a_run_on_record_from_before_a_pattern_was_known_goes_on_as_it_was(runs: Runs):
    first = crew(second=[Step("never", delay=60)])
    await cut_off(first, model(first, "b"), "close case-77", runs)
    redact(r"case-\d+|made", "case number")
    result = await runs.resume("r", crew(second=["ok"]))
    assert [call.agent for call in result.calls if not call.replayed] == ["b", "writer"]
    assert (await runs.get("r")).run.task == "close case-77"


async def test_another_task_is_still_another_task(runs: Runs):
    team = Pipeline([agent("a", "x", "x")])
    await team.run(f"one {TOKEN}", run_id="r", durable=runs)
    with pytest.raises(InputChanged):
        await team.run(f"two {TOKEN}", run_id="r", durable=runs)


async def test_a_pattern_of_digits_does_not_touch_what_the_run_itself_counts(runs: Runs):
    """Ids, figures and fingerprints are not text that anybody wrote."""
    redact(r"[0-9a-f]{6,}|\d+\.\d+|0\.\d+", "number")
    given: list[str] = []

    @tool(effect="unsafe")
    async def note(n: str) -> str:
        """Notes."""
        given.append(n)
        return "noted 1234567"

    def team() -> Pattern:
        clerk = agent("clerk", wishes(("note", {"n": "7654321"})), "ok 1234567", tools=[note])
        return Pipeline([clerk], budget=Budget(max_cost_usd="1.000001"))

    budget = Budget(max_cost_usd="0.500001")
    result = await team().run("go", run_id="r", durable=runs, budget=budget)
    assert result.output == "ok [redacted: number]"
    assert given == ["[redacted: number]"]
    again = await runs.resume("r", team())
    assert (again.output, again.cost_estimate) == (result.output, result.cost_estimate)
    [run] = await runs.list()
    assert run.cost == result.cost_estimate


async def test_where_a_pattern_fails_a_run_goes_on_and_nothing_leaks(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
):
    class Broken:
        def sub(self, repl: str, string: str, /) -> str:
            if "worse" in string:
                raise TimeoutError
            return string

    monkeypatch.setattr(redaction, "_complained", False)
    redact(Broken())
    result = await Pipeline([agent("a", "from bad to worse")]).run("go", durable=runs)
    assert result.output == redaction._FAILED


async def test_a_memory_store_keeps_nothing_and_so_redacts_nothing():
    result = await Pipeline([agent("a", f"a {TOKEN}")]).run("go", durable=MemoryStore())
    assert result.output == f"a {TOKEN}"


def test_a_reply_without_secrets_is_the_same_object_and_one_with_keeps_its_ledger():
    plain = {"text": "x", "error": None, "kind": None, "calls": [{"model": "m"}]}
    assert redacted_reply(plain) is plain
    ids = {"id": SECRET, "signature": SECRET}
    calls = [{**ids, "name": "n", "arguments": json.dumps({"k": SECRET})}]
    clean = redacted_reply({**plain, "text": TOKEN, "tool_calls": calls})
    assert clean["text"] == GONE
    assert clean["calls"] is plain["calls"]
    written = json.dumps({"k": GONE})
    assert clean["tool_calls"] == [{**ids, "name": "n", "arguments": written}]


async def test_a_long_hostile_answer_does_not_hold_up_a_run(runs: Runs):
    hostile = "sk-a-" * 100_000
    began = time.process_time()
    result = await Pipeline([agent("a", hostile)]).run("go", durable=runs)
    assert result.output == hostile
    assert time.process_time() - began < 30
