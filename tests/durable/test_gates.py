"""People decide in a run that is kept: it is suspended until they do, wherever the gate is."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import pytest

from pyagent_patterns import Agent, Pattern
from pyagent_patterns.agent import Member
from pyagent_patterns.durable import Runs
from pyagent_patterns.durable.views import CallView
from pyagent_patterns.errors import DeclinedError, RunSuspended, StageError
from pyagent_patterns.events import ApprovalGiven, ApprovalWanted, Event
from pyagent_patterns.journal import Call, Called, Journal, MemoryStore, RunStart, Work
from pyagent_patterns.orchestration import (
    Hierarchical,
    OrchestratorWorkers,
    Pipeline,
    Router,
    loop,
    parallel,
)
from pyagent_patterns.people import GATES, Decision, Gate, Wanted, ask_human
from pyagent_patterns.question import Question
from pyagent_patterns.result import Result
from pyagent_providers.errors import BadRequestError
from pyagent_providers.testing import ScriptedLLM
from pyagent_providers.types import Completion, JSONValue, ToolCall, Usage

from .kills import patterns, provider
from .kills.log import Log, LogReader
from .kills.patterns import Digest, Step, act, agent, planner
from .kills.teams import PATIENT

Kind = Literal["pipeline", "router", "parallel", "loop", "orchestrator", "hierarchical", "tool"]
KINDS: tuple[Kind, ...] = (
    "pipeline", "router", "parallel", "loop", "orchestrator", "hierarchical", "tool"
)  # fmt: skip
Asked = Gate | Literal["question"]
ASKED: tuple[Asked, ...] = (*GATES, "question")


@pytest.fixture(autouse=True)
def log(tmp_path: Path) -> Iterator[LogReader]:
    provider.world = provider.World(Log(tmp_path / "log"), lambda call: 0.0)
    yield LogReader(tmp_path / "log")
    provider.world = None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def around(kind: Kind, member: Member, **options: Any) -> Pattern:
    """A pattern of that kind, which has the member do something."""
    options = {"retry": PATIENT, "name": kind, **options}
    others = options["name"]  # so that no two agents are asked the same
    match kind:
        case "pipeline":
            return Pipeline([agent(f"{others} first"), member, agent("last")], **options)
        case "router":
            classifier = Agent("classifier", Digest("classifier", routes=[member.name]))
            return Router([member], classifier=classifier, **options)
        case "parallel":
            return parallel(member, agent(f"{others} beside"), merge=agent("merge"), **options)
        case "loop":
            return loop(member, lambda work: True, **options)
        case "orchestrator":
            return OrchestratorWorkers(
                orchestrator=planner("boss", Step({"a": (member.name, ())})),
                workers=[member],
                **options,
            )
        case "hierarchical":
            manager = planner("manager", Step({"a": (member.name, ())}))
            return Hierarchical(manager=manager, teams=[member], **options)
        case "tool":
            llm = Digest("caller", wishes=[{"call1": "inner"}])
            return Pipeline([Agent("caller", llm, tools=[_as_tool(member)])], **options)


def _as_tool(member: Member) -> Any:
    assert isinstance(member, Agent | Pattern)
    return member.as_tool("inner")


def gated(kind: Kind, asked: Asked) -> Pattern:
    """A pattern of that kind with one gate, or whose agent has one question."""
    wish = {"plan": {}, "answer": {}, "tools": {"send1": "send"}, "question": {"q1": "ask_human"}}
    worker = Agent(
        "worker",
        Digest("worker", wishes=[wish[asked]] if wish[asked] else []),
        tools=[act("send", "unsafe"), ask_human],
    )
    gates = [] if asked == "question" else [asked]
    return around(kind, worker, name="gated", description="inner", approve=gates)


def decision(wanted: Wanted) -> Decision:
    """One that shows in everything that comes after it."""
    match wanted.kind:
        case "plan":
            assignments: Any = wanted.details["assignments"]
            edited = [{**a, "subtask": f"{a['subtask']}, edited"} for a in assignments]
            return Decision(approved=True, value=edited)
        case "tool":
            return Decision(approved=False, reason="not today")
        case "answer":
            return Decision(approved=True, value="r1, edited")
        case "question":
            return Decision(approved=True, value="42")


async def decide(wanted: Wanted) -> Decision:
    return decision(wanted)


CASES = [
    (outer, inner, asked)
    for outer, inner, asked in itertools.product(KINDS, KINDS, ASKED)
    if asked != "plan" or inner in ("orchestrator", "hierarchical")
]


@pytest.mark.parametrize(("outer", "inner", "asked"), CASES)
async def test_a_gate_in_any_pattern_in_any_pattern_suspends_the_run_until_somebody_decides(
    outer: Kind, inner: Kind, asked: Asked, file: Path, log: LogReader
) -> None:
    def team() -> Pattern:
        return around(outer, gated(inner, asked))

    with Runs(file) as runs:
        with pytest.raises(RunSuspended) as suspended:
            await team().run("r1", run_id="r1", durable=runs)
        [wanted] = (await runs.get("r1")).wanted
        assert (wanted.key,) == suspended.value.waiting_for
        await runs.signal("r1", wanted.key, decision(wanted).to_dict())
    with Runs(file) as runs:
        result = await runs.resume("r1", team())
    sent = [entry.call for entry in log.all() if entry.what == "START"]
    assert len(sent) == len(set(sent)), "a question was asked again"
    assert result.output == (await team().run("r1", human=decide)).output
    assert result.output != (await team().run("r1", human=_yes)).output


async def _yes(wanted: Wanted) -> bool:
    return True


# Two at once


def two() -> Pattern:
    """Two gates that open at once, each in a branch of its own."""
    return parallel(
        gated_named("one", "question"), gated_named("two", "tools"), merge=agent("merge"),
        retry=PATIENT,
    )  # fmt: skip


def gated_named(name: str, asked: Asked) -> Pattern:
    wishes = [{f"{name}1": "ask_human" if asked == "question" else "send"}]
    worker = Agent(name, Digest(name, wishes=wishes), tools=[act("send", "unsafe"), ask_human])
    approve: list[Gate] = [] if asked == "question" else [asked]
    return Pipeline([worker], name=f"branch {name}", approve=approve)


@pytest.mark.parametrize("first", [0, 1])
async def test_two_gates_in_branches_are_decided_in_any_order_and_a_branch_goes_on_by_itself(
    file: Path, log: LogReader, first: int
) -> None:
    with Runs(file) as runs:
        with pytest.raises(RunSuspended) as suspended:
            await two().run("r1", run_id="r1", durable=runs)
        several = (await runs.get("r1")).wanted
        assert {wanted.key for wanted in several} == set(suspended.value.waiting_for)
        assert {wanted.kind for wanted in several} == {"question", "tool"}
        for wanted in (several[first], several[1 - first]):
            await runs.signal("r1", wanted.key, decision(wanted).to_dict())
            if wanted is several[first]:
                before = len(log.all())
                with pytest.raises(RunSuspended) as again:
                    await runs.resume("r1", two())
                assert again.value.waiting_for == (several[1 - first].key,)
                assert "DONE" in {e.what for e in log.all()[before:]}, "its branch did not go on"
        result = await runs.resume("r1", two())
    assert result.output == (await two().run("r1", human=decide)).output


# One decision


async def suspended_at(runs: Runs, team: Pattern, **how: Any) -> Wanted:
    """Begin or go on with a run; what it waits for, which is one thing."""
    with pytest.raises(RunSuspended):
        await team.run("r1", run_id="r1", durable=runs, **how)
    [wanted] = (await runs.get("r1")).wanted
    return wanted


async def decided(file: Path, team: Callable[[], Pattern], value: JSONValue) -> Result:
    with Runs(file) as runs:
        wanted = await suspended_at(runs, team())
        await runs.signal("r1", wanted.key, value)
        return await runs.resume("r1", team())


def planned() -> Pattern:
    return OrchestratorWorkers(
        orchestrator=planner("boss", Step({"a": ("worker", ()), "b": ("worker", ("a",))})),
        workers=[agent("worker")],
        approve=["plan"],
        retry=PATIENT,
    )


def answering() -> Pattern:
    return Pipeline([agent("writer")], approve=["answer"], retry=PATIENT)


async def test_nothing_of_a_plan_runs_before_it_is_approved_and_then_the_plan_as_it_was_edited(
    file: Path, log: LogReader
) -> None:
    with Runs(file) as runs:
        wanted = await suspended_at(runs, planned())
        assert {e.call.partition(".")[0] for e in log.all()} == {"boss"}
        assert wanted.who == "boss"
        assert "a worker" in wanted.text
        edited: JSONValue = [{"id": "z", "worker": "worker", "subtask": "r1 only this"}]
        await runs.signal("r1", wanted.key, {"approved": True, "value": edited})
        result = await runs.resume("r1", planned())
    assert [o.id for o in result.outcomes] == ["z"]
    assert [o.assignment.subtask for o in result.outcomes] == ["r1 only this"]


async def test_a_plan_that_is_declined_ends_the_run_with_the_reason_also_when_it_is_resumed(
    file: Path, log: LogReader
) -> None:
    with pytest.raises(DeclinedError, match="'boss': too dear"):
        await decided(file, planned, {"approved": False, "reason": "too dear"})
    with Runs(file) as runs, pytest.raises(DeclinedError, match="'boss': too dear"):
        await runs.resume("r1", planned())
    assert {e.call.partition(".")[0] for e in log.all()} == {"boss"}


async def test_an_edit_that_cannot_be_run_is_asked_about_again_with_what_is_wrong(
    file: Path,
) -> None:
    with Runs(file) as runs:
        wanted = await suspended_at(runs, planned())
        wrong: JSONValue = [{"id": "z", "worker": "nobody", "subtask": "r1"}]
        await runs.signal("r1", wanted.key, {"approved": True, "value": wrong})
        again = await suspended_at(runs, planned())
        assert again.key != wanted.key
        assert "no worker 'nobody'" in again.text
        await runs.signal("r1", again.key, True)
        assert len((await runs.resume("r1", planned())).outcomes) == 2


async def test_an_answer_is_given_as_a_person_edited_it(file: Path) -> None:
    result = await decided(file, answering, {"approved": True, "value": "better"})
    assert result.output == "better"


async def test_what_is_sent_and_is_no_decision_does_not_end_the_run_which_waits_on(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Runs(file) as runs:
        wanted = await suspended_at(runs, answering())
        await runs.signal("r1", wanted.key, {"aproved": True})
        assert await suspended_at(runs, answering()) == wanted
        assert "a decision about an answer is true, false" in caplog.text
        await runs.signal("r1", wanted.key, True)
        assert (await runs.resume("r1", answering())).output.startswith("r1:writer")


async def test_a_decision_that_is_on_record_is_not_asked_for_again(file: Path) -> None:
    told: list[Event] = []
    with Runs(file) as runs:
        wanted = await suspended_at(runs, answering(), on_event=told.append)
        assert [e.wanted for e in told if isinstance(e, ApprovalWanted)] == [wanted]
        await runs.signal("r1", wanted.key, True)
        for _ in range(2):
            told.clear()
            await runs.resume("r1", answering(), on_event=told.append)
            assert not [e for e in told if isinstance(e, ApprovalWanted)]
            [given] = [e for e in told if isinstance(e, ApprovalGiven)]
            assert given.decision.approved


async def test_a_decision_that_comes_before_it_is_asked_for_is_kept(file: Path) -> None:
    with Runs(file) as runs:
        wanted = await suspended_at(runs, answering())
        fork = await runs.fork("r1", from_key="1-writer/ask:0")
        await runs.signal(fork, wanted.key, {"approved": True, "value": "early"})
        assert (await runs.resume(fork, answering())).output == "early"


# Forks


def replanned() -> Pattern:
    """`planned`, by a planner that was told something else."""
    boss = Agent("boss", Digest("boss", steps=[Step({"x": ("worker", ())})]), system_prompt="New.")
    return OrchestratorWorkers(
        orchestrator=boss, workers=[agent("worker")], approve=["plan"], retry=PATIENT
    )


async def test_in_a_fork_a_plan_that_is_another_is_not_let_through_by_the_old_approval(
    file: Path,
) -> None:
    await decided(file, planned, True)
    with Runs(file) as runs:
        same = await runs.resume(await runs.fork("r1"), planned())
        assert [o.id for o in same.outcomes] == ["a", "b"]
        fork = await runs.fork("r1")
        with pytest.raises(RunSuspended):
            await runs.resume(fork, replanned())
        [wanted] = (await runs.get(fork)).wanted
        assert "x worker" in wanted.text
        await runs.signal(fork, wanted.key, True)
        assert [o.id for o in (await runs.resume(fork, replanned())).outcomes] == ["x"]


def acting(id: str = "send1") -> Pattern:
    llm = Digest("hand", wishes=[{id: "send"}])
    return Pipeline([Agent("hand", llm, tools=[act("send", "unsafe")])], retry=PATIENT)


async def test_in_a_fork_an_unsafe_call_is_not_made_again_unasked_and_another_one_is(
    file: Path, log: LogReader
) -> None:
    def effects() -> list[str]:
        return [entry.call for entry in log.all() if entry.what == "EFFECT"]

    with Runs(file) as runs:
        await acting().run("r1", run_id="r1", durable=runs)
        await runs.resume(await runs.fork("r1"), acting())
        assert effects() == ["send1"]

        keys = [call.key for call in (await runs.get("r1")).calls if call.activity == "tool"]
        fork = await runs.fork("r1", from_key=keys[0])
        with pytest.raises(RunSuspended):
            await runs.resume(fork, acting())
        [wanted] = (await runs.get(fork)).wanted
        assert "may have made this call already" in wanted.text
        assert effects() == ["send1"]
        await runs.signal(fork, wanted.key, True)
        await runs.resume(fork, acting())
        assert effects() == ["send1", "send1"]

        first = next(call.key for call in (await runs.get("r1")).calls if call.activity == "ask")
        other = await runs.fork("r1", from_key=first)
        await runs.resume(other, acting("send2"))
        assert effects() == ["send1", "send1", "send2"]


# Tools


async def test_a_replay_opens_no_toolset_and_calls_no_tool(file: Path, log: LogReader) -> None:
    with Runs(file) as runs:
        first = await patterns.tooled.run("r1", run_id="r1", durable=runs)
        before = len(log.all())
        again = await runs.resume("r1", patterns.tooled)
    assert again.output == first.output
    assert all(call.replayed for call in again.calls)
    assert log.all()[before:] == []
    assert [entry.what for entry in log.all()].count("OPENED") == 1


async def test_an_unsafe_call_that_was_cut_off_by_a_cancellation_is_asked_about(
    file: Path, log: LogReader
) -> None:
    def effects() -> list[str]:
        return [entry.call for entry in log.all() if entry.what == "EFFECT"]

    provider.here().latency = lambda call: 60.0 if call.startswith("tool.") else 0.0
    with Runs(file) as runs:
        running = asyncio.create_task(acting().run("r1", run_id="r1", durable=runs))
        while not [call for call in await calls_of(runs) if call.activity == "tool"]:
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
        provider.here().latency = lambda call: 0.0
        wanted = await suspended_at(runs, acting())
        assert "may have made this call already" in wanted.text
        assert effects() == []
        await runs.signal("r1", wanted.key, {"approved": False, "reason": "I did it myself"})
        await runs.resume("r1", acting())
        assert effects() == []
        last = [call for call in await calls_of(runs) if call.activity == "ask"][-1]
    assert "may have been made before a crash" in json.dumps(last.input)
    assert "I did it myself" in json.dumps(last.input)


async def calls_of(runs: Runs) -> Sequence[CallView]:
    return (await runs.get("r1")).calls if await runs.list() else ()


async def test_an_execution_that_another_one_was_quicker_than_calls_no_unsafe_tool_unasked(
    log: LogReader,
) -> None:
    """As when a process was frozen, lost its run, and does not know it yet."""
    asked: list[str] = []

    class Beaten(MemoryStore):
        async def open(self, start: RunStart) -> Journal:
            journal: Any = await super().open(start)
            make = journal.call

            async def call(call: Call, work: Work) -> Called:
                called = await make(call, work)
                theirs = call.activity == "begin"
                return Called({"value": "their mark"}, "here") if theirs else called

            journal.call = call
            return journal

    async def human(wanted: Wanted) -> bool:
        asked.append(wanted.text)
        return False

    await acting().run("r1", durable=Beaten(), human=human)
    assert [entry for entry in log.all() if entry.what == "EFFECT"] == []
    assert ["may have made this call already" in text for text in asked] == [True]


@pytest.mark.parametrize("times", [1, 2])
async def test_an_agent_that_is_asked_once_more_goes_on_from_what_its_tools_did(
    log: LogReader, times: int
) -> None:
    wish = ToolCall("send1", "send", '{"run": "r1", "id": "send1"}')
    wishes = Completion(text="", usage=Usage(), tool_calls=(wish,))
    out_of_order = BadRequestError("it is out of order", provider="scripted", model="scripted")
    llm = ScriptedLLM([wishes, *[out_of_order] * times, "done", wishes, "done"])
    hand = Agent("hand", llm, tools=[act("send", "unsafe")], on_error="retry")
    with pytest.raises(StageError) if times == 2 else nullcontext():
        assert (await Pipeline([hand]).run("r1")).output == "done"
    assert len(llm.requests) == 1 + 2
    assert [entry.call for entry in log.all() if entry.what == "EFFECT"] == ["send1"]


async def test_what_is_said_about_failure_holds_for_a_pattern_that_is_a_tool() -> None:
    inner = Pipeline([agent("a")], name="inner", retry=PATIENT)
    team = Pipeline([Agent("hand", Digest("hand"), tools=[inner.as_tool()])])
    assert team.policy_at("inner/a").retry is PATIENT
    assert team.policy_at("hand").retry is not PATIENT


async def test_a_question_that_another_process_puts_is_the_same(file: Path) -> None:
    with Runs(file) as runs:
        await patterns.tooled.run("r1", run_id="r1", durable=runs)
        calls = [call for call in (await runs.get("r1")).calls if call.activity == "ask"]
    asked = [Question.from_dict(call.input, patterns.tooled.agents) for call in calls]
    assert [len(question.turns) for question in asked if question.part] == [0, 5, 8, 11]
    for call, question in zip(calls, asked, strict=True):
        assert json.loads(json.dumps(question.to_dict())) == call.input
