"""What is Anthropic's own: prompt caching, answers by schema, bounds, credentials."""

from __future__ import annotations

import json

import pytest

from pyagent_providers import AnthropicLLM, Message, OutputSchema, Sampling, ToolCall, ToolSpec
from pyagent_providers.errors import MalformedResponseError, ProviderError
from pyagent_providers.types import Usage
from tests.wire import MESSAGES, EndEarly, Failure, RawBody, Reply, WireServer

pytest.importorskip("anthropic")

PLAN = OutputSchema("plan", {"type": "object", "properties": {"steps": {"type": "integer"}}})
LOOSE = OutputSchema("plan", PLAN.schema, strict=False)


def llm(wire: WireServer, model: str = "claude-sonnet-4-5", **options: object) -> AnthropicLLM:
    return AnthropicLLM(model, base_url=wire.base_url(MESSAGES), api_key="k", **options)  # type: ignore[arg-type]


async def test_the_three_kinds_of_input_are_summed_and_kept(wire: WireServer) -> None:
    usage = Usage(
        input_tokens=27_000,
        output_tokens=1_000,
        cache_read_tokens=20_000,
        cache_write_tokens=5_000,
        cache_write_1h_tokens=2_000,
    )
    wire.script(Reply(usage=usage), Reply(usage=usage))
    assert (await llm(wire).complete("Hi")).usage == usage
    items = [item async for item in llm(wire).stream("Hi")]
    assert items[-1].usage == usage  # type: ignore[union-attr]


async def test_cached_tokens_are_priced_as_such(wire: WireServer) -> None:
    """27k input, 20k of them read from the cache and 5k written to it, and 1k output."""
    pytest.importorskip("genai_prices")
    usage = Usage(
        input_tokens=27_000, output_tokens=1_000, cache_read_tokens=20_000, cache_write_tokens=5_000
    )
    wire.script(Reply(usage=usage))
    completion = await llm(wire, "claude-sonnet-4-20250514").complete("Hi")
    assert completion.cost is not None
    assert str(completion.cost.usd) == "0.04575"


async def test_an_answer_is_bounded_by_the_question_or_else_by_the_adapter(
    wire: WireServer,
) -> None:
    wire.script(Reply(), Reply(), Reply())
    await llm(wire).complete("Hi")
    await llm(wire, max_tokens=9).complete("Hi")
    await llm(wire, max_tokens=9).complete("Hi", sampling=Sampling(max_tokens=3))
    assert [request.sent.sampling.max_tokens for request in wire.requests] == [4096, 9, 3]


@pytest.mark.parametrize(
    ("model", "native"),
    [
        ("claude-sonnet-4-5", True),
        ("claude-haiku-4-5-20251001", True),
        ("claude-opus-4-1-20250805", True),
        ("claude-opus-5", True),
        ("claude-fable-5-2", True),
        ("claude-sonnet-4-20250514", False),
        ("claude-sonnet-4@20250514", False),
        ("claude-opus-4-0", False),
        ("claude-3-7-sonnet-latest", False),
        ("claude-haiku-3.5", False),
        ("claude-2.1", False),
    ],
)
async def test_a_schema_goes_by_structured_outputs_or_by_a_forced_tool(
    wire: WireServer, model: str, native: bool
) -> None:
    wire.script(Reply('{"steps": 3}'), Reply('{"steps": 3}'))
    completion = await llm(wire, model).complete("Plan!", schema=PLAN)
    pieces = [item async for item in llm(wire, model).stream("Plan!", schema=PLAN)]
    assert ("output_config" in wire.last.body) is native
    assert ("tool_choice" in wire.last.body) is not native
    assert json.loads(completion.text) == {"steps": 3}
    assert (completion.finish_reason, completion.tool_calls) == ("stop", ())
    assert "".join(str(piece) for piece in pieces[:-1]) == completion.text
    assert pieces[-1] == completion


async def test_a_schema_that_is_not_strict_goes_by_a_forced_tool(wire: WireServer) -> None:
    wire.script(Reply('{"steps": 3}'))
    await llm(wire).complete("Plan!", schema=LOOSE)
    assert "output_config" not in wire.last.body
    assert wire.last.sent.schema == LOOSE.schema


async def test_beside_a_schemas_tool_the_callers_tools_stay_open_to_the_model(
    wire: WireServer,
) -> None:
    tool = ToolSpec("search", "Searches.", {"type": "object"})
    call = ToolCall("call_1", "search", "{}")
    wire.script(Reply("", finish_reason="tool_calls", tool_calls=(call,)))
    completion = await llm(wire).complete("Plan!", schema=LOOSE, tools=[tool])
    assert wire.last.body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert completion.tool_calls == (call,)
    assert completion.finish_reason == "tool_calls"


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
    assert [turn["role"] for turn in wire.last.body["messages"]] == ["user", "assistant", "user"]  # type: ignore[index, union-attr, call-overload]
    assert wire.last.sent.messages == conversation


async def test_a_model_that_is_going_out_of_service_is_used_without_a_warning(
    wire: WireServer,
) -> None:
    """The suite turns a warning into a failure; the SDK's `messages.create` gives one."""
    wire.script(Reply())
    assert (await llm(wire, "claude-sonnet-4-20250514").complete("Hi")).text


async def test_a_broken_stream_carries_the_usage_told_at_its_start(wire: WireServer) -> None:
    wire.script(EndEarly())
    with pytest.raises(ProviderError) as caught:
        async for _ in llm(wire).stream("Hi"):
            pass
    assert caught.value.completion is not None
    assert caught.value.completion.usage is not None
    assert caught.value.completion.usage.input_tokens == 12


@pytest.mark.parametrize(
    "event",
    ['{"delta": {}}', '{"type": "content_block_delta", "delta": {"type": "text_delta"}}', "7"],
)
async def test_an_event_that_makes_no_sense_is_an_error_not_skipped(
    wire: WireServer, event: str
) -> None:
    start = '{"type": "message_start", "message": {"id": "m", "content": []}}'
    block = '{"type": "content_block_start", "index": 0, "content_block": {"type": "text"}}'
    body = "".join(f"data: {data}\n\n" for data in (start, block, event))
    wire.script(RawBody(body, content_type="text/event-stream"))
    with pytest.raises(MalformedResponseError):
        async for _ in llm(wire).stream("Hi"):
            pass


async def test_a_token_from_the_environment_serves_as_a_key(
    wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-1")
    wire.script(Reply())
    await AnthropicLLM("claude-opus-5", base_url=wire.base_url(MESSAGES)).complete("Hi")
    assert wire.last.sent.key == "token-1"


async def test_a_client_of_your_own_does_not_retry_behind_your_back(wire: WireServer) -> None:
    import anthropic

    wire.script(Failure("server"))
    async with anthropic.AsyncAnthropic(base_url=wire.base_url(MESSAGES), api_key="k") as client:
        with pytest.raises(ProviderError):
            await AnthropicLLM("claude-opus-5", client=client).complete("Hi")
    assert len(wire.requests) == 1


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_is_above_zero(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        AnthropicLLM("claude-opus-5", timeout=timeout)
