"""The one door: retried, replayed, settled once, keyed so that nothing depends on order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from decimal import Decimal

import pytest

from pyagent_patterns import Agent, AgentError, OrchestratorWorkers, RetryPolicy
from pyagent_patterns.door import Run
from pyagent_patterns.errors import InputChanged, ScopeError
from pyagent_patterns.events import (
    CallSettled,
    Event,
    OutcomeSettled,
    PlanAccepted,
    PlanRejected,
    StepEnded,
    StepStarted,
)
from pyagent_patterns.journal import Call, Called, Journal, MemoryStore, RunStart, Work
from pyagent_patterns.ledger import CallRecord
from pyagent_patterns.policy import Policy
from pyagent_patterns.record import RunRecord
from pyagent_patterns.run import RunContext
from pyagent_patterns.telemetry import PatternSpan
from pyagent_providers import Completion, Cost, Message, Usage
from pyagent_providers.errors import (
    AuthenticationError,
    MalformedResponseError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
)
from pyagent_providers.testing import ScriptedLLM, Step

from .teams import PRICE, QUICK, item, plan_text, scripted, team


async def context(store: MemoryStore | None = None, retry: RetryPolicy = QUICK) -> RunContext:
    span = PatternSpan("test", "run-1")
    record = RunRecord(run_id="run-1", pattern="test", span=span)
    start = RunStart(run_id="run-1", pattern="test", task="the task")
    journal = await (store or MemoryStore()).open(start)
    return RunContext(Run(record=record, journal=journal, policy=Policy(retry=retry), labels={}))


def limited(retry_after: float | None = None) -> RateLimitError:
    return RateLimitError("slow down", provider="p", model="m", retry_after=retry_after)


async def test_a_retryable_error_is_tried_again_and_each_attempt_is_in_the_ledger() -> None:
    ctx = await context()
    llm = ScriptedLLM([limited(), limited(), "at last"], price=PRICE)
    assert await ctx.ask(Agent("a", llm), "hello", phase="worker") == "at last"
    calls = ctx.record.result("").calls
    assert [(c.step, c.attempt, c.status, c.error) for c in calls] == [
        (1, 1, "failed", "RateLimitError"),
        (1, 2, "failed", "RateLimitError"),
        (1, 3, "ok", None),
    ]


async def test_an_error_that_a_retry_cannot_help_is_raised_at_once() -> None:
    ctx = await context()
    llm = ScriptedLLM([AuthenticationError("bad key", provider="p", model="m")])
    with pytest.raises(AgentError, match=r"agent 'a' .scripted.: AuthenticationError: p/m: bad"):
        await ctx.ask(Agent("a", llm), "hello", phase="worker")
    assert len(llm.requests) == 1


async def test_a_retry_waits_as_long_as_the_provider_asks() -> None:
    ctx = await context()
    llm = ScriptedLLM([limited(retry_after=0.05), "ok"])
    clock = asyncio.get_running_loop().time
    started = clock()
    await ctx.ask(Agent("a", llm), "hello", phase="worker")
    assert clock() - started >= 0.05


async def test_a_provider_that_asks_for_too_long_a_wait_is_not_waited_for() -> None:
    llm = ScriptedLLM([limited(retry_after=3600)])
    with pytest.raises(AgentError):
        await (await context()).ask(Agent("a", llm), "hello", phase="worker")


def test_pauses_double_up_to_the_longest_with_full_jitter() -> None:
    policy = RetryPolicy(max_attempts=10, backoff=1, max_backoff=4)
    for attempt, ceiling in ((1, 1), (2, 2), (3, 4), (4, 4), (9, 4)):
        pauses = [policy.pause(limited(), attempt) for _ in range(200)]
        assert all(pause is not None and 0 <= pause <= ceiling for pause in pauses)
        assert len(set(pauses)) > 1
    assert policy.pause(limited(), 10) is None


async def test_any_error_of_a_custom_model_fails_the_agent_not_the_process() -> None:
    async def broken(messages: Sequence[Message]) -> str:
        raise KeyError("choices")

    ctx = await context()
    with pytest.raises(AgentError, match="KeyError") as caught:
        await ctx.ask(Agent("a", broken), "hello", phase="worker")
    assert isinstance(caught.value.__cause__, KeyError)
    [call] = ctx.record.result("").calls
    assert call.cost is None  # it may have cost something: unpriced, not free


@pytest.mark.parametrize(
    ("error", "cost", "source"),
    [
        (limited(), Decimal(0), "not-billed"),
        (RequestTimeoutError("late", provider="p", model="m"), Decimal("0.000021"), "estimate"),
        (
            MalformedResponseError(
                "torn",
                provider="p",
                model="m",
                completion=Completion(
                    text="", usage=Usage(input_tokens=10, output_tokens=5), model="m"
                ),
            ),
            Decimal("0.00006"),
            "user",
        ),
    ],
)
async def test_a_failed_attempt_costs_nothing_what_was_reported_or_its_worst_case(
    error: ProviderError, cost: Decimal | None, source: str | None
) -> None:
    ctx = await context(retry=RetryPolicy(max_attempts=1))
    with pytest.raises(AgentError):
        await ctx.ask(Agent("a", ScriptedLLM([error], price=PRICE)), "hello", phase="worker")
    result = ctx.record.result("")
    [call] = result.calls
    assert (call.cost, call.price_source) == (cost, source)
    assert result.cost_estimate == (cost or 0)
    assert result.unpriced == (1 if cost is None else 0)


async def test_a_bare_string_answer_is_unpriced_never_free() -> None:
    async def plain(messages: Sequence[Message]) -> str:
        return "hi"

    ctx = await context()
    await ctx.ask(Agent("a", plain), "hello", phase="worker")
    result = ctx.record.result("")
    assert result.calls[0].usage is None
    assert result.calls[0].cost is None
    assert result.unpriced == 1


async def test_a_cost_the_provider_reported_is_the_cost_in_the_ledger() -> None:
    answer = Completion(text="hi", reported_usd=Decimal("0.0123"))
    ctx = await context()
    await ctx.ask(Agent("a", ScriptedLLM([answer], price=PRICE)), "hello", phase="worker")
    [call] = ctx.record.result("").calls
    assert Cost(Decimal("0.0123"), "provider") == Cost(call.cost or Decimal(0), "provider")
    assert call.price_source == "provider"


async def test_keys_name_the_scope_the_activity_and_the_ordinal() -> None:
    keys: list[str] = []

    class Noting(MemoryStore):
        async def open(self, start: RunStart) -> Journal:
            journal = await super().open(start)
            call = journal.call

            async def noted(asked: Call, work: Work) -> Called:
                keys.append(asked.key)
                return await call(asked, work)

            journal.call = noted
            return journal

    plan = plan_text(item("a", id="x/y"), item("a", "again", id="é"))
    crew = team(["prose", plan], {"a": ["1", "2"]})
    await crew.run("the task", durable=Noting())
    assert sorted(keys) == [
        "plan/ask:0",
        "plan/ask:1",
        "synthesis/ask:0",
        "work/%C3%A9/ask:0",
        "work/x%2Fy/ask:0",
    ]


async def test_two_calls_at_once_in_one_scope_are_refused() -> None:
    ctx = await context()
    agent = Agent("a", ScriptedLLM([Step("1", delay=0.01), "2"]))
    first = asyncio.create_task(ctx.ask(agent, "one", phase="worker"))
    await asyncio.sleep(0)
    with pytest.raises(ScopeError, match="parallel calls need scopes of their own"):
        await ctx.ask(agent, "two", phase="worker")
    assert await first == "1"


async def test_two_scopes_of_one_name_are_refused() -> None:
    ctx = await context()
    ctx.child("x")
    with pytest.raises(ScopeError, match="'x' exists already"):
        ctx.child("x")


async def test_running_again_with_the_journal_pays_for_nothing_and_gives_the_same_result() -> None:
    store = MemoryStore()
    plan = plan_text(item("a", id="x"), item("b", depends_on=["x"]))
    crew = team([plan], {"a": [limited(), "alpha"], "b": ["beta"]})
    first = await crew.run("the task", run_id="r", durable=store)
    again = await crew.run("the task", run_id="r", durable=store)  # the scripts are used up
    assert again.output == first.output
    assert again.outcomes[0].output == "alpha"
    assert again.cost_estimate == first.cost_estimate
    assert [c.replayed for c in first.calls] == [False] * 5
    assert [c.replayed for c in again.calls] == [True] * 5
    assert [o.started_at for o in again.outcomes] == [o.started_at for o in first.outcomes]


async def test_a_run_that_died_goes_on_where_it_stopped() -> None:
    store = MemoryStore()
    plan = plan_text(item("a", id="x"), item("slow", id="s"))
    hung = team([plan], {"a": ["alpha"], "slow": [Step("never", delay=60)]})
    running = asyncio.create_task(hung.run("the task", run_id="r", durable=store))
    while not scripted(hung.workers["slow"]).requests:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.wait([running])

    crew = team([], {"a": [], "slow": ["sloth"]})  # only what had not finished is asked again
    result = await crew.run("the task", run_id="r", durable=store)
    assert [o.output for o in result.outcomes] == ["alpha", "sloth"]
    assert [c.replayed for c in result.calls] == [True, True, False, False]


async def test_a_failure_on_record_is_replayed_as_a_failure() -> None:
    store = MemoryStore()
    denied = AuthenticationError("bad key", provider="p", model="m")
    plan = plan_text(item("a", id="x"), item("b", id="y"))
    crew = team([plan], {"a": [denied], "b": ["beta"]})
    first = await crew.run("the task", run_id="r", durable=store)
    again = await crew.run("the task", run_id="r", durable=store)
    assert [o.to_dict() for o in again.outcomes] == [o.to_dict() for o in first.outcomes]


async def test_a_changed_prompt_under_a_recorded_key_is_named() -> None:
    store = MemoryStore()
    await (await context(store)).ask(Agent("a", ScriptedLLM(["1"])), "one", phase="worker")
    with pytest.raises(InputChanged, match="'run-1' has call 'ask:0'"):
        await (await context(store)).ask(Agent("a", ScriptedLLM(["2"])), "two", phase="worker")


async def test_a_changed_model_or_system_prompt_is_a_changed_input_too() -> None:
    store = MemoryStore()
    await (await context(store)).ask(Agent("a", ScriptedLLM(["1"])), "one", phase="worker")
    for other in (
        Agent("a", ScriptedLLM([]), system_prompt="new"),
        Agent("a", ScriptedLLM([], model="new")),
        Agent("a", ScriptedLLM([]), temperature=0.5),
    ):
        with pytest.raises(InputChanged):
            await (await context(store)).ask(other, "one", phase="worker")


async def test_events_tell_the_run_as_it_happens() -> None:
    events: list[Event] = []
    denied = AuthenticationError("bad key", provider="p", model="m")
    plan = plan_text(item("a", "part a", id="x"), item("b", id="y", depends_on=["x"]))
    crew = team(["prose", plan], {"a": [limited(), "alpha"], "b": [denied]})
    await crew.run("the task", on_event=events.append)
    kinds = [type(event).__name__ for event in events]
    assert kinds == [
        *("RunStarted", "StepStarted", "CallSettled", "StepEnded", "PlanRejected"),
        *("StepStarted", "CallSettled", "StepEnded", "PlanAccepted", "AssignmentStarted"),
        *("StepStarted", "CallSettled", "CallSettled", "StepEnded", "OutcomeSettled"),
        *("AssignmentStarted", "StepStarted", "CallSettled", "StepEnded", "OutcomeSettled"),
        *("StepStarted", "CallSettled", "StepEnded"),
    ]
    by_kind = {kind: [e for e in events if type(e) is kind] for kind in map(type, events)}
    assert [e.task_id for e in by_kind[StepStarted]] == [None, None, "x", "y", None]
    assert [e.retry_in for e in by_kind[CallSettled]][2:4] == [pytest.approx(0, abs=1), None]
    assert by_kind[PlanRejected][0].text == "prose"
    assert [a.id for a in by_kind[PlanAccepted][0].assignments] == ["x", "y"]
    assert [e.outcome.status for e in by_kind[OutcomeSettled]] == ["completed", "failed"]
    assert by_kind[StepEnded][3].output is None
    assert "bad key" in (by_kind[StepEnded][3].error or "")


async def test_the_same_pattern_object_serves_two_event_loops() -> None:
    crew = OrchestratorWorkers(
        orchestrator=Agent("planner", ScriptedLLM([plan_text(item("a")), "1"] * 2)),
        workers=[Agent("a", ScriptedLLM(["x", "x"]))],
    )
    results = [await asyncio.to_thread(crew.run_sync, "the task") for _ in range(2)]
    assert [result.output for result in results] == ["1", "1"]


async def test_the_ledger_survives_json() -> None:
    crew = team([plan_text(item("a"))], {"a": [limited(), "alpha"]})
    result = await crew.run("the task")
    stored = json.loads(json.dumps(result.to_dict()))
    assert tuple(CallRecord.from_dict(call) for call in stored["calls"]) == result.calls
