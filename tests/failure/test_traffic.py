"""What goes out to a provider: rate limits, what a lane learns from 429s, circuit breakers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from pyagent_patterns import Agent, AgentError, Breaker, RateLimit, RetryPolicy, Traffic
from pyagent_patterns.traffic import Lane, Permit
from pyagent_providers import LLM, Completion, OpenAILLM
from pyagent_providers.errors import (
    BadRequestError,
    CircuitOpenError,
    OverloadedError,
    RateLimitError,
)
from pyagent_providers.testing import ScriptedLLM
from pyagent_providers.types import Request

from .solo import Solo

M = ScriptedLLM([])


class Clock:
    """Time as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lane(clock: Callable[[], float], *, breaker: Breaker | None = None, **limits: int) -> Lane:
    traffic = Traffic({"scripted": RateLimit(**limits)}, breaker=breaker, clock=clock)
    return traffic.lane(M)


async def enters(lane: Lane, tokens: int = 0) -> Permit | None:
    """The permit, if there is one at once."""
    task = asyncio.create_task(lane.enter(M, tokens))
    for _ in range(4):
        await asyncio.sleep(0)
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait([task])
    return None


def limited(retry_after: float | None = None) -> RateLimitError:
    return RateLimitError("slow down", provider="p", model="m", retry_after=retry_after)


def down() -> OverloadedError:
    return OverloadedError("busy", provider="p", model="m")


async def test_in_no_minute_are_there_more_calls_than_allowed(clock: Clock) -> None:
    its = lane(clock, requests_per_minute=3)
    for second in range(3):
        clock.now = 1000 + second * 10
        permit = await enters(its)
        assert permit is not None
        permit.leave(None)
    clock.now = 1059.9
    assert await enters(its) is None
    clock.now = 1060.1  # a minute after the first, but not after the second
    assert await enters(its) is not None
    assert await enters(its) is None


async def test_in_no_minute_are_there_more_tokens_than_allowed(clock: Clock) -> None:
    its = lane(clock, tokens_per_minute=100)
    first = await enters(its, 60)
    assert first is not None
    assert await enters(its, 60) is None
    first.leave(None, 30)  # what it really used
    second = await enters(its, 60)
    assert second is not None
    assert await enters(its, 20) is None


async def test_a_call_that_is_more_than_a_minutes_tokens_goes_alone(clock: Clock) -> None:
    its = lane(clock, tokens_per_minute=100)
    assert await enters(its, 1000) is not None
    assert await enters(its, 1) is None
    clock.now += 61
    assert await enters(its, 1) is not None


async def test_places_are_given_in_the_order_they_were_asked_for(clock: Clock) -> None:
    its = lane(clock, max_concurrent=1)
    first = await its.enter(M)
    order: list[int] = []

    async def enter(n: int) -> None:
        permit = await its.enter(M)
        order.append(n)
        await asyncio.sleep(0)
        permit.leave(None)

    tasks = [asyncio.create_task(enter(n)) for n in range(5)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    first.leave(None)
    await asyncio.wait(tasks)
    assert order == [0, 2, 3, 4]


async def test_nobody_overtakes_those_who_wait(clock: Clock) -> None:
    its = lane(clock, max_concurrent=1)
    first = await its.enter(M)
    waiting = asyncio.create_task(its.enter(M))
    await asyncio.sleep(0)
    first.leave(None)
    late = asyncio.create_task(its.enter(M))  # comes before the one who waits has woken
    await asyncio.sleep(0.01)
    assert waiting.done()
    assert not late.done()
    waiting.result().leave(None)
    (await late).leave(None)


async def test_a_429_halves_what_may_be_under_way_once_for_a_burst(clock: Clock) -> None:
    its = lane(clock)
    burst = [await its.enter(M) for _ in range(8)]
    clock.now += 1
    for permit in burst:
        permit.leave(limited())
    allowed = [await enters(its) for _ in range(5)]
    assert [permit is not None for permit in allowed] == [True] * 4 + [False]


async def test_successes_let_in_more_again_a_little_at_a_time(clock: Clock) -> None:
    its = lane(clock)
    burst = [await its.enter(M) for _ in range(4)]
    clock.now += 1
    for permit in burst:
        permit.leave(limited())
    for expected in (2, 3, 4):
        permits = [await enters(its) for _ in range(expected)]
        assert all(permits)
        assert await enters(its) is None
        for permit in permits:
            assert permit is not None
            permit.leave(None)


async def test_the_lane_stops_for_as_long_as_the_provider_says(clock: Clock) -> None:
    its = lane(clock)
    (await its.enter(M)).leave(limited(retry_after=20))
    clock.now += 19
    assert await enters(its) is None
    clock.now += 2
    assert await enters(its) is not None


async def test_a_model_that_is_down_is_left_alone_and_then_tried_by_one(clock: Clock) -> None:
    its = lane(clock, breaker=Breaker(failures=3, cool_down=10))
    for _ in range(3):
        (await its.enter(M)).leave(down())
    with pytest.raises(CircuitOpenError, match=r"the last 3 calls found the model down.* 10\.0 s"):
        await its.enter(M)
    clock.now += 10
    trial = await its.enter(M)
    with pytest.raises(CircuitOpenError):
        await its.enter(M)  # one is enough to find out
    trial.leave(down())
    with pytest.raises(CircuitOpenError):
        await its.enter(M)
    clock.now += 10
    (await its.enter(M)).leave(None)
    (await its.enter(M)).leave(None)


async def test_a_trial_that_is_cancelled_leaves_the_next_to_try(clock: Clock) -> None:
    its = lane(clock, breaker=Breaker(failures=1, cool_down=10))
    (await its.enter(M)).leave(down())
    clock.now += 10
    (await its.enter(M)).leave(asyncio.CancelledError())
    (await its.enter(M)).leave(None)


async def test_a_provider_that_answers_if_only_to_decline_is_not_down(clock: Clock) -> None:
    its = lane(clock, breaker=Breaker(failures=2))
    bad = BadRequestError("no", provider="p", model="m")
    for failure in (down(), bad, down(), limited(), down(), None):
        (await its.enter(M)).leave(failure)
    assert await enters(its) is not None


async def test_another_model_in_the_lane_is_not_taken_to_be_down(clock: Clock) -> None:
    traffic = Traffic(breaker=Breaker(failures=1), clock=clock)
    its = traffic.lane(M)
    (await its.enter(M)).leave(down())
    (await its.enter(ScriptedLLM([], model="other"))).leave(None)


async def test_a_run_fails_over_at_once_when_the_first_model_is_taken_to_be_down() -> None:
    first = ScriptedLLM([down(), down()], model="first")
    second = ScriptedLLM(["a", "b", "c"], model="second")
    agent = Agent("a", [first, second])
    traffic = Traffic(breaker=Breaker(failures=2, cool_down=5))
    team = Solo(agent, traffic=traffic, retry=RetryPolicy(max_attempts=2, backoff=0))
    assert len((await team.run("hello")).calls) == 3
    began = time.monotonic()
    result = await team.run("hello")  # nothing is sent to the first any more
    assert [call.model for call in result.calls] == ["second"]
    assert time.monotonic() - began < 4


async def test_without_another_model_the_error_says_that_nothing_was_sent() -> None:
    llm = ScriptedLLM([down()])
    traffic = Traffic(breaker=Breaker(failures=1, cool_down=60))
    team = Solo(Agent("a", llm), traffic=traffic, retry=RetryPolicy(max_attempts=1))
    with pytest.raises(AgentError, match="busy"):
        await team.run("hello")
    with pytest.raises(AgentError, match="not sent: the last 1 calls") as caught:
        await team.run("hello")
    assert caught.value.result is not None
    assert caught.value.result.calls == ()


class Counting(LLM):
    """Counts what is under way at once, in all event loops and threads."""

    def __init__(self) -> None:
        super().__init__("counting", provider="counting")
        self._lock = threading.Lock()
        self.under_way = self.most = 0

    async def _complete(self, request: Request) -> Completion:
        with self._lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.005)
        with self._lock:
            self.under_way -= 1
        return Completion(text="here", finish_reason="stop")


def test_a_limit_holds_for_several_event_loops_at_once() -> None:
    llm = Counting()
    traffic = Traffic({"counting": RateLimit(max_concurrent=3)})
    team = Solo(Agent("a", llm), traffic=traffic)

    async def many() -> None:
        await asyncio.gather(*(team.run("hello") for _ in range(10)))

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert llm.most == 3


async def test_a_loop_that_went_away_while_it_waited_holds_nobody_up() -> None:
    llm = Counting()
    traffic = Traffic({"counting": RateLimit(max_concurrent=1)})
    place = await traffic.lane(llm).enter(llm)

    def leave_waiting() -> None:
        async def wait() -> None:
            asyncio.create_task(traffic.lane(llm).enter(llm))  # noqa: RUF006
            await asyncio.sleep(0.01)

        asyncio.run(wait())

    await asyncio.to_thread(leave_waiting)
    place.leave(None)
    async with asyncio.timeout(2):
        await traffic.lane(llm).enter(llm)


async def test_agents_with_one_endpoint_and_key_share_a_lane_and_others_do_not() -> None:
    traffic = Traffic()
    one = OpenAILLM("gpt-4o", api_key="k1", base_url="http://127.0.0.1:9/v1")
    same = OpenAILLM("gpt-4o-mini", api_key="k1", base_url="http://127.0.0.1:9/v1")
    other_key = OpenAILLM("gpt-4o", api_key="k2", base_url="http://127.0.0.1:9/v1")
    elsewhere = OpenAILLM("gpt-4o", api_key="k1", base_url="http://127.0.0.1:8/v1")
    lanes = [traffic.lane(llm) for llm in (one, same, other_key, elsewhere)]
    assert lanes[0] is lanes[1]
    assert len({id(its) for its in lanes}) == 3
    assert "k1" not in repr(one.account)


async def test_a_limit_can_be_set_for_all_patterns_that_are_told_nothing_else(
    clock: Clock,
) -> None:
    traffic = Traffic(clock=clock)
    its = traffic.lane(M)
    traffic.limit("scripted", RateLimit(requests_per_minute=1))
    assert await enters(its) is not None
    assert await enters(its) is None
    traffic.limit("scripted", None)
    assert await enters(its) is not None


async def test_a_place_is_taken_for_a_call_and_not_for_a_worker() -> None:
    """Workers that wait for one another cannot hold up what they wait for."""
    from tests.patterns.teams import item, plan_text, team

    names = "abcdef"
    plan = plan_text(*(item(w, id=w, depends_on=list(names[:n])) for n, w in enumerate(names)))
    crew = team([plan], {worker: [worker.upper()] for worker in names})
    limited = type(crew)(
        orchestrator=crew.orchestrator,
        workers=list(crew.workers.values()),
        traffic=Traffic({"scripted": RateLimit(max_concurrent=1)}),
    )
    async with asyncio.timeout(5):
        assert (await limited.run("the task")).status == "completed"


@pytest.mark.parametrize("limit", ["requests_per_minute", "tokens_per_minute", "max_concurrent"])
def test_a_limit_of_nothing_is_refused(limit: str) -> None:
    with pytest.raises(ValueError, match=f"{limit} must be at least 1"):
        RateLimit(**{limit: 0})
    with pytest.raises(ValueError, match="must be more than 0"):
        Breaker(cool_down=0)


async def test_a_real_clock_wakes_those_who_wait() -> None:
    its = lane(time.monotonic)
    (await its.enter(M)).leave(limited(retry_after=0.05))
    began = time.monotonic()
    await its.enter(M)
    assert time.monotonic() - began >= 0.045
