"""The spans of a run: one tree, in one trace, ended whatever happens."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id

from pyagent_patterns.errors import AgentError, PlanError
from pyagent_patterns.journal import MemoryStore
from pyagent_patterns.testing import CapturedTrace, capture_trace
from pyagent_providers import semconv
from pyagent_providers.base import OutputSchema, Sampling
from pyagent_providers.errors import BadRequestError, RateLimitError
from pyagent_providers.telemetry import ModelIdentity, Telemetry, using
from pyagent_providers.testing import ScriptedLLM, Step
from tests.patterns.teams import PRICE, item, plan_text, team

PLAN = plan_text(
    item("researcher", id="t1"),
    item("writer", id="t2"),
    item("reviewer", id="t3", depends_on=["t1", "t2"]),
)
ANSWERS = {"researcher": ["found"], "writer": ["written"], "reviewer": ["fine"]}


def named(trace: CapturedTrace, name: str) -> ReadableSpan:
    """The one span of this name, or the first."""
    return next(span for span in trace.spans if span.name == name)


async def test_a_run_is_one_tree_of_pattern_agents_and_attempts():
    retried = {**ANSWERS, "researcher": [RateLimitError("slow down"), "found"]}
    with capture_trace() as trace:
        await team([PLAN], retried).run("a task")
    assert trace.tree() == (
        "pyagent.pattern.orchestrator_workers\n"
        "  pyagent.agent.planner plan\n"
        "    chat planner-model\n"
        "  pyagent.agent.researcher worker t1\n"
        "    chat researcher-model !RateLimitError\n"
        "    chat researcher-model\n"
        "  pyagent.agent.writer worker t2\n"
        "    chat writer-model\n"
        "  pyagent.agent.reviewer worker t3\n"
        "    chat reviewer-model\n"
        "  pyagent.agent.planner synthesis\n"
        "    chat planner-model"
    )


async def test_model_calls_are_client_spans_and_everything_else_is_internal():
    with capture_trace() as trace:
        await team([PLAN], ANSWERS).run("a task")
    kinds = {span.name.split(".")[0].split()[0]: span.kind for span in trace.spans}
    assert kinds == {"pyagent": SpanKind.INTERNAL, "chat": SpanKind.CLIENT}


async def test_the_pattern_span_says_what_was_planned_used_and_spent():
    with capture_trace() as trace:
        result = await team([PLAN], ANSWERS).run("a task", run_id="run-1")
    root = trace.spans[0]
    assert dict(root.attributes or {}) == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "orchestrator_workers",
        "pyagent.pattern": "orchestrator_workers",
        "pyagent.run.id": "run-1",
        "openinference.span.kind": "CHAIN",
        "pyagent.plan.tasks": ("t1", "t2", "t3"),
        "pyagent.plan.depends_on": ("", "", "t1, t2"),
        "pyagent.plan.workers": ("researcher", "writer", "reviewer"),
        "pyagent.usage.input_tokens": 50,
        "pyagent.usage.output_tokens": 25,
        "pyagent.cost.usd": pytest.approx(0.0003),
        "pyagent.status": "completed",
        "pyagent.workers_used": ("researcher", "writer", "reviewer"),
    }
    assert result.trace_id == format_trace_id(root.context.trace_id)


async def test_an_agent_span_says_whom_what_for_and_its_totals():
    retried = {**ANSWERS, "reviewer": [RateLimitError("slow down"), "fine"]}
    with capture_trace() as trace:
        await team([PLAN], retried).run("a task", run_id="run-1")
    assert dict(named(trace, "pyagent.agent.reviewer").attributes or {}) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "reviewer",
        "pyagent.phase": "worker",
        "pyagent.pattern": "orchestrator_workers",
        "pyagent.run.id": "run-1",
        "pyagent.step": 4,
        "pyagent.path": "reviewer",
        "pyagent.task.id": "t3",
        "pyagent.task.depends_on": ("t1", "t2"),
        "pyagent.usage.input_tokens": 10,
        "pyagent.usage.output_tokens": 5,
        "pyagent.cost.usd": pytest.approx(0.00006),
        "pyagent.attempts": 2,
    }
    planning = named(trace, "pyagent.agent.planner").attributes or {}
    assert planning["gen_ai.operation.name"] == "plan"
    assert planning["openinference.span.kind"] == "CHAIN"


async def test_an_inference_span_has_the_conventions_attributes():
    llm = ScriptedLLM(["hello"], model="m-1", price=PRICE)
    llm._identity = ModelIdentity("openai", "m-1", "api.example.com", 443)
    sampling = Sampling(max_tokens=9, temperature=0.5, top_p=0.25, stop=("END",), seed=7)
    with capture_trace() as trace:
        await llm.complete("hi", sampling=sampling, schema=OutputSchema("s", {}))
    [span] = trace.spans
    assert span.name == "chat m-1"
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m-1",
        "server.address": "api.example.com",
        "server.port": 443,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.25,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.seed": 7,
        "gen_ai.output.type": "json",
        "gen_ai.response.model": "m-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "pyagent.cost.usd": pytest.approx(0.00006),
        "gen_ai.usage.cost": pytest.approx(0.00006),
        "pyagent.price.source": "user",
    }


async def test_only_inference_spans_carry_gen_ai_usage():
    """Backends add up every span that carries it."""
    with capture_trace() as trace:
        await team([PLAN], ANSWERS).run("a task")
    carriers = {
        span.name.split()[0]
        for span in trace.spans
        if any(name.startswith("gen_ai.usage.") for name in span.attributes or {})
    }
    assert carriers == {"chat"}


async def test_every_span_is_in_the_trace_of_the_users_own_current_span():
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    slow = {name: [Step(name, delay=0.02)] for name in ANSWERS}
    with (
        using(Telemetry(tracer_provider=provider)),
        provider.get_tracer("app").start_as_current_span("request") as request,
    ):
        await team([PLAN], slow).run("a task")
    spans = exporter.get_finished_spans()
    assert len(spans) == 12
    assert {span.context.trace_id for span in spans} == {request.get_span_context().trace_id}
    [pattern] = [span for span in spans if span.name.startswith("pyagent.pattern.")]
    assert pattern.parent is not None
    assert pattern.parent.span_id == request.get_span_context().span_id


async def test_an_exception_is_recorded_once_where_it_happened():
    broken = {**ANSWERS, "writer": [BadRequestError("no such model", status=404)]}
    with capture_trace() as trace:
        await team([PLAN], broken).run("a task")
    recorded = [
        (span.name, dict(event.attributes or {}))
        for span in trace.spans
        for event in span.events
        if event.name == "exception"
    ]
    assert recorded == [
        (
            "chat writer-model",
            {
                "exception.type": "BadRequestError",
                "exception.message": "no such model (HTTP 404)",
            },
        )
    ]
    failed = {s.name for s in trace.spans if s.status.status_code is StatusCode.ERROR}
    assert failed == {"chat writer-model", "pyagent.agent.writer"}


async def test_a_run_that_fails_ends_its_spans_with_the_error():
    with capture_trace() as trace:
        with pytest.raises(AgentError):
            await team([BadRequestError("bad")], ANSWERS).run("a task")
        with pytest.raises(PlanError):
            await team(["no plan", "nor this"], ANSWERS).run("a task")
    assert trace.tree() == (
        "pyagent.pattern.orchestrator_workers !AgentError\n"
        "  pyagent.agent.planner plan !AgentError\n"
        "    chat planner-model !BadRequestError\n"
        "pyagent.pattern.orchestrator_workers !PlanError\n"
        "  pyagent.agent.planner plan\n"
        "    chat planner-model\n"
        "  pyagent.agent.planner plan\n"
        "    chat planner-model"
    )
    rejected = [e.name for s in trace.spans for e in s.events if e.name != "exception"]
    assert rejected == [semconv.PLAN_REJECTED_EVENT] * 2


async def test_a_cancelled_run_ends_all_its_spans():
    slow = {**ANSWERS, "writer": [Step("written", delay=30)]}
    with capture_trace() as trace:
        run = asyncio.create_task(team([PLAN], slow).run("a task"))
        async with asyncio.timeout(5):
            while not any(span.name == "pyagent.agent.researcher" for span in trace.spans):
                await asyncio.sleep(0.001)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    cancelled = "!asyncio.exceptions.CancelledError"
    assert trace.tree() == (
        f"pyagent.pattern.orchestrator_workers {cancelled}\n"
        "  pyagent.agent.planner plan\n"
        "    chat planner-model\n"
        "  pyagent.agent.researcher worker t1\n"
        "    chat researcher-model\n"
        f"  pyagent.agent.writer worker t2 {cancelled}\n"
        f"    chat writer-model {cancelled}"
    )


async def test_two_concurrent_runs_are_two_traces_that_do_not_mix():
    plan = plan_text(item("a"), item("b"))
    both = team([plan, plan, "an answer"], {"a": ["1", "2"], "b": ["3", "4"]})
    with capture_trace() as trace:
        results = await asyncio.gather(both.run("one"), both.run("two"))
    per_trace = Counter(format_trace_id(span.context.trace_id) for span in trace.spans)
    assert per_trace == {result.trace_id: 9 for result in results}
    run_of = {
        (format_trace_id(span.context.trace_id), span.attributes["pyagent.run.id"])
        for span in trace.spans
        if span.attributes and "pyagent.run.id" in span.attributes
    }
    assert run_of == {(result.trace_id, result.run_id) for result in results}


async def test_a_replayed_call_is_seen_as_such_and_counted_in_no_metric():
    store = MemoryStore()
    same = team([PLAN], ANSWERS)
    first = await same.run("a task", run_id="r", durable=store)
    with capture_trace() as trace:
        again = await same.run("a task", run_id="r", durable=store)
    assert trace.tree() == (
        "pyagent.pattern.orchestrator_workers\n"
        "  pyagent.agent.planner plan replayed\n"
        "  pyagent.agent.researcher worker t1 replayed\n"
        "  pyagent.agent.writer worker t2 replayed\n"
        "  pyagent.agent.reviewer worker t3 replayed\n"
        "  pyagent.agent.planner synthesis replayed"
    )
    for name in (
        semconv.COST_COUNTER,
        semconv.UNPRICED,
        semconv.RETRIES,
        semconv.TOKEN_USAGE,
        semconv.OPERATION_DURATION,
        semconv.INVOKE_AGENT_DURATION,
    ):
        assert trace.metric(name).points == ()
    assert again.cost_estimate == first.cost_estimate > 0
    root = trace.spans[0].attributes or {}
    assert root["pyagent.cost.usd"] == pytest.approx(float(first.cost_estimate))
