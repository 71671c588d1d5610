"""Names, units, buckets and attributes of the metrics, as the conventions have them."""

from __future__ import annotations

import pytest

from pyagent_patterns.testing import capture_trace
from pyagent_providers import Completion, Usage
from pyagent_providers.errors import MalformedResponseError, RateLimitError
from pyagent_providers.testing import ScriptedLLM, Step
from tests.patterns.teams import PRICE, item, plan_text, team

CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "m",
}
CLIENT_SECONDS = tuple(0.01 * 2**n for n in range(14))
AGENT_SECONDS = tuple(0.1 * 2**n for n in range(13))
WORKFLOW_SECONDS = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)


async def test_a_call_is_one_duration_and_its_tokens_by_type():
    llm = ScriptedLLM([Completion(text="x", model="m-2", usage=Usage(input_tokens=3,
                      output_tokens=4))], model="m", provider="openai")  # fmt: skip
    with capture_trace() as trace:
        await llm.complete("hi")
    duration = trace.metric("gen_ai.client.operation.duration")
    assert (duration.unit, duration.count) == ("s", 1)
    assert duration.points[0].attributes == {**CALL, "gen_ai.response.model": "m-2"}
    assert duration.points[0].bounds == pytest.approx(CLIENT_SECONDS)
    tokens = trace.metric("gen_ai.client.token.usage")
    assert tokens.unit == "{token}"
    assert {p.attributes["gen_ai.token.type"]: p.total for p in tokens.points} == {
        "input": 3,
        "output": 4,
    }
    assert tokens.points[0].attributes.keys() - {"gen_ai.token.type"} == (
        duration.points[0].attributes.keys()
    )
    assert tokens.points[0].bounds == tuple(4**n for n in range(14))


async def test_a_failed_call_is_counted_under_its_error_with_the_tokens_it_used():
    half = Completion(text="", usage=Usage(input_tokens=3, output_tokens=4))
    llm = ScriptedLLM(
        [RateLimitError("slow down"), MalformedResponseError("half", completion=half)],
        model="m",
        provider="openai",
    )
    with capture_trace() as trace:
        for _ in range(2):
            with pytest.raises((RateLimitError, MalformedResponseError)):
                await llm.complete("hi")
    duration = trace.metric("gen_ai.client.operation.duration")
    for error in ("RateLimitError", "MalformedResponseError"):
        assert duration.where({**CALL, "error.type": error}).count == 1
    tokens = trace.metric("gen_ai.client.token.usage")
    assert tokens.where({"error.type": "MalformedResponseError"}).total == 7
    assert tokens.where({"error.type": "RateLimitError"}).points == ()


async def test_a_run_is_measured_by_workflow_agent_cost_and_retries():
    plan = plan_text(item("writer"))
    with capture_trace() as trace:
        await team([plan], {"writer": [RateLimitError("slow down"), "written"]}).run("a task")

    workflow = trace.metric("gen_ai.invoke_workflow.duration")
    assert (workflow.unit, workflow.count) == ("s", 1)
    assert workflow.points[0].attributes == {"gen_ai.workflow.name": "orchestrator_workers"}
    assert workflow.points[0].bounds == WORKFLOW_SECONDS

    agents = trace.metric("gen_ai.invoke_agent.duration")
    assert agents.unit == "s"
    assert {p.attributes["gen_ai.agent.name"]: p.count for p in agents.points} == {
        "planner": 2,
        "writer": 1,
    }
    assert agents.points[0].attributes.keys() == {"gen_ai.agent.name"}
    assert agents.points[0].bounds == pytest.approx(AGENT_SECONDS)

    writer = {
        "pyagent.pattern": "orchestrator_workers",
        "pyagent.phase": "worker",
        "gen_ai.agent.name": "writer",
        "gen_ai.request.model": "writer-model",
        "gen_ai.provider.name": "scripted",
    }
    cost = trace.metric("pyagent.cost.usd")
    assert cost.unit == "{USD}"
    assert [p.attributes for p in cost.where({"gen_ai.agent.name": "writer"}).points] == [writer]
    retries = trace.metric("pyagent.retries")
    assert [(p.attributes, p.total) for p in retries.points] == [(writer, 1)]


async def test_a_failed_run_is_measured_under_its_error():
    with capture_trace() as trace, pytest.raises(Exception, match="no valid plan"):
        await team(["no", "no"], {"writer": ["x"]}).run("a task")
    [workflow] = trace.metric("gen_ai.invoke_workflow.duration").points
    assert workflow.attributes["error.type"] == "PlanError"


async def test_no_metric_has_an_attribute_that_grows_with_the_number_of_runs():
    plan = plan_text(item("writer"))
    same = team([plan, Step("x"), plan], {"writer": ["a", "b"]}, final="y")
    with capture_trace() as trace:
        await same.run("one")
        before = len(trace.metric("pyagent.cost.usd").points)
        await same.run("two")
    assert len(trace.metric("pyagent.cost.usd").points) == before
    assert trace.metric("gen_ai.invoke_workflow.duration").points[0].count == 2


async def test_a_latency_can_be_followed_to_its_call():
    """The exemplar of a duration points at the chat span, that of a cost at the agent's."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider

    from pyagent_providers.telemetry import Telemetry, using

    reader = InMemoryMetricReader()
    started = []

    class Starts:
        def on_start(self, span, parent_context=None):
            started.append((span.name, span.get_span_context().span_id))

        def on_end(self, span): ...
        def _on_ending(self, span): ...

    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(Starts())
    meters = MeterProvider([reader], shutdown_on_exit=False)
    with using(Telemetry(tracer_provider=tracers, meter_provider=meters)):
        await ScriptedLLM(["x"], price=PRICE).complete("hi")
    [resource] = reader.get_metrics_data().resource_metrics
    [duration] = [
        metric
        for metric in resource.scope_metrics[0].metrics
        if metric.name == "gen_ai.client.operation.duration"
    ]
    [exemplar] = duration.data.data_points[0].exemplars
    assert started == [("chat scripted", exemplar.span_id)]
