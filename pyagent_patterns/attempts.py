"""The attempts at one question: every model in turn, each as often as the policy says.

An attempt is paid for from the purse, has its place in the provider's lane, its time limit, and
ends as one entry of the ledger.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from decimal import Decimal

from pyagent_providers.base import LLM, Completion, Cost
from pyagent_providers.errors import CircuitOpenError, EmptyAnswerError, ProviderError
from pyagent_providers.telemetry import error_type

from .ledger import CallRecord, CallStatus
from .policy import Policy
from .purse import Purse, Refused, Reservation
from .question import Question
from .retry import RetryPolicy
from .timeouts import Timeouts
from .traffic import Permit

OnAttempt = Callable[[CallRecord, "float | None"], None]
OnText = Callable[[str], None]


@dataclass(slots=True, kw_only=True, eq=False)  # not frozen, as `Question`: one for each
class Watch:
    """Who is told while a question is asked.

    `attempt` is told of each attempt as it ends, with the seconds until the next, None without
    one; `text` of each piece of a streamed answer. `streams`: it wants all in pieces that is to
    be read.
    """

    attempt: OnAttempt = lambda call, retry_in: None
    text: OnText | None = None
    streams: bool = False


NOBODY = Watch()


class Attempts:
    """The attempts at one question. `calls` has an entry for each that was made so far."""

    def __init__(
        self, question: Question, policy: Policy, purse: Purse | None, watch: Watch = NOBODY
    ) -> None:
        agent = question.agent
        self._question = question
        self._retry: RetryPolicy = agent.retry or policy.retry
        self.timeouts: Timeouts = agent.timeouts or policy.timeouts
        self._traffic = policy.traffic
        self._purse = purse
        self._watch = watch
        self._messages = question.messages
        self.calls: list[CallRecord] = []

    async def answer(self) -> Completion:
        """The first answer that any of the agent's models gives.

        One that the budget has no room for is passed over: the next may cost less. Raises what the
        last attempt did, or `Refused`; a cancellation goes through.
        """
        *others, last = self._question.agent.llms
        for llm in others:
            try:
                return await self._of(llm, has_another=True)
            except Exception:  # noqa: S112 - not lost: it is in the ledger, or was not sent
                continue
        return await self._of(last, has_another=False)

    async def _of(self, llm: LLM, *, has_another: bool) -> Completion:
        """One model's answer, by as many attempts as the policy allows."""
        for attempt in itertools.count(1):
            made = len(self.calls)
            pause: float | None = None
            try:
                return await self._once(llm)
            except Exception as error:
                self._check_time()
                if not (has_another and isinstance(error, CircuitOpenError)):
                    pause = self._retry.pause(error, attempt)
                if pause is not None and self._is_over_in(pause):
                    pause = None
                if pause is None:
                    raise
            finally:
                for call in self.calls[made:]:
                    self._watch.attempt(call, pause)
            await asyncio.sleep(pause or 0)
        raise AssertionError("unreachable")

    async def _once(self, llm: LLM) -> Completion:
        """Reserve, wait for a place, send, settle."""
        reservation = None if self._purse is None else await self._reserve(self._purse, llm)
        completion: Completion | None = None
        failure: BaseException | None = None
        permit = await self._enter(llm, reservation)
        started_at, clock = time.time(), time.perf_counter()
        try:
            completion = await self._send(llm)
            if not (completion.text.strip() or completion.tool_calls):
                raise EmptyAnswerError(
                    "the answer has no text", provider=llm.provider, model=llm.model
                )
            return completion
        except BaseException as error:  # one that is cancelled may have been billed: settle it
            failure = error
            raise
        finally:
            seconds = time.perf_counter() - clock
            call = self._entry(llm, completion, failure, started_at, seconds)
            self.calls.append(call)
            permit.leave(failure, None if call.usage is None else call.usage.total_tokens)
            if reservation is not None:
                answered = failure is None and completion is not None
                reservation.settle(call, completion.text if completion and answered else "")

    async def _reserve(self, purse: Purse, llm: LLM) -> Reservation:
        question = self._question
        quote = llm.quote(
            self._messages,
            schema=question.schema,
            tools=question.tools,
            sampling=question.agent.sampling,
        )
        return await purse.reserve(llm, quote, closing=question.closing)

    async def _enter(self, llm: LLM, reservation: Reservation | None) -> Permit:
        lane = self._traffic.lane(llm)
        tokens = 0
        if lane.counts_tokens:
            size = sum(len(message.content) for message in self._messages)
            tokens = size // 4 + (self._question.agent.sampling.max_tokens or 0)
        left = self._seconds_left()
        try:
            if left is None:
                return await lane.enter(llm, tokens)
            async with asyncio.timeout(left):
                return await lane.enter(llm, tokens)
        except BaseException:
            if reservation is not None:
                reservation.settle(None)
            raise

    async def _send(self, llm: LLM) -> Completion:
        question, timeout = self._question, self._call_timeout()
        schema, tools, sampling = question.schema, question.tools, question.agent.sampling
        to_be_read = question.phase in ("worker", "stage", "synthesis")
        if not (question.agent.stream or (self._watch.streams and to_be_read)):
            return await llm.complete(
                self._messages, schema=schema, tools=tools, sampling=sampling, timeout=timeout
            )
        answer = llm.stream(
            self._messages,
            schema=schema,
            tools=tools,
            sampling=sampling,
            timeout=timeout,
            idle_timeout=self.timeouts.idle,
        )
        completion: Completion | None = None
        async with aclosing(answer) as pieces:
            async for piece in pieces:
                if isinstance(piece, Completion):
                    completion = piece
                elif self._watch.text is not None:
                    self._watch.text(piece)
        assert completion is not None  # noqa: S101 - how the port says that a stream ends
        return completion

    def _call_timeout(self) -> float | None:
        call, left = self.timeouts.call, self._seconds_left()
        if call is None or left is None:
            return left if call is None else call
        return min(call, left)

    def _check_time(self) -> None:
        """What the budget's end has cut off is not a call that timed out."""
        if self._is_over_in(0):
            raise Refused("max_seconds", "the budget's max_seconds are over")

    def _is_over_in(self, seconds: float) -> bool:
        """Whether the budget has no more time then."""
        left = self._seconds_left()
        return left is not None and left <= seconds

    def _seconds_left(self) -> float | None:
        """Until the budget's end; None without one."""
        if self._purse is None:
            return None
        return self._purse.seconds_left(closing=self._question.closing)

    def _entry(
        self,
        llm: LLM,
        completion: Completion | None,
        failure: BaseException | None,
        started_at: float,
        seconds: float,
    ) -> CallRecord:
        """The ledger's entry for one attempt, whatever became of it."""
        question = self._question
        status: CallStatus = "ok"
        if failure is not None:
            status = "failed" if isinstance(failure, Exception) else "cancelled"
            # What arrived of a failed answer is paid for too; the port puts it on what it raises.
            arrived = getattr(failure, "completion", None)
            completion = arrived if isinstance(arrived, Completion) else completion
        cost = completion.cost if completion is not None else _cost_without_answer(failure)
        return CallRecord(
            step=question.step,
            attempt=len(self.calls) + 1,
            phase=question.phase,
            agent=question.agent.name,
            path=question.path,
            task_id=question.task_id,
            provider=llm.provider,
            requested_model=llm.model,
            model=(completion and completion.model) or llm.model,
            status=status,
            usage=completion and completion.usage,
            cost=cost and cost.usd,
            cache_savings=_NOTHING if cost is None else cost.cache_savings,
            price_source=cost and cost.source,
            price_version=cost and cost.version,
            error=None if failure is None else error_type(failure),
            finish_reason=completion and completion.finish_reason,
            response_id=completion and completion.response_id,
            started_at=started_at,
            seconds=seconds,
        )


def _cost_without_answer(failure: BaseException | None) -> Cost | None:
    """A refusal at the door is free; what broke on the way may have been billed: unpriced."""
    if isinstance(failure, ProviderError) and not failure.billable:
        return _NOT_BILLED
    return None


_NOTHING = Decimal(0)
_NOT_BILLED = Cost(_NOTHING, "not-billed")
