"""OpenAI's Responses API on the wire (POST /v1/responses)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyagent_providers.types import JSONObject, Message, Sampling, ToolCall, ToolSpec

from .openai_chat import CHAT, ERRORS, pieces, sse, usage_body
from .script import ErrorEvent, Failure, Reply
from .server import Dialect, Frames, Sent


class _Responses:
    name = "openai-responses"
    base_path = "/v1"
    routes = ("/v1/responses",)
    content_type = "text/event-stream"

    def read(self, path: str, headers: Mapping[str, str], body: Any) -> Sent:
        format = (body.get("text") or {}).get("format") or {}
        return Sent(
            model=body["model"],
            system=body.get("instructions"),
            messages=_read_items(body["input"]),
            schema=format["schema"] if format.get("type") == "json_schema" else None,
            tools=tuple(
                ToolSpec(t["name"], t.get("description", ""), t["parameters"])
                for t in body.get("tools") or ()
            ),
            sampling=Sampling(
                max_tokens=body.get("max_output_tokens"),
                temperature=body.get("temperature"),
                top_p=body.get("top_p"),
            ),
            stream=bool(body.get("stream")),
            key=headers.get("authorization", "").removeprefix("Bearer ") or None,
        )

    def answer(self, reply: Reply, sent: Sent) -> JSONObject:
        return _response(reply, sent)

    def frames(self, reply: Reply, sent: Sent) -> Frames:
        begun = {**_response(reply, sent), "status": "in_progress", "output": [], "usage": None}
        opening = [
            _event("response.created", response=begun),
            _event("response.in_progress", response=begun),
        ]
        kind = "output_text" if reply.refusal is None else "refusal"
        for piece in pieces(reply.text if reply.refusal is None else reply.refusal):
            opening.append(
                _event(
                    f"response.{kind}.delta",
                    item_id="msg_1",
                    output_index=0,
                    content_index=0,
                    delta=piece,
                )
            )
        whole = _response(reply, sent)
        for index, item in enumerate(whole["output"]):
            opening.append(_event("response.output_item.done", output_index=index, item=item))
        return Frames(opening, [_event(f"response.{whole['status']}", response=whole)])

    def failure(self, failure: Failure) -> tuple[int, JSONObject]:
        return CHAT.failure(failure)

    def error_frame(self, event: ErrorEvent) -> bytes:
        _, type, code, message = ERRORS[event.kind]
        return _event("error", code=code or type, message=event.message or message, param=None)

    def corrupt_frame(self) -> bytes:
        return b'event: response.output_text.delta\ndata: {"type": "response.outp\n\n'


RESPONSES: Dialect = _Responses()


def _event(type: str, **fields: Any) -> bytes:
    return sse({"type": type, "sequence_number": 0, **fields}, event=type)


def _response(reply: Reply, sent: Sent) -> dict[str, Any]:
    incomplete = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(
        reply.finish_reason
    )
    return {
        "id": reply.response_id,
        "object": "response",
        "created_at": 1_760_000_000,
        "status": "incomplete" if incomplete else "completed",
        "error": None,
        "incomplete_details": {"reason": incomplete} if incomplete else None,
        "model": reply.model or sent.model,
        "output": _output(reply),
        "service_tier": reply.service_tier,
        "usage": None if reply.usage is None else usage_body(reply.usage, "input", "output"),
    }


def _output(reply: Reply) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = [{"type": "reasoning", "id": "rs_1", "summary": []}]
    if reply.refusal is not None:
        part: dict[str, Any] = {"type": "refusal", "refusal": reply.refusal}
    else:
        part = {"type": "output_text", "text": reply.text, "annotations": []}
    if reply.text or reply.refusal:
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
        items.append({**message, "content": [part]})
    items += [
        {
            "type": "function_call",
            "id": f"fc_{call.id}",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
            "status": "completed",
        }
        for call in reply.tool_calls
    ]
    return items


def _read_items(items: Any) -> tuple[Message, ...]:
    """Messages, with each run of function calls joined to the assistant's text before it."""
    messages: list[Message] = []
    for item in items:
        match item.get("type", "message"):
            case "function_call":
                call = ToolCall(item["call_id"], item["name"], item["arguments"])
                if not messages or messages[-1].role != "assistant":
                    messages.append(Message("assistant", ""))
                before = messages.pop()
                messages.append(Message("assistant", before.content, (*before.tool_calls, call)))
            case "function_call_output":
                messages.append(Message("tool", item["output"], tool_call_id=item["call_id"]))
            case _:
                messages.append(Message(item["role"], item["content"]))
    return tuple(messages)
