"""Google's generateContent format: `Request` to contents and config, chunks to `Completion`."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from .errors import (
    ContentRefusedError,
    IncompleteStreamError,
    MalformedResponseError,
    ProviderError,
)
from .reading import arguments, arr, count, obj, text
from .types import Completion, FinishReason, Message, Request, ToolCall, ToolSpec, Usage
from .wire_errors import ErrorMapper

# Before Gemini 3, models refuse to have both tools and a schema for their answer, and know no
# signatures. Every other name is taken to be of a later one.
_BEFORE_GEMINI_3: Final = re.compile(r"gemini-(?:[12]\b|pro|flash|exp)")
_ANSWER_TOOL: Final = "Gives the answer. Call this once; what you pass to it is your whole answer."
# What Google has a client send for a call that another model made.
_UNSIGNED: Final = base64.b64encode(b"skip_thought_signature_validator").decode()

_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "ESCALATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
}
_MALFORMED: Final = frozenset({"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE"})


class ContentAPI:
    """How one model speaks generateContent, in the dicts that the SDK takes."""

    def __init__(self, model: str) -> None:
        self._is_before_3 = _BEFORE_GEMINI_3.search(model) is not None

    def encode(self, request: Request) -> tuple[list[dict[str, object]], dict[str, object]]:
        """The `contents` and the `config`."""
        config: dict[str, object] = {}
        system = [m.content for m in request.messages if m.role == "system"]
        if system:
            config["system_instruction"] = "\n\n".join(system)
        tools = list(request.tools)
        if (schema := request.schema) is not None:
            if answer_tool := self._answer_tool(request):
                tools.append(ToolSpec(answer_tool, _ANSWER_TOOL, schema.schema))
                config["tool_config"] = {"function_calling_config": {"mode": "ANY"}}
            else:
                config["response_mime_type"] = "application/json"
                config["response_json_schema"] = schema.schema
        if tools:
            functions = [
                {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters_json_schema": tool.parameters,
                }
                for tool in tools
            ]
            config["tools"] = [{"function_declarations": functions}]
        sampling = request.sampling
        given = {
            "max_output_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stop_sequences": list(sampling.stop) or None,
            "seed": sampling.seed,
        }
        config |= {name: value for name, value in given.items() if value is not None}
        others = (m for m in request.messages if m.role != "system")
        return _contents(others, signed=not self._is_before_3), config

    def fold(self, request: Request, errors: ErrorMapper) -> ContentFold:
        return ContentFold(self._answer_tool(request), errors)

    def _answer_tool(self, request: Request) -> str | None:
        """The name of the tool that carries the answer, if one has to."""
        if request.schema is None or not request.tools or not self._is_before_3:
            return None
        return request.schema.name


class ContentFold:
    """Chunks of an answer, put together; a whole answer is one chunk."""

    def __init__(self, answer_tool: str | None, errors: ErrorMapper) -> None:
        self._answer_tool = answer_tool
        self._errors = errors
        self._texts: list[str] = []
        self._calls: list[ToolCall] = []
        self._usage: Mapping[str, object] = {}
        self._model = ""
        self._id = ""
        self._stopped = ""
        self._blocked = ""
        self._begun = False

    def add(self, event: object) -> str:
        """Take in one chunk; returns the text it adds, if any."""
        chunk = obj(event)
        self._usage = obj(chunk.get("usageMetadata")) or self._usage  # cumulative
        self._model = text(chunk.get("modelVersion")) or self._model
        self._id = text(chunk.get("responseId")) or self._id
        feedback = obj(chunk.get("promptFeedback"))
        self._blocked = text(feedback.get("blockReason")) or self._blocked
        candidates = arr(chunk.get("candidates"))
        if not candidates:
            return ""
        self._begun = True
        candidate = obj(candidates[0])
        self._stopped = text(candidate.get("finishReason")) or self._stopped
        pieces: list[str] = []
        for part in map(obj, arr(obj(candidate.get("content")).get("parts"))):
            if call := obj(part.get("functionCall")):
                if text(call.get("name")) == self._answer_tool:
                    pieces.append(json.dumps(call.get("args") or {}, ensure_ascii=False))
                else:
                    self._add_call(call, text(part.get("thoughtSignature")))
            elif not part.get("thought"):
                pieces.append(text(part.get("text")))
        piece = "".join(pieces)
        self._texts.append(piece)
        return piece

    def so_far(self) -> Completion | None:
        """What has arrived so far; None if nothing has."""
        return self._completion() if self._begun or self._blocked else None

    def completion(self) -> Completion:
        """The whole answer, if it is one and was not held back."""
        completion = self._completion()
        problem: tuple[type[ProviderError], str] | None = None
        if self._blocked:
            problem = ContentRefusedError, f"the prompt was blocked: {self._blocked}"
        elif completion.finish_reason == "content_filter":
            problem = ContentRefusedError, f"the answer was held back: {self._stopped}"
        elif self._stopped in _MALFORMED:
            problem = MalformedResponseError, f"the model's answer was broken: {self._stopped}"
        elif not self._begun:
            problem = MalformedResponseError, "the answer has no candidates"
        elif completion.finish_reason is None:
            problem = IncompleteStreamError, "the answer ended without a finish reason"
        if problem is None:
            return completion
        kind, message = problem
        code = self._blocked or self._stopped or None
        raise self._errors.error(kind, message, code=code, completion=completion)

    def _completion(self) -> Completion:
        finish: FinishReason | None = None
        if self._stopped or self._blocked:
            finish = _FINISH_REASONS.get(self._stopped, "other")
        if self._blocked:
            finish = "content_filter"
        elif finish == "stop" and self._calls:
            finish = "tool_calls"
        return Completion(
            text="".join(self._texts),
            usage=_usage(self._usage) if self._usage else None,
            model=self._model or None,
            finish_reason=finish,
            response_id=self._id or None,
            tool_calls=tuple(self._calls),
        )

    def _add_call(self, call: Mapping[str, object], signature: str) -> None:
        # Older models give their calls no id; the result must name one.
        id = text(call.get("id")) or f"{self._id or 'call'}-{len(self._calls)}"
        given = json.dumps(call.get("args") or {}, ensure_ascii=False)
        self._calls.append(ToolCall(id, text(call.get("name")), given, signature))


def _contents(messages: Iterable[Message], *, signed: bool) -> list[dict[str, object]]:
    """The results of tools go together in one turn, each under its function's name."""
    contents: list[dict[str, object]] = []
    results: list[dict[str, object]] = []
    names: dict[str | None, str] = {}
    for message in messages:
        if message.role == "tool":
            if not results:
                contents.append({"role": "user", "parts": results})
            response = {
                "id": message.tool_call_id,
                "name": names.get(message.tool_call_id, ""),
                "response": {"result": message.content},
            }
            results.append({"function_response": response})
            continue
        results = []
        names |= {call.id: call.name for call in message.tool_calls}
        role = "model" if message.role == "assistant" else "user"
        contents.append({"role": role, "parts": _parts(message, signed=signed)})
    return contents


def _parts(message: Message, *, signed: bool) -> list[dict[str, object]]:
    """Of calls at once, the first has the signature."""
    parts: list[dict[str, object]] = []
    if message.content or not message.tool_calls:
        parts.append({"text": message.content})
    is_signed = any(call.signature for call in message.tool_calls)
    for n, call in enumerate(message.tool_calls):
        given = arguments(call.arguments)
        part: dict[str, object] = {
            "function_call": {"id": call.id, "name": call.name, "args": given}
        }
        signature = call.signature or ("" if is_signed or n else _UNSIGNED)
        if signed and signature:
            part["thought_signature"] = base64.b64decode(signature, b"-_")  # the SDK writes both
        parts.append(part)
    return parts


def _usage(usage: Mapping[str, object]) -> Usage:
    """Google counts thinking apart from the answer, and a tool's results apart from the prompt."""
    thoughts = count(usage.get("thoughtsTokenCount"))
    return Usage(
        input_tokens=count(usage.get("promptTokenCount"))
        + count(usage.get("toolUsePromptTokenCount")),
        output_tokens=count(usage.get("candidatesTokenCount")) + thoughts,
        cache_read_tokens=count(usage.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
    )
