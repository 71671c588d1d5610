"""The port: `LLM`, which every adapter fills in, and the values that cross it.

An adapter translates. What is the same for all of them, the span, the client metrics, the time
limit and the price, happens here, around `_complete` and `_stream`.
"""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Hashable,
    Sequence,
)
from contextlib import contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from typing import Final, TypeAlias, cast

from . import pricing
from .errors import IncompleteStreamError, ProviderError, RequestTimeoutError
from .pricing import ModelPrice
from .telemetry import Inference, ModelIdentity
from .types import (
    Completion,
    Cost,
    JSONObject,
    Message,
    OutputSchema,
    Quote,
    Request,
    Role,
    Sampling,
    ToolCall,
    ToolSpec,
    Usage,
)

__all__ = [
    "LLM",
    "CallableLLM",
    "Completion",
    "Cost",
    "LLMLike",
    "Message",
    "OutputSchema",
    "Quote",
    "Request",
    "Role",
    "Sampling",
    "ToolCall",
    "ToolSpec",
    "Usage",
    "as_llm",
]


class LLM(ABC):
    """A model behind an API.

    To add a provider, subclass it and write `_complete` (and `_stream`, where the provider
    streams): encode the `Request`, call, decode a `Completion`, and raise the errors of
    `pyagent_providers.errors`. No retries, no spans, no prices: those are not an adapter's.

    `price` is the application's own price for this model; it comes before every table.
    `settings` are what else the constructor was given, for who writes it down: a secret is the
    name of its variable, such as `${OPENAI_API_KEY}`. None is what cannot be written.
    """

    settings: JSONObject | None = None

    def __init__(
        self,
        model: str,
        *,
        provider: str,
        price: ModelPrice | None = None,
        address: str | None = None,
        port: int | None = None,
    ) -> None:
        if not isinstance(model, str) or not model.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"model must name a model, such as 'gpt-4o-mini'; got {model!r}")
        if price is not None and not isinstance(price, ModelPrice):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"price must be a ModelPrice(input=..., output=...); got {price!r}")
        self.model = model
        self.provider = provider
        self.price = price
        self._identity = ModelIdentity(provider, model, address, port)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"

    def check(self) -> None:  # noqa: B027 - nothing can be missing by default
        """Raise a `ConfigurationError` if a call could not even be sent: no SDK, no key.

        A pattern asks this of all its agents before it spends money on the first.
        """

    @property
    def account(self) -> Hashable | None:
        """Whose limits a call counts against: the provider's endpoint and the key.

        Adapter objects with the same account share one rate limit. None: this object its own.
        """
        return None

    def quote(
        self,
        messages: str | Sequence[Message],
        *,
        schema: OutputSchema | None = None,
        tools: Sequence[ToolSpec] = (),
        sampling: Sampling | None = None,
    ) -> Quote:
        """What this call would come to at most, at today's price. Nothing is sent."""
        return self._quote(_request(messages, schema, tools, sampling))

    def price_of(self, usage: Usage) -> Decimal | None:
        """What this many tokens cost at today's price, in US dollars; None if nobody knows."""
        completion = Completion(text="", usage=usage)
        cost = pricing.look_up(self.provider, self.model, completion, self.price)
        cost = cost or self._fallback_cost(completion)
        return cost and cost.usd

    async def complete(
        self,
        messages: str | Sequence[Message],
        *,
        schema: OutputSchema | None = None,
        tools: Sequence[ToolSpec] = (),
        sampling: Sampling | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the call's span is to show it
    ) -> Completion:
        """Ask once and wait for the whole answer. A bare string is one user message.

        Emits one `chat` span and the client metrics. Raises a `ProviderError`, after `timeout`
        seconds a `RequestTimeoutError`; never retries. What is raised, a cancellation included,
        has in `completion` what was billed: as reported, else its worst case, marked "estimate".
        """
        request = _request(messages, schema, tools, sampling)
        inference = Inference(self._identity, request)
        try:
            with inference.active():
                if timeout is None:
                    completion = self._priced(await self._complete(request))
                else:
                    with self._timed_out(f"no answer within {timeout:g} s"):
                        async with asyncio.timeout(timeout):
                            completion = self._priced(await self._complete(request))
        except BaseException as error:
            inference.failed(error, self._billed(error, request, None))
            raise
        inference.succeeded(completion)
        return completion

    async def stream(
        self,
        messages: str | Sequence[Message],
        *,
        schema: OutputSchema | None = None,
        tools: Sequence[ToolSpec] = (),
        sampling: Sampling | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as in `complete`
        idle_timeout: float | None = None,
    ) -> AsyncGenerator[str | Completion, None]:
        """Ask once; yields the text in pieces (`str`), then one `Completion`, then ends.

        The pieces joined are the completion's text. Emits the same span and metrics as
        `complete`, ended when the stream is. Raises a `ProviderError`: `IncompleteStreamError`
        when the provider stopped without saying that it was done, `RequestTimeoutError` when the
        whole took longer than `timeout` or one piece longer than `idle_timeout`, both in seconds.
        A caller that stops reading is billed like one that is cut off (see `complete`).
        """
        request = _request(messages, schema, tools, sampling)
        inference = Inference(self._identity, request, stream=True)
        pieces = self._stream(request)
        completion: Completion | None = None
        received: list[str] = []
        until = None if timeout is None else asyncio.get_running_loop().time() + timeout
        try:
            while completion is None:
                # Active only while we wait, never across a yield: the consumer may go on, or
                # close us, in another task, where a context token could not be given back.
                with inference.active():
                    if until is None and idle_timeout is None:
                        piece = await anext(pieces, None)
                    else:
                        piece = await self._next_piece(pieces, until, idle_timeout)
                if piece is None:
                    raise IncompleteStreamError(
                        "the stream ended without a finish reason",
                        provider=self.provider,
                        model=self.model,
                    )
                inference.first_chunk()
                if isinstance(piece, Completion):
                    completion = piece = self._priced(piece)
                else:
                    received.append(piece)
                    yield piece
        except BaseException as error:
            inference.failed(error, self._billed(error, request, received))
            raise
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()
        inference.succeeded(completion)
        yield completion

    @abstractmethod
    async def _complete(self, request: Request) -> Completion:
        """Encode, call, decode; raise a `ProviderError`."""

    async def _stream(self, request: Request) -> AsyncIterator[str | Completion]:
        """Like `stream`; a provider that does not stream gives its whole answer as one piece."""
        completion = await self._complete(request)
        if completion.text:
            yield completion.text
        yield completion

    def _fallback_cost(self, completion: Completion) -> Cost | None:
        """What this adapter itself knows of the price, asked when no table has it."""
        return None

    def _priced(self, completion: Completion) -> Completion:
        cost = pricing.price(self.provider, self.model, completion, self.price)
        return completion.priced(cost or self._fallback_cost(completion))

    async def _next_piece(
        self,
        pieces: AsyncIterator[str | Completion],
        until: float | None,
        idle_timeout: float | None,
    ) -> str | Completion | None:
        now = asyncio.get_running_loop().time()
        idle = None if idle_timeout is None else now + idle_timeout
        if idle is not None and (until is None or idle < until):
            when, what = idle, f"the stream was silent for {idle_timeout:g} s"
        else:
            when, what = until, "the answer was not complete in time"
        with self._timed_out(what):
            async with asyncio.timeout_at(when):
                return await anext(pieces, None)

    @contextmanager
    def _timed_out(self, what: str) -> Generator[None]:
        try:
            yield
        except TimeoutError as late:
            raise RequestTimeoutError(what, provider=self.provider, model=self.model) from late

    def _quote(self, request: Request) -> Quote:
        read, written = self._input_tokens_at_most(request), request.sampling.max_tokens
        usd = self.price_of(Usage(input_tokens=read, output_tokens=written or 0))
        return Quote(input_tokens=read, output_tokens=written, usd=usd)

    def _input_tokens_at_most(self, request: Request) -> int:
        """No tokeniser makes more tokens of a text than it has bytes; the rest is the envelope.

        An adapter that can count its own tokens, without a request, does better here.
        """
        size = _TOKENS_AROUND_A_MESSAGE * len(request.messages)
        for message in request.messages:
            size += len(message.content.encode(errors="replace"))
            size += sum(len(f"{call.name}{call.arguments}") for call in message.tool_calls) * 4
        if request.schema is not None:
            size += len(request.schema.text.encode()) + _TOKENS_AROUND_A_SCHEMA
        for tool in request.tools:
            size += len(f"{tool.name}{tool.description}{tool.parameters}".encode())
        return size + (_TOKENS_AROUND_A_SCHEMA if request.tools else 0)

    def _billed(
        self, error: BaseException, request: Request, received: Sequence[str] | None
    ) -> Completion | None:
        """What a call that did not end well is to be paid for; also put on what is raised.

        `received` are the pieces of a stream, None where the answer was to come as a whole.
        """
        completion = error.completion if isinstance(error, ProviderError) else None
        if completion is not None:
            completion = self._priced(completion)
        if isinstance(error, ProviderError) and not error.billable:
            return completion
        if completion is None or (completion.usage is None and completion.cost is None):
            if isinstance(error, Exception) and not isinstance(error, ProviderError):
                return None  # a fault in the program, not in the call
            completion = self._estimated(completion, request, received)
        elif completion.usage is not None and completion.finish_reason is None:
            completion = self._at_least_what_came(completion, completion.usage, request)
        with suppress(AttributeError):  # an exception type with slots
            error.completion = completion  # pyright: ignore[reportAttributeAccessIssue]
        return completion

    def _at_least_what_came(
        self, completion: Completion, usage: Usage, request: Request
    ) -> Completion:
        """Of a stream that broke: the usage it told may be that of its first words."""
        written = len(completion.text.encode(errors="replace"))
        if request.sampling.max_tokens is not None:
            written = min(written, request.sampling.max_tokens)
        if written <= usage.output_tokens:
            return completion
        told = replace(usage, output_tokens=written)
        cost = self._priced(Completion(text="", usage=told, model=completion.model)).cost
        return completion.priced(cost and Cost(cost.usd, "estimate", cost.version))

    def _estimated(
        self, completion: Completion | None, request: Request, received: Sequence[str] | None
    ) -> Completion:
        """Of what was sent and no usage is known: the prompt, and what came or could have come."""
        text = completion.text if completion is not None else "".join(received or ())
        written = len(text.encode(errors="replace"))
        most = request.sampling.max_tokens
        if received is None and not text:
            written = most or 0  # the provider goes on writing for a while, whoever listens
        elif most is not None:
            written = min(written, most)
        usage = Usage(input_tokens=self._input_tokens_at_most(request), output_tokens=written)
        cost = self._priced(Completion(text="", usage=usage)).cost
        return (completion or Completion(text=text)).priced(
            None if cost is None else Cost(cost.usd, "estimate", cost.version)
        )


def _request(
    messages: str | Sequence[Message],
    schema: OutputSchema | None,
    tools: Sequence[ToolSpec],
    sampling: Sampling | None,
) -> Request:
    if isinstance(messages, str):
        messages = (Message("user", messages),)
    return Request(
        messages=tuple(messages),
        schema=schema,
        tools=tuple(tools),
        sampling=sampling or _DEFAULT_SAMPLING,
    )


_DEFAULT_SAMPLING = Sampling()

# What providers add to a prompt: role markers, and what explains tools and schemas to the model
# (Anthropic's documentation has 313 to 530 tokens for tools).
_TOKENS_AROUND_A_MESSAGE: Final = 16
_TOKENS_AROUND_A_SCHEMA: Final = 600

AsyncFunction: TypeAlias = Callable[[Sequence[Message]], Awaitable["str | Completion"]]
LLMLike: TypeAlias = "LLM | AsyncFunction"


class CallableLLM(LLM):
    """Any async function `(messages) -> str | Completion`, as an LLM.

    A bare string has unknown usage: the call counts as unpriced.
    """

    def __init__(self, function: AsyncFunction) -> None:
        name = getattr(function, "__name__", type(function).__name__)
        super().__init__(name, provider="custom")
        self.function = function

    async def _complete(self, request: Request) -> Completion:
        answer = await self.function(request.messages)
        if isinstance(answer, str):
            return Completion(text=answer, finish_reason="stop")
        if isinstance(answer, Completion):  # pyright: ignore[reportUnnecessaryIsInstance]
            return answer
        raise TypeError(f"{self.model}() must return a str or a Completion; got {answer!r:.100}")


def as_llm(candidate: object) -> LLM:
    """The candidate itself if it is an LLM, wrapped if it is an async callable.

    Raises TypeError, saying what would be accepted, for anything else.
    """
    if isinstance(candidate, LLM):
        return candidate
    if inspect.iscoroutinefunction(candidate) or inspect.iscoroutinefunction(
        getattr(candidate, "__call__", None)  # noqa: B004 - an object with an async __call__
    ):
        return CallableLLM(cast(AsyncFunction, candidate))
    raise TypeError(
        f"llm must be an LLM, such as OpenAILLM('gpt-4o-mini'), or an async function "
        f"(messages) -> str | Completion; got {candidate!r}"
    )
