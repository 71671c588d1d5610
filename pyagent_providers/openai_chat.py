"""OpenAI's Chat Completions format: `Request` to body, body or chunks to `Completion`."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import ClassVar, Final, Literal

from .errors import ContentRefusedError, IncompleteStreamError, MalformedResponseError
from .reading import arr, count, dollars, obj, text
from .types import Completion, FinishReason, Message, Request, ToolCall, Usage
from .wire_errors import ErrorMapper

StructuredOutput = Literal["json_schema", "json_object", "prompt"]

_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class ChatAPI:
    """How one endpoint speaks Chat Completions.

    OpenAI itself refuses `max_tokens` for its reasoning models, and the servers compatible with
    it may not know `max_completion_tokens`: `is_openai` decides.
    """

    path: ClassVar[str] = "/chat/completions"

    def __init__(self, model: str, structured_output: StructuredOutput, *, is_openai: bool) -> None:
        self._model = model
        self._structured_output: StructuredOutput = structured_output
        self._max_tokens = "max_completion_tokens" if is_openai else "max_tokens"

    def encode(self, request: Request, *, stream: bool) -> dict[str, object]:
        body: dict[str, object] = {
            "model": self._model,
            "messages": [_encode_message(message) for message in request.messages],
        }
        if (schema := request.schema) is not None:
            if self._structured_output == "json_schema":
                body["response_format"] = {
                    "type": "json_schema",
                    "json_schema": {
                        "name": schema.name,
                        "schema": schema.schema,
                        "strict": schema.strict,
                    },
                }
            elif self._structured_output == "json_object":
                body["response_format"] = {"type": "json_object"}
        if request.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {
                        "name": tool.name,
                        "description": tool.description,
                        "parameters": tool.parameters,
                    },
                }
                for tool in request.tools
            ]
        sampling = request.sampling
        if sampling.max_tokens is not None:
            body[self._max_tokens] = sampling.max_tokens
        if sampling.temperature is not None:
            body["temperature"] = sampling.temperature
        if sampling.top_p is not None:
            body["top_p"] = sampling.top_p
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if stream:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True}
        return body

    def decode(self, body: Mapping[str, object], errors: ErrorMapper) -> Completion:
        choice = obj(next(iter(arr(body.get("choices"))), None))
        message = obj(choice.get("message"))
        refusal = text(message.get("refusal"))
        completion = Completion(
            text=_content(message.get("content")) or refusal,
            usage=read_usage(body.get("usage")),
            model=text(body.get("model")) or None,
            finish_reason=_finish_reason(choice.get("finish_reason")),
            response_id=text(body.get("id")) or None,
            tool_calls=tuple(_read_call(call) for call in arr(message.get("tool_calls"))),
            service_tier=text(body.get("service_tier")) or None,
            reported_usd=_reported(body.get("usage")),
        )
        if not message and body.get("error"):  # a gateway's error under status 200
            raise errors.from_event(body, completion)
        if not message:
            raise errors.error(
                MalformedResponseError, "the answer has no message", completion=completion
            )
        return accepted(completion, refused=bool(refusal), errors=errors)

    def fold(self, errors: ErrorMapper) -> ChatFold:
        return ChatFold(errors)


class ChatFold:
    """Chunks of a streamed answer, put together."""

    def __init__(self, errors: ErrorMapper) -> None:
        self._errors = errors
        self._pieces: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, _PartialCall] = {}
        self._head: Mapping[str, object] = {}
        self._usage: object = None
        self._service_tier: str | None = None
        self._finish_reason: FinishReason | None = None

    def add(self, event: object) -> str:
        """Take in one chunk; returns the text it adds, if any."""
        chunk = obj(event)
        self._head = self._head or chunk
        self._usage = chunk.get("usage") or self._usage
        self._service_tier = text(chunk.get("service_tier")) or self._service_tier
        choice = obj(next(iter(arr(chunk.get("choices"))), None))
        self._finish_reason = _finish_reason(choice.get("finish_reason")) or self._finish_reason
        delta = obj(choice.get("delta"))
        if refusal := text(delta.get("refusal")):
            self._refusal.append(refusal)
        for call in arr(delta.get("tool_calls")):
            self._add_call(obj(call))
        piece = _content(delta.get("content"))
        if piece:
            self._pieces.append(piece)
        return piece

    def so_far(self) -> Completion | None:
        """What has arrived so far; None if nothing has."""
        if not self._head:
            return None
        return Completion(
            text="".join(self._pieces or self._refusal),
            usage=read_usage(self._usage),
            model=text(self._head.get("model")) or None,
            finish_reason=self._finish_reason,
            response_id=text(self._head.get("id")) or None,
            tool_calls=tuple(call.whole() for _, call in sorted(self._calls.items())),
            service_tier=self._service_tier,
            reported_usd=_reported(self._usage),
        )

    def completion(self) -> Completion:
        """The whole answer, when the stream has ended; raises IncompleteStreamError if cut."""
        completion = begun(self.so_far(), self._errors)
        if completion.finish_reason is None:
            raise self._errors.error(
                IncompleteStreamError,
                "the stream ended without a finish reason",
                completion=completion,
            )
        return accepted(completion, refused=bool(self._refusal), errors=self._errors)

    def _add_call(self, delta: Mapping[str, object]) -> None:
        index = delta.get("index")
        if not isinstance(index, int):  # some servers send each call whole, without a number
            index = len(self._calls)
        call = self._calls.setdefault(index, _PartialCall())
        function = obj(delta.get("function"))
        call.id = call.id or text(delta.get("id"))
        call.name = call.name or text(function.get("name"))
        call.arguments.append(text(function.get("arguments")))


class _PartialCall:
    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []

    def whole(self) -> ToolCall:
        return ToolCall(self.id, self.name, "".join(self.arguments))


def begun(completion: Completion | None, errors: ErrorMapper) -> Completion:
    """What a stream brought; raises MalformedResponseError if that is nothing."""
    if completion is None:
        raise errors.error(MalformedResponseError, "the answer is not a stream of the API's")
    return completion


def accepted(completion: Completion, *, refused: bool, errors: ErrorMapper) -> Completion:
    """The completion, unless the model or a filter declined: then ContentRefusedError."""
    if refused:
        # What it said is in the completion; an error's text reaches spans and logs.
        raise errors.error(
            ContentRefusedError, "the model declined to answer", completion=completion
        )
    if completion.finish_reason == "content_filter" and not completion.text:
        raise errors.error(
            ContentRefusedError, "the provider's filter held the answer back", completion=completion
        )
    return completion


def read_usage(
    value: object, input_name: str = "prompt", output_name: str = "completion"
) -> Usage | None:
    """OpenAI's usage object, or None where there is none."""
    usage = obj(value)
    if not usage:
        return None
    input_tokens = count(usage.get(f"{input_name}_tokens"))
    output_tokens = count(usage.get(f"{output_name}_tokens"))
    input_details = obj(usage.get(f"{input_name}_tokens_details"))
    output_details = obj(usage.get(f"{output_name}_tokens_details"))
    return Usage(
        input_tokens=input_tokens,
        # Some compatible servers leave reasoning out of the output, but never of the total.
        output_tokens=max(output_tokens, count(usage.get("total_tokens")) - input_tokens),
        cache_read_tokens=count(input_details.get("cached_tokens")),
        cache_write_tokens=count(input_details.get("cache_write_tokens")),
        reasoning_tokens=count(output_details.get("reasoning_tokens")),
    )


def _reported(usage: object) -> Decimal | None:
    """What OpenRouter says that the call cost, in US dollars."""
    return dollars(obj(usage).get("cost"))


def _encode_message(message: Message) -> dict[str, object]:
    encoded: dict[str, object] = {"role": message.role, "content": message.content}
    if message.tool_call_id is not None:
        encoded["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        encoded["content"] = message.content or None
        encoded["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    return encoded


def _content(value: object) -> str:
    """A message's text: a string or, from Mistral's reasoning models, a list of parts."""
    if isinstance(value, str):
        return value
    return "".join(text(obj(part).get("text")) for part in arr(value))


def _finish_reason(value: object) -> FinishReason | None:
    reason = text(value)
    return _FINISH_REASONS.get(reason, "other") if reason else None


def _read_call(value: object) -> ToolCall:
    call = obj(value)
    function = obj(call.get("function"))
    return ToolCall(
        text(call.get("id")), text(function.get("name")), text(function.get("arguments"))
    )
