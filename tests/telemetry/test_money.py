"""One number: cost in spans, metric, ledger and result is the same, to the micro-dollar."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pyagent_patterns import Agent
from pyagent_patterns.testing import CapturedTrace, capture_trace
from pyagent_providers import Completion, ModelPrice, Usage
from pyagent_providers.errors import MalformedResponseError, RateLimitError
from pyagent_providers.testing import ScriptedLLM
from tests.patterns.teams import item, plan_text, team

MICRO_DOLLAR = Decimal("0.000001")
PLAN = plan_text(item("researcher", id="t1"), item("writer", id="t2"))


def cost_of_spans(trace: CapturedTrace, prefix: str) -> Decimal:
    costs = (
        (span.attributes or {}).get("pyagent.cost.usd", 0.0)
        for span in trace.spans
        if span.name.startswith(prefix)
    )
    return sum((Decimal(cost) for cost in costs), Decimal(0))


async def test_cost_is_the_same_number_everywhere_with_failed_attempts_and_a_repaired_plan():
    half = Completion(text="", usage=Usage(input_tokens=1234, output_tokens=567))
    with capture_trace() as trace:
        result = await team(
            ["not a plan", PLAN],
            {
                "researcher": [MalformedResponseError("half of it", completion=half), "found"],
                "writer": [RateLimitError("slow down"), "written"],
            },
        ).run("a task")
    assert [call.status for call in result.calls].count("failed") == 2
    expected = result.cost_estimate
    assert expected == Decimal("0.00006") * 5 + (Decimal(1234) + 10 * Decimal(567)) / 1_000_000
    figures = {
        "ledger": sum(call.cost for call in result.calls),
        "chat spans": cost_of_spans(trace, "chat "),
        "agent spans": cost_of_spans(trace, "pyagent.agent."),
        "pattern span": cost_of_spans(trace, "pyagent.pattern."),
        "metric": Decimal(trace.metric("pyagent.cost.usd").total),
        "gen_ai.usage.cost": sum(
            Decimal((span.attributes or {}).get("gen_ai.usage.cost", 0.0)) for span in trace.spans
        ),
    }
    assert {where: abs(cost - expected) < MICRO_DOLLAR for where, cost in figures.items()} == (
        dict.fromkeys(figures, True)
    ), figures


async def test_the_cost_metric_attributes_dollars_to_phase_agent_and_model():
    with capture_trace() as trace:
        result = await team([PLAN], {"researcher": ["found"], "writer": ["written"]}).run("a task")
    cost = trace.metric("pyagent.cost.usd")
    for phase, dollars in result.cost_by("phase").items():
        assert cost.where({"pyagent.phase": phase}).total == pytest.approx(float(dollars))
    for model, dollars in result.cost_by("model").items():
        assert cost.where({"gen_ai.request.model": model}).total == pytest.approx(float(dollars))


async def test_an_unknown_price_is_absent_and_counted_never_zero():
    with capture_trace() as trace:
        result = await team([PLAN], {"researcher": ["found"], "writer": ScriptedLLM(["w"])}).run(
            "a task"
        )
    assert result.unpriced == 1
    by_name = {span.name: span.attributes or {} for span in trace.spans}
    for name in ("chat scripted", "pyagent.agent.writer"):
        assert "pyagent.cost.usd" not in by_name[name]
        assert "gen_ai.usage.cost" not in by_name[name]
    assert by_name["pyagent.agent.writer"]["pyagent.unpriced.calls"] == 1
    root = by_name["pyagent.pattern.orchestrator_workers"]
    assert root["pyagent.unpriced.calls"] == 1
    assert root["pyagent.cost.usd"] == pytest.approx(float(result.cost_estimate))
    unpriced = trace.metric("pyagent.unpriced.calls")
    assert unpriced.total == 1
    assert unpriced.points[0].attributes["gen_ai.agent.name"] == "writer"
    assert trace.metric("pyagent.cost.usd").where({"gen_ai.agent.name": "writer"}).points == ()


async def test_tokens_on_roll_ups_are_the_ledgers():
    free = ScriptedLLM(["x"], price=ModelPrice(input="0", output="0"))
    with capture_trace() as trace:
        result = await team(
            [PLAN],
            {"researcher": free, "writer": ["written"]},
            synthesizer=Agent("editor", ScriptedLLM([Completion(text="unknown usage")])),
        ).run("a task")
    root = trace.spans[0].attributes or {}
    assert root["pyagent.usage.input_tokens"] == result.usage.input_tokens == 30
    assert root["pyagent.usage.output_tokens"] == result.usage.output_tokens == 15
    usage = trace.metric("gen_ai.client.token.usage")
    assert usage.where({"gen_ai.token.type": "input"}).total == result.usage.input_tokens
    assert usage.where({"gen_ai.token.type": "output"}).total == result.usage.output_tokens
