"""What is seen of tools: their spans and durations, and never what they were told or said."""

from __future__ import annotations

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from pyagent_patterns import Agent, OrchestratorWorkers, ToolError, tool
from pyagent_patterns.errors import AgentError
from pyagent_patterns.journal import MemoryStore
from pyagent_patterns.people import ask_human
from pyagent_patterns.testing import CapturedTrace, capture_trace
from pyagent_providers import content, semconv
from tests.failure.solo import Solo
from tests.patterns.teams import item, plan_text
from tests.patterns.tools import Box, model, told, wishes

ARGUMENT, RESULT, FAULT = "tell-no-one-1", "found-it-2", "the-password-is-3"


@tool(effect="read")
async def search(query: str) -> str:
    """Search the archive."""
    return RESULT


@tool(effect="read")
async def broken(query: str) -> str:
    raise ToolError(FAULT)


@tool(effect="read")
async def crashed(query: str) -> str:
    raise ConnectionError(FAULT)


def tool_spans(trace: CapturedTrace):
    return [span for span in trace.spans if span.name.startswith("execute_tool")]


def wish(name: str) -> tuple[str, dict[str, object]]:
    return name, {"query": ARGUMENT}


async def test_an_agent_with_tools_is_one_span_with_its_questions_and_tools_within():
    llm = model(wishes(wish("search"), wish("broken")), wishes(wish("crashed")), "done")
    agent = Agent("researcher", llm, tools=[search, broken, crashed])
    planner = model(plan_text(item("researcher", id="t1")), "the answer")
    team = OrchestratorWorkers(orchestrator=Agent("planner", planner), workers=[agent])
    with capture_trace() as trace:
        await team.run("Go.")
    assert trace.tree() == (
        "pyagent.pattern.orchestrator_workers\n"
        "  pyagent.agent.planner plan\n"
        "    chat scripted\n"
        "  pyagent.agent.researcher worker t1\n"
        "    chat scripted\n"
        "    execute_tool search\n"
        "    execute_tool broken !ToolError\n"
        "    chat scripted\n"
        "    execute_tool crashed !ConnectionError\n"
        "    chat scripted\n"
        "  pyagent.agent.planner synthesis\n"
        "    chat scripted"
    )
    worker = next(span for span in trace.spans if span.name == "pyagent.agent.researcher")
    attributes = worker.attributes or {}
    assert attributes["pyagent.usage.input_tokens"] == 30
    assert attributes["pyagent.cost.usd"] == pytest.approx(3 * 0.00006)
    assert worker.status.status_code is StatusCode.UNSET
    assert trace.metric(semconv.INVOKE_AGENT_DURATION).count == 3


async def test_a_tool_span_has_the_conventions_attributes():
    agent = Agent("clerk", model(wishes(wish("search")), "done"), tools=[search])
    with capture_trace() as trace:
        await Solo(agent).run("Go.", run_id="run-1")
    [span] = tool_spans(trace)
    assert span.kind is SpanKind.INTERNAL
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search",
        "gen_ai.tool.call.id": "call-0",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.description": "Search the archive.",
        "gen_ai.agent.name": "clerk",
        "pyagent.run.id": "run-1",
        "openinference.span.kind": "TOOL",
    }
    metric = trace.metric("gen_ai.execute_tool.duration")
    assert metric.unit == "s"
    assert [point.attributes for point in metric.points] == [{"gen_ai.tool.name": "search"}]


async def test_a_failing_tool_is_marked_by_its_errors_type_and_counted_under_it():
    llm = model(wishes(wish("broken"), wish("crashed"), ("search", {})), "done")
    agent = Agent("clerk", llm, tools=[broken, crashed, search])
    with capture_trace() as trace:
        await Solo(agent).run("Go.")
    types = ["ToolError", "ConnectionError", "ToolArgumentsError"]
    assert [(s.attributes or {})["error.type"] for s in tool_spans(trace)] == types
    assert {s.status.status_code for s in tool_spans(trace)} == {StatusCode.ERROR}
    points = trace.metric("gen_ai.execute_tool.duration").points
    assert sorted(str(p.attributes["error.type"]) for p in points) == sorted(types)


async def test_names_that_models_make_up_do_not_become_labels():
    llm = model(wishes(*[(f"made_up_{n}", {}) for n in range(50)]), "done")
    agent = Agent("clerk", llm, tools=[search])
    with capture_trace() as trace:
        await Solo(agent).run("Go.")
    [point] = trace.metric("gen_ai.execute_tool.duration").points
    assert point.attributes == {"gen_ai.tool.name": "_OTHER", "error.type": "ToolError"}
    assert {span.name for span in tool_spans(trace)} == {"execute_tool _OTHER"}
    assert "made_up" not in str([(s.name, dict(s.attributes or {})) for s in trace.spans])
    assert "there is no tool 'made_up_0'" in told(agent)[0]


async def test_what_tools_are_told_and_say_is_nowhere_unless_it_is_asked_for():
    llm = model(wishes(wish("search"), wish("broken"), wish("crashed"), ("search", "{")), "done")
    agent = Agent("clerk", llm, tools=[search, broken, crashed])
    with capture_trace() as trace:
        await Solo(agent).run("Go.")
    seen = "".join(span.to_json() for span in trace.spans)
    for secret in (ARGUMENT, RESULT, FAULT):
        assert secret not in seen


@pytest.mark.parametrize("where", ["SPAN_ONLY", "SPAN_AND_EVENT"])
async def test_arguments_and_results_are_on_the_span_where_content_is(
    where: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", where)
    assert content.wanted() == where
    llm = model(wishes(wish("search"), wish("broken")), "done")
    agent = Agent("clerk", llm, tools=[search, broken])
    with capture_trace() as trace:
        await Solo(agent).run("Go.")
    first, second = (dict(span.attributes or {}) for span in tool_spans(trace))
    assert first["gen_ai.tool.call.arguments"] == f'{{"query": "{ARGUMENT}"}}'
    assert first["gen_ai.tool.call.result"] == RESULT
    assert second["gen_ai.tool.call.result"] == FAULT


async def test_a_toolsets_tools_are_seen_like_any_others():
    agent = Agent("clerk", model(wishes(wish("search")), "done"), mcp=[Box(lambda: [search])])
    with capture_trace() as trace:
        await Solo(agent).run("Go.")
    assert trace.tree() == (
        "pyagent.pattern.solo\n"
        "  pyagent.agent.clerk worker\n"
        "    chat scripted\n"
        "    execute_tool search\n"
        "    chat scripted"
    )
    [span] = tool_spans(trace)
    assert (span.attributes or {})["gen_ai.tool.description"] == "Search the archive."


async def test_an_agent_as_a_tool_is_a_span_within_the_tools():
    expert = Agent("expert", model("it is so"))
    agent = Agent("boss", model(wishes(("expert", {"task": "Look."})), "done"),
                  tools=[expert.as_tool()])  # fmt: skip
    with capture_trace() as trace:
        await Solo(agent).run("Go.")
    assert trace.tree() == (
        "pyagent.pattern.solo\n"
        "  pyagent.agent.boss worker\n"
        "    chat scripted\n"
        "    execute_tool expert\n"
        "      pyagent.agent.expert worker\n"
        "        chat scripted\n"
        "    chat scripted"
    )
    root, boss = trace.spans[0], trace.spans[1]
    assert (root.attributes or {})["pyagent.cost.usd"] == pytest.approx(3 * 0.00006)
    assert (boss.attributes or {})["pyagent.cost.usd"] == pytest.approx(2 * 0.00006)


async def test_what_is_on_record_is_marked_and_not_counted_again():
    expert = Agent("expert", model("it is so"))
    calls = wishes(wish("search"), ("expert", {"task": "Look."}), ("ask_human", {"question": "?"}))
    llm = model(calls, ValueError("broken"), wishes(wish("search")), "done")
    agent = Agent("clerk", llm, tools=[search, expert.as_tool(), ask_human])
    store = MemoryStore()

    def human(wanted: object) -> str:
        return "yes"

    with capture_trace(), pytest.raises(AgentError):
        await Solo(agent).run("Go.", run_id="r", durable=store, human=human)
    store._runs["r"]._values.popitem()  # type: ignore[attr-defined] - as if it had crashed there
    with capture_trace() as trace:
        result = await Solo(agent).run("Go.", run_id="r", durable=store, human=human)
    assert result.output == "done"
    assert trace.tree() == (
        "pyagent.pattern.solo\n"
        "  pyagent.agent.clerk worker\n"
        "    execute_tool search replayed\n"
        "    execute_tool expert replayed\n"
        "      pyagent.agent.expert worker replayed\n"
        "    execute_tool ask_human replayed\n"
        "    chat scripted\n"
        "    execute_tool search\n"
        "    chat scripted"
    )
    assert trace.metric("gen_ai.execute_tool.duration").count == 1
    assert trace.metric(semconv.COST_COUNTER).total == pytest.approx(2 * 0.00006)


async def test_a_tool_that_has_vanished_since_the_run_began_is_told_so():
    tools = [search]
    box = Box(lambda: tools)
    llm = model(ValueError("broken"), wishes(wish("search")), "done")
    agent, store = Agent("clerk", llm, mcp=[box]), MemoryStore()
    with pytest.raises(AgentError):
        await Solo(agent).run("Go.", run_id="r", durable=store)
    store._runs["r"]._values.popitem()  # type: ignore[attr-defined] - as if it had crashed there
    tools.clear()
    await Solo(agent).run("Go.", run_id="r", durable=store)
    assert told(agent) == ["Error: 'box' does not have the tool 'search' any more"]
