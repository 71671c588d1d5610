"""Models whose every attempt goes as drawn, and that remember what they did and charged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from pyagent_providers import LLM, Completion, ModelPrice, Usage
from pyagent_providers.errors import (
    AuthenticationError,
    BadRequestError,
    ConnectionFailedError,
    ContentRefusedError,
    ContextTooLongError,
    IncompleteStreamError,
    MalformedResponseError,
    OverloadedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    UnreachableError,
)
from pyagent_providers.types import Request

ERRORS: tuple[type[ProviderError], ...] = (
    RateLimitError,
    OverloadedError,
    ServerError,
    RequestTimeoutError,
    ConnectionFailedError,
    UnreachableError,
    AuthenticationError,
    BadRequestError,
    ContextTooLongError,
    ContentRefusedError,
    MalformedResponseError,
    IncompleteStreamError,
)
End = Literal["answer", "cut off", "empty", "bug"] | type[ProviderError]


@dataclass(frozen=True, slots=True)
class Turn:
    """How one attempt at a model goes.

    It `ends` after `seconds`, with an answer, one that was cut off at its token limit, one without
    text, a bug in the adapter, or an error. The provider charges `percent` of the worst case, of
    an answer that nothing bounds that of `unbounded` tokens, and says so if it `reports`.
    """

    ends: End = "answer"
    seconds: float = 1
    percent: int = 100
    unbounded: int = 50
    reports: bool = True
    retry_after: float | None = None


@dataclass(slots=True)
class Attempt:
    """One call as its provider saw it. `order` and `ended` number all that ever happens."""

    model: Model
    task: str
    prompt: str
    bounded: bool
    began: float
    order: int
    ended: int | None = None
    ended_at: float = 0
    usage: Usage = field(default_factory=Usage)  # what the provider charges for
    text: str | None = None  # the answer, if it got that far
    whole: bool = False


class World:
    """All models of one example."""

    def __init__(self) -> None:
        self.models: list[Model] = []
        self.attempts: list[Attempt] = []
        self._ticks = 0

    def tick(self) -> int:
        self._ticks += 1
        return self._ticks

    def at(self, tasks: Sequence[str]) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.task in tasks]


class Model(LLM):
    """Plays `turns`, over and over. What it answers is `says`'s, or a text of its own."""

    def __init__(
        self,
        world: World,
        name: str,
        turns: Sequence[Turn],
        *,
        provider: str = "p",
        price: ModelPrice | None = None,
        says: Callable[[Request, int], str | None] = lambda request, n: None,
    ) -> None:
        super().__init__(name, provider=provider, price=price)
        self._world = world
        self._turns = turns
        self._says = says
        self._made = 0
        world.models.append(self)

    async def _complete(self, request: Request) -> Completion:
        return await self._attempt(request, self._text(request))

    async def _stream(self, request: Request) -> AsyncIterator[str | Completion]:
        """An answer in two pieces, the second when it ends."""
        text = self._text(request)
        first, rest = text[:3], text[3:]
        yield first
        completion = await self._attempt(request, text, sent=len(first))
        if completion.text:
            yield rest
        yield completion

    def _text(self, request: Request) -> str:
        return self._says(request, self._made) or f"{self.model} says {self._made}"

    async def _attempt(self, request: Request, text: str, sent: int | None = None) -> Completion:
        turn = self._turns[self._made % len(self._turns)]
        self._made += 1
        worst = self._quote(request)
        prompt = request.messages[-1].content
        attempt = Attempt(
            model=self,
            task=prompt.partition("\n")[0],
            prompt=prompt,
            bounded=worst.output_tokens is not None,
            began=asyncio.get_running_loop().time(),
            order=self._world.tick(),
        )
        self._world.attempts.append(attempt)
        most = turn.unbounded if worst.output_tokens is None else worst.output_tokens
        read, written = (n * turn.percent // 100 for n in (worst.input_tokens, most))
        whole = Usage(input_tokens=read, output_tokens=written)
        # Of a stream that broke off, that is what was sent of it.
        part = whole if sent is None else Usage(input_tokens=read, output_tokens=min(sent, written))
        try:
            if turn.seconds:
                await asyncio.sleep(turn.seconds)
            return self._end(turn, attempt, text, whole, part)
        except asyncio.CancelledError:
            attempt.usage = part
            raise
        finally:
            attempt.ended = self._world.tick()
            attempt.ended_at = asyncio.get_running_loop().time()

    def _end(
        self, turn: Turn, attempt: Attempt, text: str, whole: Usage, part: Usage
    ) -> Completion:
        match turn.ends:
            case "bug":
                attempt.usage = whole
                raise LookupError("choices")
            case "answer" | "cut off" | "empty" as how:
                attempt.usage = whole
                attempt.text = None if how == "empty" else text
                attempt.whole = how == "answer"
                return Completion(
                    text=attempt.text or "",
                    usage=whole if turn.reports else None,
                    model=self.model,
                    finish_reason="length" if how == "cut off" else "stop",
                )
            case kind:
                if kind.billable:
                    attempt.usage = part
                raise kind(
                    "as drawn",
                    provider=self.provider,
                    model=self.model,
                    retry_after=turn.retry_after,
                    completion=Completion(text="", usage=part)
                    if kind.billable and turn.reports
                    else None,
                )


def dollars(attempt: Attempt, unpriced: ModelPrice | None = None) -> Decimal:
    """What an attempt cost; at the rate `unpriced` where its model has no price."""
    price = attempt.model.price or unpriced
    return Decimal(0) if price is None else price.cost(attempt.usage)
