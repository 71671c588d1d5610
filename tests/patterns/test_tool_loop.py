"""An agent with tools: what is called, what the model is told, and what is left when it ends."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from decimal import Decimal

import pytest

from pyagent_patterns import (
    Agent,
    AgentError,
    Budget,
    OrchestratorWorkers,
    Pipeline,
    Timeouts,
    ToolError,
    parallel,
    tool,
)
from pyagent_patterns.errors import BudgetExceeded, RunAborted, StageError
from pyagent_patterns.events import Event, TextDelta, ToolEnded, ToolStarted
from pyagent_patterns.people import ask_human
from pyagent_patterns.tools import Tool
from pyagent_providers.errors import RateLimitError
from pyagent_providers.testing import ScriptedLLM, Step
from tests.failure.solo import Solo

from .streams import piecewise
from .teams import QUICK, item, plan_text, questions
from .tools import Box, model, told, wishes


@tool(effect="read")
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool(effect="read")
async def fail(why: str) -> str:
    raise ToolError(why)


@tool(effect="read")
async def crash() -> str:
    raise LookupError("no such row \udcff")


def asked(agent: Agent) -> int:
    assert isinstance(agent.llm, ScriptedLLM)
    return len(agent.llm.requests)


async def test_an_agent_calls_its_tools_and_answers_from_what_they_gave():
    agent = Agent("clerk", model(wishes(("add", {"a": 1, "b": 2})), "it is 3"), tools=[add])
    result = await Solo(agent).run("1 + 2?")
    assert result.output == "it is 3"
    assert told(agent) == ["3"]
    assert [spec.name for spec in agent.llm.requests[0].tools] == ["add"]  # type: ignore[attr-defined]
    assert len(result.calls) == 2


async def test_calls_run_at_once_and_their_results_go_back_in_the_order_of_the_calls():
    met = asyncio.Barrier(3)

    @tool(effect="read")
    async def meet(n: int) -> str:
        async with asyncio.timeout(5):
            await met.wait()  # unless all three are under way, nobody comes
        await asyncio.sleep(0.01 * (3 - n))  # the first is done last
        return f"result {n}"

    calls = [("meet", {"n": n}) for n in (1, 2, 3)]
    agent = Agent("clerk", model(wishes(*calls), "done"), tools=[meet])
    await Solo(agent).run("Meet.")
    assert told(agent) == ["result 1", "result 2", "result 3"]


async def test_the_conversation_goes_back_whole_with_the_text_beside_the_calls():
    first = wishes(("add", {"a": 1, "b": 2}), text="Let me add.")
    agent = Agent("clerk", model(first, wishes(("add", {"a": 3, "b": 4})), "10"), tools=[add])
    await Solo(agent).run("Sum up.")
    [_, second, third] = agent.llm.requests  # type: ignore[attr-defined]
    assert [m.role for m in second.messages] == ["user", "assistant", "tool"]
    assert [m.role for m in third.messages] == ["user", *2 * ["assistant", "tool"]]
    assert second.messages[1].content == "Let me add."
    assert second.messages[1].tool_calls == first.tool_calls
    assert second.messages[2].tool_call_id == first.tool_calls[0].id


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (("add", {"a": "one", "b": 2}), "a: "),
        (("add", "{not json"), "this is not JSON"),
        (("add", "[1, 2]"), "one JSON object"),
        (("subtract", {}), "there is no tool 'subtract'"),
        (("fail", {"why": "the shop is closed"}), "the shop is closed"),
        (("crash", {}), "LookupError: no such row ?"),
        (("ask_human", {}), "question: a text is needed"),
        (("ask_human", "{"), "this is not JSON"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
async def test_whatever_a_call_gets_wrong_is_told_to_the_model_which_goes_on(
    call: tuple[str, dict[str, object] | str], error: str
):
    agent = Agent("clerk", model(wishes(call), "done"), tools=[add, fail, crash, ask_human])
    result = await Solo(agent).run("Go.", human=lambda wanted: True)
    assert result.output == "done"
    assert result.status == "completed"
    [said] = told(agent)
    assert said.startswith("Error: ")
    assert error in said


async def test_a_tool_has_its_own_time_and_no_more_than_the_agents():
    @tool(effect="read", timeout=0.02)
    async def slow() -> str:
        await asyncio.sleep(30)
        return "never"

    @tool(effect="read")
    async def slower() -> str:
        await asyncio.sleep(30)
        return "never"

    agent = Agent("clerk", model(wishes(("slow", {})), "done"), tools=[slow])
    await Solo(agent).run("Go.")
    assert told(agent) == ["Error: it took longer than 0.02 s and was stopped"]

    late = Agent("clerk", model(wishes(("slower", {})), "done"), tools=[slower],
                 timeouts=Timeouts(assignment=0.1))  # fmt: skip
    with pytest.raises(AgentError, match=r"no answer within 0\.1 s") as failed:
        await asyncio.wait_for(Solo(late).run("Go."), 10)
    assert failed.value.kind == "timeout"
    assert asked(late) == 1  # what cannot be waited for is not paid for


async def test_a_tool_that_says_it_timed_out_says_so_itself():
    @tool(effect="read", timeout=60)
    async def connect() -> str:
        raise TimeoutError("the host does not answer")

    agent = Agent("clerk", model(wishes(("connect", {})), "done"), tools=[connect])
    await Solo(agent).run("Go.")
    assert told(agent) == ["Error: TimeoutError: the host does not answer"]


async def test_a_tool_that_is_cancelled_from_within_fails_and_does_not_cancel_the_run():
    @tool(effect="read")
    async def library() -> str:
        raise asyncio.CancelledError("a scope of its own")

    agent = Agent("clerk", model(wishes(("library", {})), "done"), tools=[library])
    assert (await Solo(agent).run("Go.")).output == "done"
    assert told(agent) == ["Error: asyncio.exceptions.CancelledError: a scope of its own"]


async def test_the_last_step_makes_no_calls_that_nobody_would_be_told_of():
    made = list[int]()

    @tool
    async def count() -> None:
        made.append(1)

    agent = Agent("clerk", model(*3 * [wishes(("count", {}))]), tools=[count], max_steps=3)
    with pytest.raises(AgentError, match="still called tools after max_steps=3 steps"):
        await Solo(agent).run("Go.")
    assert len(made) == 2


async def test_an_agent_that_runs_out_of_steps_has_a_fallback_like_any_that_fails():
    stand_in = Agent("stand-in", model("from memory"))
    agent = Agent("clerk", model(wishes(("add", {"a": 1, "b": 1}))), tools=[add], max_steps=1,
                  fallback=stand_in)  # fmt: skip
    assert (await Solo(agent).run("Go.")).output == "from memory"


async def test_a_fallback_has_its_own_tools():
    stand_in = Agent("stand-in", model(wishes(("add", {"a": 2, "b": 2})), "4"), tools=[add])
    agent = Agent("clerk", model(*3 * [RateLimitError("full")]), retry=QUICK, fallback=stand_in)
    assert (await Solo(agent).run("Go.")).output == "4"
    assert told(stand_in) == ["4"]


async def test_within_a_loop_each_question_is_tried_again_and_by_the_next_model():
    first = model(RateLimitError("wait"), wishes(("add", {"a": 1, "b": 1})),
                  *3 * [RateLimitError("full")])  # fmt: skip
    second = model("2, from the second")
    agent = Agent("clerk", [first, second], tools=[add], retry=QUICK)
    result = await Solo(agent).run("1 + 1?")
    assert result.output == "2, from the second"
    assert [m.content for m in second.requests[0].messages if m.role == "tool"] == ["2"]
    assert len(result.calls) == 6


async def test_an_answer_that_is_empty_after_the_tools_is_a_failure():
    agent = Agent("clerk", model(wishes(("add", {"a": 1, "b": 1})), *3 * [""]), tools=[add],
                  retry=QUICK)  # fmt: skip
    with pytest.raises(AgentError) as failed:
        await Solo(agent).run("Go.")
    assert failed.value.kind == "empty"


async def test_the_answer_of_an_agent_with_tools_is_held_to_the_output_type():
    agent = Agent(
        "clerk", model(wishes(("add", {"a": 1, "b": 2})), "three", '{"sum": 3}'), tools=[add]
    )
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    result = await Solo(agent, output_type=schema).run("1 + 2?")
    assert result.data == {"sum": 3}
    assert all(r.schema is not None for r in agent.llm.requests)  # type: ignore[attr-defined]


# Other agents and patterns as tools


def research() -> tuple[OrchestratorWorkers, Agent]:
    planner = model(plan_text(item("reader", "Read it.", id="t1")), "they read: yes")
    reader = Agent("reader", model("it says yes"))
    team = OrchestratorWorkers(
        orchestrator=Agent("planner", planner), workers=[reader], name="research desk",
        description="Finds things out.",
    )  # fmt: skip
    return team, reader


async def test_a_pattern_is_a_tool_whose_cost_and_path_are_the_runs():
    team, _ = research()
    boss = model(wishes(("research_desk", {"task": "Find out."})), "yes, then")
    agent = Agent("boss", boss, tools=[team.as_tool()])
    result = await Solo(agent).run("Is it so?")
    assert result.output == "yes, then"
    assert told(agent) == ["they read: yes"]
    assert boss.requests[0].tools[0].description == "Finds things out."
    assert result.cost_by("path") == {
        "boss": 2 * Decimal("0.00006"),
        "research desk/planner": 2 * Decimal("0.00006"),
        "research desk/reader": Decimal("0.00006"),
    }
    assert result.cost_estimate == 5 * Decimal("0.00006")


async def test_what_a_workers_tools_spend_is_part_of_its_assignment():
    team, _ = research()
    worker = Agent("worker", model(wishes(("ask", {"task": "Find out."})), "done"),
                   tools=[team.as_tool("ask")])  # fmt: skip
    planner = model(plan_text(item("worker", "Do it.", id="t1")), "the answer")
    outer = OrchestratorWorkers(orchestrator=Agent("lead", planner), workers=[worker])
    result = await outer.run("Go.")
    mine = next(o for o in result.outcomes if o.path == "worker")
    assert mine.attempts == 5
    assert mine.cost == 5 * Decimal("0.00006")
    assert result.cost_estimate == 7 * Decimal("0.00006")


async def test_that_an_agent_failed_as_a_tool_is_told_to_who_called_it():
    expert = Agent("expert", model(ValueError("broken")), retry=QUICK)
    agent = Agent("boss", model(wishes(("expert", {"task": "Advise."}), ("add", {"a": 1, "b": 1})),
                                "I go on alone"), tools=[expert.as_tool(), add])  # fmt: skip
    result = await Solo(agent).run("Go.")
    assert result.output == "I go on alone"
    failed, added = told(agent)
    assert failed.startswith("Error: agent 'expert'")
    assert "broken" in failed
    assert added == "2"


async def test_a_tool_that_is_an_agent_needs_a_task():
    expert = Agent("expert", model())
    agent = Agent("boss", model(wishes(("expert", {"question": "?"})), "done"),
                  tools=[expert.as_tool()])  # fmt: skip
    await Solo(agent).run("Go.")
    assert "task: a text is needed" in told(agent)[0]


async def test_an_abort_within_a_tool_ends_the_run():
    expert = Agent("expert", model(ValueError("broken")), retry=QUICK, on_error="abort")
    agent = Agent("boss", model(wishes(("expert", {"task": "Advise."}))), tools=[expert.as_tool()])
    with pytest.raises(RunAborted) as ended:
        await Solo(agent).run("Go.")
    assert ended.value.result is not None
    assert len(ended.value.result.calls) == 2


# Toolsets


async def test_a_toolset_is_opened_when_it_is_first_needed_once_a_run_and_closed_at_its_end():
    box = Box(lambda: [add])
    first = Agent("first", model(wishes(("add", {"a": 1, "b": 1})), "one"), mcp=[box])
    idle = Agent("idle", model("none"))
    second = Agent("second", model(wishes(("add", {"a": 2, "b": 2})), "two"), mcp=[box])
    opened: list[list[str]] = []

    async def look(prompt: str) -> str:
        opened.append(list(box.log))
        return prompt

    await Pipeline([look, idle, first, second]).run("Go.")
    assert opened == [[]]
    assert box.log == ["opened", "closed"]
    assert told(first) == ["2"]
    assert told(second) == ["4"]


async def test_agents_that_need_a_toolset_at_once_share_what_is_opened():
    box = Box(lambda: [add])
    agents = [
        Agent(f"a{n}", model(wishes(("add", {"a": n, "b": n})), "done"), mcp=[box])
        for n in range(5)
    ]
    await parallel(*agents).run("Go.")
    assert box.log == ["opened", "closed"]


@pytest.mark.parametrize("how", ["cancelled", "failed"])
async def test_a_toolset_is_closed_however_the_run_ends(how: str):
    begun = asyncio.Event()

    @tool(effect="read")
    async def hang() -> str:
        begun.set()
        await asyncio.sleep(30)
        return ""

    box = Box(lambda: [hang, add])
    if how == "failed":
        agent = Agent("a", model(wishes(("add", {"a": 1, "b": 1})), ValueError("x")), mcp=[box])
        with pytest.raises(AgentError):
            await Solo(agent).run("Go.")
    else:
        agent = Agent("a", model(wishes(("hang", {}))), mcp=[box])
        run = asyncio.create_task(Solo(agent).run("Go."))
        await begun.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    assert box.log == ["opened", "closed"]


async def test_two_runs_at_once_have_each_their_own(caplog: pytest.LogCaptureFixture):
    box = Box(lambda: [add])

    def answer(n: int) -> Step:
        return Step(wishes(("add", {"a": n, "b": n})), when=f"double {n}")

    llm = model(answer(1), answer(2), Step("2", when="\n2"), Step("4", when="\n4"))
    agent = Agent("clerk", llm, mcp=[box])
    one, two = await asyncio.gather(Solo(agent).run("double 1"), Solo(agent).run("double 2"))
    assert (one.output, two.output) == ("2", "4")
    assert sorted(box.log) == ["closed", "closed", "opened", "opened"]
    assert len(one.calls) == len(two.calls) == 2


async def test_a_toolset_that_cannot_be_opened_fails_the_agent_and_not_the_run():
    box = Box(lambda: [], fault=ConnectionError("refused"))
    agent = Agent("clerk", model(), mcp=[box], fallback=Agent("stand-in", model("by hand")))
    assert (await Solo(agent).run("Go.")).output == "by hand"
    alone = Agent("clerk", model(), mcp=[box])
    with pytest.raises(AgentError, match="tools of 'box' are not there: ConnectionError: refused"):
        await Solo(alone).run("Go.")


async def test_a_toolset_that_does_not_open_has_no_more_time_than_the_agent():
    class Stuck:
        name = "stuck"

        @asynccontextmanager
        async def open(self) -> AsyncGenerator[Sequence[Tool]]:
            await asyncio.sleep(30)
            yield []

    agent = Agent("clerk", model(), mcp=[Stuck()], timeouts=Timeouts(assignment=0.05))
    with pytest.raises(AgentError, match="tools of 'stuck' are not there: TimeoutError"):
        await asyncio.wait_for(Solo(agent).run("Go."), 10)


async def test_a_toolset_that_fails_when_it_is_closed_does_not_take_the_answer_with_it(
    caplog: pytest.LogCaptureFixture,
):
    box = Box(lambda: [add], fault_at_end=ConnectionError("gone"))
    agent = Agent("clerk", model(wishes(("add", {"a": 1, "b": 1})), "2"), mcp=[box])
    with caplog.at_level(logging.WARNING, logger="pyagent_patterns"):
        assert (await Solo(agent).run("Go.")).output == "2"
    assert "a toolset failed when it was closed" in caplog.text


async def test_a_name_that_is_there_twice_is_an_error_that_says_whose():
    box = Box(lambda: [add])
    agent = Agent("clerk", model(), tools=[add], mcp=[box])
    with pytest.raises(ValueError, match=r"agent 'clerk' has two tools named 'add'.*'box'.*prefix"):
        await Solo(agent).run("Go.")
    with pytest.raises(ValueError, match="agent 'clerk' has two tools named 'add'"):
        Agent("clerk", model(), tools=[add, add])


# What is left


async def test_a_run_that_is_cancelled_in_a_tool_leaves_nothing_running_and_keeps_its_ledger():
    begun, ended = asyncio.Event(), list[str]()

    @tool(effect="read")
    async def hang() -> str:
        begun.set()
        try:
            await asyncio.sleep(30)
        finally:
            ended.append("stopped")
        return ""

    agent = Agent("clerk", model(wishes(("hang", {}), ("hang", {}))), tools=[hang])
    run = asyncio.create_task(Solo(agent).run("Go."))
    await begun.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await run
    assert ended == ["stopped", "stopped"]
    [call] = cancelled.value.result.calls  # type: ignore[attr-defined]
    assert (call.status, call.cost) == ("ok", Decimal("0.00006"))
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_sync_tool_runs_in_a_thread_that_sees_the_context():
    where: ContextVar[str] = ContextVar("where")
    seen = list[tuple[str, bool]]()

    @tool(effect="read")
    def look() -> str:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            seen.append((where.get(), True))
        return where.get()

    where.set("here")
    agent = Agent("clerk", model(wishes(("look", {})), "done"), tools=[look])
    await Solo(agent).run("Go.")
    assert seen == [("here", True)]
    assert told(agent) == ["here"]


# Money


async def test_each_step_is_paid_for_from_the_budget():
    agent = Agent("clerk", model(*5 * [wishes(("add", {"a": 1, "b": 1}))]), tools=[add])
    with pytest.raises(BudgetExceeded) as refused:
        await Solo(agent).run("Go.", budget=Budget(max_calls=3))
    assert asked(agent) == 3
    assert refused.value.result is not None
    assert len(refused.value.result.calls) == 3


async def test_a_team_whose_worker_is_refused_within_its_loop_answers_from_what_it_has():
    ready = Agent("ready", model("done at once"))
    busy = Agent("busy", model(*9 * [wishes(("add", {"a": 1, "b": 1}))]), tools=[add])
    planner = model(plan_text(item("ready", id="t1"), item("busy", id="t2")), "what there is")
    team = OrchestratorWorkers(orchestrator=Agent("lead", planner), workers=[ready, busy])
    result = await team.run("Go.", budget=Budget(max_calls=5))
    assert result.output == "what there is"
    assert result.status == "partial"
    assert len(result.calls) == 5
    failed = next(o for o in result.outcomes if o.worker == "busy")
    assert "max_calls" in (failed.error or "")


# Events


async def test_calls_are_told_of_as_events_with_their_arguments_and_results():
    events = list[Event]()
    agent = Agent("clerk", model(wishes(("add", {"a": 1, "b": 2}), ("fail", {"why": "no"})), "3"),
                  tools=[add, fail])  # fmt: skip
    await Solo(agent).run("1 + 2?", on_event=events.append)
    started = [e for e in events if isinstance(e, ToolStarted)]
    ended = {e.tool: e for e in events if isinstance(e, ToolEnded)}
    assert [(e.tool, json.loads(e.arguments)) for e in started] == [
        ("add", {"a": 1, "b": 2}),
        ("fail", {"why": "no"}),
    ]
    assert (ended["add"].output, ended["add"].error) == ("3", None)
    assert (ended["fail"].output, ended["fail"].error) == (None, "no")
    assert {e.call_id for e in started} == {"call-0", "call-1"}


async def test_the_text_of_every_step_is_streamed():
    events = list[Event]()
    first = wishes(("add", {"a": 1, "b": 1}), text="let me see")
    agent = piecewise("clerk", first, "it is two", tools=[add], stream=True)
    result = await Solo(agent).run("1 + 1?", on_event=events.append)
    deltas = [e for e in events if isinstance(e, TextDelta)]
    assert "".join(e.text for e in deltas if e.step == 1) == "let me see"
    assert "".join(e.text for e in deltas if e.step == 2) == "it is two"
    assert result.output == "it is two"


# What is refused before anything is spent


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tools": add}, "tools must be a list"),
        ({"tools": "add"}, "tools must be a list"),
        ({"tools": ["add"]}, "a tool is a typed function"),
        ({"tools": [Agent("other", ScriptedLLM([]))]}, "as_tool"),
        ({"mcp": Box(lambda: [])}, "mcp must be a list"),
        ({"mcp": ["server"]}, "mcp must have toolsets; got 'server'"),
        ({"mcp": [add]}, "mcp must have toolsets"),
    ],
)
def test_tools_that_are_none_are_refused_when_the_agent_is_made(
    options: dict[str, object], error: str
):
    with pytest.raises(TypeError, match=error) as refused:
        Agent("clerk", ScriptedLLM([]), **options)  # type: ignore[arg-type]
    assert "agent 'clerk'" in str(refused.value)


async def test_what_a_stage_could_not_do_with_its_tools_is_the_stages_failure():
    agent = Agent("clerk", model(wishes(("add", {"a": 1, "b": 1}))), tools=[add], max_steps=1)
    with pytest.raises(StageError, match="max_steps"):
        await Pipeline([agent]).run("Go.")
    assert questions(agent) == ["Go."]
