"""The result: typed, attributable, readable and JSON."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from pyagent_patterns import Result
from pyagent_providers import Usage
from pyagent_providers.errors import AuthenticationError, RateLimitError
from pyagent_providers.testing import Step

from .teams import item, plan_text, team

CALL = Decimal("0.00006")  # what one scripted call costs at PRICE


@pytest.fixture
async def result() -> Result:
    """Six calls: a plan, a retried worker, a failed one, a third one and the synthesis."""
    plan = plan_text(item("a", id="x"), item("b", id="y"), item("c", id="z"))
    limited = RateLimitError("slow down", provider="p", model="m")
    denied = AuthenticationError("bad key", provider="p", model="m")
    big = Step("gamma", usage=Usage(input_tokens=1000, output_tokens=100, cache_read_tokens=10))
    return await team([plan], {"a": [limited, "alpha"], "b": [denied], "c": [big]}).run("the task")


async def test_the_estimate_is_exact_decimal_dollars(result: Result) -> None:
    assert result.cost_estimate == 3 * CALL + Decimal("0.002")
    assert f"${result.cost_estimate:.4f}" == "$0.0022"
    assert result.unpriced == 0


async def test_costs_are_attributed_and_every_view_adds_up(result: Result) -> None:
    assert result.cost_by("agent") == {
        "c": Decimal("0.002"),
        "planner": 2 * CALL,
        "a": CALL,
        "b": Decimal(0),
    }
    assert result.cost_by("phase")["worker"] == CALL + Decimal("0.002")
    assert result.cost_by("model")["planner-model"] == 2 * CALL
    assert result.cost_by("provider") == {"scripted": result.cost_estimate}
    for key in ("agent", "phase", "model", "provider"):
        assert sum(result.cost_by(key).values()) == result.cost_estimate


async def test_outcomes_have_usage_cost_attempts_start_and_end(result: Result) -> None:
    x, y, z = result.outcomes
    assert (x.attempts, x.cost, x.usage.total_tokens) == (2, CALL, 15)
    assert (y.attempts, y.cost, y.status) == (1, Decimal(0), "failed")
    assert z.usage == Usage(input_tokens=1000, output_tokens=100, cache_read_tokens=10)
    for outcome in result.outcomes:
        assert outcome.started_at is not None
        assert outcome.ended_at is not None
        assert outcome.ended_at >= outcome.started_at >= result.started_at


async def test_usage_is_the_sum_of_the_calls(result: Result) -> None:
    assert result.usage == Usage(input_tokens=1030, output_tokens=115, cache_read_tokens=10)


async def test_to_dict_is_json_with_money_as_decimal_strings(result: Result) -> None:
    told = json.loads(json.dumps(result.to_dict()))
    assert told["cost_estimate"] == "0.00218"
    assert told["status"] == "partial"
    assert [o["status"] for o in told["outcomes"]] == ["completed", "failed", "completed"]
    assert told["calls"][0]["cost"] == "0.00006"
    assert told["run_id"] == result.run_id


async def test_repr_is_one_line_and_print_shows_outcomes_and_answer(result: Result) -> None:
    assert repr(result) == (
        f"<Result orchestrator_workers {result.run_id} partial: 6 calls, 1030+115 tokens, "
        f"$0.0022, {result.duration_seconds:.1f}s>"
    )
    assert str(result).splitlines()[1:4] == [
        "  x a: completed",
        "  y b: failed: agent 'b' (b-model): AuthenticationError: p/m: bad key",
        "  z c: completed",
    ]
    assert str(result).endswith("\n\nthe final answer")


async def test_an_outcome_whose_answer_has_no_price_costs_none_not_zero() -> None:
    limited = RateLimitError("slow down", provider="p", model="m")
    unknown = Step("alpha", usage=None)
    result = await team([plan_text(item("a"))], {"a": [limited, unknown]}).run("the task")
    [outcome] = result.outcomes
    assert [call.cost for call in outcome.calls] == [Decimal(0), None]  # turned away; unknown
    assert outcome.cost is None
    assert result.unpriced == 1
