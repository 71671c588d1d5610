"""The span of a streamed answer ends with the stream, whoever ends it and where."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.trace import StatusCode

from pyagent_patterns.testing import capture_trace
from pyagent_providers.base import LLM, Completion
from pyagent_providers.errors import IncompleteStreamError
from pyagent_providers.testing import ScriptedLLM
from tests.patterns.teams import PRICE


async def test_a_stream_read_to_its_end_has_one_span_with_the_time_to_its_first_chunk():
    llm = ScriptedLLM(["hello"], price=PRICE)
    with capture_trace() as trace:
        pieces = [piece async for piece in llm.stream("hi")]
    assert pieces[0] == "hello"
    assert isinstance(pieces[-1], Completion)
    [span] = trace.spans
    attributes = span.attributes or {}
    assert attributes["gen_ai.request.stream"] is True
    assert attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert trace.metric("gen_ai.client.operation.time_to_first_chunk").count == 1
    assert trace.metric("gen_ai.client.operation.duration").count == 1


async def test_a_whole_answer_has_no_time_to_first_chunk():
    with capture_trace() as trace:
        await ScriptedLLM(["hello"]).complete("hi")
    attributes = trace.spans[0].attributes or {}
    assert "gen_ai.request.stream" not in attributes
    assert "gen_ai.response.time_to_first_chunk" not in attributes
    assert trace.metric("gen_ai.client.operation.time_to_first_chunk").points == ()


async def test_a_stream_that_its_reader_closes_early_ends_its_span_without_an_error(
    caplog: pytest.LogCaptureFixture,
):
    with capture_trace() as trace:
        stream = ScriptedLLM(["hello"]).stream("hi")
        await anext(stream)
        assert trace.spans == []
        await stream.aclose()
    [span] = trace.spans
    assert span.status.status_code is StatusCode.UNSET
    assert not span.events
    assert "detach" not in caplog.text


async def test_a_stream_may_be_closed_from_another_task(caplog: pytest.LogCaptureFixture):
    with capture_trace() as trace:
        stream = ScriptedLLM(["hello"]).stream("hi")
        await asyncio.create_task(_next(stream))
        await asyncio.create_task(stream.aclose())
    assert trace.tree() == "chat scripted"
    assert "detach" not in caplog.text


async def test_a_stream_may_be_read_from_one_task_after_another(caplog: pytest.LogCaptureFixture):
    with capture_trace() as trace:
        stream = ScriptedLLM(["hello"]).stream("hi")
        pieces = [await asyncio.create_task(_next(stream)) for _ in range(2)]
        assert await asyncio.create_task(_next(stream)) is None
    assert pieces[0] == "hello"
    assert trace.tree() == "chat scripted"
    assert "detach" not in caplog.text


async def test_a_stream_that_breaks_off_is_an_error_on_its_span():
    class BreaksOff(LLM):
        async def _complete(self, request):
            raise NotImplementedError

        async def _stream(self, request):
            yield "hel"

    with capture_trace() as trace, pytest.raises(IncompleteStreamError):
        async for _ in BreaksOff("m", provider="p").stream("hi"):
            pass
    assert trace.tree() == "chat m !IncompleteStreamError"


async def test_the_span_is_not_current_in_the_code_that_reads_the_stream():
    from opentelemetry import trace as api

    with capture_trace():
        async for _ in ScriptedLLM(["hello"]).stream("hi"):
            assert not api.get_current_span().is_recording()


async def _next(stream):
    return await anext(stream, None)
