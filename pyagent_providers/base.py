"""The port: `LLM`, which every adapter fills in, and the values that cross it.

An adapter translates. What is the same for all of them, the span, the client metrics and the
price, happens here, around `_complete` and `_stream`.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeAlias, cast

from . import pricing
from .errors import IncompleteStreamError, ProviderError
from .pricing import ModelPrice
from .telemetry import Inference, ModelIdentity
from .types import (
    Completion,
    Cost,
    Message,
    OutputSchema,
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
    """

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

    async def complete(
        self,
        messages: str | Sequence[Message],
        *,
        schema: OutputSchema | None = None,
        tools: Sequence[ToolSpec] = (),
        sampling: Sampling | None = None,
    ) -> Completion:
        """Ask once and wait for the whole answer. A bare string is one user message.

        Emits one `chat` span and the client metrics. Raises a `ProviderError`; never retries.
        """
        request = _request(messages, schema, tools, sampling)
        inference = Inference(self._identity, request)
        try:
            with inference.active():
                completion = self._priced(await self._complete(request))
        except BaseException as error:
            inference.failed(error, self._price_failure(error))
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
    ) -> AsyncGenerator[str | Completion, None]:
        """Ask once; yields the text in pieces (`str`), then one `Completion`, then ends.

        The pieces joined are the completion's text. Emits the same span and metrics as
        `complete`, ended when the stream is. Raises a `ProviderError`, `IncompleteStreamError`
        when the provider stopped without saying that it was done.
        """
        request = _request(messages, schema, tools, sampling)
        inference = Inference(self._identity, request, stream=True)
        pieces = self._stream(request)
        completion: Completion | None = None
        try:
            while completion is None:
                # Active only while we wait, never across a yield: the consumer may go on, or
                # close us, in another task, where a context token could not be given back.
                with inference.active():
                    piece = await anext(pieces, None)
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
                    yield piece
        except BaseException as error:
            inference.failed(error, self._price_failure(error))
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

    def _price_failure(self, error: BaseException) -> Completion | None:
        if not isinstance(error, ProviderError) or error.completion is None:
            return None
        error.completion = self._priced(error.completion)
        return error.completion


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

AsyncFunction: TypeAlias = Callable[[Sequence[Message]], Awaitable["str | Completion"]]
LLMLike: TypeAlias = "LLM | AsyncFunction"


class CallableLLM(LLM):
    """Any async function `(messages) -> str | Completion`, as an LLM.

    A bare string has unknown usage: the call counts as unpriced.
    """

    def __init__(self, function: AsyncFunction) -> None:
        name = getattr(function, "__name__", type(function).__name__)
        super().__init__(name, provider="custom")
        self._function = function

    async def _complete(self, request: Request) -> Completion:
        answer = await self._function(request.messages)
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
