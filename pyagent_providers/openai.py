"""OpenAI, and every server that speaks its API: Chat Completions, or Responses."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import AsyncIterator, Hashable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Protocol, cast, get_args

from .base import LLM
from .clients import account_of, address_of, load_sdk, new_http_client, shared_client
from .errors import MalformedResponseError, MissingAPIKeyError, ProviderError
from .openai_chat import ChatAPI, StructuredOutput
from .openai_responses import ResponsesAPI
from .pricing import ModelPrice
from .reading import dollars, obj
from .redaction import hold
from .secret import hold_keys, settings_of
from .types import Completion, Request
from .wire_errors import ErrorMapper, translated

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI, AsyncStream, RequestOptions

__all__ = ["OpenAILLM"]

_DEFAULT_BASE_URL: Final = "https://api.openai.com/v1"
_PLACEHOLDER_KEY: Final = "none"
_NO_RETRIES: Final[RequestOptions] = {"max_retries": 0}

# The end of a host's name -> `gen_ai.provider.name`.
_PROVIDERS: Final[Mapping[str, str]] = {
    "openai.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    "api.mistral.ai": "mistral_ai",
    "api.x.ai": "x_ai",
    "api.perplexity.ai": "perplexity",
    "openrouter.ai": "openrouter",
    "api.together.xyz": "together",
    "api.fireworks.ai": "fireworks",
    "generativelanguage.googleapis.com": "gcp.gemini",
}


class OpenAILLM(LLM):
    """A model behind OpenAI's API, or behind any server compatible with it.

    `base_url` and `api_key` default to OPENAI_BASE_URL and OPENAI_API_KEY; a server on this
    machine needs no key. `timeout` is in seconds: to connect, and between two pieces of an answer.
    `client` is an `AsyncOpenAI` of your own, used as it is, with its own key and timeout, but
    without its retries; it is never closed here. `provider` is the name that telemetry and prices
    go by; by default it follows from the base URL's host.

    `structured_output` says how a schema is asked for: by OpenAI's own `json_schema`, by
    `json_object` from servers that only know that, or by the prompt alone.
    """

    def __init__(
        self,
        model: str,
        *,
        api: Literal["chat", "responses"] = "chat",
        base_url: str | None = None,
        api_key: str | None = None,
        client: AsyncOpenAI | None = None,
        timeout: float = 60.0,
        price: ModelPrice | None = None,
        structured_output: StructuredOutput = "json_schema",
        provider: str | None = None,
    ) -> None:
        self.settings = settings_of(
            "OPENAI",
            client=client,
            base_url=base_url,
            api_key=api_key,
            api=api,
            timeout=timeout,
            structured_output=structured_output,
            provider=provider,
        )
        self._own = None if client is None else _Endpoint.of(client)
        if client is not None:
            base_url = str(client.base_url)
        self._base_url = base_url or os.environ.get("OPENAI_BASE_URL") or _DEFAULT_BASE_URL
        host, port = address_of(self._base_url)
        if not timeout > 0:
            raise ValueError(f"timeout must be a number of seconds above 0; got {timeout!r}")
        super().__init__(
            model, provider=provider or _provider_of(host), price=price, address=host, port=port
        )
        self._api_key = api_key
        hold_keys(self, self._base_url, api_key, client=client)
        self._timeout = timeout
        self._is_local = _is_loopback(host)
        self._api = _api(api, model, structured_output, host)

    def check(self) -> None:
        if self._own is None:
            self._load_sdk()
            self._key()

    async def _complete(self, request: Request) -> Completion:
        endpoint, errors = await self._endpoint()
        body = self._api.encode(request, stream=False)
        with translated(_translate, errors):
            # `post` instead of `chat.completions.create`: half the CPU time, as nothing is built
            # from the answer that we would only take apart again; and fields that the SDK does
            # not know, such as a gateway's cost, stay.
            response = await endpoint.client.post(
                self._api.path, cast_to=endpoint.response_type, body=body, options=_NO_RETRIES
            )
            answer = obj(json.loads(response.content))
        completion = self._api.decode(answer, errors)
        return _with_gateway_cost(completion, response.headers)

    async def _stream(self, request: Request) -> AsyncIterator[str | Completion]:
        endpoint, errors = await self._endpoint()
        body = self._api.encode(request, stream=True)
        fold = self._api.fold(errors)
        with translated(_translate, errors, fold.so_far):
            events = await endpoint.client.post(
                self._api.path,
                cast_to=object,
                body=body,
                options=_NO_RETRIES,
                stream=True,
                stream_cls=endpoint.stream_type,
            )
            async with events:
                async for event in events:
                    if piece := fold.add(event):
                        yield piece
        yield _with_gateway_cost(fold.completion(), events.response.headers)

    @property
    def account(self) -> Hashable:
        key = self._key() if self._own is None else self._own.client.api_key
        return account_of(self._base_url, key)

    async def _endpoint(self) -> tuple[_Endpoint, ErrorMapper]:
        if self._own is not None:
            return self._own, ErrorMapper(self.provider, self.model)
        key = self._key()
        endpoint = await shared_client(
            (OpenAILLM, self._base_url, key, self._timeout),
            lambda: self._new_endpoint(key),
            lambda endpoint: endpoint.client.close(),
        )
        return endpoint, ErrorMapper(self.provider, self.model)

    def _new_endpoint(self, key: str) -> _Endpoint:
        openai = self._load_sdk()
        http_client = new_http_client(openai, _http_library(), timeout=self._timeout)
        return _Endpoint.of(
            openai.AsyncOpenAI(
                base_url=self._base_url,
                api_key=key,
                timeout=cast("Any", http_client).timeout,
                http_client=http_client,
            )
        )

    def _load_sdk(self) -> Any:
        return load_sdk("openai", extra="openai", provider=self.provider, model=self.model)

    def _key(self) -> str:
        key = self._api_key or os.environ.get("OPENAI_API_KEY")
        if key:
            hold(self, key)
            return key
        if self._is_local:
            return _PLACEHOLDER_KEY
        raise MissingAPIKeyError(
            f"no API key for {self._base_url}: set OPENAI_API_KEY or pass api_key= "
            "(any text will do for a server that needs none)",
            provider=self.provider,
            model=self.model,
        )


class _Fold(Protocol):
    def add(self, event: object) -> str: ...

    def so_far(self) -> Completion | None: ...

    def completion(self) -> Completion: ...


class _API(Protocol):
    path: ClassVar[str]

    def encode(self, request: Request, *, stream: bool) -> dict[str, object]: ...

    def decode(self, body: Mapping[str, object], errors: ErrorMapper) -> Completion: ...

    def fold(self, errors: ErrorMapper) -> _Fold: ...


def _api(
    api: Literal["chat", "responses"], model: str, structured_output: StructuredOutput, host: str
) -> _API:
    if structured_output not in get_args(StructuredOutput):
        raise ValueError(
            f"structured_output must be one of {get_args(StructuredOutput)}; "
            f"got {structured_output!r}"
        )
    match api:
        case "chat":
            is_openai = _is_within(host, "api.openai.com") or _is_within(host, "openai.azure.com")
            return ChatAPI(model, structured_output, is_openai=is_openai)
        case "responses":
            return ResponsesAPI(model, structured_output)
        case _:
            raise ValueError(f"api must be 'chat' or 'responses'; got {api!r}")


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """A client, and the types its generic `post` wants to be told."""

    client: AsyncOpenAI
    response_type: type[httpx2.Response]
    stream_type: type[AsyncStream[object]]

    @classmethod
    def of(cls, client: AsyncOpenAI) -> _Endpoint:
        import openai

        if not isinstance(client, openai.AsyncOpenAI):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"client must be an openai.AsyncOpenAI; got {client!r}")
        return cls(client, _http_library().Response, openai.AsyncStream[object])


def _http_library() -> Any:
    """The HTTP library of the installed SDK."""
    import openai

    return importlib.import_module("httpx" if openai.__version__.startswith("2.") else "httpx2")


def _translate(
    error: Exception, errors: ErrorMapper, completion: Completion | None
) -> ProviderError | None:
    import openai

    if isinstance(error, openai.APIStatusError):
        return errors.from_status(error.status_code, error.body, error.response.headers)
    if isinstance(error, openai.APIError) and not isinstance(error, openai.APIConnectionError):
        return errors.from_event(error.body, completion)
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return errors.error(MalformedResponseError, "the answer is not JSON", completion=completion)
    return errors.from_transport(error, completion)


def _with_gateway_cost(completion: Completion, headers: Mapping[str, str]) -> Completion:
    """LiteLLM's proxy tells the cost in a header: 0 there means that it does not know."""
    reported = dollars(headers.get("x-litellm-response-cost"))
    return replace(completion, reported_usd=reported) if reported else completion


def _provider_of(host: str) -> str:
    for name, provider in _PROVIDERS.items():
        if _is_within(host, name):
            return provider
    return "openai"


def _is_within(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def _is_loopback(host: str) -> bool:
    if _is_within(host, "localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
