"""Google's Gemini models, through the official `google-genai` SDK."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Hashable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from .base import LLM
from .clients import (
    KEEPALIVE_SECONDS,
    account_of,
    address_of,
    bounded,
    load_sdk,
    max_connections,
    shared_client,
    ssl_context,
)
from .errors import (
    AuthenticationError,
    ContentRefusedError,
    MalformedResponseError,
    MissingAPIKeyError,
    ProviderError,
)
from .gemini_content import ContentAPI
from .pricing import ModelPrice
from .reading import arr, obj, text
from .redaction import hold
from .secret import hold_keys, settings_of
from .types import Completion, Request
from .wire_errors import ErrorMapper, translated

if TYPE_CHECKING:
    import aiohttp
    import google.genai as genai
    from google.genai.errors import APIError
    from google.genai.types import GenerateContentResponse

_DEFAULT_BASE_URL: Final = "https://generativelanguage.googleapis.com"


class GeminiLLM(LLM):
    """A Gemini model behind the Gemini API, or behind Vertex AI with a `client` made for it.

    `api_key` defaults to GOOGLE_API_KEY, then GEMINI_API_KEY; `base_url` to
    GOOGLE_GEMINI_BASE_URL. A base URL that ends in a version, such as `/v1beta`, asks for that
    version of the API; otherwise it is the SDK's choice. `client` is a `genai.Client` of your
    own, never closed here. `timeout` is in seconds, and here it bounds the whole answer, streamed
    ones too: the SDK has no other.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        client: genai.Client | None = None,
        timeout: float = 60.0,
        price: ModelPrice | None = None,
    ) -> None:
        self.settings = settings_of(
            "GEMINI", client=client, base_url=base_url, api_key=api_key, timeout=timeout
        )
        self._base_url = base_url or os.environ.get("GOOGLE_GEMINI_BASE_URL") or _DEFAULT_BASE_URL
        # A client of the application's own does not tell where it leads.
        address = address_of(self._base_url) if client is None else (None, None)
        if not timeout > 0:
            raise ValueError(f"timeout must be a number of seconds above 0; got {timeout!r}")
        super().__init__(
            model,
            provider="gcp.vertex_ai" if client is not None and client.vertexai else "gcp.gemini",
            price=price,
            address=address[0],
            port=address[1],
        )
        self._own_client = client
        self._api_key = api_key
        hold_keys(self, self._base_url, api_key, client=client)
        self._timeout = timeout
        self._api = ContentAPI(model)

    def check(self) -> None:
        if self._own_client is None:
            self._load_sdk("google.genai")
            self._key()

    async def _complete(self, request: Request) -> Completion:
        client, errors = await self._endpoint()
        contents, config = self._encode(request)
        fold = self._api.fold(request, errors)
        with translated(_translate, errors):
            response = await _models(client).generate_content(
                model=self.model,
                contents=contents,
                # The raw answer, because the SDK's own reading warns of every new enum value.
                config={**config, "should_return_http_response": True},
            )
            http = response.sdk_http_response
            fold.add(json.loads((http.body if http is not None else None) or "null"))
        return fold.completion()

    async def _stream(self, request: Request) -> AsyncIterator[str | Completion]:
        client, errors = await self._endpoint()
        contents, config = self._encode(request)
        fold = self._api.fold(request, errors)
        opened: list[aiohttp.ClientResponse] = []
        try:
            with translated(_translate, errors, fold.so_far):
                with _noting_responses(opened):
                    chunks = await _models(client).generate_content_stream(
                        model=self.model, contents=contents, config=config
                    )
                    chunk = await anext(chunks, None)  # only now is the request sent
                while chunk is not None:
                    read = chunk.model_dump(mode="json", by_alias=True, exclude_none=True)
                    if piece := fold.add(read):
                        yield piece
                    chunk = await anext(chunks, None)
        finally:
            for response in opened:
                response.close()
        yield fold.completion()

    @property
    def account(self) -> Hashable:
        if self._own_client is not None:
            return id(self._own_client)  # how it authenticates is its own affair
        return account_of(self._base_url, self._key())

    def _encode(self, request: Request) -> tuple[list[dict[str, object]], dict[str, object]]:
        contents, config = self._api.encode(request)
        if self._own_client is not None:
            config["http_options"] = {"retry_options": _NO_RETRIES}
        return contents, {**_ONE_REQUEST, **config}

    async def _endpoint(self) -> tuple[genai.Client, ErrorMapper]:
        if self._own_client is not None:
            return self._own_client, ErrorMapper(self.provider, self.model)
        key = self._key()
        endpoint = await shared_client(
            (GeminiLLM, self._base_url, key, self._timeout),
            lambda: self._new_endpoint(key),
            _Endpoint.close,
        )
        return endpoint.client, ErrorMapper(self.provider, self.model)

    def _new_endpoint(self, key: str) -> _Endpoint:
        genai = self._load_sdk("google.genai")
        base_url, version = _split_version(self._base_url)
        tls = ssl_context(self._load_sdk("httpx2").create_ssl_context)
        session = _new_session()
        client = genai.Client(
            vertexai=False,
            api_key=key,
            http_options=genai.types.HttpOptions(
                base_url=base_url,
                api_version=version,
                timeout=int(self._timeout * 1000),
                retry_options=_NO_RETRIES,
                aiohttp_client=session,
                # One TLS context instead of the four that the SDK would make, at 30 ms each.
                client_args={"verify": tls},
                async_client_args={"verify": tls, "ssl": tls},
            ),
        )
        return _Endpoint(client, session)

    def _load_sdk(self, module: str) -> Any:
        return load_sdk(module, extra="google", provider=self.provider, model=self.model)

    def _key(self) -> str:
        for key in (
            self._api_key,
            os.environ.get("GOOGLE_API_KEY"),
            os.environ.get("GEMINI_API_KEY"),
        ):
            if key:
                hold(self, key)
                return key
        raise MissingAPIKeyError(
            "no API key: set GOOGLE_API_KEY or GEMINI_API_KEY, or pass api_key= or a client=",
            provider=self.provider,
            model=self.model,
        )


# Left alone, the SDK sends further requests of its own accord.
_ONE_REQUEST: Final[Mapping[str, object]] = {
    "automatic_function_calling": {"disable": True},
    "automatic_continuation": False,
}
# The SDK never retries by itself, not even a connection that broke, only when told so.
_NO_RETRIES: Final[Any] = {"attempts": 1}


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """A client and the session it sends by.

    The session is ours because the SDK's own is never closed in good order at the loop's end,
    and because its class, derived from aiohttp's, makes aiohttp warn.
    """

    client: genai.Client
    session: aiohttp.ClientSession | None

    async def close(self) -> None:
        await self.client.aio.aclose()
        self.client.close()
        if self.session is not None:
            await self.session.close()


class _Models(Protocol):
    """What is used of the SDK's models, whose own types are partly unknown to a type checker."""

    async def generate_content(
        self, *, model: str, contents: object, config: object
    ) -> GenerateContentResponse: ...

    async def generate_content_stream(
        self, *, model: str, contents: object, config: object
    ) -> AsyncGenerator[GenerateContentResponse]: ...


def _models(client: genai.Client) -> _Models:
    return cast(_Models, client.aio.models)


def _new_session() -> aiohttp.ClientSession | None:
    """None without aiohttp: the SDK then falls back to its other transport."""
    try:
        import aiohttp
    except ImportError:
        return None

    async def note(session: object, context: object, end: aiohttp.TraceRequestEndParams) -> None:
        response = end.response
        response.content = cast("aiohttp.StreamReader", _BoundedBody(response.content))
        responses = _responses.get()
        if responses is not None:
            responses.append(response)

    tracing = aiohttp.TraceConfig()
    tracing.on_request_end.append(note)
    connector = aiohttp.TCPConnector(limit=max_connections(), keepalive_timeout=KEEPALIVE_SECONDS)
    return aiohttp.ClientSession(connector=connector, trust_env=True, trace_configs=[tracing])


class _BoundedBody:
    """A body's reader that goes on to LONGEST_ANSWER and no further."""

    def __init__(self, body: aiohttp.StreamReader) -> None:
        self._body = body

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self.iter_any()])

    def iter_any(self) -> AsyncGenerator[bytes]:
        return bounded(self._body.iter_any())


# A stream of the SDK's that is dropped half-way, or that fails, stays open until the garbage
# collector comes by: the SDK's objects refer to each other in a circle. So we note the HTTP
# response beneath, and close that.
_responses: ContextVar[list[aiohttp.ClientResponse] | None] = ContextVar(
    "pyagent_gemini_responses", default=None
)


@contextmanager
def _noting_responses(responses: list[aiohttp.ClientResponse]) -> Generator[None]:
    token = _responses.set(responses)
    try:
        yield
    finally:
        _responses.reset(token)


def _split_version(base_url: str) -> tuple[str, str | None]:
    """`https://host/path/v1beta` -> `https://host/path`, `v1beta`."""
    match = re.fullmatch(r"(.*)/(v\d+(?:(?:alpha|beta)\d*)?)/?", base_url)
    return (match[1], match[2]) if match else (base_url, None)


def _translate(
    error: Exception, errors: ErrorMapper, completion: Completion | None
) -> ProviderError | None:
    from google.genai.errors import APIError

    if isinstance(error, APIError):
        return _map_status(error, errors, completion)
    if isinstance(error, ValueError):  # also how the SDK names a chunk that is not JSON
        return errors.error(MalformedResponseError, "the answer is not JSON", completion=completion)
    return errors.from_transport(error, completion)


def _map_status(
    error: APIError, errors: ErrorMapper, completion: Completion | None
) -> ProviderError:
    """Google gives a code twice, as a number and as a word, and hides the rest in details."""
    body = obj(cast("Any", error).details)
    reported = obj(body.get("error")) or body
    details = [obj(detail) for detail in arr(reported.get("details"))]
    headers: Mapping[str, str] = getattr(cast("Any", error).response, "headers", {})
    for detail in details:
        if delay := text(detail.get("retryDelay")):  # "37s" or "0.5s"
            headers = {"retry-after": delay.removesuffix("s"), **headers}
    described = {"message": reported.get("message"), "status": reported.get("status")}
    mapped = errors.from_status(error.code, described, headers)
    mapped.completion = completion
    if any(detail.get("reason") == "API_KEY_INVALID" for detail in details):  # comes as a 400
        return errors.error(AuthenticationError, mapped.message, status=error.code)
    if _BLOCKED.search(mapped.message):
        return errors.error(ContentRefusedError, mapped.message, status=error.code)
    return mapped


_BLOCKED: Final = re.compile(r"Responsible AI|violates? (?:our|Google's) (?:policies|usage)")
