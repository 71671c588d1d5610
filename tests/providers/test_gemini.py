"""What is Gemini's own: thinking, blocked prompts, API versions, Vertex AI, hidden calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyagent_providers import Completion, GeminiLLM, Message, ToolCall
from pyagent_providers.errors import (
    AuthenticationError,
    ConnectionFailedError,
    ContentRefusedError,
    MalformedResponseError,
    RateLimitError,
)
from pyagent_providers.types import Usage
from tests.wire import GEMINI, Disconnect, Failure, RawBody, Reply, WireServer

pytest.importorskip("google.genai")


def llm(wire: WireServer, path: str = "") -> GeminiLLM:
    return GeminiLLM("gemini-2.5-flash", base_url=wire.base_url(GEMINI) + path, api_key="k")


def answer(finish: str = "STOP", *parts: dict[str, Any], **usage: int) -> RawBody:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish}
    return RawBody(json.dumps({"candidates": [candidate], "usageMetadata": usage}))


async def test_thinking_is_output_and_a_tools_result_is_input(wire: WireServer) -> None:
    wire.script(
        answer(
            "STOP",
            {"text": "Let me think.", "thought": True},
            {"text": "Yes."},
            promptTokenCount=10_000,
            toolUsePromptTokenCount=50,
            cachedContentTokenCount=4_000,
            candidatesTokenCount=200,
            thoughtsTokenCount=800,
        )
    )
    completion = await llm(wire).complete("Hi")
    assert completion.text == "Yes."
    assert completion.usage == Usage(
        input_tokens=10_050, output_tokens=1_000, cache_read_tokens=4_000, reasoning_tokens=800
    )


async def test_thinking_is_priced_as_output(wire: WireServer) -> None:
    pytest.importorskip("genai_prices")
    wire.script(Reply(usage=Usage(input_tokens=10_000, output_tokens=1_000, reasoning_tokens=800)))
    completion = await llm(wire).complete("Hi")
    assert completion.cost is not None
    assert float(completion.cost.usd) == 0.0055


@pytest.mark.parametrize("finish", ["SAFETY", "RECITATION", "PROHIBITED_CONTENT", "SPII"])
async def test_an_answer_that_was_held_back_is_a_refusal_with_its_usage(
    wire: WireServer, finish: str
) -> None:
    wire.script(answer(finish, promptTokenCount=7))
    with pytest.raises(ContentRefusedError, match=finish) as caught:
        await llm(wire).complete("Hi")
    assert caught.value.code == finish
    assert caught.value.completion is not None
    assert caught.value.completion.usage == Usage(input_tokens=7)


async def test_a_broken_function_call_may_be_tried_again(wire: WireServer) -> None:
    wire.script(answer("MALFORMED_FUNCTION_CALL"))
    with pytest.raises(MalformedResponseError) as caught:
        await llm(wire).complete("Hi")
    assert caught.value.retryable


async def test_a_finish_reason_nobody_knows_yet_is_other(wire: WireServer) -> None:
    wire.script(answer("BORED", {"text": "Yes."}))
    assert (await llm(wire).complete("Hi")).finish_reason == "other"


async def test_an_answer_the_sdk_would_go_on_asking_for_is_one_call(wire: WireServer) -> None:
    """The SDK's automatic continuation would send more requests, unseen and billed."""
    candidate = {
        "content": {"parts": [{"text": "One"}]},
        "finishReason": "CONTINUATION",
        "continuationToken": "dG9rZW4=",
    }
    chunk = json.dumps({"candidates": [candidate]})
    wire.script(RawBody(chunk), RawBody(f"data: {chunk}\n\n", content_type="text/event-stream"))
    assert (await llm(wire).complete("Hi")).finish_reason == "length"
    *_, streamed = [item async for item in llm(wire).stream("Hi")]
    assert isinstance(streamed, Completion)
    assert streamed.finish_reason == "length"
    assert len(wire.requests) == 2


async def test_a_call_without_an_id_gets_one_its_result_can_name(wire: WireServer) -> None:
    wire.script(answer("STOP", {"functionCall": {"name": "search", "args": {"q": "a"}}}), Reply())
    asked = await llm(wire).complete("Search.")
    [call] = asked.tool_calls
    assert call.id
    await llm(wire).complete(
        [
            Message("user", "Search."),
            Message("assistant", "", asked.tool_calls),
            Message("tool", "found", tool_call_id=call.id),
        ]
    )
    contents: Any = wire.last.body["contents"]
    assert contents[-1]["parts"][0]["functionResponse"]["name"] == "search"


async def test_the_results_of_several_tools_go_back_in_one_turn(wire: WireServer) -> None:
    calls = (ToolCall("a", "search", '{"q": 1}'), ToolCall("b", "search", '{"q": 2}'))
    conversation = (
        Message("user", "Search twice."),
        Message("assistant", "", calls),
        Message("tool", "one", tool_call_id="a"),
        Message("tool", "two", tool_call_id="b"),
    )
    wire.script(Reply())
    await llm(wire).complete(conversation)
    assert len(wire.last.body["contents"]) == 3  # type: ignore[arg-type]
    assert wire.last.sent.messages == conversation


@pytest.mark.parametrize(("path", "version"), [("", "v1"), ("/v1beta", "v1beta"), ("/v1/", "v1")])
async def test_a_version_at_the_base_urls_end_is_the_apis(
    wire: WireServer, path: str, version: str
) -> None:
    wire.script(Reply())
    await llm(wire, path).complete("Hi")
    assert wire.last.path == f"/gemini/{version}/models/gemini-2.5-flash:generateContent"


async def test_the_older_variable_serves_as_a_key(
    wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", "key-2")
    wire.script(Reply())
    await GeminiLLM("gemini-2.5-flash", base_url=wire.base_url(GEMINI)).complete("Hi")
    assert wire.last.sent.key == "key-2"


async def test_a_wrong_key_is_told_from_a_bad_request(wire: WireServer) -> None:
    """Google sends both as a 400 INVALID_ARGUMENT."""
    wire.script(Failure("authentication"))
    with pytest.raises(AuthenticationError) as caught:
        await llm(wire).complete("Hi")
    assert caught.value.status == 400


async def test_googles_own_word_on_when_to_retry_is_read(wire: WireServer) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37.5s"}]
    error = {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "quota", "details": details}
    wire.script(RawBody(json.dumps({"error": error}), status=429))
    with pytest.raises(RateLimitError) as caught:
        await llm(wire).complete("Hi")
    assert caught.value.retry_after == 37.5
    assert caught.value.code == "RESOURCE_EXHAUSTED"


async def test_a_client_of_your_own_does_not_retry_behind_your_back(wire: WireServer) -> None:
    """Left alone, the SDK waits up to ten seconds and sends once more when a connection breaks."""
    import aiohttp
    from google import genai

    async with aiohttp.ClientSession() as session:
        options: Any = {"base_url": wire.base_url(GEMINI), "aiohttp_client": session}
        client = genai.Client(vertexai=False, api_key="k", http_options=options)
        wire.script(Disconnect())
        with pytest.raises(ConnectionFailedError):
            await GeminiLLM("gemini-2.5-flash", client=client).complete("Hi")
        await client.aio.aclose()
        client.close()
    assert len(wire.requests) == 1


def test_a_client_made_for_vertex_names_vertex_as_the_provider() -> None:
    from google import genai

    client = genai.Client(vertexai=True, api_key="k")
    assert GeminiLLM("gemini-2.5-flash", client=client).provider == "gcp.vertex_ai"
    client.close()
