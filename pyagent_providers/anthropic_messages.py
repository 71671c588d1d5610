"""Anthropic's Messages format: `Request` to body, body or events to `Completion`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import ClassVar, Final

from .errors import ContentRefusedError, IncompleteStreamError, MalformedResponseError
from .reading import arguments, arr, count, obj, text
from .types import Completion, FinishReason, JSONObject, Message, Request, ToolCall, Usage
from .wire_errors import ErrorMapper

# Structured outputs came with Claude Opus 4.1 and Sonnet 4.5. These are the names of what came
# before; every other name is taken to have them.
_BEFORE_STRUCTURED_OUTPUTS: Final = re.compile(
    r"claude-(?:instant|[123]\b|(?:opus|sonnet|haiku)-(?:3\b|4$|4-0$|4[-@]2025\d{4}))"
)
_ANSWER_TOOL: Final = "Gives the answer. Call this once; what you pass to it is your whole answer."

_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class MessagesAPI:
    """How one model speaks Messages.

    `max_tokens` bounds the answers to questions that set no bound of their own.
    """

    path: ClassVar[str] = "/v1/messages"

    def __init__(self, model: str, max_tokens: int) -> None:
        self._model = model
        self._max_tokens = max_tokens

    def encode(self, request: Request, *, stream: bool) -> dict[str, object]:
        sampling = request.sampling
        bound = self._max_tokens if sampling.max_tokens is None else sampling.max_tokens
        body: dict[str, object] = {
            "model": self._model,
            "max_tokens": bound,
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
        if (schema := request.schema) is not None:
            if (answer_tool := self._answer_tool(request)) is not None:
                # Beside tools of the caller's own, the model may well call one of those first.
                choice = {"type": "any"} if tools else {"type": "tool", "name": answer_tool}
                body["tool_choice"] = {**choice, "disable_parallel_tool_use": True}
                tools.append(_tool(answer_tool, _ANSWER_TOOL, schema.schema))
            else:
                body["output_config"] = {"format": {"type": "json_schema", "schema": schema.schema}}
        if tools:
            body["tools"] = tools
        if stream:
            body["stream"] = True
        return body

    def decode(
        self, body: Mapping[str, object], request: Request, errors: ErrorMapper
    ) -> Completion:
        return _accepted(_completion(body, self._answer_tool(request)), errors)

    def fold(self, request: Request, errors: ErrorMapper) -> MessagesFold:
        return MessagesFold(self._answer_tool(request), errors)

    def _answer_tool(self, request: Request) -> str | None:
        """The name of the tool that carries the answer, if one has to.

        Structured outputs are always strict: a schema that is not goes by a forced tool call.
        """
        if request.schema is None:
            return None
        if request.schema.strict and _BEFORE_STRUCTURED_OUTPUTS.search(self._model) is None:
            return None
        return request.schema.name


class MessagesFold:
    """Events of a streamed answer, put together."""

    def __init__(self, answer_tool: str | None, errors: ErrorMapper) -> None:
        self._answer_tool = answer_tool
        self._errors = errors
        self._message: dict[str, object] = {}
        self._usage: dict[str, object] = {}
        self._blocks: list[tuple[Mapping[str, object], list[str]]] = []

    def add(self, data: str) -> str:
        """Take in one event; returns the text it adds, if any.

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
                raise self._errors.from_event(event, self.so_far())
            case _:  # ping, block and message ends, and whatever comes to be added
                pass
        return ""

    def so_far(self) -> Completion | None:
        """What has arrived so far; None before the start."""
        if not self._message:
            return None
        content = [_joined(block, pieces) for block, pieces in self._blocks]
        message = {**self._message, "content": content, "usage": self._usage}
        return _completion(message, self._answer_tool)

    def completion(self) -> Completion:
        """The whole answer, when the stream has ended; raises IncompleteStreamError if cut."""
        return _accepted(self.so_far(), self._errors)

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


def _completion(message: Mapping[str, object], answer_tool: str | None) -> Completion | None:
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


def _joined(block: Mapping[str, object], pieces: list[str]) -> dict[str, object]:
    field = "text" if block.get("type") == "text" else "input"
    return {**block, field: "".join(pieces)}
