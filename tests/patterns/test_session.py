"""Conversations over several runs: who is shown them, and where they are kept."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pyagent_patterns import Agent, AgentError, OrchestratorWorkers, Pipeline, Router, tool
from pyagent_patterns.durable import FileSession, Runs
from pyagent_patterns.errors import RunSuspended
from pyagent_patterns.session import MemorySession, Session, Summary, Turn
from pyagent_patterns.testing import capture_trace
from pyagent_providers.testing import ScriptedLLM, Step
from tests.failure.solo import Solo

from .teams import item, plan_text
from .tools import model, wishes


@pytest.fixture(params=["memory", "file"])
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Session:
    return MemorySession() if request.param == "memory" else FileSession(tmp_path / "s.db", "chat")


def seen(agent: Agent, question: int = -1) -> list[tuple[str, str]]:
    """What the agent was shown in one question, as roles and texts."""
    assert isinstance(agent.llm, ScriptedLLM)
    return [(m.role, m.content) for m in agent.llm.requests[question].messages]


async def test_a_run_goes_on_from_those_before_it(session: Session):
    agent = Agent("clerk", model("Oslo.", "Paris.", "Yes."), system_prompt="Be brief.")
    for task in ("Norway's capital?", "France's?", "Is that north?"):
        await Solo(agent).run(task, session=session)
    assert seen(agent) == [
        ("system", "Be brief."),
        ("user", "Norway's capital?"),
        ("assistant", "Oslo."),
        ("user", "France's?"),
        ("assistant", "Paris."),
        ("user", "Is that north?"),
    ]
    assert await session.turns() == [
        Turn("Norway's capital?", "Oslo."),
        Turn("France's?", "Paris."),
        Turn("Is that north?", "Yes."),
    ]


async def test_the_history_is_shown_where_the_run_plans_and_answers_and_not_to_workers():
    session = MemorySession()
    await session.add("earlier", Turn("Before?", "That."))
    planner = model(plan_text(item("worker", "Do it.", id="t1")), "the answer")
    lead, worker = Agent("lead", planner), Agent("worker", model("work"))
    await OrchestratorWorkers(orchestrator=lead, workers=[worker]).run("Now?", session=session)
    history = [("user", "Before?"), ("assistant", "That.")]
    assert seen(lead, 0)[:2] == history
    assert seen(lead, 1)[-3:-1] == history
    assert seen(worker) == [("user", "Do it.")]


async def test_the_history_is_shown_to_who_routes_and_in_a_pattern_within_that_answers():
    session = MemorySession()
    await session.add("earlier", Turn("Before?", "That."))
    choice = '{"routes": [{"route": "a", "confidence": 1, "reason": "r"}]}'
    classifier, last = Agent("c", model(choice)), Agent("last", model("answer"))
    first = Agent("first", model("material"))
    inner = Pipeline([first, last], name="a")
    await Router([inner], classifier=classifier).run("Now?", session=session)
    assert seen(classifier)[0] == ("user", "Before?")
    assert seen(last)[0] == ("user", "Before?")
    assert seen(first) == [("user", "Now?")]


async def test_a_pattern_within_that_does_not_answer_is_not_shown_the_history():
    session = MemorySession()
    await session.add("earlier", Turn("Before?", "That."))
    planner, worker = model(plan_text(item("worker", "Do it.", id="t1")), "material"), model("work")
    lead = Agent("lead", planner)
    inner = OrchestratorWorkers(orchestrator=lead, workers=[Agent("worker", worker)])
    await Pipeline([inner, Agent("last", model("answer"))]).run("Now?", session=session)
    assert not any(("assistant", "That.") in seen(lead, n) for n in (0, 1))


@pytest.mark.parametrize("wanted", [True, False])
async def test_an_agent_says_whether_it_is_shown_the_history(wanted: bool):
    session = MemorySession()
    await session.add("earlier", Turn("Before?", "That."))
    first = Agent("first", model("material"), use_history=wanted)
    last = Agent("last", model("answer"), use_history=wanted)
    await Pipeline([first, last]).run("Now?", session=session)
    for agent in (first, last):
        assert (("assistant", "That.") in seen(agent)) is wanted


async def test_a_run_that_fails_adds_nothing(session: Session):
    with pytest.raises(AgentError):
        await Solo(Agent("a", model(ValueError("x")))).run("Go.", session=session)
    assert await session.turns() == []


async def test_a_run_is_added_once_however_often_it_is_gone_on_with(session: Session):
    for _ in range(2):
        await session.add("r", Turn("Go.", "Gone."))
    assert await session.turns() == [Turn("Go.", "Gone.")]


async def test_the_newest_summary_is_kept(session: Session):
    assert await session.summary() is None
    await session.keep(Summary(4, "four"))
    await session.keep(Summary(2, "two"))
    assert await session.summary() == Summary(4, "four")
    await session.keep(Summary(4, "shorter"))
    assert await session.summary() == Summary(4, "shorter")


@tool(effect="read", approve=True)
async def look() -> str:
    return "seen"


@pytest.mark.parametrize("by", ["run", "resume"])
async def test_a_run_that_goes_on_sees_the_conversation_as_it_was_when_it_began(
    tmp_path: Path, by: str
):
    session = MemorySession()
    await session.add("earlier", Turn("Before?", "That."))
    agent = Agent("clerk", model(wishes(("look", {})), "the answer"), tools=[look])
    with Runs(tmp_path / "runs.db") as runs:
        with pytest.raises(RunSuspended) as suspended:
            await Solo(agent).run("Now?", run_id="r", durable=runs, session=session)
        await session.add("other", Turn("Meanwhile?", "This."))
        await runs.signal("r", suspended.value.waiting_for[0], True)
        if by == "run":
            await Solo(agent).run("Now?", run_id="r", durable=runs, session=session)
        else:
            await runs.resume("r", Solo(agent))
    assert seen(agent)[:3] == [("user", "Before?"), ("assistant", "That."), ("user", "Now?")]
    added = [turn.task for turn in await session.turns()]
    # Whoever resumes a run does not know of its session; who runs it again does.
    assert added == ["Before?", "Meanwhile?", *(["Now?"] if by == "run" else [])]


async def test_a_conversation_in_a_file_is_its_owners_alone(tmp_path: Path):
    path = tmp_path / "sessions.db"
    await FileSession(path, "chat").add("r", Turn("Go.", "Gone."))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert await FileSession(path, "chat").turns() == [Turn("Go.", "Gone.")]
    assert await FileSession(path, "another").turns() == []


async def test_what_no_file_can_hold_is_kept_without_it(tmp_path: Path):
    session = FileSession(tmp_path / "s.db", "chat")
    await session.add("r", Turn("half \ud83d", "whole"))
    assert await session.turns() == [Turn("half ?", "whole")]


WRITER = """
import asyncio, sys
from pyagent_patterns.durable import FileSession
from pyagent_patterns.errors import RunSuspended
from pyagent_patterns.session import Turn

async def main(path, who):
    session = FileSession(path, "chat")
    for n in range(20):
        await session.add(f"{who}-{n}", Turn(who, str(n)))
        await session.add("both", Turn("both", "once"))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_two_processes_may_add_to_one_conversation_at_once(tmp_path: Path):
    path = tmp_path / "s.db"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), who]) for who in ("a", "b")
    ]
    assert [await asyncio.to_thread(writer.wait) for writer in writers] == [0, 0]
    turns = await FileSession(path, "chat").turns()
    assert len(turns) == 41
    for who in ("a", "b"):
        assert [t.answer for t in turns if t.task == who] == [str(n) for n in range(20)]


async def test_the_history_is_on_record_and_not_on_the_span():
    session = MemorySession()
    await session.add("earlier", Turn("Before-1?", "That-2."))
    agent = Agent("clerk", ScriptedLLM([Step("ok")]))
    with capture_trace() as trace:
        await Solo(agent).run("Now?", session=session)
    seen_in = "".join(span.to_json() for span in trace.spans)
    assert "Before-1" not in seen_in
    assert "That-2" not in seen_in
