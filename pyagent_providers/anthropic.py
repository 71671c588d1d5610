"""Anthropic's Messages API, through the official `anthropic` SDK.

The SDK's `post` is used rather than its `messages.create`, for the raw answer: reading that
builds no model of every part, it takes the sampling parameters that `create` has dropped, it
warns of no model's retirement, and it opens no span of the SDK's own inside ours.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from .base import LLM
from .clients import account_of, address_of, load_sdk, new_http_client, shared_client
from .errors import (
    ContentRefusedError,
    IncompleteStreamError,
    MalformedResponseError,
    MissingAPIKeyError,
    ProviderError,
)
from .pricing import ModelPrice
from .reading import arguments, arr, count, obj, text
from .redaction import hold
from .secret import hold_keys, settings_of
from .types import (
    Completion,
    FinishReason,
    JSONObject,
    Message,
    OutputSchema,
    Request,
    ToolCall,
    Usage,
)
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
        self._max_tokens = max_tokens
        self._own_client = client
        self._api_key = api_key
        hold_keys(self, self._base_url, api_key, client=client)
        self._timeout = timeout

    def check(self) -> None:
        if self._own_client is None:
            self._load_sdk("anthropic")
            self._credentials()

    async def _complete(self, request: Request) -> Completion:
        client, errors = await self._endpoint()
        body, answer_tool = _encode(request, self.model, self._max_tokens)
        with translated(_translate, errors):
            response = await _post(client, body)
            message = obj(json.loads(response.content))
        return _accepted(_decode(message, answer_tool), errors)

    async def _stream(self, request: Request) -> AsyncIterator[str | Completion]:
        client, errors = await self._endpoint()
        body, answer_tool = _encode(request, self.model, self._max_tokens)
        partial = _PartialMessage(answer_tool)
        with translated(_translate, errors, partial.so_far):
            response = await _post(client, {**body, "stream": True}, stream=True)
            try:
                async for data in _events(response):
                    if piece := partial.add(data):
                        yield piece
            finally:
                await response.aclose()
        yield _accepted(partial.so_far(), errors)

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
    client: AsyncAnthropic, body: Mapping[str, object], *, stream: bool = False
) -> httpx2.Response:
    import httpx2
    from anthropic import AsyncStream

    response = await client.post(
        "/v1/messages",
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
    if isinstance(error, _ErrorEvent):
        return errors.from_event(error.body, completion)
    if isinstance(error, ValueError):
        return errors.error(MalformedResponseError, "the answer is not JSON", completion=completion)
    return errors.from_transport(error, completion)


_BLOCKED: Final = re.compile("content filtering policy", re.IGNORECASE)


def _accepted(completion: Completion | None, errors: ErrorMapper) -> Completion:
    """The completion, if it is a whole one and no refusal."""
    if completion is None:
        raise errors.error(MalformedResponseError, "the answer is not a message with content")
    if completion.finish_reason is None:
        raise errors.error(
            IncompleteStreamError,
            "the stream ended without a stop reason",
            completion=completion,
        )
    if completion.finish_reason == "content_filter":
        raise errors.error(
            ContentRefusedError, "the model declined to answer", completion=completion
        )
    return completion


def _encode(request: Request, model: str, max_tokens: int) -> tuple[dict[str, object], str | None]:
    """The body, and the name of the tool that carries the answer, if one has to."""
    sampling, schema = request.sampling, request.schema
    body: dict[str, object] = {
        "model": model,
        "max_tokens": max_tokens if sampling.max_tokens is None else sampling.max_tokens,
        "messages": _turns(m for m in request.messages if m.role != "system"),
    }
    system = [m.content for m in request.messages if m.role == "system"]
    if system:
        body["system"] = "\n\n".join(system)
    if sampling.temperature is not None:
        body["temperature"] = sampling.temperature
    if sampling.top_p is not None:
        body["top_p"] = sampling.top_p
    if sampling.stop:
        body["stop_sequences"] = sampling.stop
    tools = [_tool(t.name, t.description, t.parameters) for t in request.tools]
    answer_tool: str | None = None
    if schema is not None:
        if _has_structured_outputs(model, schema):
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema.schema}}
        else:
            answer_tool = schema.name
            # Beside tools of the caller's own, the model may well call one of those first.
            choice = {"type": "any"} if tools else {"type": "tool", "name": answer_tool}
            body["tool_choice"] = {**choice, "disable_parallel_tool_use": True}
            tools.append(_tool(answer_tool, _ANSWER_TOOL, schema.schema))
    if tools:
        body["tools"] = tools
    return body, answer_tool


# Structured outputs came with Claude Opus 4.1 and Sonnet 4.5. These are the names of what came
# before; every other name is taken to have them.
_BEFORE_STRUCTURED_OUTPUTS: Final = re.compile(
    r"claude-(?:instant|[123]\b|(?:opus|sonnet|haiku)-(?:3\b|4$|4-0$|4[-@]2025\d{4}))"
)
_ANSWER_TOOL: Final = "Gives the answer. Call this once; what you pass to it is your whole answer."


def _has_structured_outputs(model: str, schema: OutputSchema) -> bool:
    """Structured outputs are always strict: a schema that is not goes by a forced tool call."""
    return schema.strict and _BEFORE_STRUCTURED_OUTPUTS.search(model) is None


def _tool(name: str, description: str, schema: JSONObject) -> dict[str, object]:
    return {"name": name, "description": description, "input_schema": schema}


def _turns(messages: Iterable[Message]) -> list[dict[str, object]]:
    """The results of tools go together in one user turn, the one after the turn that called."""
    turns: list[dict[str, object]] = []
    results: list[dict[str, object]] = []
    for message in messages:
        if message.role != "tool":
            results = []
            turns.append({"role": message.role, "content": _content(message)})
            continue
        if not results:
            turns.append({"role": "user", "content": results})
        results.append(
            {
                "type": "tool_result",
                "tool_use_id": message.tool_call_id,
                "content": message.content,
            }
        )
    return turns


def _content(message: Message) -> str | list[dict[str, object]]:
    if not message.tool_calls:
        return message.content
    blocks: list[dict[str, object]] = []
    if message.content:
        blocks.append({"type": "text", "text": message.content})
    for call in message.tool_calls:
        given = arguments(call.arguments)
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": given})
    return blocks


_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def _decode(message: Mapping[str, object], answer_tool: str | None) -> Completion | None:
    """A whole message, or what a stream gave of one; None if it is no message at all."""
    if not isinstance(message.get("content"), list):
        return None
    texts: list[str] = []
    calls: list[ToolCall] = []
    for block in map(obj, arr(message["content"])):
        kind, name = block.get("type"), text(block.get("name"))
        if kind == "text" and answer_tool is None:
            texts.append(text(block.get("text")))
        elif kind == "tool_use" and name == answer_tool:
            texts.append(_arguments(block.get("input")))
        elif kind == "tool_use":
            given = _arguments(block.get("input")) or "{}"
            calls.append(ToolCall(text(block.get("id")), name, given))
    stopped = text(message.get("stop_reason"))
    finish: FinishReason | None = _FINISH_REASONS.get(stopped, "other") if stopped else None
    if finish == "tool_calls" and not calls:
        finish = "stop"  # the one call was the answer
    usage = obj(message.get("usage"))
    return Completion(
        text="".join(texts),
        usage=_usage(usage) if usage else None,
        model=text(message.get("model")) or None,
        finish_reason=finish,
        response_id=text(message.get("id")) or None,
        tool_calls=tuple(calls),
        service_tier=text(usage.get("service_tier")) or None,
    )


def _arguments(given: object) -> str:
    """A stream gives JSON text; a whole message has it decoded."""
    return given if isinstance(given, str) else json.dumps(given or {}, ensure_ascii=False)


def _usage(usage: Mapping[str, object]) -> Usage:
    """Anthropic counts fresh, read and written input apart; our input is their sum."""
    read = count(usage.get("cache_read_input_tokens"))
    written = count(usage.get("cache_creation_input_tokens"))
    by_age = obj(usage.get("cache_creation"))
    details = obj(usage.get("output_tokens_details"))
    return Usage(
        input_tokens=count(usage.get("input_tokens")) + read + written,
        output_tokens=count(usage.get("output_tokens")),
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=count(by_age.get("ephemeral_1h_input_tokens")),
        reasoning_tokens=count(details.get("thinking_tokens")),
    )


class _ErrorEvent(Exception):
    """An error event in a stream."""

    def __init__(self, body: Mapping[str, object]) -> None:
        super().__init__("error event")
        self.body = body


class _PartialMessage:
    """A message as its stream builds it up."""

    def __init__(self, answer_tool: str | None) -> None:
        self._answer_tool = answer_tool
        self._message: dict[str, object] = {}
        self._usage: dict[str, object] = {}
        self._blocks: list[tuple[Mapping[str, object], list[str]]] = []

    def add(self, data: str) -> str:
        """Take in one event; the piece of the answer's text that it brought, if any.

        Raises ValueError for what is none: to pass over it could lose a piece unseen.
        """
        event = obj(json.loads(data))
        match event.get("type"):
            case None:
                raise ValueError("an event without a type")
            case "message_start":
                self._message = dict(obj(event.get("message")))
                self._take_usage(self._message)
            case "content_block_start":
                self._blocks.append((obj(event.get("content_block")), []))
            case "content_block_delta":
                return self._add_delta(obj(event.get("delta")))
            case "message_delta":
                delta = obj(event.get("delta"))
                self._message["stop_reason"] = delta.get("stop_reason")
                self._take_usage(event)
            case "error":
                raise _ErrorEvent(event)
            case _:  # ping, block and message ends, and whatever comes to be added
                pass
        return ""

    def so_far(self) -> Completion | None:
        """What has arrived so far; None before the start."""
        if not self._message:
            return None
        content = [_joined(block, pieces) for block, pieces in self._blocks]
        return _decode(
            {**self._message, "content": content, "usage": self._usage}, self._answer_tool
        )

    def _add_delta(self, delta: Mapping[str, object]) -> str:
        if not self._blocks:
            raise ValueError("a delta without its block")
        block, pieces = self._blocks[-1]
        match delta.get("type"), delta:
            case "text_delta", {"text": str(piece)}:
                answers = self._answer_tool is None
            case "input_json_delta", {"partial_json": str(piece)}:
                answers = block.get("name") == self._answer_tool
            case (("text_delta" | "input_json_delta" | None), _):
                raise ValueError("a delta without its text")
            case _:  # thinking, signatures, citations
                return ""
        pieces.append(piece)
        return piece if answers else ""

    def _take_usage(self, event: Mapping[str, object]) -> None:
        """Later counts are cumulative, and replace the earlier ones that they repeat."""
        usage = obj(event.get("usage"))
        self._usage.update({name: given for name, given in usage.items() if given is not None})


def _joined(block: Mapping[str, object], pieces: list[str]) -> dict[str, object]:
    field = "text" if block.get("type") == "text" else "input"
    return {**block, field: "".join(pieces)}
