"""Anthropic's Messages API, through the official `anthropic` SDK.

The SDK's `post` is used rather than its `messages.create`, for the raw answer: reading that
builds no model of every part, it takes the sampling parameters that `create` has dropped, it
warns of no model's retirement, and it opens no span of the SDK's own inside ours.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Hashable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from .anthropic_messages import MessagesAPI
from .base import LLM
from .clients import account_of, address_of, load_sdk, new_http_client, shared_client
from .errors import (
    ContentRefusedError,
    MalformedResponseError,
    MissingAPIKeyError,
    ProviderError,
)
from .pricing import ModelPrice
from .reading import obj
from .redaction import hold
from .secret import hold_keys, settings_of
from .types import Completion, Request
from .wire_errors import ErrorMapper, translated

if TYPE_CHECKING:
    import httpx2
    from anthropic import AsyncAnthropic

_DEFAULT_BASE_URL: Final = "https://api.anthropic.com"


class AnthropicLLM(LLM):
    """A Claude model behind Anthropic's API.

    `max_tokens` bounds the answers to questions that set no bound of their own: the API demands
    one. `base_url` and `api_key` default to ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY, or
    ANTHROPIC_AUTH_TOKEN. `client` is an `AsyncAnthropic` of your own, with whatever credentials
    it has; it is never closed here. `timeout` is in seconds: to connect, and between two pieces
    of an answer.

    An answer by schema uses structured outputs where the model has them, else a forced tool
    call. The API knows no `seed`; it is left out.
    """

    def __init__(
        self,
        model: str,
        *,
        max_tokens: int = 4096,
        base_url: str | None = None,
        api_key: str | None = None,
        client: AsyncAnthropic | None = None,
        timeout: float = 60.0,
        price: ModelPrice | None = None,
    ) -> None:
        self.settings = settings_of(
            "ANTHROPIC",
            client=client,
            base_url=base_url,
            api_key=api_key,
            max_tokens=max_tokens,
            timeout=timeout,
        )
        if client is not None:
            base_url = str(client.base_url)
        self._base_url = base_url or os.environ.get("ANTHROPIC_BASE_URL") or _DEFAULT_BASE_URL
        host, port = address_of(self._base_url)
        if not timeout > 0:
            raise ValueError(f"timeout must be a number of seconds above 0; got {timeout!r}")
        super().__init__(model, provider="anthropic", price=price, address=host, port=port)
        self._own_client = client
        self._api_key = api_key
        hold_keys(self, self._base_url, api_key, client=client)
        self._timeout = timeout
        self._api = MessagesAPI(model, max_tokens)

    def check(self) -> None:
        if self._own_client is None:
            self._load_sdk("anthropic")
            self._credentials()

    async def _complete(self, request: Request) -> Completion:
        client, errors = await self._endpoint()
        body = self._api.encode(request, stream=False)
        with translated(_translate, errors):
            response = await _post(client, body, stream=False)
            message = obj(json.loads(response.content))
        return self._api.decode(message, request, errors)

    async def _stream(self, request: Request) -> AsyncIterator[str | Completion]:
        client, errors = await self._endpoint()
        body = self._api.encode(request, stream=True)
        fold = self._api.fold(request, errors)
        with translated(_translate, errors, fold.so_far):
            response = await _post(client, body, stream=True)
            try:
                async for data in _events(response):
                    if piece := fold.add(data):
                        yield piece
            finally:
                await response.aclose()
        yield fold.completion()

    @property
    def account(self) -> Hashable:
        if (own := self._own_client) is not None:
            return account_of(self._base_url, own.api_key or own.auth_token)
        key, token = self._credentials()
        return account_of(self._base_url, key or token)

    async def _endpoint(self) -> tuple[AsyncAnthropic, ErrorMapper]:
        if (own := self._own_client) is not None:
            return own, ErrorMapper(self.provider, self.model)
        key, token = self._credentials()
        client = await shared_client(
            (AnthropicLLM, self._base_url, key, token, self._timeout),
            lambda: self._new_client(key, token),
            lambda client: client.close(),
        )
        return client, ErrorMapper(self.provider, self.model)

    def _new_client(self, key: str | None, token: str | None) -> AsyncAnthropic:
        anthropic = self._load_sdk("anthropic")
        http_client = new_http_client(anthropic, self._load_sdk("httpx2"), timeout=self._timeout)
        return anthropic.AsyncAnthropic(
            api_key=key,
            auth_token=token,
            base_url=self._base_url,
            timeout=cast("Any", http_client).timeout,
            max_retries=0,
            open_telemetry=False,
            http_client=http_client,
        )

    def _load_sdk(self, module: str) -> Any:
        return load_sdk(module, extra="anthropic", provider=self.provider, model=self.model)

    def _credentials(self) -> tuple[str | None, str | None]:
        """The API key, or else the token. Never both: the SDK refuses that."""
        if key := self._api_key or os.environ.get("ANTHROPIC_API_KEY"):
            hold(self, key)
            return key, None
        if token := os.environ.get("ANTHROPIC_AUTH_TOKEN"):
            hold(self, token)
            return None, token
        raise MissingAPIKeyError(
            "no API key: set ANTHROPIC_API_KEY, or pass api_key= or a client=",
            provider=self.provider,
            model=self.model,
        )


async def _post(
    client: AsyncAnthropic, body: Mapping[str, object], *, stream: bool
) -> httpx2.Response:
    import httpx2
    from anthropic import AsyncStream

    response = await client.post(
        MessagesAPI.path,
        cast_to=httpx2.Response,
        body=body,
        options={"max_retries": 0},  # a client of the application's own has them on by default
        stream=stream,
        stream_cls=AsyncStream[object],
    )
    return cast(httpx2.Response, response)


async def _events(response: httpx2.Response) -> AsyncIterator[str]:
    """The data of each server-sent event."""
    from anthropic import AsyncStream

    async for event in AsyncStream[object].raw_events(response):
        if event.data:
            yield event.data


def _translate(
    error: Exception, errors: ErrorMapper, completion: Completion | None
) -> ProviderError | None:
    import anthropic

    if isinstance(error, anthropic.APIStatusError):
        mapped = errors.from_status(error.status_code, error.body, error.response.headers)
        if _BLOCKED.search(mapped.message):  # told apart from other bad requests by words alone
            return errors.error(ContentRefusedError, mapped.message, status=mapped.status)
        return mapped
    if isinstance(error, ValueError):
        return errors.error(MalformedResponseError, "the answer is not JSON", completion=completion)
    return errors.from_transport(error, completion)


_BLOCKED: Final = re.compile("content filtering policy", re.IGNORECASE)
