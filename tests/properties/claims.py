"""What must hold of any run, however it went."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from pyagent_patterns import Budget
from pyagent_patterns.errors import PyAgentError, RunAborted
from pyagent_patterns.events import CallSettled, OutcomeSettled
from pyagent_patterns.ledger import CallRecord, CostKey
from pyagent_patterns.result import Outcome
from pyagent_patterns.traffic import RateLimit
from pyagent_providers import ModelPrice

from .teams import CaseSpec, Played, TeamSpec
from .world import Attempt, dollars

_SUBTASK = re.compile(r"[tuv]\d+$")
_ROUNDING = 1e-6  # seconds; of sums of floats


def nothing_is_left_running(played: Played) -> None:
    """No task, no timer, no call at a model, no place in a lane."""
    assert played.left == []
    assert [attempt for attempt in played.world.attempts if attempt.ended is None] == []
    for model in played.world.models:
        lane = played.traffic.lane(model)
        assert (lane._under_way, list(lane._queue)) == (0, [])


def it_ends_as_it_may(played: Played) -> None:
    """With a result, an error of this SDK, or cancelled; and what it says of itself is so."""
    error, result = played.error, played.result
    assert error is None or isinstance(error, PyAgentError | asyncio.CancelledError), repr(error)
    cut_off = [call.finish_reason == "length" for call in result.calls if call.status == "ok"]
    whole = (
        error is None
        and all(outcome.status == "completed" for outcome in result.outcomes)
        and not cut_off[-1]
        and result.degraded_to is None
    )
    assert result.status == ("completed" if whole else "partial")
    assert bool(result.output) == (error is None)


def no_output_is_lost(played: Played, team: TeamSpec) -> None:
    """Each answer that a worker's model finished is in an outcome, as it was given."""
    outcomes = _by_subtask(played)
    given = {a.task: a.text for a in played.world.attempts if a.text and a.task in outcomes}
    assert {name: outcomes[name].output for name in given} == given
    for outcome in outcomes.values():
        attempts = played.world.at([_name(outcome)])
        assert (outcome.output is not None) == (_name(outcome) in given)
        assert (outcome.status == "completed") == any(a.whole for a in attempts)
        assert (outcome.status == "truncated") == any(a.text and not a.whole for a in attempts)
        assert outcome.attempts == len(attempts)
        if outcome.status == "skipped":
            assert attempts == []
    if isinstance(played.error, RunAborted) and played.error.agent.startswith(f"{team.letter}-w"):
        assert str(played.error.failure) in [outcome.error for outcome in outcomes.values()]


def who_stands_in_is_told_of_all_work(played: Played, case: CaseSpec) -> None:
    """Whoever stands in for what failed gets everything that was finished until then."""
    attempts = played.world.attempts
    for n, spec in enumerate(case.degrade_to):
        its_names = f"{spec.letter}-" if isinstance(spec, TeamSpec) else f"stand-in-{n}"
        first = next((a for a in attempts if a.model.model.startswith(its_names)), None)
        if first is not None:
            done = [a.text for a in attempts if a.order < first.order and _SUBTASK.match(a.task)]
            assert [text for text in done if text and text not in first.prompt] == []


def tasks_wait_for_what_they_need(played: Played, team: TeamSpec, case: CaseSpec) -> None:
    """None begins before its dependencies ended, nor after one that came to nothing.

    A failure that is to be passed over counts as an end. A task is told all outputs it needs.
    """
    outcomes = _by_subtask(played)
    for n, task in enumerate(team.tasks):
        attempts = played.world.at([f"{team.letter}{n}"])
        for after in task.after if attempts else ():
            needed = outcomes[f"{team.letter}{after}"]
            before = played.world.at([_name(needed)])
            assert all(a.ended is not None and a.ended < attempts[0].order for a in before)
            worker = team.workers[team.tasks[after].worker]
            if needed.output is None:
                assert needed.status not in ("skipped", "cancelled")
                assert (worker.on_error or case.on_error) == "skip"
            else:
                assert needed.output in attempts[0].prompt


def no_more_than_may_are_at_once(played: Played, team: TeamSpec, limit: RateLimit) -> None:
    tasks = [f"{team.letter}{n}" for n in range(len(team.tasks))]
    if team.max_parallel is not None:
        assert _most_at_once(played.world.at(tasks)) <= team.max_parallel
    for model in {attempt.model for attempt in played.world.attempts}:
        calls = [attempt for attempt in played.world.attempts if attempt.model is model]
        if limit.max_concurrent is not None:
            assert _most_at_once(calls) <= limit.max_concurrent
        if limit.requests_per_minute is not None:
            begins = sorted(call.began for call in calls)
            for first, last in zip(begins, begins[limit.requests_per_minute :], strict=False):
                assert last - first >= 60 - _ROUNDING


def it_ends_in_time(played: Played, case: CaseSpec) -> None:
    if case.timeouts.run is not None:
        assert played.seconds <= case.timeouts.run + _ROUNDING
    for budget in case.budgets:
        if budget.max_seconds is not None:
            assert played.seconds <= budget.max_seconds + _ROUNDING
    if case.timeouts.assignment is not None:
        for outcome in played.result.outcomes:
            attempts = played.world.at([_name(outcome)])
            if attempts:
                took = max(a.ended_at for a in attempts) - attempts[0].began
                assert took <= case.timeouts.assignment + _ROUNDING
    if case.timeouts.call is not None:
        for attempt in played.world.attempts:
            assert attempt.ended_at - attempt.began <= case.timeouts.call + _ROUNDING


def budgets_hold(attempts: Sequence[Attempt], calls: Sequence[CallRecord], budget: Budget) -> None:
    """What was charged, and what the ledger says, are within every limit."""
    rate = budget.on_unpriced if isinstance(budget.on_unpriced, ModelPrice) else None
    if budget.max_cost_usd is not None:
        assert sum((dollars(a, rate) for a in attempts), Decimal(0)) <= budget.max_cost_usd
        assert sum((c.cost or Decimal(0) for c in calls), Decimal(0)) <= budget.max_cost_usd
    if budget.max_tokens is not None:
        assert sum(a.usage.total_tokens for a in attempts) <= budget.max_tokens
    if budget.max_calls is not None:
        assert len(attempts) <= budget.max_calls


def budgets_hold_but_for_one_call(calls: Sequence[CallRecord], budget: Budget) -> None:
    """For agents whose answers nothing bounds: without the one dearest call, limits hold."""
    if budget.max_cost_usd is not None:
        paid = sorted(c.cost or Decimal(0) for c in calls)
        assert sum(paid[:-1], Decimal(0)) <= budget.max_cost_usd
    if budget.max_tokens is not None:
        used = sorted(c.usage.total_tokens for c in calls if c.usage is not None)
        assert sum(used[:-1]) <= budget.max_tokens
    if budget.max_calls is not None:
        assert len(calls) <= budget.max_calls


def all_that_was_reserved_is_given_back(played: Played) -> None:
    for purse in played.purses:
        assert not purse._waiting
        for account in purse._accounts:
            assert account.under_way == 0
            reserved = account.reserved
            assert (reserved.usd, reserved.tokens, reserved.calls) == (0, 0, 0)


def all_accounts_agree(played: Played) -> None:
    """Ledger, result, outcomes, events, spans and metrics: grouped any way, the same figures."""
    result, trace = played.result, played.trace
    calls = result.calls
    # Each attempt is one entry, one span, one event: nothing is seen twice or not at all.
    assert len(calls) == len(played.world.attempts)
    chats = [span for span in trace.spans if span.name.startswith("chat ")]
    assert len(chats) == len(calls)
    assert tuple(e.call for e in played.events if isinstance(e, CallSettled)) == calls
    told = [e.outcome.status for e in played.events if isinstance(e, OutcomeSettled)]
    settled = [o.status for o in result.outcomes if o.status != "cancelled"]
    assert sorted(told) == sorted(settled)
    _usage_is_what_was_billed(played)

    agents = {
        span.context.span_id: span
        for span in trace.spans
        if span.name.startswith("pyagent.agent.") and span.context
    }
    cost = trace.metric("pyagent.cost.usd")
    groups: dict[CostKey, tuple[str, str]] = {
        "agent": ("gen_ai.agent.name", "agent"),
        "phase": ("pyagent.phase", "agent"),
        "model": ("gen_ai.request.model", "chat"),
        "provider": ("gen_ai.provider.name", "chat"),
    }
    for key, (attribute, kind) in groups.items():
        ledger = {name: float(usd) for name, usd in result.cost_by(key).items() if usd}
        spans: dict[str, float] = defaultdict(float)
        for span in chats:
            holder = span if kind == "chat" else agents[_parent(span)]
            spans[str(_of(holder, attribute))] += float(_of(span, "pyagent.cost.usd") or 0)
        metrics: dict[str, float] = defaultdict(float)
        for point in cost.points:
            metrics[str(point.attributes[attribute])] += point.total
        assert {k: v for k, v in spans.items() if v} == pytest.approx(ledger, rel=1e-9)
        assert metrics == pytest.approx(ledger, rel=1e-9)
        assert sum(result.cost_by(key).values()) == result.cost_estimate
    _roll_ups_add_up(played, list(agents.values()))
    assert trace.metric("pyagent.unpriced.calls").total == result.unpriced
    assert trace.metric("pyagent.retries").total == sum(call.attempt > 1 for call in calls)
    tokens = trace.metric("gen_ai.client.token.usage")
    assert tokens.total == result.usage.total_tokens
    assert trace.metric("gen_ai.client.operation.duration").count == len(calls)
    patterns = [span for span in trace.spans if span.name.startswith("pyagent.pattern.")]
    assert trace.metric("gen_ai.invoke_workflow.duration").count == len(patterns)


def _usage_is_what_was_billed(played: Played) -> None:
    """Of each model, in order: the usage its provider told, priced; never less than was charged."""
    entries: dict[str, list[CallRecord]] = defaultdict(list)
    for call in played.result.calls:
        entries[call.requested_model].append(call)
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in sorted(played.world.attempts, key=lambda a: a.ended or 0):
        attempts[attempt.model.model].append(attempt)
    assert {name: len(calls) for name, calls in entries.items()} == {
        name: len(made) for name, made in attempts.items()
    }
    for name, calls in entries.items():
        for call, attempt in zip(calls, attempts[name], strict=True):
            price = attempt.model.price
            if call.usage is not None:
                assert call.usage == attempt.usage
            if price is None:
                assert call.cost is None or call.price_source == "not-billed"
            elif call.usage is not None:
                assert call.cost == price.cost(call.usage)
            elif call.cost is not None and attempt.bounded:
                assert call.cost >= price.cost(attempt.usage)


def _roll_ups_add_up(played: Played, agents: Sequence[ReadableSpan]) -> None:
    """The spans above the calls show the sums of what is below."""
    calls = played.result.calls
    [root] = [span for span in played.trace.spans if span.parent is None]
    for spans in ([root], agents):
        usd = sum(float(_of(span, "pyagent.cost.usd") or 0) for span in spans)
        assert usd == pytest.approx(float(played.result.cost_estimate), rel=1e-9)
        unpriced = sum(int(_of(span, "pyagent.unpriced.calls") or 0) for span in spans)
        assert unpriced == played.result.unpriced
        read = sum(int(_of(span, "pyagent.usage.input_tokens") or 0) for span in spans)
        assert read == played.result.usage.input_tokens
    of_outcomes: list[Outcome] = list(played.result.outcomes)
    assert sum(len(o.calls) for o in of_outcomes) == sum(c.task_id is not None for c in calls)


def _by_subtask(played: Played) -> dict[str, Outcome]:
    """Ids are unique in a plan, not in a run: a pattern that stands in has its own plan."""
    return {_name(outcome): outcome for outcome in played.result.outcomes}


def _name(outcome: Outcome) -> str:
    return outcome.assignment.subtask.partition("\n")[0]


def _of(span: ReadableSpan, attribute: str) -> str | float | None:
    value = (span.attributes or {}).get(attribute)
    assert value is None or isinstance(value, str | float | int)
    return value


def _parent(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def _most_at_once(attempts: Sequence[Attempt]) -> int:
    moves = [(a.order, 1) for a in attempts] + [(a.ended or 0, -1) for a in attempts]
    now = most = 0
    for _, move in sorted(moves):
        now += move
        most = max(most, now)
    return most
