"""Names, units, buckets and attributes of the metrics, as the conventions have them."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from pyagent_patterns import (
    Agent,
    Breaker,
    Budget,
    NewAgent,
    OrchestratorWorkers,
    Pipeline,
    PlanError,
    RetryPolicy,
    Traffic,
)
from pyagent_patterns.testing import capture_trace
from pyagent_providers import Completion, ModelPrice, Usage
from pyagent_providers.errors import MalformedResponseError, OverloadedError, RateLimitError
from pyagent_providers.testing import ScriptedLLM, Step
from tests.patterns.crews import new, with_agents
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


async def test_runs_are_counted_by_how_they_ended_and_while_they_go_on():
    active: list[float] = []

    async def looks(messages: object) -> str:
        active.append(trace.metric("pyagent.runs.active").total)
        return "done"

    ends = {
        "completed": team([plan_text(item("writer"))], {"writer": looks}),
        "partial": team(
            [plan_text(item("writer"), item("critic"))],
            {"writer": ["done"], "critic": [ValueError("no")]},
        ),
        "failed": team(["no plan", "nor this"], {"writer": []}),
    }
    with capture_trace() as trace:
        for status, crew in ends.items():
            if status == "failed":
                with pytest.raises(PlanError):
                    await crew.run("a task")
            else:
                assert (await crew.run("a task")).status == status
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await team([Step("late", delay=5)], {"writer": []}).run("a task")
    runs = trace.metric("pyagent.runs")
    assert runs.unit == "{run}"
    labels = {"pyagent.pattern": "orchestrator_workers"}
    labels["gen_ai.workflow.name"] = "orchestrator_workers"
    for status in (*ends, "cancelled"):
        assert runs.where({**labels, "pyagent.status": status}).total == 1
    assert active == [1]
    assert trace.metric("pyagent.runs.active").total == 0


async def test_a_pattern_within_a_run_is_no_run():
    inner = Pipeline([Agent("writer", ScriptedLLM(["done"], price=PRICE))], name="inner")
    with capture_trace() as trace:
        await Pipeline([inner], name="outer").run("a task")
    (point,) = trace.metric("pyagent.runs").points
    assert point.attributes["gen_ai.workflow.name"] == "outer"


async def test_what_a_cache_saved_is_counted_in_dollars():
    price = ModelPrice(input="2", output="10", cache_read="0.5")
    usage = Usage(input_tokens=10_000, cache_read_tokens=8_000, output_tokens=100)
    llm = ScriptedLLM([Completion(text="x", usage=usage, finish_reason="stop")], price=price)
    with capture_trace() as trace:
        result = await Pipeline([Agent("writer", llm)]).run("a task")
    assert result.calls[0].cache_savings == Decimal("0.012")  # 8,000 at 1.50 a million
    saved, cost = trace.metric("pyagent.cache.savings.usd"), trace.metric("pyagent.cost.usd")
    assert (saved.unit, saved.total) == ("{USD}", pytest.approx(0.012))
    assert saved.points[0].attributes == cost.points[0].attributes


async def test_how_far_a_budget_was_used_is_measured_at_the_end():
    llm = ScriptedLLM(["done"], price=PRICE)  # $0.00006
    with capture_trace() as trace:
        agent = Agent("writer", llm, max_tokens=5)
        await Pipeline([agent], budget=Budget(max_cost_usd="0.12")).run("a task")
    used = trace.metric("pyagent.budget.used")
    assert (used.unit, used.count, used.total) == ("1", 1, pytest.approx(0.0005))
    assert used.points[0].attributes.keys() == {"pyagent.pattern", "gen_ai.workflow.name"}


async def test_a_model_that_is_taken_to_be_down_is_counted_until_it_answers():
    llm = ScriptedLLM(
        [OverloadedError("down"), OverloadedError("down"), "up"], model="m", provider="openai"
    )
    traffic = Traffic(breaker=Breaker(failures=2, cool_down=0.001))
    crew = Pipeline(
        [Agent("writer", llm)],
        traffic=traffic,
        retry=RetryPolicy(max_attempts=8, backoff=0.01, max_backoff=0.01),
    )
    with capture_trace() as trace:
        await crew.run("a task")
    opened = trace.metric("pyagent.breaker.opened")
    assert opened.total == 1
    assert opened.points[0].attributes == {
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
    }
    assert trace.metric("pyagent.breaker.open").total == 0


async def test_an_agent_that_a_planner_made_up_has_no_name_in_metrics():
    def made(wanted: NewAgent) -> Agent:
        return Agent(wanted.name, ScriptedLLM(["a sonnet"], price=PRICE))

    plan = with_agents(new("poet-4711", "writes verse", "You rhyme."), items=[item("poet-4711")])
    crew = OrchestratorWorkers(
        orchestrator=Agent("planner", ScriptedLLM([plan, "done"], price=PRICE)),
        workers=[Agent("writer", ScriptedLLM([]))],
        agent_factory=made,
    )
    with capture_trace() as trace:
        await crew.run("a task")
    assert "pyagent.agent.poet-4711" in [span.name for span in trace.spans]
    for name in ("pyagent.cost.usd", "gen_ai.invoke_agent.duration"):
        agents = {p.attributes["gen_ai.agent.name"] for p in trace.metric(name).points}
        assert agents == {"planner", "other"}
