"""People in the loop: who is asked, where, and what their word does."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pyagent_patterns import (
    Agent,
    Hierarchical,
    Loop,
    OrchestratorWorkers,
    Parallel,
    Pipeline,
    Router,
    Team,
    Timeouts,
    tool,
)
from pyagent_patterns.base import Pattern
from pyagent_patterns.errors import (
    DeclinedError,
    NobodyToAskError,
    PyAgentError,
    RunSuspended,
    StageError,
)
from pyagent_patterns.people import Decision, Gate, Wanted, WantedKind, ask_human
from pyagent_patterns.tools import Tool
from pyagent_providers.testing import ScriptedLLM
from pyagent_providers.types import Completion
from tests.failure.solo import Solo

from .teams import item, plan_text
from .tools import Box, model, told, wishes


class Desk:
    """Where an application has its decisions made. It notes what was wanted."""

    def __init__(self, *decisions: object) -> None:
        self.wanted: list[Wanted] = []
        self._decisions = list(decisions)

    async def __call__(self, wanted: Wanted) -> Decision | bool | str:
        self.wanted.append(wanted)
        return self._decisions.pop(0) if self._decisions else True  # type: ignore[return-value]

    @property
    def kinds(self) -> list[WantedKind]:
        return [wanted.kind for wanted in self.wanted]


sent = list[str]()


@pytest.fixture(autouse=True)
def _nothing_sent() -> None:
    sent.clear()


@tool
async def send(to: str) -> str:
    """Send a letter."""
    sent.append(to)
    return f"sent to {to}"


@tool(effect="read", approve=True)
async def peek(file: str) -> str:
    return f"contents of {file}"


@tool(effect="read")
async def read(file: str) -> str:
    return f"contents of {file}"


def sender(*, after: str = "done", tools: Sequence[Tool] = (send,)) -> Agent:
    return Agent("sender", model(wishes(("send", {"to": "Ann"})), after), tools=tools)


def planned(**options: object) -> OrchestratorWorkers:
    worker = Agent("worker", model("the work"))
    plans = model(plan_text(item("worker", "Do it.", id="t1")), "the answer")
    return OrchestratorWorkers(
        orchestrator=Agent("planner", plans), workers=[worker], **options  # type: ignore[arg-type]
    )  # fmt: skip


# Gates


async def test_a_plan_waits_until_it_is_approved_and_says_what_it_may_cost():
    desk = Desk(True)
    result = await planned(approve=["plan"]).run("Go.", human=desk)
    [wanted] = desk.wanted
    assert (wanted.kind, wanted.who) == ("plan", "planner")
    assert wanted.details["assignments"][0]["subtask"] == "Do it."  # type: ignore[index,call-overload]
    assert float(str(wanted.details["estimated_usd"])) > 0
    assert "worker: Do it." in wanted.text
    assert result.output == "the answer"


async def test_a_plan_that_is_declined_ends_the_run_with_the_reason_and_what_it_cost():
    team = planned(approve=["plan"])
    with pytest.raises(DeclinedError, match="'planner': too dear") as declined:
        await team.run("Go.", human=Desk(Decision(approved=False, reason="too dear")))
    assert declined.value.reason == "too dear"
    assert declined.value.result is not None
    assert len(declined.value.result.calls) == 1


async def test_a_persons_plan_takes_the_place_of_the_planners():
    team = planned(approve=["plan"])
    mine = [{"id": "mine", "worker": "worker", "subtask": "Do this.", "depends_on": []}]
    result = await team.run("Go.", human=Desk(Decision(approved=True, value=mine)))
    assert [o.assignment.subtask for o in result.outcomes] == ["Do this."]


async def test_the_tools_gate_is_for_unsafe_tools_alone():
    desk = Desk()
    llm = model(wishes(("read", {"file": "a"}), ("send", {"to": "Ann"})), "done")
    agent = Agent("clerk", llm, tools=[read, send])
    await Solo(agent, approve=["tools"]).run("Go.", human=desk)
    assert [wanted.details for wanted in desk.wanted] == [
        {"name": "send", "arguments": {"to": "Ann"}, "effect": "unsafe"}
    ]
    assert "clerk wants to call\nsend (unsafe)\n  to: 'Ann'" in desk.wanted[0].text
    assert sent == ["Ann"]


async def test_a_tool_with_approve_asks_without_any_gate():
    desk = Desk(True)
    agent = Agent("clerk", model(wishes(("peek", {"file": "a"})), "done"), tools=[peek])
    await Solo(agent).run("Go.", human=desk)
    assert desk.kinds == ["tool"]
    assert told(agent) == ["contents of a"]


async def test_a_call_that_is_declined_is_not_made_and_the_model_is_told_why():
    agent = sender(after="I did not send it")
    desk = Desk(Decision(approved=False, reason="not before Monday"))
    result = await Solo(agent, approve=["tools"]).run("Go.", human=desk)
    assert sent == []
    assert told(agent) == ["Error: a person declined this call: not before Monday"]
    assert result.output == "I did not send it"


async def test_a_call_that_cannot_be_made_anyway_asks_nobody():
    desk = Desk()
    agent = Agent("clerk", model(wishes(("send", {"whom": "Ann"})), "done"), tools=[send])
    await Solo(agent, approve=["tools"]).run("Go.", human=desk)
    assert desk.wanted == []


async def test_an_answer_is_given_as_it_was_let_through():
    agent = Agent("clerk", model("Dear Sir"))
    desk = Desk(Decision(approved=True, value="Dear Madam"))
    result = await Solo(agent, approve=["answer"]).run("Write.", human=desk)
    assert result.output == "Dear Madam"
    assert desk.wanted[0].details == {"text": "Dear Sir"}


async def test_an_answer_that_is_declined_is_in_the_error_with_its_reason():
    agent = Agent("clerk", model("Dear Sir"))
    desk = Desk(Decision(approved=False, reason="too stiff"))
    with pytest.raises(DeclinedError, match="too stiff") as declined:
        await Solo(agent, approve=["answer"]).run("Write.", human=desk)
    assert (declined.value.reason, declined.value.text) == ("too stiff", "Dear Sir")
    assert declined.value.result is not None


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("on Tuesday", "on Tuesday"),
        (True, "yes"),
        (False, "no"),
        (Decision(approved=True), "yes"),
        (Decision(approved=True, value={"day": 2}), '{"day": 2}'),
        (Decision(approved=False), "Error: they do not answer"),
        (Decision(approved=False, reason="ask Bob"), "Error: they do not answer: ask Bob"),
    ],
)
async def test_an_agent_can_ask_a_person(said: object, heard: str):
    call = wishes(("ask_human", {"question": "Which day?"}))
    agent = Agent("clerk", model(call, "done"), tools=[ask_human])
    desk = Desk(said)
    await Solo(agent).run("Go.", human=desk)
    assert told(agent) == [heard]
    assert desk.wanted[0].details == {"question": "Which day?"}
    assert desk.kinds == ["question"]


# What the application's function may give


@pytest.mark.parametrize("decision", [True, Decision(approved=True)])
async def test_the_function_that_decides_need_not_be_async(decision: bool | Decision):
    agent = sender()
    await Solo(agent, approve=["tools"]).run("Go.", human=lambda wanted: decision)
    assert sent == ["Ann"]


@pytest.mark.parametrize("said", [None, "no", "yes", 1, {"approve": True}, {"approved": "no"}])
async def test_what_is_no_decision_does_not_pass_for_a_yes(said: object):
    with pytest.raises(ValueError, match="human= gave no decision: a decision about a tool is"):
        await Solo(sender(), approve=["tools"]).run("Go.", human=lambda wanted: said)  # type: ignore[arg-type,return-value]
    assert sent == []


async def test_what_the_function_raises_ends_the_run_and_keeps_its_ledger():
    async def away(wanted: Wanted) -> bool:
        raise LookupError("nobody on duty")

    with pytest.raises(LookupError, match="nobody on duty") as ended:
        await Solo(sender(), approve=["tools"]).run("Go.", human=away)
    assert len(ended.value.result.calls) == 1  # type: ignore[attr-defined]
    assert sent == []


async def test_the_time_that_a_person_takes_is_not_the_agents():
    async def slow(wanted: Wanted) -> bool:
        await asyncio.sleep(0.25)
        return True

    agent = sender()
    agent.timeouts = Timeouts(assignment=0.2)
    assert (await Solo(agent, approve=["tools"]).run("Go.", human=slow)).output == "done"
    assert sent == ["Ann"]


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"human": True}, "human must be a function"),
        ({"human": "me"}, "human must be a function"),
        ({"session": "chat-1"}, "session must be a Session"),
        ({"session": {}}, "session must be a Session"),
    ],
)
async def test_what_is_no_person_or_session_is_refused_before_anything_is_spent(
    how: dict[str, object], error: str
):
    agent = Agent("clerk", model("never"))
    with pytest.raises(TypeError, match=error):
        await Solo(agent).run("Go.", **how)  # type: ignore[arg-type]
    assert agent.llm.requests == []  # type: ignore[attr-defined]


def test_a_gate_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"approve must be of plan, tools, answer; got \['tool'\]"):
        Solo(Agent("a", model()), approve=["tool"])  # type: ignore[list-item]


# Nobody to ask


def asking() -> dict[str, Callable[[], Pattern]]:
    """Every way in which a run can come to ask a person."""
    return {
        "gate": lambda: Solo(Agent("a", model()), approve=["answer"]),
        "gate within": lambda: Pipeline([Solo(Agent("a", model()), approve=["plan"])]),
        "stand-in": lambda: Solo(
            Agent("a", model()), degrade_to=[Solo(Agent("b", model()), approve=["answer"])]
        ),
        "ask_human": lambda: Solo(Agent("a", model(), tools=[ask_human])),
        "approve": lambda: Solo(Agent("a", model(), tools=[peek])),
        "deep": lambda: Pipeline([Pipeline([Parallel([Agent("a", model(), tools=[peek])])])]),
        "pattern as a tool": lambda: Solo(
            Agent("a", model(),
                  tools=[Pipeline([Agent("b", model())], approve=["answer"]).as_tool("t")])
        ),
        "agent as a tool": lambda: Solo(
            Agent("a", model(), tools=[Agent("b", model(), tools=[ask_human]).as_tool()])
        ),
        "fallback": lambda: Solo(
            Agent("a", model(), fallback=Pipeline([Agent("b", model())], approve=["answer"]))
        ),
    }  # fmt: skip


@pytest.mark.parametrize("how", asking())
async def test_without_anybody_to_ask_a_run_that_would_is_refused_at_once(how: str):
    pattern = asking()[how]()
    with pytest.raises(NobodyToAskError, match="pass human= to run") as refused:
        await pattern.run("Go.")
    assert all(agent.llm.requests == [] for agent in pattern.agents)  # type: ignore[attr-defined]
    assert refused.value.result is None


async def test_what_nobody_could_know_before_is_told_to_the_model_and_not_done():
    """A toolset's tools are not known before it is opened."""
    llm = model(wishes(("peek", {"file": "a"})), "I could not look")
    agent = Agent("clerk", llm, mcp=[Box(lambda: [peek])])
    assert (await Solo(agent).run("Go.")).output == "I could not look"
    assert told(agent) == ["Error: a person is to be asked first, and there is nobody to ask"]


async def test_a_toolsets_tools_ask_at_the_terminal_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
):
    desk = Desk()
    monkeypatch.setattr("pyagent_patterns.base.at_terminal", lambda: True)
    monkeypatch.setattr("pyagent_patterns.base.ask_at_terminal", desk)
    llm = model(wishes(("peek", {"file": "a"})), "done")
    await Solo(Agent("clerk", llm, mcp=[Box(lambda: [peek])])).run("Go.")
    assert desk.kinds == ["tool"]


@pytest.mark.parametrize("stdin", [None, "closed"])
async def test_a_service_without_standard_input_is_no_terminal(
    stdin: str | None, monkeypatch: pytest.MonkeyPatch
):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdin", closed if stdin else None)
    assert (await Solo(Agent("a", model("done"))).run("Go.")).output == "done"


async def test_a_run_with_a_store_waits_for_the_decision(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    from pyagent_patterns.durable import Runs

    with Runs(tmp_path / "runs.db") as runs:
        team = Solo(sender(), approve=["tools"])
        with pytest.raises(RunSuspended) as suspended:
            await team.run("Go.", run_id="r", durable=runs)
        [key] = suspended.value.waiting_for
        await runs.signal("r", key, "no")  # which is no decision about a tool
        await runs.signal("r", key, {"approved": False, "reason": "never"})
        with caplog.at_level(logging.WARNING, logger="pyagent_patterns"):
            result = await runs.resume("r", team)
        assert "send another" in caplog.text
        assert result.output == "done"
        assert sent == []


# In any nesting


def prompt_of(schema: object) -> list[str]:
    """Whom a planner, or a classifier, can name."""
    text = str(schema)
    start = text.index("'enum': [") + len("'enum': [")
    return [name.strip("' ") for name in text[start : text.index("]", start)].split(",")]


class Anything(ScriptedLLM):
    """A model that plans, routes and judges as it is asked to, and else works."""

    def __init__(self) -> None:
        super().__init__([])

    async def _complete(self, request):  # type: ignore[no-untyped-def]
        self.requests.append(request)
        if request.schema is None:
            return Completion(text="work", finish_reason="stop")
        match request.schema.name:
            case "plan":
                [name, *_] = prompt_of(request.schema.schema["properties"]["assignments"])
                text = plan_text(item(name, "Do it.", id="t1"))
            case "answer":
                text = '{"accepted": true, "reasons": ""}'
            case _:
                [name, *_] = prompt_of(request.schema.schema)
                text = f'{{"routes": [{{"route": "{name}", "confidence": 1, "reason": "r"}}]}}'
        return Completion(text=text, finish_reason="stop")


def anybody(name: str) -> Agent:
    return Agent(name, Anything())


NESTINGS: dict[str, Callable[[Agent | Pattern, Sequence[Gate]], Pattern]] = {
    "pipeline": lambda inner, gates: Pipeline([inner], name="p", approve=gates),
    "router": lambda inner, gates: Router(
        [inner], classifier=anybody("classifier"), name="r", approve=gates
    ),
    "parallel": lambda inner, gates: Parallel(
        [inner], merge=anybody("merge"), name="a", approve=gates
    ),
    "loop": lambda inner, gates: Loop(inner, anybody("judge"), name="l", approve=gates),
    "workers": lambda inner, gates: OrchestratorWorkers(
        orchestrator=anybody("lead"), workers=[inner], name="w", approve=gates
    ),
    "hierarchical": lambda inner, gates: Hierarchical(
        manager=anybody("manager"), teams=[Team("crew", anybody("chief"), [inner])], name="h",
        approve=gates,
    ),
    "tool": lambda inner, gates: Solo(
        Agent("boss", model(wishes(("inner", {"task": "Do it."})), "work"),
              tools=[inner.as_tool("inner")]), name="t", approve=gates,
    ),
}  # fmt: skip


@pytest.mark.parametrize("outer", NESTINGS)
@pytest.mark.parametrize("inner", NESTINGS)
async def test_the_tools_gate_holds_in_everything_within(outer: str, inner: str):
    team = NESTINGS[outer](NESTINGS[inner](sender(after="work"), ()), ["tools"])
    desk = Desk(False)
    await team.run("Go.", human=desk)
    assert sent == []
    assert desk.kinds == ["tool"]
    assert desk.wanted[0].who.endswith("sender")
    desk = Desk()
    await NESTINGS[outer](NESTINGS[inner](sender(after="work"), ()), ["tools"]).run(
        "Go.", human=desk
    )
    assert (desk.kinds, sent) == (["tool"], ["Ann"])


@pytest.mark.parametrize("outer", NESTINGS)
@pytest.mark.parametrize("inner", NESTINGS)
async def test_the_answer_gate_of_a_pattern_within_is_asked_there_and_nowhere_else(
    outer: str, inner: str
):
    agent = Agent("a", model("work"))
    team = NESTINGS[outer](NESTINGS[inner](agent, ["answer"]), ())
    desk = Desk()
    await team.run("Go.", human=desk)
    assert desk.kinds == ["answer"]
    agent = Agent("a", model("work"))
    desk = Desk()
    await NESTINGS[outer](NESTINGS[inner](agent, ()), ["answer"]).run("Go.", human=desk)
    assert desk.kinds == ["answer"]


@pytest.mark.parametrize("outer", NESTINGS)
async def test_the_plan_gate_of_a_team_within_holds_and_its_refusal_is_the_teams_failure(
    outer: str,
):
    team = NESTINGS[outer](planned(approve=["plan"], name="crew-in"), ())
    desk = Desk()
    await team.run("Go.", human=desk)
    assert desk.kinds == ["plan"]
    refusing = NESTINGS[outer](planned(approve=["plan"], name="crew-in"), ())
    if outer == "tool":  # who called it goes on
        assert (await refusing.run("Go.", human=Desk(False))).output == "work"
        return
    with pytest.raises(PyAgentError, match="declined the plan"):
        await refusing.run("Go.", human=Desk(False))


async def test_a_declined_answer_within_is_a_failure_that_says_so():
    inner = Solo(Agent("a", model("work")), approve=["answer"], name="inner")
    desk = Desk(Decision(approved=False, reason="no"))
    with pytest.raises(StageError, match="a person declined the answer of 'inner': no"):
        await Pipeline([inner]).run("Go.", human=desk)


# At the terminal

SCRIPT = """
import asyncio, sys
from pyagent_patterns import Agent, Parallel, Pipeline, tool
from pyagent_patterns.errors import PyAgentError
from pyagent_patterns.people import ask_human
from tests.patterns.tools import model, told, wishes

@tool(approve=True)
async def send(to: str) -> str:
    return f"sent to {to}"

def clerk(name, *calls):
    return Agent(name, model(wishes(*calls), "done"), tools=[send, ask_human])

async def main():
    agents = [clerk("one", %(one)s), clerk("two", %(two)s)]
    await Parallel(agents).run("Go.")
    for agent in agents:
        print("TOLD", ascii(told(agent)))

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("INTERRUPTED")
print("OVER")
"""
SEND, ASK = '("send", {"to": "Ann"})', '("ask_human", {"question": "Which day?"})'


def _hear_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it


class Terminal:
    """A process at a terminal of its own; its standard output goes elsewhere."""

    def __init__(self, one: str, two: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT % {"one": one, "two": two}],
            stdin=slave, stdout=subprocess.PIPE, stderr=slave, start_new_session=True,
            preexec_fn=_hear_ctrl_c,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )  # fmt: skip
        os.close(slave)
        self.shown = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        os.close(self._master)

    def until(self, text: str) -> str:
        """What is shown, up to this text; forgets it."""
        deadline = time.monotonic() + 30
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if select.select([self._master], [], [], 0.1)[0]:
                self.shown += os.read(self._master, 4096).decode()
        seen, self.shown = self.shown.split(text, 1)
        return seen

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def output(self) -> str:
        """Standard output, of the process that has ended."""
        assert self.process.stdout is not None
        self.process.wait(30)
        return self.process.stdout.read().decode()


def test_at_a_terminal_each_is_asked_there_one_after_another_and_not_on_stdout():
    with Terminal(SEND, ASK) as terminal:
        terminal.until("wants to call")
        assert "asks:" not in terminal.until("[y/n, or why not] ")
        terminal.type("\nnot today\n")
        terminal.until("two asks:")
        terminal.until("> ")
        terminal.type("Tuesday\n")
        out = terminal.output()
    assert "TOLD ['Error: a person declined this call: not today']" in out
    assert "TOLD ['Tuesday']" in out
    assert out.endswith("OVER\n")
    assert "approve" not in out.lower()


def test_the_end_of_input_at_a_terminal_declines():
    with Terminal(SEND, SEND) as terminal:
        for _ in range(2):
            terminal.until("[y/n, or why not] ")
            terminal.type("\x04")
        out = terminal.output()
    assert out.count("a person declined this call: there was no answer") == 2


def test_an_interrupt_while_a_person_is_asked_ends_the_run_at_once():
    with Terminal(SEND, SEND) as terminal:
        terminal.until("[y/n, or why not] ")
        terminal.process.send_signal(signal.SIGINT)
        out = terminal.output()
        assert terminal.process.returncode == 0
    assert out == "INTERRUPTED\nOVER\n"


def test_hostile_text_at_a_terminal_cannot_move_the_cursor_or_hide():
    hostile = '("ask_human", {"question": "Yes?\\x1b[2J\\x1b]0;title\\x07\\u202egnp.\\x08"})'
    argument = '("send", {"to": "Ann\\x1b[1A\\u202e\\nApprove this tool? y"})'
    with Terminal(hostile, argument) as terminal:
        shown = terminal.until("> ")
        terminal.type("ok\n")
        shown += terminal.until("[y/n, or why not] ")
        terminal.type("y\n")
        terminal.output()
    assert not {"\x1b", "\u202e", "\x07", "\x08"} & set(shown)
    assert "to: 'Ann\\x1b[1A\\u202e\\nApprove this tool? y'" in shown
