"""Any model LiteLLM knows, through `litellm.acompletion`."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from typing import Any, Final, Protocol, TypeVar, cast

from .base import LLM
from .clients import account_of, address_of, load_sdk, shared_client
from .errors import (
    BadRequestError,
    ContentRefusedError,
    ContextTooLongError,
    IncompleteStreamError,
    MalformedResponseError,
    MissingAPIKeyError,
    MissingDependencyError,
    ProviderError,
    RequestTimeoutError,
    UnreachableError,
)
from .openai_chat import ChatAPI, begun
from .pricing import ModelPrice
from .reading import obj
from .redaction import hold
from .secret import hold_keys, settings_of
from .types import Completion, Cost, Request, Usage
from .wire_errors import ErrorMapper, translated, unreached

T = TypeVar("T")

# The prefix of a model's name -> `gen_ai.provider.name`; any other prefix stands for itself.
_PROVIDERS: Final[Mapping[str, str]] = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "codestral": "mistral_ai",
    "cohere_chat": "cohere",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "text-completion-openai": "openai",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}

# The start of a name without a prefix -> the provider LiteLLM takes it to; else OpenAI.
_BARE_NAMES: Final[Mapping[str, str]] = {
    "claude": "anthropic",
    "gemini": "gcp.vertex_ai",
    "command": "cohere",
}

# Where a key is the only way in. The others have roles, tokens and files too, of which LiteLLM
# itself complains.
_KEY_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    "gcp.gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "mistral_ai": ("MISTRAL_API_KEY",),
    "groq": ("GROQ_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "x_ai": ("XAI_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY", "OR_API_KEY"),
}


class LiteLLM(LLM):
    """A model by the name LiteLLM knows it by, such as `"anthropic/claude-haiku-3.5"`.

    `provider` is the one behind LiteLLM, read from the name. `base_url` and `api_key` default to
    LiteLLM's variables for that provider (OPENAI_API_KEY, ANTHROPIC_API_KEY, ...). `client` is
    handed to LiteLLM, which says what kind it wants for each provider. `timeout` is in seconds: for
    a whole answer, or between two pieces of a stream.

    A parameter that the provider does not know is a BadRequestError, unless the application has
    set `litellm.drop_params`. LiteLLM reads the streams, and not all as strictly as the adapters
    here: of Gemini's, an early end or a broken chunk stays hidden. Nor does it bound an answer's
    length. The first use imports LiteLLM, which takes seconds; `check` does so ahead of time.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        client: object | None = None,
        timeout: float = 60.0,
        price: ModelPrice | None = None,
    ) -> None:
        host, port = address_of(base_url) if base_url else (None, None)
        if not timeout > 0:
            raise ValueError(f"timeout must be a number of seconds above 0; got {timeout!r}")
        super().__init__(
            model, provider=_provider_of(str(model)), price=price, address=host, port=port
        )
        self._timeout = timeout
        self.settings = settings_of(
            "LITELLM", client=client, base_url=base_url, api_key=api_key, timeout=timeout
        )
        hold_keys(self, base_url, api_key, client=client)
        self._chat = ChatAPI(model, "json_schema", is_openai=False)
        self._options: dict[str, object] = {
            "base_url": base_url,
            "api_key": api_key,
            "timeout": timeout,
            "num_retries": 0,
            "max_retries": 0,
        }
        if client is not None:
            self._options["client"] = client
        self._errors = ErrorMapper(self.provider, model)

    @property
    def account(self) -> Hashable:
        variables = _KEY_VARIABLES.get(self.provider, ())
        found = (os.environ.get(name) for name in variables)
        key = self._options["api_key"] or next((key for key in found if key), None)
        return self.provider, account_of(cast("str | None", self._options["base_url"]), str(key))

    def check(self) -> None:
        self._sdk()
        variables = _KEY_VARIABLES.get(self.provider, ())
        hold(self, *map(os.environ.get, variables))
        given = self._options["api_key"] or "client" in self._options
        if variables and not given and not any(os.environ.get(name) for name in variables):
            raise MissingAPIKeyError(
                f"no API key: set {' or '.join(variables)}, or pass api_key=",
                provider=self.provider,
                model=self.model,
            )

    async def _complete(self, request: Request) -> Completion:
        litellm = await self._ready()
        body = self._chat.encode(request, stream=False)
        with translated(_translate, self._errors):
            answer = await self._in_time(litellm.acompletion(**body, **self._options))
        return self._chat.decode(_plain(answer), self._errors)

    async def _stream(self, request: Request) -> AsyncIterator[str | Completion]:
        litellm = await self._ready()
        body = self._chat.encode(request, stream=True)
        fold = self._chat.fold(self._errors)
        with translated(_translate, self._errors, fold.so_far):
            chunks = await self._in_time(litellm.acompletion(**body, **self._options))
            try:
                while chunk := await self._in_time(anext(chunks, None), fold.so_far):
                    plain = _plain(chunk)
                    if plain.get("usage") and not _reported_usage(chunks):
                        del plain["usage"]
                    if piece := fold.add(plain):
                        yield piece
            finally:
                await chunks.aclose()
        if not _reported_finish(chunks):  # LiteLLM makes one up, in a chunk of its own
            arrived = begun(fold.so_far() if chunks.chunks else None, self._errors)
            raise self._errors.error(
                IncompleteStreamError,
                "the stream ended without a finish reason",
                completion=replace(arrived, finish_reason=None),
            )
        yield fold.completion()

    def _fallback_cost(self, completion: Completion) -> Cost | None:
        """LiteLLM's own figure, except a 0 for tokens: so it says of models it has no price of."""
        usage = completion.usage
        if usage is None:
            return None
        litellm = self._sdk()
        try:
            prices = litellm.cost_per_token(
                model=self.model, usage_object=_usage_of(litellm, usage)
            )
        except Exception:  # how it says that it does not know the model
            return None
        usd = sum(Decimal(str(price)) for price in prices)
        if not usd and usage.total_tokens:
            return None
        return Cost(Decimal(usd), "litellm", _version())

    async def _in_time(
        self, answer: Awaitable[T], so_far: Callable[[], Completion | None] = lambda: None
    ) -> T:
        """LiteLLM may wait for ever, and meet a cancellation with an error of its own."""
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit:
                return await answer
        except Exception as error:
            if not limit.expired():
                raise
            raise self._errors.error(
                RequestTimeoutError, "no answer in time", completion=so_far()
            ) from error

    async def _ready(self) -> _LiteLLM:
        self.check()
        await shared_client((LiteLLM,), asyncio.get_running_loop, _close_clients)
        return self._sdk()

    def _sdk(self) -> _LiteLLM:
        # Or it would fetch its price map from the network on import.
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        module = load_sdk("litellm", extra="litellm", provider=self.provider, model=self.model)
        litellm = cast(_LiteLLM, module)
        _settle(litellm)
        return litellm


class _ClientCache(Protocol):
    cache_dict: dict[str, object]


class _LiteLLM(Protocol):
    """What is used of the `litellm` module, which has no types to speak of."""

    suppress_debug_info: bool
    in_memory_llm_clients_cache: _ClientCache

    ModelResponse: Callable[[], object]
    Usage: Callable[..., object]

    async def acompletion(self, **options: object) -> Any: ...

    def cost_per_token(self, *, model: str, usage_object: object) -> tuple[float, float]: ...


@cache
def _settle(litellm: _LiteLLM) -> None:
    """What LiteLLM wants done once, after its import."""
    litellm.suppress_debug_info = True  # it prints advertisements to the terminal on every error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Builds its types on their first use, of some of which pydantic warns.
        litellm.ModelResponse()
        importlib.import_module("litellm.types.utils").Delta()


def _provider_of(model: str) -> str:
    prefix, slash, _ = model.partition("/")
    if slash:
        return _PROVIDERS.get(prefix, prefix)
    return next(
        (found for start, found in _BARE_NAMES.items() if model.startswith(start)), "openai"
    )


def _plain(answer: Any) -> dict[str, object]:
    """An answer or a chunk of LiteLLM's, as OpenAI would have it.

    A usage of 0 is how LiteLLM says that there was none, and what it puts in `usage.cost` is its
    own reckoning rather than the provider's word.
    """
    plain: dict[str, Any] = answer.model_dump()
    usage = plain.get("usage")
    if usage:
        usage.pop("cost", None)
        if not usage.get("total_tokens"):
            plain["usage"] = None
    for choice in plain["choices"]:
        message: dict[str, object] = choice.get("message") or choice.get("delta") or {}
        message.setdefault("refusal", obj(message.get("provider_specific_fields")).get("refusal"))
    return plain


def _reported_usage(chunks: Any) -> bool:
    """Whether the provider told the usage in its stream. If not, LiteLLM estimates one."""
    return any(getattr(chunk, "usage", None) is not None for chunk in chunks.chunks)


def _reported_finish(chunks: Any) -> bool:
    if chunks.received_finish_reason is not None:
        return True
    return any(choice.finish_reason for chunk in chunks.chunks for choice in chunk.choices)


def _usage_of(litellm: _LiteLLM, usage: Usage) -> object:
    return litellm.Usage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        cache_read_input_tokens=usage.cache_read_tokens,
        cache_creation_input_tokens=usage.cache_write_tokens,
        prompt_tokens_details={
            "cached_tokens": usage.cache_read_tokens,
            "cache_creation_tokens": usage.cache_write_tokens,
            "cache_creation_token_details": {
                "ephemeral_5m_input_tokens": usage.cache_write_tokens - usage.cache_write_1h_tokens,
                "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
            },
        },
    )


@cache
def _version() -> str:
    return version("litellm")


async def _close_clients(loop: asyncio.AbstractEventLoop) -> None:
    """Close the clients LiteLLM keeps for this loop.

    Its own `close_litellm_async_clients` would also close those that other threads are using.
    They are taken out too: LiteLLM goes by the loop's id, which a later loop may have again.
    """
    litellm = cast(_LiteLLM, sys.modules["litellm"])
    clients = litellm.in_memory_llm_clients_cache.cache_dict
    for key in [key for key in clients if key.endswith(f"-{id(loop)}")]:
        close = getattr(clients.pop(key), "close", None)
        closing: object = close() if close is not None else None
        if inspect.isawaitable(closing):
            await closing


# LiteLLM's exceptions that say more than their status does.
_KINDS: Final[Mapping[str, type[ProviderError]]] = {
    "Timeout": RequestTimeoutError,
    "ContextWindowExceededError": ContextTooLongError,
    "ContentPolicyViolationError": ContentRefusedError,
    "UnsupportedParamsError": BadRequestError,
}


def _translate(
    error: Exception, errors: ErrorMapper, completion: Completion | None
) -> ProviderError:
    mapped = _map(error, errors)
    mapped.completion = completion
    return mapped


def _map(error: BaseException, errors: ErrorMapper) -> ProviderError:
    """By what LiteLLM had caught itself: it calls many things a 500 or a connection error."""
    original = getattr(error, "original_exception", None)
    if isinstance(original, Exception):  # what broke a stream, wrapped
        error = original
    message = str(getattr(error, "message", "") or error)
    caught = [link for link in _chain(error) if not type(link).__module__.startswith("litellm")]
    reported = next(filter(None, (_http_error(link) for link in reversed(caught))), None)
    kind = _KINDS.get(type(error).__name__)
    if kind is not None:
        return errors.error(kind, message, status=reported[0] if reported else None)
    if reported is not None:
        status, body = reported
        return errors.from_status(status, body or message, _headers(error))
    if unreached(caught):
        return errors.error(UnreachableError, f"no connection: {caught[-1]}")
    for link in reversed(caught):
        if isinstance(link, ValueError):
            return errors.error(MalformedResponseError, "the answer is not JSON")
        if (mapped := errors.from_transport(link)) is not None:
            return mapped
        if (body := getattr(link, "body", None)) is not None:  # told inside a stream
            return errors.from_event(body)
    status = getattr(error, "status_code", None)
    if missing := next((link for link in caught if isinstance(link, ImportError)), None):
        return errors.error(MissingDependencyError, f"LiteLLM needs more for this: {missing}")
    if not isinstance(status, int) or status >= 500:  # a status of LiteLLM's own invention
        return errors.error(MalformedResponseError, message)
    return errors.from_status(status, message, _headers(error))


def _http_error(error: BaseException) -> tuple[int, object] | None:
    """The status and body of an error of the openai SDK's, or of httpx."""
    response: Any = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if not isinstance(status, int) or status < 400:
        return None
    try:
        return status, getattr(error, "body", None) or response.json()
    except Exception:  # a body that is not JSON, or was not read
        return status, None


def _headers(error: BaseException) -> Mapping[str, str]:
    for holder in (getattr(error, "response", None), *_chain(error)):
        for name in ("headers", "litellm_response_headers"):
            headers = getattr(holder, name, None)
            if headers:
                return cast("Mapping[str, str]", headers)
    return {}


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__
