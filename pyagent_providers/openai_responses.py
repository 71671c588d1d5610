"""OpenAI's Responses format: `Request` to body, body or events to `Completion`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Final

from .errors import ConfigurationError, IncompleteStreamError, MalformedResponseError
from .openai_chat import StructuredOutput, accepted, begun, read_usage
from .reading import arr, obj, text
from .types import Completion, FinishReason, Message, Request, ToolCall
from .wire_errors import ErrorMapper

_INCOMPLETE: Final[Mapping[str, FinishReason]] = {
    "max_output_tokens": "length",
    "content_filter": "content_filter",
}
_ENDINGS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})


class ResponsesAPI:
    """How one endpoint speaks Responses. Nothing is stored at the provider."""

    path: ClassVar[str] = "/responses"

    def __init__(self, model: str, structured_output: StructuredOutput) -> None:
        self._model = model
        self._structured_output: StructuredOutput = structured_output

    def encode(self, request: Request, *, stream: bool) -> dict[str, object]:
        """Raises ConfigurationError for the sampling parameters this API does not have."""
        sampling = request.sampling
        for name, value in (("stop", sampling.stop), ("seed", sampling.seed)):
            if value not in (None, ()):
                raise ConfigurationError(
                    f"the Responses API has no {name!r}: leave it out, or use api='chat'",
                    model=self._model,
                )
        system = [message.content for message in request.messages if message.role == "system"]
        body: dict[str, object] = {
            "model": self._model,
            "input": [item for message in request.messages for item in _encode_message(message)],
            "store": False,
        }
        if system:
            body["instructions"] = "\n\n".join(system)
        if (schema := request.schema) is not None:
            if self._structured_output == "json_schema":
                body["text"] = {
                    "format": {
                        "type": "json_schema",
                        "name": schema.name,
                        "schema": schema.schema,
                        "strict": schema.strict,
                    }
                }
            elif self._structured_output == "json_object":
                body["text"] = {"format": {"type": "json_object"}}
        if request.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                    "strict": False,  # Chat's default; this API's own is True
                }
                for tool in request.tools
            ]
        if sampling.max_tokens is not None:
            body["max_output_tokens"] = sampling.max_tokens
        if sampling.temperature is not None:
            body["temperature"] = sampling.temperature
        if sampling.top_p is not None:
            body["top_p"] = sampling.top_p
        if stream:
            body["stream"] = True
        return body

    def decode(self, body: Mapping[str, object], errors: ErrorMapper) -> Completion:
        parts = list(_content_parts(body))
        refusal = "".join(text(part.get("refusal")) for part in parts)
        calls = tuple(_read_calls(body))
        completion = Completion(
            text="".join(text(part.get("text")) for part in parts) or refusal,
            usage=read_usage(body.get("usage"), "input", "output"),
            model=text(body.get("model")) or None,
            finish_reason=_finish_reason(body, calls),
            response_id=text(body.get("id")) or None,
            tool_calls=calls,
            service_tier=text(body.get("service_tier")) or None,
        )
        if body.get("error"):
            raise errors.from_event(body, completion)
        if not isinstance(body.get("output"), list):
            raise errors.error(
                MalformedResponseError, "the answer has no output", completion=completion
            )
        return accepted(completion, refused=bool(refusal), errors=errors)

    def fold(self, errors: ErrorMapper) -> ResponsesFold:
        return ResponsesFold(self, errors)


class ResponsesFold:
    """Events of a streamed answer; the last one carries the answer whole."""

    def __init__(self, api: ResponsesAPI, errors: ErrorMapper) -> None:
        self._api = api
        self._errors = errors
        self._pieces: list[str] = []
        self._begun: Mapping[str, object] = {}
        self._ended: Mapping[str, object] | None = None

    def add(self, event: object) -> str:
        """Take in one event; returns the text it adds, if any."""
        fields = obj(event)
        kind = text(fields.get("type"))
        if kind == "response.output_text.delta":
            piece = text(fields.get("delta"))
            self._pieces.append(piece)
            return piece
        if kind == "error":
            raise self._errors.from_event(_without_type(fields), self.so_far())
        if kind in _ENDINGS:
            self._ended = obj(fields.get("response"))
        elif kind == "response.created":
            self._begun = obj(fields.get("response"))
        return ""

    def so_far(self) -> Completion | None:
        """What has arrived so far; None if nothing has."""
        if not self._begun:
            return None
        return Completion(
            text="".join(self._pieces),
            model=text(self._begun.get("model")) or None,
            response_id=text(self._begun.get("id")) or None,
        )

    def completion(self) -> Completion:
        """The whole answer, when the stream has ended; raises IncompleteStreamError if cut."""
        if self._ended is None:
            raise self._errors.error(
                IncompleteStreamError,
                "the stream ended without a finish reason",
                completion=begun(self.so_far(), self._errors),
            )
        return self._api.decode(self._ended, self._errors)


def _encode_message(message: Message) -> Iterator[dict[str, object]]:
    if message.role == "system":
        return  # all of them are the instructions
    if message.role == "tool":
        yield {
            "type": "function_call_output",
            "call_id": message.tool_call_id,
            "output": message.content,
        }
        return
    if message.content or not message.tool_calls:
        yield {"role": message.role, "content": message.content}
    for call in message.tool_calls:
        yield {
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }


def _content_parts(body: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    for item in map(obj, arr(body.get("output"))):
        if item.get("type") == "message":
            yield from map(obj, arr(item.get("content")))


def _read_calls(body: Mapping[str, object]) -> Iterator[ToolCall]:
    for item in map(obj, arr(body.get("output"))):
        if item.get("type") == "function_call":
            yield ToolCall(
                text(item.get("call_id")), text(item.get("name")), text(item.get("arguments"))
            )


def _finish_reason(body: Mapping[str, object], calls: tuple[ToolCall, ...]) -> FinishReason | None:
    match body.get("status"):
        case "completed":
            return "tool_calls" if calls else "stop"
        case "incomplete":
            return _INCOMPLETE.get(text(obj(body.get("incomplete_details")).get("reason")), "other")
        case _:
            return None


def _without_type(event: Mapping[str, object]) -> Mapping[str, object]:
    """An error event's own `type` is "error", which says nothing about the error."""
    return {name: value for name, value in event.items() if name != "type"}
