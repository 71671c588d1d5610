"""What is OpenAI's alone: its two formats to the letter, and the servers compatible with it."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest

from pyagent_providers import (
    Completion,
    Message,
    OpenAILLM,
    OutputSchema,
    Sampling,
    ToolCall,
    ToolSpec,
)
from pyagent_providers.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ContentRefusedError,
    ContextTooLongError,
    MalformedResponseError,
    MissingAPIKeyError,
    OverloadedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
)
from pyagent_providers.types import Usage
from tests.wire import CHAT, RESPONSES, Failure, RawBody, Reply, Stall, WireServer

pytest.importorskip("openai")

SCHEMA = OutputSchema("answer", {"type": "object"}, strict=False)
TOOL = ToolSpec("search", "Searches.", {"type": "object", "properties": {}})
CALL = ToolCall("call_1", "search", '{"q": "x"}')
CONVERSATION = (
    Message("system", "Be brief."),
    Message("user", "Find x."),
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", "found", tool_call_id="call_1"),
)


@pytest.fixture
def chat(wire: WireServer) -> OpenAILLM:
    return OpenAILLM("gpt-4o", base_url=wire.base_url(CHAT))


@pytest.fixture
def responses(wire: WireServer) -> OpenAILLM:
    return OpenAILLM("gpt-4o", api="responses", base_url=wire.base_url(RESPONSES))


async def read(llm: OpenAILLM) -> Completion:
    items = [item async for item in llm.stream("Hi")]
    assert isinstance(items[-1], Completion)
    return items[-1]


def raw(**body: Any) -> RawBody:
    return RawBody(json.dumps(body))


def events(*data: Any) -> RawBody:
    return RawBody(
        "".join(f"data: {json.dumps(item)}\n\n" for item in data), content_type="text/event-stream"
    )


# Chat Completions


async def test_the_chat_body_to_the_letter(chat: OpenAILLM, wire: WireServer) -> None:
    wire.script(Reply())
    sampling = Sampling(max_tokens=9, temperature=0.0, top_p=1.0, stop=("END",), seed=0)
    await chat.complete(CONVERSATION, schema=SCHEMA, tools=[TOOL], sampling=sampling)
    assert wire.last.body == {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Find x."},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "search", "arguments": '{"q": "x"}'},
                    }
                ],
            },
            {"role": "tool", "content": "found", "tool_call_id": "call_1"},
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": False},
        },
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "search",
                    "description": "Searches.",
                    "parameters": {"type": "object", "properties": {}},
                },
            }
        ],
        "max_tokens": 9,
        "temperature": 0.0,
        "top_p": 1.0,
        "stop": ["END"],
        "seed": 0,
    }


async def test_a_stream_asks_for_usage(chat: OpenAILLM, wire: WireServer) -> None:
    wire.script(Reply())
    await read(chat)
    assert wire.last.body == {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("mode", "expected"), [("json_object", {"type": "json_object"}), ("prompt", None)]
)
async def test_servers_without_schema_support_are_asked_for_what_they_know(
    wire: WireServer, mode: Any, expected: object
) -> None:
    wire.script(Reply("{}"))
    llm = OpenAILLM("gpt-4o", base_url=wire.base_url(CHAT), structured_output=mode)
    await llm.complete("Hi", schema=SCHEMA)
    assert wire.last.body.get("response_format") == expected


async def test_openai_itself_is_told_the_token_limit_in_the_name_its_newer_models_take(
    wire: WireServer,
) -> None:
    """The wire server stands in as a proxy, so that the host is really api.openai.com."""
    import openai

    proxied = openai.DefaultAsyncHttpxClient(proxy=wire.url)
    async with openai.AsyncOpenAI(
        base_url="http://api.openai.com/v1", api_key="k", http_client=proxied
    ) as client:
        wire.script(Reply())
        llm = OpenAILLM("gpt-5", client=client)
        await llm.complete("Hi", sampling=Sampling(max_tokens=9))
    assert wire.last.headers["host"] == "api.openai.com"
    assert wire.last.body["max_completion_tokens"] == 9
    assert "max_tokens" not in wire.last.body


async def test_the_service_tier_is_kept(chat: OpenAILLM, wire: WireServer) -> None:
    wire.script(Reply(service_tier="flex"), Reply(service_tier="flex"))
    assert (await chat.complete("Hi")).service_tier == "flex"
    assert (await read(chat)).service_tier == "flex"


async def test_reasoning_left_out_of_the_output_is_found_in_the_total(
    chat: OpenAILLM, wire: WireServer
) -> None:
    wire.script(
        raw(
            choices=[{"message": {"content": "4"}, "finish_reason": "stop"}],
            usage={
                "prompt_tokens": 10,
                "completion_tokens": 2,
                "total_tokens": 52,
                "completion_tokens_details": {"reasoning_tokens": 40},
            },
        )
    )
    usage = (await chat.complete("2+2?")).usage
    assert usage == Usage(input_tokens=10, output_tokens=42, reasoning_tokens=40)


async def test_text_in_parts_is_joined(chat: OpenAILLM, wire: WireServer) -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]
    parts += [{"type": "text", "text": "Four"}, {"type": "text", "text": "."}]
    wire.script(raw(choices=[{"message": {"content": parts}, "finish_reason": "stop"}]))
    assert (await chat.complete("2+2?")).text == "Four."


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": []},
        {"choices": None},
        {"choices": [{"finish_reason": "stop"}]},
        {"choices": ["text"]},
    ],
    ids=str,
)
async def test_a_body_without_a_message_is_malformed_and_still_costs(
    chat: OpenAILLM, wire: WireServer, body: dict[str, object]
) -> None:
    wire.script(raw(**body, usage={"prompt_tokens": 3, "completion_tokens": 1}))
    with pytest.raises(MalformedResponseError) as caught:
        await chat.complete("Hi")
    assert caught.value.completion is not None
    assert caught.value.completion.usage == Usage(input_tokens=3, output_tokens=1)


@pytest.mark.parametrize("body", ["[]", '"text"', "null", "", "{", "\ufeff"])
async def test_json_that_is_no_object_is_malformed(
    chat: OpenAILLM, wire: WireServer, body: str
) -> None:
    wire.script(RawBody(body))
    with pytest.raises(MalformedResponseError):
        await chat.complete("Hi")


async def test_an_answer_held_back_by_the_filter_is_refused_and_a_cut_one_is_kept(
    chat: OpenAILLM, wire: WireServer
) -> None:
    wire.script(
        Reply("", finish_reason="content_filter"), Reply("Begun", finish_reason="content_filter")
    )
    with pytest.raises(ContentRefusedError) as caught:
        await chat.complete("Hi")
    assert caught.value.completion is not None
    assert caught.value.completion.usage == Reply().usage
    completion = await chat.complete("Hi")
    assert (completion.text, completion.finish_reason) == ("Begun", "content_filter")


async def test_a_gateways_error_under_status_200_is_an_error(
    chat: OpenAILLM, wire: WireServer
) -> None:
    wire.script(
        raw(error={"code": 429, "message": "Slow down."}),
        raw(error={"code": 502, "message": "Upstream fell over."}),
    )
    with pytest.raises(RateLimitError, match="Slow down"):
        await chat.complete("Hi")
    with pytest.raises(ServerError, match="Upstream fell over"):
        await chat.complete("Hi")


async def test_streamed_calls_without_an_index_are_kept_apart(
    chat: OpenAILLM, wire: WireServer
) -> None:
    calls = [{"id": f"c{n}", "function": {"name": "search", "arguments": str(n)}} for n in range(2)]
    wire.script(
        events({"choices": [{"delta": {"tool_calls": calls}, "finish_reason": "tool_calls"}]})
    )
    assert [call.arguments for call in (await read(chat)).tool_calls] == ["0", "1"]


async def test_a_refusals_words_are_in_the_completion_and_not_in_the_error(
    chat: OpenAILLM, responses: OpenAILLM, wire: WireServer
) -> None:
    wire.script(*[Reply(refusal="I cannot help.")] * 4)
    for call in (chat.complete("Hi"), read(chat), responses.complete("Hi"), read(responses)):
        with pytest.raises(ContentRefusedError, match="declined to answer") as caught:
            await call
        assert "I cannot help" not in str(caught.value)
        assert caught.value.completion is not None
        assert caught.value.completion.text == "I cannot help."


# What a gateway charges


async def test_a_gateways_cost_is_taken_from_the_usage(chat: OpenAILLM, wire: WireServer) -> None:
    wire.script(Reply(reported_usd="0.00123"), Reply(reported_usd="0.00123"))
    assert (await chat.complete("Hi")).reported_usd == Decimal("0.00123")
    assert (await read(chat)).reported_usd == Decimal("0.00123")


async def test_a_gateways_cost_is_taken_from_litellms_header_but_not_its_zero(
    chat: OpenAILLM, wire: WireServer
) -> None:
    wire.script(
        Reply(headers={"x-litellm-response-cost": "3.7e-05"}),
        Reply(headers={"x-litellm-response-cost": "0.0"}),
        Reply(headers={"x-litellm-response-cost": "None"}),
    )
    assert (await chat.complete("Hi")).reported_usd == Decimal("0.000037")
    assert (await chat.complete("Hi")).reported_usd is None
    assert (await chat.complete("Hi")).reported_usd is None


# Errors in OpenAI's words and its imitators'


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (429, {"error": {"code": "insufficient_quota", "message": "q"}}, AuthenticationError),
        (402, {"error": {"message": "Insufficient Balance"}}, AuthenticationError),
        (413, {"error": {"code": "rate_limit_exceeded", "message": "too large"}}, BadRequestError),
        (
            400,  # llama.cpp
            {
                "error": {
                    "code": 400,
                    "message": "the request exceeds the available context size, try increasing it",
                    "type": "exceed_context_size_error",
                }
            },
            ContextTooLongError,
        ),
        (
            400,  # vLLM
            {"object": "error", "message": "This model's maximum context length is 4096 tokens."},
            ContextTooLongError,
        ),
        (400, {"error": {"code": "content_filter", "message": "policy"}}, ContentRefusedError),
        (400, {"detail": "no"}, BadRequestError),
        (400, {"error": "plain text"}, BadRequestError),
        (400, {}, BadRequestError),
        (418, {"error": {"message": "teapot"}}, BadRequestError),
        (503, {"error": {"code": 503, "message": "Loading model"}}, OverloadedError),
        (504, {"error": {"message": "gateway timeout"}}, RequestTimeoutError),
        (520, {"error": {"type": "invalid_request_error", "message": "?"}}, ServerError),
    ],
)
async def test_errors_in_other_words(
    chat: OpenAILLM,
    wire: WireServer,
    status: int,
    body: dict[str, object],
    expected: type[ProviderError],
) -> None:
    wire.script(RawBody(json.dumps(body), status=status))
    with pytest.raises(ProviderError) as caught:
        await chat.complete("Hi")
    assert type(caught.value) is expected
    assert caught.value.status == status


async def test_an_error_page_is_not_quoted(chat: OpenAILLM, wire: WireServer) -> None:
    page = "<html>" + "<p>Bad gateway</p>" * 100 + "</html>"
    wire.script(RawBody(page, status=502, content_type="text/html"))
    with pytest.raises(ServerError) as caught:
        await chat.complete("Hi")
    assert "<p>" not in str(caught.value)


async def test_the_code_is_kept(chat: OpenAILLM, wire: WireServer) -> None:
    wire.script(Failure("not_found"))
    with pytest.raises(BadRequestError) as caught:
        await chat.complete("Hi")
    assert caught.value.code == "model_not_found"
    assert str(caught.value) == "openai/gpt-4o: The model `gpt-99` does not exist. (HTTP 404)"


async def test_retry_after_in_milliseconds_is_the_more_exact(
    chat: OpenAILLM, wire: WireServer
) -> None:
    wire.script(Failure("rate_limit", headers={"retry-after-ms": "1500", "retry-after": "2"}))
    with pytest.raises(RateLimitError) as caught:
        await chat.complete("Hi")
    assert caught.value.retry_after == 1.5


# Responses


async def test_the_responses_body_to_the_letter(responses: OpenAILLM, wire: WireServer) -> None:
    wire.script(Reply())
    sampling = Sampling(max_tokens=9, temperature=0.0, top_p=1.0)
    await responses.complete(CONVERSATION, schema=SCHEMA, tools=[TOOL], sampling=sampling)
    assert wire.last.body == {
        "model": "gpt-4o",
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": "Find x."},
            {
                "type": "function_call",
                "call_id": "call_1",
                "name": "search",
                "arguments": '{"q": "x"}',
            },
            {"type": "function_call_output", "call_id": "call_1", "output": "found"},
        ],
        "store": False,
        "text": {
            "format": {
                "type": "json_schema",
                "name": "answer",
                "schema": {"type": "object"},
                "strict": False,
            }
        },
        "tools": [
            {
                "type": "function",
                "name": "search",
                "description": "Searches.",
                "parameters": {"type": "object", "properties": {}},
                "strict": False,
            }
        ],
        "max_output_tokens": 9,
        "temperature": 0.0,
        "top_p": 1.0,
    }


@pytest.mark.parametrize("sampling", [Sampling(seed=0), Sampling(stop=("END",))], ids=str)
async def test_what_responses_cannot_do_is_refused_before_it_is_sent(
    responses: OpenAILLM, wire: WireServer, sampling: Sampling
) -> None:
    with pytest.raises(ConfigurationError, match="use api='chat'"):
        await responses.complete("Hi", sampling=sampling)
    assert wire.requests == []


async def test_a_failed_response_is_an_error_with_what_it_cost(
    responses: OpenAILLM, wire: WireServer
) -> None:
    failed = {
        "id": "r1",
        "status": "failed",
        "model": "gpt-4o",
        "error": {"code": "rate_limit_exceeded", "message": "Slow down."},
        "output": [],
        "usage": {"input_tokens": 7, "output_tokens": 0, "total_tokens": 7},
    }
    wire.script(
        raw(**failed),
        events({"type": "response.failed", "response": failed}),
        events({"type": "error", "code": "server_error", "message": "Slow down."}),
    )
    for call in (responses.complete("Hi"), read(responses)):
        with pytest.raises(RateLimitError, match="Slow down") as caught:
            await call
        assert caught.value.completion is not None
        assert caught.value.completion.usage == Usage(input_tokens=7)
    with pytest.raises(ServerError, match="Slow down"):
        await read(responses)


async def test_a_body_that_is_no_response_is_malformed(
    responses: OpenAILLM, wire: WireServer
) -> None:
    wire.script(raw(choices=[]))
    with pytest.raises(MalformedResponseError):
        await responses.complete("Hi")


# Setting up


@pytest.mark.parametrize(
    ("base_url", "provider"),
    [
        (None, "openai"),
        ("https://api.openai.com/v1", "openai"),
        ("https://eu.api.openai.com/v1", "openai"),
        ("https://api.groq.com/openai/v1", "groq"),
        ("https://api.deepseek.com", "deepseek"),
        ("https://api.mistral.ai/v1", "mistral_ai"),
        ("https://api.x.ai/v1", "x_ai"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://my-team.openai.azure.com/openai/v1", "azure.ai.openai"),
        ("https://notgroq.com/v1", "openai"),
        ("http://localhost:11434/v1", "openai"),
    ],
)
def test_the_provider_follows_from_the_host(
    base_url: str | None, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert OpenAILLM("gpt-4o", base_url=base_url).provider == provider
    assert OpenAILLM("gpt-4o", base_url=base_url, provider="mine").provider == "mine"


@pytest.mark.parametrize(
    "base_url",
    ["http://localhost:8080/v1", "http://127.0.0.1/v1", "http://[::1]:1/v1", "http://a.localhost/"],
)
def test_a_server_on_this_machine_needs_no_key(
    base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    OpenAILLM("smollm2", base_url=base_url).check()
    with pytest.raises(MissingAPIKeyError, match="OPENAI_API_KEY"):
        OpenAILLM("smollm2", base_url="http://10.0.0.5:8080/v1").check()


async def test_the_organisation_variable_works(
    wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-7")
    wire.script(Reply())
    await OpenAILLM("gpt-4o", base_url=wire.base_url(CHAT)).complete("Hi")
    assert wire.last.headers["openai-organization"] == "org-7"


def test_bad_arguments_are_refused_by_name() -> None:
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (ValueError, "api must be", {"api": "completions"}),
        (ValueError, "timeout must be", {"timeout": 0}),
        (ValueError, "base_url must be", {"base_url": "api.openai.com"}),
        (ValueError, "structured_output must be", {"structured_output": "yaml"}),
        (TypeError, "client must be an openai.AsyncOpenAI", {"client": object()}),
    ]
    for kind, words, arguments in cases:
        with pytest.raises(kind, match=words):
            OpenAILLM("gpt-4o", **arguments)


async def test_an_own_clients_retries_are_off_too(wire: WireServer) -> None:
    import openai

    async with openai.AsyncOpenAI(base_url=wire.base_url(CHAT), api_key="k") as client:
        assert client.max_retries > 0
        llm = OpenAILLM("gpt-4o", client=client)
        wire.script(Failure("server"), Failure("server"))
        with pytest.raises(ServerError):
            await llm.complete("Hi")
        with pytest.raises(ServerError):
            await read(llm)
    assert len(wire.requests) == 2


async def test_two_hundred_calls_are_in_flight_at_once(wire: WireServer) -> None:
    wire.script(*[Stall()] * 200)
    llm = OpenAILLM("gpt-4o", base_url=wire.base_url(CHAT))
    calls = [asyncio.create_task(llm.complete("Hi")) for _ in range(200)]
    async with asyncio.timeout(20):
        while len(wire.requests) < 200:
            await asyncio.sleep(0.01)
    assert len({request.peer for request in wire.requests}) == 200
    for call in calls:
        call.cancel()
    assert {type(end) for end in await asyncio.gather(*calls, return_exceptions=True)} == {
        asyncio.CancelledError
    }
