"""What goes out to a provider, together: rate limits that learn, and circuit breakers.

Limits sit on calls, never on workers: a worker that waits for another holds no place. A `Lane` is
one provider's endpoint and key; every agent, run and event loop of the process that uses it is in
the same lane.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from pyagent_providers import semconv
from pyagent_providers.base import LLM
from pyagent_providers.errors import (
    CircuitOpenError,
    ConnectionFailedError,
    OverloadedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
)
from pyagent_providers.telemetry import current

_MINUTE: Final = 60.0
# Errors that say that the provider is down, or as good as.
_DOWN: Final = (ServerError, OverloadedError, ConnectionFailedError, RequestTimeoutError)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """What one provider and key allows; None is no limit.

    In no 60 seconds are there more than `requests_per_minute` calls, or more than
    `tokens_per_minute` tokens: a call counts with its prompt (a token for four bytes) and its
    `max_tokens` until it has ended, and then with what it used. At most `max_concurrent` calls
    are under way at once.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent: int | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise ValueError(f"{name} must be at least 1, or None; got {limit!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """After `failures` in a row that say that a model is down, calls to it fail at once.

    They do for `cool_down` seconds; then one call is let through, and decides.
    """

    failures: int = 10
    cool_down: float = 15.0

    def __post_init__(self) -> None:
        if self.failures < 1 or not self.cool_down > 0:
            raise ValueError(f"failures and cool_down must be more than 0; got {self!r}")


class Traffic:
    """The lanes to all providers. Patterns share `SHARED` unless they are given another.

    `limits` are by provider, such as `{"openai": RateLimit(requests_per_minute=500)}`. Without a
    limit a lane still learns: a 429 halves the calls that may be under way and stops the lane for
    as long as the provider says; every success then lets in a little more (additive increase,
    multiplicative decrease; Chiu and Jain, 1989). `breaker` is that of each model, None for none.
    Safe to use from several event loops and threads.
    """

    def __init__(
        self,
        limits: Mapping[str, RateLimit] | None = None,
        *,
        breaker: Breaker | None = Breaker(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = dict(limits or {})
        self._breaker = breaker
        self._clock = clock
        self._lock = threading.Lock()
        self._by_account: dict[Hashable, Lane] = {}
        # By identity: it is asked for every call, and a WeakKeyDictionary takes ten times longer.
        self._by_llm: dict[int, tuple[weakref.ref[LLM], Lane]] = {}

    def limit(self, provider: str, limit: RateLimit | None) -> None:
        """Set a provider's limit; None removes it. It holds for calls that begin from now on."""
        with self._lock:
            if limit is None:
                self._limits.pop(provider, None)
            else:
                self._limits[provider] = limit
            for _, lane in self._by_llm.values():
                if lane.provider == provider:
                    lane.limit = limit or _NO_LIMIT

    def lane(self, llm: LLM) -> Lane:
        """The lane that the model's calls take."""
        known = self._by_llm.get(id(llm))
        if known is not None and known[0]() is llm:
            return known[1]
        with self._lock:
            account = llm.account
            lane = None if account is None else self._by_account.get(account)
            if lane is None:
                limit = self._limits.get(llm.provider, _NO_LIMIT)
                lane = Lane(llm.provider, limit, self._breaker, self._clock)
                if account is not None:
                    self._by_account[account] = lane
            gone = partial(self._forget, id(llm))
            self._by_llm[id(llm)] = weakref.ref(llm, gone), lane
            return lane

    def _forget(self, key: int, reference: weakref.ref[LLM]) -> None:
        known = self._by_llm.get(key)
        if known is not None and known[0] is reference:
            self._by_llm.pop(key, None)


_NO_LIMIT: Final = RateLimit()


class Lane:
    """Calls to one provider with one key."""

    def __init__(
        self,
        provider: str,
        limit: RateLimit,
        breaker: Breaker | None,
        clock: Callable[[], float],
    ) -> None:
        self.provider = provider
        self.limit = limit
        self._breaker = breaker
        self._clock = clock
        self._lock = threading.Lock()
        self._queue: deque[_Turn] = deque()
        self._under_way = 0
        self._recent: deque[Permit] = deque()  # those that began in the last minute
        self._learnt: int | None = None  # how many calls may be under way, after a 429
        self._well = 0  # calls that went well since that changed
        self._learnt_at = float("-inf")
        self._stopped_until = float("-inf")
        self._circuits: dict[str, _Circuit] = {}

    @property
    def counts_tokens(self) -> bool:
        """Whether `enter` needs to be told how many tokens a call may take."""
        return self.limit.tokens_per_minute is not None

    async def enter(self, llm: LLM, tokens: int = 0) -> Permit:
        """Wait for a place; first come, first served. Leave it with `Permit.leave`.

        Raises CircuitOpenError at once while the model is taken to be down.
        """
        with self._lock:
            now = self._clock()
            circuit = self._circuit(llm, now)
            if not self._queue and self._wait(tokens, now) == 0:
                return self._go(circuit, tokens, now)
            turn = _Turn()
            self._queue.append(turn)
        try:
            while True:
                with self._lock:
                    now = self._clock()
                    circuit = self._circuit(llm, now)
                    wait = self._wait(tokens, now) if self._queue[0] is turn else None
                    if wait == 0:
                        return self._go(circuit, tokens, now)
                await turn.wait(wait)
        finally:
            with self._lock:
                self._queue.remove(turn)
                self._wake_next()

    def leave(self, permit: Permit, failure: BaseException | None, tokens: int | None) -> None:
        """See `Permit.leave`."""
        with self._lock:
            now = self._clock()
            self._under_way -= 1
            if tokens is not None:
                permit.tokens = tokens
            if isinstance(failure, RateLimitError):
                self._slow_down(permit, failure.retry_after, now)
            elif failure is None and self._learnt is not None:
                self._well += 1
                if self._well >= self._learnt:  # one more for each round of calls
                    self._learnt, self._well = self._learnt + 1, 0
            circuit = permit.circuit
            if circuit is not None and (failure is not None or circuit.failures):
                circuit.learn(failure, now)
            self._wake_next()

    def _wait(self, tokens: int, now: float) -> float | None:
        """Seconds until it is worth looking again, 0 to go; None: when woken."""
        if now < self._stopped_until:
            return self._stopped_until - now
        if self._under_way >= self._most_at_once():
            return None
        return self._wait_for_the_minute(tokens, now)

    def _most_at_once(self) -> float:
        most = self.limit.max_concurrent or float("inf")
        return most if self._learnt is None else min(most, self._learnt)

    def _wait_for_the_minute(self, tokens: int, now: float) -> float:
        while self._recent and self._recent[0].began <= now - _MINUTE:
            self._recent.popleft()
        if not self._recent:
            return 0
        limit = self.limit
        calls, most = limit.requests_per_minute, limit.tokens_per_minute
        full = calls is not None and len(self._recent) >= calls
        if most is not None and not full:  # one that alone is more than a minute's goes alone
            full = sum(permit.tokens for permit in self._recent) + tokens > most
        return self._recent[0].began + _MINUTE - now if full else 0

    def _go(self, circuit: _Circuit | None, tokens: int, now: float) -> Permit:
        if circuit is not None:
            circuit.try_it()
        permit = Permit(self, circuit, now, tokens)
        self._under_way += 1
        if self.limit.requests_per_minute is not None or self.counts_tokens:
            self._recent.append(permit)
        return permit

    def _slow_down(self, permit: Permit, retry_after: float | None, now: float) -> None:
        if retry_after is not None:
            self._stopped_until = max(self._stopped_until, now + retry_after)
        if permit.began <= self._learnt_at:
            return  # it was sent before the lane knew; one burst is one lesson
        self._learnt, self._well = max(1, (self._under_way + 1) // 2), 0
        self._learnt_at = now

    def _circuit(self, llm: LLM, now: float) -> _Circuit | None:
        """The model's circuit, where there is a breaker. Raises CircuitOpenError."""
        if self._breaker is None:
            return None
        circuit = self._circuits.get(llm.model)
        if circuit is None:
            circuit = _Circuit(self._breaker, llm.provider, llm.model)
            self._circuits[llm.model] = circuit
        seconds = circuit.open_for(now)
        if seconds:
            raise CircuitOpenError(
                f"not sent: the last {circuit.failures} calls found the model down; one will be "
                f"let through in {seconds:.1f} s",
                provider=llm.provider,
                model=llm.model,
                retry_after=seconds,
            )
        return circuit

    def _wake_next(self) -> None:
        if self._queue:
            self._queue[0].wake()


class Permit:
    """One call's place in a lane."""

    __slots__ = ("_lane", "began", "circuit", "tokens")

    def __init__(self, lane: Lane, circuit: _Circuit | None, began: float, tokens: int) -> None:
        self._lane = lane
        self.circuit = circuit
        self.began = began
        self.tokens = tokens

    def leave(self, failure: BaseException | None, tokens: int | None = None) -> None:
        """The call has ended, so; `tokens` is what it used, where that is known."""
        self._lane.leave(self, failure, tokens)


class _Circuit:
    """Whether one model is taken to be down. Used under its lane's lock."""

    __slots__ = ("_breaker", "_labels", "_open_until", "_trying", "failures")

    def __init__(self, breaker: Breaker, provider: str, model: str) -> None:
        self._breaker = breaker
        self._labels = {semconv.PROVIDER_NAME: provider, semconv.REQUEST_MODEL: model}
        self.failures = 0
        self._open_until = float("-inf")
        self._trying = False

    def open_for(self, now: float) -> float:
        """Seconds for which calls fail; 0 when one may be made."""
        if self.failures < self._breaker.failures:
            return 0
        if self._trying:
            return self._breaker.cool_down
        return max(0.0, self._open_until - now)

    def try_it(self) -> None:
        self._trying = self.failures >= self._breaker.failures

    def learn(self, failure: BaseException | None, now: float) -> None:
        self._trying = False
        if isinstance(failure, _DOWN):
            self.failures += 1
            self._open_until = now + self._breaker.cool_down
            if self.failures == self._breaker.failures:
                current().breaker_opened.add(1, self._labels)
                current().breaker_open.add(1, self._labels)
        elif failure is None or isinstance(failure, Exception):
            if self.failures >= self._breaker.failures:
                current().breaker_open.add(-1, self._labels)
            self.failures = 0  # it answers, if only to decline


class _Turn:
    """A place in the queue, of a task in any event loop."""

    __slots__ = ("_loop", "_woken")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken: asyncio.Future[None] = self._loop.create_future()

    async def wait(self, seconds: float | None) -> None:
        await asyncio.wait([self._woken], timeout=seconds)
        if self._woken.done():
            self._woken = self._loop.create_future()

    def wake(self) -> None:
        with suppress(RuntimeError):  # its loop was closed under it
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)


SHARED: Final = Traffic()
