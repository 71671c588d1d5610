"""Google's Gemini API on the wire (POST /v1/models/{model}:generateContent)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pyagent_providers.types import JSONObject, Message, Sampling, ToolCall, ToolSpec

from .openai_chat import pieces, sse
from .script import ErrorEvent, ErrorKind, Failure, Reply
from .server import Dialect, Frames, Sent

# status, its word, message: as Google words them
ERRORS: dict[ErrorKind, tuple[int, str, str]] = {
    "rate_limit": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota."),
    "overloaded": (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "server": (500, "INTERNAL", "An internal error has occurred."),
    "authentication": (
        400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.",
    ),
    "permission": (403, "PERMISSION_DENIED", "Your project has been denied access."),
    "bad_request": (400, "INVALID_ARGUMENT", "temperature must be in the range [0.0, 2.0]."),
    "not_found": (404, "NOT_FOUND", "models/gemini-99 is not found for API version v1."),
    "context_too_long": (
        400, "INVALID_ARGUMENT",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    ),
    "content_filter": (
        400, "INVALID_ARGUMENT",
        "This prompt contains words that violate Google's Responsible AI practices.",
    ),
}  # fmt: skip

FINISH_REASONS = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
    "other": "OTHER",
}


class _GenerateContent:
    name = "gemini"
    base_path = "/gemini"
    routes = (r"/gemini/{version:v1\w*}/models/{model}:{method}",)
    content_type = "text/event-stream"

    def read(self, path: str, headers: Mapping[str, str], body: Any) -> Sent:
        model, method = re.search(r"/models/([^/:]+):(\w+)", path).groups()  # type: ignore[union-attr]
        config = body.get("generationConfig") or {}
        system = (body.get("systemInstruction") or {}).get("parts") or ()
        functions = [
            function
            for tool in body.get("tools") or ()
            for function in tool["functionDeclarations"]
        ]
        return Sent(
            model=model,
            system="\n\n".join(part["text"] for part in system) or None,
            messages=tuple(m for content in body["contents"] for m in _read_content(content)),
            schema=config.get("responseJsonSchema"),
            tools=tuple(
                ToolSpec(f["name"], f["description"], f["parameters_json_schema"])
                for f in functions
            ),
            sampling=Sampling(
                max_tokens=config.get("maxOutputTokens"),
                temperature=config.get("temperature"),
                top_p=config.get("topP"),
                stop=tuple(config.get("stopSequences") or ()),
                seed=config.get("seed"),
            ),
            stream=method == "streamGenerateContent",
            key=headers.get("x-goog-api-key"),
        )

    def answer(self, reply: Reply, sent: Sent) -> JSONObject:
        if reply.refusal is not None:
            return {**_head(reply, sent), "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
        parts = [{"text": reply.text}] if reply.text else []
        return _candidate(reply, sent, parts + _calls(reply), _finish_reason(reply))

    def frames(self, reply: Reply, sent: Sent) -> Frames:
        if reply.refusal is not None:
            return Frames([], [sse(self.answer(reply, sent))])
        opening = [
            sse(_candidate(reply, sent, [{"text": piece}], None)) for piece in pieces(reply.text)
        ]
        ending = sse(_candidate(reply, sent, _calls(reply), _finish_reason(reply)))
        return Frames(opening, [ending])

    def failure(self, failure: Failure) -> tuple[int, JSONObject]:
        status, word, message = ERRORS[failure.kind]
        status = failure.status or status
        error: dict[str, Any] = {
            "code": status,
            "message": failure.message or message,
            "status": failure.code or word,
        }
        if failure.kind == "authentication":
            error["details"] = [
                {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
            ]
        return status, {"error": error}

    def error_frame(self, event: ErrorEvent) -> bytes:
        return sse(self.failure(Failure(event.kind, event.message))[1])

    def corrupt_frame(self) -> bytes:
        return b'data: {"candidates": [{"content"\n\n'


GEMINI: Dialect = _GenerateContent()


def _candidate(
    reply: Reply, sent: Sent, parts: list[dict[str, Any]], finish: str | None
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], **_head(reply, sent)}


def _head(reply: Reply, sent: Sent) -> dict[str, Any]:
    head: dict[str, Any] = {
        "modelVersion": reply.model or sent.model,
        "responseId": reply.response_id,
    }
    if (usage := reply.usage) is not None:
        head["usageMetadata"] = {
            "promptTokenCount": usage.input_tokens,
            "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
            "thoughtsTokenCount": usage.reasoning_tokens,
            "cachedContentTokenCount": usage.cache_read_tokens,
            "totalTokenCount": usage.total_tokens,
        }
    return head


def _calls(reply: Reply) -> list[dict[str, Any]]:
    return [
        {
            "functionCall": {"id": c.id, "name": c.name, "args": json.loads(c.arguments)},
            **({"thoughtSignature": c.signature} if c.signature else {}),
        }
        for c in reply.tool_calls
        if _is_json(c.arguments)
    ]


def _finish_reason(reply: Reply) -> str:
    """Google keeps a call whose arguments are not JSON to itself, and says only this."""
    if all(_is_json(call.arguments) for call in reply.tool_calls):
        return FINISH_REASONS[reply.finish_reason]
    return "MALFORMED_FUNCTION_CALL"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _read_content(content: Any) -> list[Message]:
    """One turn can hold several messages: the results of tools come together in a user turn."""
    parts = content["parts"]
    calls = tuple(
        ToolCall(c["id"], c["name"], json.dumps(c["args"]), part.get("thoughtSignature", ""))
        for part in parts
        if (c := part.get("functionCall"))
    )
    results = [
        Message("tool", r["response"]["result"], tool_call_id=r["id"])
        for r in (part.get("functionResponse") for part in parts)
        if r
    ]
    if results:
        return results
    role = "assistant" if content["role"] == "model" else "user"
    return [Message(role, "".join(part.get("text", "") for part in parts), calls)]
