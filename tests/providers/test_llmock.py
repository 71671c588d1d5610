"""The adapters against a third party's fault server, lest our own shares our misconceptions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyagent_providers import LLM, Completion, OutputSchema, ToolSpec
from pyagent_providers.errors import (
    ConnectionFailedError,
    ContextTooLongError,
    IncompleteStreamError,
    MalformedResponseError,
    OverloadedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
)
from tests.providers.subjects import SUBJECTS, Subject

pytest.importorskip("llmock")


@pytest.fixture(params=[subject for subject in SUBJECTS if subject.llmock], ids=str)
def subject(request: pytest.FixtureRequest) -> Subject:
    subject: Subject = request.param
    pytest.importorskip(subject.sdk)
    return subject


@pytest.fixture
def base_url(subject: Subject, llmock: Any) -> str:
    return f"{llmock.base_url(subject.llmock)}{subject.llmock_path}"


@pytest.fixture
def llm(subject: Subject, base_url: str) -> LLM:
    return subject.make(base_url=base_url)


async def read(llm: LLM) -> Completion:
    items = [item async for item in llm.stream("Say something of several words, please.")]
    completion = items[-1]
    assert isinstance(completion, Completion)
    assert "".join(str(item) for item in items[:-1]) == completion.text
    return completion


async def test_answers_carry_text_usage_and_a_finish_reason(llm: LLM, llmock: Any) -> None:
    llmock.reply("It rains in Oslo.").reply("It rains in Oslo.")
    for completion in (await llm.complete("Weather?"), await read(llm)):
        assert completion.text == "It rains in Oslo."
        assert completion.finish_reason == "stop"
        assert completion.usage is not None
        assert completion.usage.input_tokens > 0
        assert completion.usage.output_tokens > 0
    llmock.assert_resilient(strict=True)


async def test_a_schema_is_understood(llm: LLM, subject: Subject) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    # llmock knows Anthropic's structured outputs by the name of their beta only; a schema that
    # is not strict goes to Anthropic in a forced tool call.
    person = OutputSchema("person", schema, strict=subject.name != "anthropic")
    completion = await llm.complete("Who?", schema=person)
    assert json.loads(completion.text).keys() == {"name", "age"}


async def test_a_tool_is_understood_and_its_call_read(llm: LLM, llmock: Any) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = ToolSpec("weather", "The weather in a city.", parameters)
    llmock.call_tool("weather", {"city": "Oslo"})
    completion = await llm.complete("Weather?", tools=[tool])
    [call] = completion.tool_calls
    assert call.name == "weather"
    assert json.loads(call.arguments) == {"city": "Oslo"}
    assert completion.finish_reason == "tool_calls"


async def test_a_rate_limit_says_how_long_to_wait(llm: LLM, llmock: Any) -> None:
    llmock.rate_limit(retry_after=3)
    with pytest.raises(RateLimitError) as caught:
        await llm.complete("Hi")
    assert caught.value.retry_after == 3


@pytest.mark.parametrize(
    ("status", "expected"),
    [(500, ServerError), (502, ServerError), (503, OverloadedError), (529, OverloadedError)],
)
async def test_server_errors_are_told_apart(
    llm: LLM, llmock: Any, status: int, expected: type[ProviderError]
) -> None:
    llmock.fail(status)
    with pytest.raises(expected) as caught:
        await llm.complete("Hi")
    assert caught.value.status == status
    assert len(llmock.requests) == 1


async def test_a_prompt_that_is_too_long_is_told_apart(llm: LLM, llmock: Any) -> None:
    llmock.context_overflow()
    with pytest.raises(ContextTooLongError):
        await llm.complete("Hi")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("disconnect", ConnectionFailedError),
        ("truncate", IncompleteStreamError),
        ("corrupt", MalformedResponseError),
    ],
)
async def test_a_broken_stream_is_never_an_answer(
    llm: LLM, llmock: Any, fault: str, expected: type[ProviderError]
) -> None:
    getattr(llmock, fault)(after_chunks=2)
    with pytest.raises(ProviderError) as caught:
        await read(llm)
    assert type(caught.value) is expected
    assert caught.value.retryable


async def test_a_stalled_stream_is_a_timeout(subject: Subject, llmock: Any, base_url: str) -> None:
    llmock.stall(seconds=5)
    with pytest.raises(RequestTimeoutError):
        await read(subject.make(base_url=base_url, timeout=0.3))
