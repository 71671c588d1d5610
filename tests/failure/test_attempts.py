"""One question: its attempts, models, time limits, and what they leave in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pyagent_patterns import Agent, AgentError, RetryPolicy, Timeouts
from pyagent_patterns.events import CallSettled, Event, TextDelta
from pyagent_patterns.testing import capture_trace
from pyagent_providers import Completion
from pyagent_providers.errors import (
    AuthenticationError,
    EmptyAnswerError,
    OverloadedError,
    RateLimitError,
    RequestTimeoutError,
)
from pyagent_providers.testing import ScriptedLLM, Step
from pyagent_providers.types import Request

from .solo import MILLIONTH, PRICE, Solo

AT_ONCE = RetryPolicy(max_attempts=3, backoff=0)


def overloaded() -> OverloadedError:
    return OverloadedError("too busy", provider="p", model="m")


class Dripping(ScriptedLLM):
    """Streams its one answer word by word; hangs before the words that are `None`."""

    def __init__(self, *words: str | None) -> None:
        super().__init__([], price=PRICE)
        self._words = words

    async def _stream(self, request: Request) -> AsyncIterator[str | Completion]:
        for word in self._words:
            if word is None:
                await asyncio.sleep(60)
            else:
                yield word
        yield Completion(text="".join(w for w in self._words if w), finish_reason="stop")


async def test_the_next_model_is_asked_when_one_has_failed_with_all_its_attempts() -> None:
    primary = ScriptedLLM([overloaded(), overloaded()], model="first", price=PRICE)
    backup = ScriptedLLM(["here"], model="second", provider="other", price=PRICE)
    team = Solo(Agent("a", [primary, backup]), retry=RetryPolicy(max_attempts=2, backoff=0))
    with capture_trace() as trace:
        result = await team.run("hello")
    assert result.output == "here"
    assert [(c.attempt, c.provider, c.model, c.status) for c in result.calls] == [
        (1, "scripted", "first", "failed"),
        (2, "scripted", "first", "failed"),
        (3, "other", "second", "ok"),
    ]
    assert result.cost_by("model") == {"second": 60 * MILLIONTH, "first": 0}
    chats = [span for span in trace.spans if span.name.startswith("chat")]
    assert [span.name for span in chats] == ["chat first", "chat first", "chat second"]


async def test_what_a_retry_cannot_help_goes_to_the_next_model_at_once() -> None:
    primary = ScriptedLLM([AuthenticationError("bad key", provider="p", model="m")])
    backup = ScriptedLLM(["here"])
    result = await Solo(Agent("a", [primary, backup])).run("hello")
    assert [call.status for call in result.calls] == ["failed", "ok"]


async def test_a_backup_stands_behind_a_function_of_the_applications_own_too() -> None:
    async def broken(messages: object) -> str:
        raise ValueError("a bug")

    result = await Solo(Agent("a", [broken, ScriptedLLM(["here"])])).run("hello")
    assert [(call.status, call.error) for call in result.calls] == [
        ("failed", "ValueError"),
        ("ok", None),
    ]


async def test_when_no_model_answers_the_error_is_of_the_last() -> None:
    first = ScriptedLLM([overloaded()], model="first")
    last = ScriptedLLM([AuthenticationError("bad key", provider="p", model="last")], model="last")
    team = Solo(Agent("a", [first, last]), retry=RetryPolicy(max_attempts=1))
    with pytest.raises(AgentError, match=r"agent 'a' \(last\): 2 attempts failed.*bad key"):
        await team.run("hello")


async def test_an_agents_own_retry_policy_comes_before_the_patterns() -> None:
    agent = Agent("a", ScriptedLLM([overloaded()]), retry=RetryPolicy(max_attempts=1))
    with pytest.raises(AgentError) as caught:
        await Solo(agent, retry=AT_ONCE).run("hello")
    assert caught.value.result is not None
    assert len(caught.value.result.calls) == 1


async def test_an_empty_answer_is_an_error_and_retried_only_when_asked_for() -> None:
    with pytest.raises(AgentError, match="no text") as caught:
        await Solo(Agent("a", ScriptedLLM([" \n"], price=PRICE)), retry=AT_ONCE).run("hello")
    assert caught.value.kind == "empty"
    assert caught.value.result is not None
    [call] = caught.value.result.calls
    assert (call.status, call.error, call.cost) == ("failed", "EmptyAnswerError", 60 * MILLIONTH)

    policy = RetryPolicy(max_attempts=2, backoff=0, retry_on=(EmptyAnswerError,))
    result = await Solo(Agent("a", ScriptedLLM(["", "here"])), retry=policy).run("hello")
    assert result.output == "here"


def test_the_pauses_double_up_to_the_longest_with_full_jitter() -> None:
    policy = RetryPolicy(max_attempts=9, backoff=1, max_backoff=5, jitter=False)
    assert [policy.pause(overloaded(), n) for n in (1, 2, 3, 4, 9)] == [1, 2, 4, 5, None]
    jittered = RetryPolicy(max_attempts=9, backoff=1, max_backoff=5)
    pauses = [jittered.pause(overloaded(), 3) or 0 for _ in range(500)]
    assert min(pauses) < 0.5
    assert 3.5 < max(pauses) <= 4


def test_what_is_retried_can_be_said_by_a_function() -> None:
    policy = RetryPolicy(retry_on=lambda error: "magic" in str(error), jitter=False)
    assert policy.pause(ValueError("magic"), 1) == 0.5
    assert policy.pause(overloaded(), 1) is None


async def test_a_call_that_takes_too_long_is_cut_off_retried_and_its_worst_case_paid() -> None:
    llm = ScriptedLLM([Step("late", delay=60), "in time"], price=PRICE)
    agent = Agent("a", llm, max_tokens=100)
    with capture_trace() as trace:
        result = await Solo(agent, retry=AT_ONCE, timeouts=Timeouts(call=0.02)).run("hello")
    assert result.output == "in time"
    late, _ = result.calls
    assert (late.status, late.error) == ("failed", "RequestTimeoutError")
    # Five bytes and a message's envelope in, and all that may have been written.
    assert (late.cost, late.price_source) == ((5 + 16 + 10 * 100) * MILLIONTH, "estimate")
    assert (late.usage, result.estimated) == (None, 1)
    assert "1 calls estimated" in repr(result)
    chat = next(span for span in trace.spans if span.name.startswith("chat"))
    assert chat.attributes is not None
    assert chat.attributes["error.type"] == "RequestTimeoutError"
    assert chat.attributes["pyagent.cost.usd"] == float(late.cost or 0)
    assert chat.attributes["pyagent.price.source"] == "estimate"
    assert "gen_ai.usage.input_tokens" not in chat.attributes


async def test_an_assignments_time_holds_for_all_its_attempts_and_pauses() -> None:
    policy = RetryPolicy(max_attempts=9, backoff=0.04, jitter=False)
    agent = Agent("a", ScriptedLLM([overloaded()] * 9))
    with pytest.raises(AgentError, match=r"no answer within 0\.05 s") as caught:
        await Solo(agent, retry=policy, timeouts=Timeouts(assignment=0.05)).run("hello")
    assert caught.value.kind == "timeout"
    assert caught.value.result is not None
    assert 1 <= len(caught.value.result.calls) < 9


async def test_a_fallback_has_only_the_time_that_is_left_of_the_assignments() -> None:
    denied = AuthenticationError("bad key", provider="p", model="m")
    stand_in = Agent("b", ScriptedLLM([Step("late", delay=0.08)]))
    agent = Agent("a", ScriptedLLM([Step(denied, delay=0.08)]), fallback=stand_in)
    with pytest.raises(AgentError, match=r"agent 'b'.*no answer within 0\.12 s"):
        await Solo(agent, timeouts=Timeouts(assignment=0.12)).run("hello")


async def test_a_timeout_of_the_users_own_function_is_not_the_assignments() -> None:
    async def model(messages: object) -> str:
        raise TimeoutError("mine")

    with pytest.raises(AgentError, match="TimeoutError: mine") as caught:
        await Solo(Agent("a", model), timeouts=Timeouts(assignment=5)).run("hello")
    assert caught.value.kind == "failed"


async def test_a_streamed_answer_is_told_in_pieces_and_ends_the_same() -> None:
    heard: list[Event] = []
    agent = Agent("a", Dripping("one ", "two ", "three"), stream=True)
    result = await Solo(agent).run("hello", on_event=heard.append)
    assert result.output == "one two three"
    pieces = [event for event in heard if isinstance(event, TextDelta)]
    assert [piece.text for piece in pieces] == ["one ", "two ", "three"]
    assert {(piece.agent, piece.step) for piece in pieces} == {("a", 1)}
    [call] = result.calls
    assert call.status == "ok"


async def test_a_silent_stream_is_cut_off_and_what_came_is_paid() -> None:
    agent = Agent("a", Dripping("four", None), stream=True, max_tokens=100)
    timeouts = Timeouts(idle=0.03, call=30)
    with pytest.raises(AgentError, match=r"silent for 0\.03 s") as caught:
        await Solo(agent, retry=RetryPolicy(max_attempts=1), timeouts=timeouts).run("hello")
    assert caught.value.result is not None
    [call] = caught.value.result.calls
    assert (call.cost, call.price_source) == ((5 + 16 + 10 * 4) * MILLIONTH, "estimate")


async def test_a_stream_that_takes_too_long_in_all_is_cut_off_though_it_is_never_silent() -> None:
    class Endless(ScriptedLLM):
        async def _stream(self, request: Request) -> AsyncIterator[str | Completion]:
            while True:
                await asyncio.sleep(0.005)
                yield "more "

    agent = Agent("a", Endless([]), stream=True)
    with pytest.raises(AgentError, match="not complete in time"):
        await Solo(
            agent, retry=RetryPolicy(max_attempts=1), timeouts=Timeouts(call=0.05, idle=0.04)
        ).run("hello")


async def test_a_cancelled_call_is_paid_at_its_worst_case() -> None:
    llm = ScriptedLLM([Step("never", delay=60)], price=PRICE)
    settled: list[Event] = []
    team = Solo(Agent("a", llm, max_tokens=7))
    run = asyncio.create_task(team.run("hello", on_event=settled.append))
    while not llm.requests:
        await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError) as stopped:
        await run
    result = stopped.value.result  # type: ignore[attr-defined]
    [call] = result.calls
    assert (call.status, call.cost) == ("cancelled", (5 + 16 + 10 * 7) * MILLIONTH)
    assert result.cost_estimate == call.cost
    assert [event.call for event in settled if isinstance(event, CallSettled)] == [call]


async def test_a_reader_who_leaves_a_stream_is_billed_for_what_came() -> None:
    llm = Dripping("four", "more", "text")
    with capture_trace() as trace:
        stream = llm.stream("hello")
        assert await anext(stream) == "four"
        await stream.aclose()
    [chat] = trace.spans
    assert chat.attributes is not None
    assert chat.attributes["pyagent.cost.usd"] == float((5 + 16 + 10 * 4) * MILLIONTH)


async def test_a_request_that_was_turned_away_is_not_billed() -> None:
    limited = RateLimitError("slow down", provider="p", model="m", retry_after=0)
    result = await Solo(Agent("a", ScriptedLLM([limited, "here"], price=PRICE))).run("hello")
    assert [call.cost for call in result.calls] == [0, 60 * MILLIONTH]
    assert result.estimated == 0


async def test_the_ports_own_timeout_is_a_request_timeout() -> None:
    with pytest.raises(RequestTimeoutError, match=r"no answer within 0\.01 s"):
        await ScriptedLLM([Step("late", delay=60)]).complete("hello", timeout=0.01)


@pytest.mark.parametrize("field", ["call", "idle", "assignment", "run"])
def test_a_timeout_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"timeout '{field}' must be more than 0"):
        Timeouts(**{field: 0})


def test_an_agent_without_a_model_or_with_a_fallback_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="agent 'a': llm is empty"):
        Agent("a", [])
    with pytest.raises(TypeError, match="agent 'a': fallback must be an Agent"):
        Agent("a", ScriptedLLM([]), fallback="b")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="on_error must be one of 'partial'"):
        Agent("a", ScriptedLLM([]), on_error="give up")  # type: ignore[arg-type]
