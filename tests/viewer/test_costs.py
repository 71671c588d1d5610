"""What the viewer says that runs cost: the ledger's sum by any dimension, to the last digit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from pyagent_exporters.viewer.runs import DIMENSIONS, CostRow, RunQuery
from pyagent_exporters.viewer.spans import Span
from pyagent_exporters.viewer.store import SpanStore
from pyagent_patterns import OrchestratorWorkers, Pattern, Result
from pyagent_patterns.result import CostKey
from pyagent_patterns.testing import capture_trace
from pyagent_providers.testing import Step
from tests.patterns.teams import item, plan_text, scripted

from . import crews

CALL = Decimal("0.0000007025")


def total(rows: Sequence[CostRow]) -> Decimal:
    return sum((row.cost for row in rows), Decimal(0))


async def ran(team: Pattern, **how: str) -> tuple[Result, tuple[Span, ...]]:
    with capture_trace() as trace:
        result = await team.run("the task", **how)  # pyright: ignore[reportArgumentType]
    return result, crews.sent(trace.spans)


@pytest.mark.parametrize("name", crews.EVERY)
async def test_a_run_costs_what_its_result_says_by_every_dimension(
    store: SpanStore, name: str
) -> None:
    result, spans = await ran(crews.EVERY[name]())
    store.add(spans)
    [run] = store.runs().runs
    assert (run.run_id, run.trace_id) == (result.run_id, result.trace_id)
    assert (run.cost, run.unpriced, run.calls) == (
        result.cost_estimate,
        result.unpriced,
        len(result.calls),
    )
    assert (run.input_tokens, run.output_tokens) == (
        result.usage.input_tokens,
        result.usage.output_tokens,
    )
    for by in DIMENSIONS:
        rows = store.costs(by)
        assert total(rows) == result.cost_estimate, by
        assert sum(row.unpriced for row in rows) == result.unpriced
        assert sum(row.calls for row in rows) == len(result.calls)
    keys: tuple[CostKey, ...] = ("agent", "phase", "provider", "path")
    for by in keys:
        assert {row.key: row.cost for row in store.costs(by)} == result.cost_by(by)


async def test_the_spans_may_come_in_any_order_one_by_one_and_twice(store: SpanStore) -> None:
    result, spans = await ran(crews.hierarchical())
    shuffled = [*spans, *spans]
    random.Random(6).shuffle(shuffled)
    for span in shuffled:
        store.add([span])
    [run] = store.runs().runs
    assert (run.cost, run.calls, run.spans) == (result.cost_estimate, 7, len(spans))
    assert {row.key: row.cost for row in store.costs("path")} == result.cost_by("path")


async def test_while_spans_are_missing_no_call_is_counted_twice_or_lost(store: SpanStore) -> None:
    result, spans = await ran(crews.hierarchical())
    so_far = Decimal(0)
    for span in spans:  # as they ended: children first
        store.add([span])
        so_far += (span.cost or 0) if span.role == "chat" else 0
        assert total(store.costs("agent")) == total(store.costs("model")) == so_far
    assert so_far == result.cost_estimate


async def test_only_the_agents_span_tells_whether_a_failed_call_is_unpriced(
    store: SpanStore,
) -> None:
    result, spans = await ran(crews.failing())
    assert (result.unpriced, len(result.calls)) == (3, 5)
    refused = await ran(crews.orchestrator_workers())
    assert (refused[0].unpriced, len(refused[0].calls)) == (1, 5)  # a 429 is free
    store.add([*spans, *refused[1]])
    by_agent = {row.key: row.unpriced for row in store.costs("agent")}
    assert (by_agent["left"], by_agent["a"], by_agent["b"]) == (3, 0, 1)


async def test_a_resumed_run_is_one_run_and_its_replays_cost_nothing_anew(
    store: SpanStore, tmp_path: Path
) -> None:
    file = tmp_path / "runs.db"
    held = two_workers([PLAN], ["alpha"], [Step("never", delay=60)])
    with capture_trace() as first:
        running = asyncio.create_task(held.run("the task", run_id="r", durable=file))
        while not scripted(held.workers["b"]).requests:
            await asyncio.sleep(0.002)
        running.cancel()
        await asyncio.wait([running])
    with capture_trace() as second:
        result = await two_workers(["done"], [], ["beta"]).run("the task", run_id="r", durable=file)
    store.add([*crews.sent(first.spans), *crews.sent(second.spans)])
    [run] = store.runs().runs
    assert result.resumed is not None
    assert result.resumed.replayed == 2
    assert (run.run_id, run.status) == ("r", "completed")
    assert result.cost_estimate == 4 * CALL
    cut_off = [s.cost for s in crews.sent(first.spans) if s.role == "chat" and s.status == "error"]
    assert [run.cost] == [result.cost_estimate + (cost or 0) for cost in cut_off]  # its worst case
    trace = store.run("r")
    assert trace is not None
    assert len({span.trace_id for span in trace.spans}) == 2
    assert sum(span.replayed for span in trace.spans) == 2
    assert run.duration_seconds is not None
    executions = [span.seconds or 0 for span in trace.spans if span.role == "pattern"]
    assert run.duration_seconds == pytest.approx(sum(executions))


PLAN = plan_text(item("a", id="x"), item("b", depends_on=["x"]))


def two_workers(
    planner: Sequence[str], a: Sequence[str], b: Sequence[str | Step]
) -> OrchestratorWorkers:
    return OrchestratorWorkers(
        orchestrator=crews.agent("planner", *planner),
        workers=[crews.agent("a", *a), crews.agent("b", *b)],
    )


async def test_costs_are_told_by_hour_and_day_and_for_the_runs_that_are_meant(
    store: SpanStore,
) -> None:
    acme, spans = await ran(crews.pipeline(), tenant="acme")
    other, more = await ran(crews.parallel(), tenant="other")
    store.add([*spans, *more])
    whole = acme.cost_estimate + other.cost_estimate
    assert {row.key: row.cost for row in store.costs("tenant")} == {
        "acme": acme.cost_estimate,
        "other": other.cost_estimate,
    }
    for bucket, seconds in (("hour", 3600), ("day", 86400)):
        rows = store.costs("agent", bucket=bucket)  # pyright: ignore[reportArgumentType]
        assert total(rows) == whole
        assert all(row.bucket is not None and row.bucket % (seconds * 10**9) == 0 for row in rows)
    assert total(store.costs("model", query=RunQuery(tenant="acme"))) == acme.cost_estimate
    assert total(store.costs("model", query=RunQuery(pattern="parallel"))) == other.cost_estimate
    assert total(store.costs("agent", query=RunQuery(model="draft-model"))) == CALL
    assert total(store.costs("agent", query=RunQuery(text="DRAFT"))) == acme.cost_estimate
    assert store.costs("agent", query=RunQuery(tenant="acme", model="left-model")) == ()


def test_a_dimension_that_is_none_is_refused(store: SpanStore) -> None:
    with pytest.raises(ValueError, match="agent, phase, model"):
        store.costs("cost, 1) --")  # pyright: ignore[reportArgumentType]


def chat(n: int, **attributes: object) -> Span:
    return Span(
        trace_id=f"{n:032x}",
        span_id=f"{n:016x}",
        name="chat m",
        start=10**18 + n,
        end=10**18 + n + 5,
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "m",
            **attributes,  # pyright: ignore[reportArgumentType]
        },
    )


def test_ten_times_a_tenth_of_a_cent_is_a_cent(store: SpanStore) -> None:
    store.add([chat(n, **{"pyagent.cost.usd": 0.001}) for n in range(1, 11)])
    [row] = store.costs("model")
    assert row.cost == Decimal("0.01")
    assert str(row.cost.normalize()) == "0.01"


def test_many_dear_calls_are_not_too_much_for_the_database(store: SpanStore) -> None:
    store.add([chat(n, **{"pyagent.cost.usd": 999_999.5}) for n in range(1, 101)])
    [row] = store.costs("model")
    assert row.cost == Decimal("99999950")


@pytest.mark.parametrize("cost", [float("nan"), float("inf"), -1.0, 1e300, "1.0", True, (1.0,)])
def test_a_cost_that_is_none_is_unpriced(store: SpanStore, cost: object) -> None:
    store.add([chat(1, **{"pyagent.cost.usd": cost})])
    [row] = store.costs("model")
    assert (row.cost, row.unpriced) == (0, 1)


def test_calls_that_another_sdk_reported_count_with_their_tokens_and_costs(
    store: SpanStore,
) -> None:
    agents = Span(
        trace_id=f"{1:032x}",
        span_id=f"{9:016x}",
        name="invoke_agent writer",
        start=10**18,
        end=10**18 + 100,
        attributes={
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "writer",
            "gen_ai.usage.input_tokens": 30,  # its roll-up is not another call
            "gen_ai.usage.cost": 0.5,
        },
    )
    new = {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 2}
    old = {"gen_ai.usage.prompt_tokens": 20, "gen_ai.usage.completion_tokens": 3}
    spans = [
        chat(1, **new, **{"gen_ai.usage.cost": 0.25, "gen_ai.provider.name": "openai"}),
        chat(2, **old, **{"gen_ai.system": "openai"}),
    ]
    within = [
        Span(**{**_fields(span), "trace_id": agents.trace_id, "parent_id": agents.span_id})
        for span in spans
    ]
    store.add([agents, *within])
    assert store.costs("agent") == (
        CostRow(
            key="writer",
            bucket=None,
            cost=Decimal("0.25"),
            unpriced=1,
            calls=2,
            input_tokens=30,
            output_tokens=5,
        ),
    )
    [row] = store.costs("provider")
    assert row.key == "openai"


def test_a_call_that_two_instrumentations_saw_is_counted_once(store: SpanStore) -> None:
    ours = chat(1, **{"pyagent.cost.usd": 0.5})
    theirs = Span(**{**_fields(chat(2)), "trace_id": ours.trace_id, "parent_id": ours.span_id})
    store.add([theirs, ours])
    [row] = store.costs("model")
    assert (row.calls, row.cost, row.unpriced) == (1, Decimal("0.5"), 0)


def test_a_call_that_goes_on_is_not_counted_yet(store: SpanStore) -> None:
    store.add([Span(**{**_fields(chat(1)), "end": None})])
    assert store.costs("model") == ()


def _fields(span: Span) -> dict[str, object]:
    return {name: getattr(span, name) for name in Span.__slots__}
