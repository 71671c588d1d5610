"""What every adapter does, over real HTTP: the same claims for each provider's wire format.

To add a provider, add its `Subject` to `subjects.py` (and its dialect to `tests/wire`).
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from email.utils import formatdate

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pyagent_providers import LLM, Completion, Message, OutputSchema, Sampling, ToolCall, ToolSpec
from pyagent_providers.errors import (
    AuthenticationError,
    BadRequestError,
    ConnectionFailedError,
    ContentRefusedError,
    ContextTooLongError,
    IncompleteStreamError,
    MalformedResponseError,
    MissingAPIKeyError,
    MissingDependencyError,
    OverloadedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    UnreachableError,
)
from pyagent_providers.telemetry import Telemetry, using
from pyagent_providers.types import Usage
from tests.providers.subjects import SUBJECTS, Subject, warm_up
from tests.wire import (
    CorruptChunk,
    Disconnect,
    EndEarly,
    ErrorEvent,
    ErrorKind,
    Failure,
    NotJSON,
    RawBytes,
    Reply,
    Sent,
    Stall,
    WireServer,
)

KEY = "sk-secret-0123456789"
WEATHER = ToolSpec(
    "weather",
    "The weather in a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CALL = ToolCall("call_1", "weather", '{"city": "Oslo"}')
PERSON = OutputSchema(
    "person",
    {
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
        "additionalProperties": False,
    },
)


@pytest.fixture(params=[pytest.param(s, marks=s.marks) for s in SUBJECTS], ids=str)
def subject(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Subject:
    """Each adapter in turn, with none of its variables set."""
    subject: Subject = request.param
    pytest.importorskip(subject.sdk)
    for variable in (*subject.key_variables, subject.base_url_variable):
        if variable:
            monkeypatch.delenv(variable, raising=False)
    return subject


@pytest.fixture
def llm(subject: Subject, wire: WireServer) -> LLM:
    return subject.make(base_url=wire.base_url(subject.dialect), api_key=KEY)


def hasty(subject: Subject, wire: WireServer) -> LLM:
    """The adapter with a timeout short enough to wait for."""
    warm_up(subject)
    return subject.make(base_url=wire.base_url(subject.dialect), api_key=KEY, timeout=0.2)


async def read(llm: LLM, prompt: str = "Hi") -> tuple[list[str], Completion]:
    """A whole stream: its pieces and its completion."""
    items = [item async for item in llm.stream(prompt)]
    assert isinstance(items[-1], Completion)
    return [item for item in items[:-1] if isinstance(item, str)], items[-1]


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.005)


# Answers


async def test_an_answer_arrives_whole(llm: LLM, wire: WireServer) -> None:
    wire.script(Reply("It rains.", model="the-model-that-answered", response_id="id-7"))
    completion = await llm.complete("How is the weather?")
    assert completion.text == "It rains."
    assert completion.model == "the-model-that-answered"
    assert completion.finish_reason == "stop"
    assert completion.response_id == "id-7"
    assert completion.tool_calls == ()


async def test_each_part_of_the_usage_is_kept(llm: LLM, subject: Subject, wire: WireServer) -> None:
    usage = Usage(
        input_tokens=100,
        output_tokens=30,
        cache_read_tokens=40,
        cache_write_tokens=0 if "cache_write" in subject.lacks else 20,
        reasoning_tokens=0 if "reasoning" in subject.lacks else 10,
    )
    wire.script(Reply(usage=usage), Reply(usage=usage))
    assert (await llm.complete("Hi")).usage == usage
    assert (await read(llm))[1].usage == usage


async def test_usage_that_was_not_reported_is_none(llm: LLM, wire: WireServer) -> None:
    wire.script(Reply(usage=None), Reply(usage=None))
    assert (await llm.complete("Hi")).usage is None
    assert (await read(llm))[1].usage is None


async def test_a_stream_gives_pieces_and_then_the_same_completion(
    llm: LLM, wire: WireServer
) -> None:
    reply = Reply("One two three.", usage=Usage(input_tokens=9, output_tokens=4))
    wire.script(reply, reply)
    whole = await llm.complete("Count.")
    pieces, completion = await read(llm, "Count.")
    assert len(pieces) > 1
    assert "".join(pieces) == completion.text == "One two three."
    assert completion == whole
    assert [request.sent.stream for request in wire.requests] == [False, True]


async def test_an_answer_cut_at_its_token_limit_says_so(llm: LLM, wire: WireServer) -> None:
    wire.script(Reply("One two", finish_reason="length"), Reply("One two", finish_reason="length"))
    assert (await llm.complete("Count.")).finish_reason == "length"
    assert (await read(llm))[1].finish_reason == "length"


async def test_text_beyond_ascii_survives_both_ways(llm: LLM, wire: WireServer) -> None:
    text = "Grüße, 世界 🌍 \u2028 end"
    wire.script(Reply(text), Reply(text))
    assert (await llm.complete(text)).text == text
    assert (await read(llm, text))[1].text == text
    assert {request.sent.messages[0].content for request in wire.requests} == {text}


# What is sent


async def test_a_conversation_keeps_its_order_and_the_system_prompt_its_place(
    llm: LLM, wire: WireServer
) -> None:
    turns = (Message("user", "1+1?"), Message("assistant", "2"), Message("user", "And 2+2?"))
    wire.script(Reply("4"))
    await llm.complete([Message("system", "Be brief."), *turns])
    assert wire.last.sent.system == "Be brief."
    assert wire.last.sent.messages == turns
    assert wire.last.sent.model == llm.model.partition("/")[2] or llm.model


async def test_a_schema_is_sent_as_the_providers_own_structured_output(
    llm: LLM, wire: WireServer
) -> None:
    wire.script(Reply('{"name": "Ada"}'))
    completion = await llm.complete("Who?", schema=PERSON)
    assert wire.last.sent.schema == PERSON.schema
    assert completion.text == '{"name": "Ada"}'


async def test_sampling_parameters_reach_the_provider(
    llm: LLM, subject: Subject, wire: WireServer
) -> None:
    sampling = Sampling(
        max_tokens=50,
        temperature=None if "temperature" in subject.lacks else 0.25,
        top_p=None if "top_p" in subject.lacks else 0.5,
        stop=() if "stop" in subject.lacks else ("END", "STOP"),
        seed=None if "seed" in subject.lacks else 7,
    )
    wire.script(Reply())
    await llm.complete("Hi", sampling=sampling)
    assert wire.last.sent.sampling == sampling


async def test_what_is_not_asked_for_is_not_sent(llm: LLM, wire: WireServer) -> None:
    wire.script(Reply())
    await llm.complete("Hi")
    sent = wire.last.sent
    assert (sent.schema, sent.tools, sent.system) == (None, (), None)
    assert sent.sampling.temperature is None
    assert sent.sampling.stop == ()


async def test_a_tool_call_comes_back_whole_and_its_result_goes_out(
    llm: LLM, wire: WireServer
) -> None:
    wire.script(
        Reply("", finish_reason="tool_calls", tool_calls=(CALL,)),
        Reply("It rains in Oslo."),
    )
    asked = await llm.complete("Weather in Oslo?", tools=[WEATHER])
    assert asked.finish_reason == "tool_calls"
    [call] = asked.tool_calls
    assert (call.name, call.arguments) == (CALL.name, CALL.arguments)
    conversation = (
        Message("user", "Weather in Oslo?"),
        Message("assistant", "", tool_calls=asked.tool_calls),
        Message("tool", "rain", tool_call_id=call.id),
    )
    answer = await llm.complete(conversation, tools=[WEATHER])
    assert answer.text == "It rains in Oslo."
    assert wire.last.sent.messages == conversation
    assert wire.last.sent.tools == (WEATHER,)


async def test_a_streamed_tool_call_is_put_together(llm: LLM, wire: WireServer) -> None:
    other = ToolCall("call_2", "weather", '{"city": "Rome"}')
    reply = Reply("Let me look.", finish_reason="tool_calls", tool_calls=(CALL, other))
    wire.script(reply, reply)
    assert (await read(llm))[1].tool_calls == (await llm.complete("Hi")).tool_calls


BROKEN_CALL = ToolCall("call_1", "weather", '{"city": Oslo}')


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
async def test_tool_arguments_that_are_not_json_come_as_the_model_wrote_them(
    llm: LLM, subject: Subject, wire: WireServer, stream: bool
) -> None:
    """So that a tool loop can tell the model of its mistake."""
    if "broken_arguments" in subject.lacks:
        pytest.skip("this API does not pass such a call on")
    wire.script(Reply("", finish_reason="tool_calls", tool_calls=(BROKEN_CALL,)))
    completion = (await read(llm))[1] if stream else await llm.complete("Hi")
    assert completion.tool_calls == (BROKEN_CALL,)


@pytest.mark.parametrize("arguments", [BROKEN_CALL.arguments, '["Oslo"]', ""])
async def test_a_tool_call_that_was_broken_goes_out_again(
    llm: LLM, wire: WireServer, arguments: str
) -> None:
    """Some APIs take nothing but an object there; the model is to see what it wrote."""
    wire.script(Reply("Sorry."))
    conversation = (
        Message("user", "Weather in Oslo?"),
        Message("assistant", "", tool_calls=(ToolCall("call_1", "weather", arguments),)),
        Message("tool", "the arguments are not a JSON object", tool_call_id="call_1"),
    )
    assert (await llm.complete(conversation, tools=[WEATHER])).text == "Sorry."
    assert json.dumps(arguments)[1:-1] in json.dumps(wire.last.body)


async def test_a_tool_called_without_arguments_has_an_empty_object(
    llm: LLM, wire: WireServer
) -> None:
    reply = Reply("", finish_reason="tool_calls", tool_calls=(ToolCall("call_1", "now", "{}"),))
    wire.script(reply, reply)
    for completion in (await llm.complete("Hi"), (await read(llm))[1]):
        assert [call.arguments for call in completion.tool_calls] == ["{}"]


# Failures


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("rate_limit", RateLimitError),
        ("overloaded", OverloadedError),
        ("server", ServerError),
        ("authentication", AuthenticationError),
        ("permission", AuthenticationError),
        ("bad_request", BadRequestError),
        ("not_found", BadRequestError),
        ("context_too_long", ContextTooLongError),
        ("content_filter", ContentRefusedError),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
async def test_an_http_error_becomes_ours(
    llm: LLM,
    subject: Subject,
    wire: WireServer,
    kind: ErrorKind,
    expected: type[ProviderError],
    stream: bool,
) -> None:
    """It names provider, model and status, keeps its cause, and was sent only once."""
    wire.script(Failure(kind))
    with pytest.raises(ProviderError) as caught:
        await (read(llm) if stream else llm.complete("Hi"))
    error = caught.value
    assert type(error) is expected
    assert (error.provider, error.model) == (llm.provider, llm.model)
    assert error.status == subject.dialect.failure(Failure(kind))[0]
    assert error.__cause__ is not None
    assert len(str(error)) < 400
    assert len(wire.requests) == 1


@pytest.mark.parametrize("status", [408, 409, 422, 500, 502, 503])
async def test_no_status_makes_the_sdk_retry_by_itself(
    llm: LLM, wire: WireServer, status: int
) -> None:
    wire.script(Failure("server" if status >= 500 else "bad_request", status=status))
    with pytest.raises(ProviderError) as caught:
        await llm.complete("Hi")
    assert caught.value.status == status
    assert len(wire.requests) == 1


@pytest.mark.parametrize("kind", ["rate_limit", "overloaded"])
async def test_retry_after_is_read_in_seconds(llm: LLM, wire: WireServer, kind: ErrorKind) -> None:
    wire.script(Failure(kind, headers={"retry-after": "7"}), Failure(kind))
    with pytest.raises(ProviderError) as caught:
        await llm.complete("Hi")
    assert caught.value.retry_after == 7.0
    with pytest.raises(ProviderError) as caught:
        await llm.complete("Hi")
    assert caught.value.retry_after is None


async def test_retry_after_is_read_from_a_date(llm: LLM, wire: WireServer) -> None:
    later = formatdate(time.time() + 60, usegmt=True)
    wire.script(Failure("rate_limit", headers={"retry-after": later}))
    with pytest.raises(RateLimitError) as caught:
        await llm.complete("Hi")
    assert caught.value.retry_after == pytest.approx(60, abs=5)


async def test_silence_is_a_timeout(subject: Subject, wire: WireServer) -> None:
    wire.script(Stall())
    with pytest.raises(RequestTimeoutError):
        await hasty(subject, wire).complete("Hi")
    assert len(wire.requests) == 1


async def test_a_stream_that_falls_silent_is_a_timeout(subject: Subject, wire: WireServer) -> None:
    wire.script(Stall(after_text=True))
    with pytest.raises(RequestTimeoutError):
        await read(hasty(subject, wire))


async def test_a_connection_that_breaks_is_a_connection_error(llm: LLM, wire: WireServer) -> None:
    wire.script(Disconnect())
    with pytest.raises(ConnectionFailedError):
        await llm.complete("Hi")
    assert len(wire.requests) == 1


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again(
    llm: LLM, wire: WireServer
) -> None:
    """Not even when the event loop was too busy to hear of it."""
    wire.script(Reply(hang_up=True), Reply("Still here."))
    await read(llm)
    time.sleep(0.05)
    assert (await llm.complete("Hi")).text == "Still here."


async def test_a_server_that_is_not_there_is_unreachable_and_nothing_is_billed(
    subject: Subject,
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}{subject.dialect.base_path}"
        with pytest.raises(UnreachableError) as caught:
            await subject.make(base_url=url).complete("Hi")
    assert not caught.value.billable
    assert caught.value.retryable


@pytest.mark.parametrize(
    "said",
    [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"],
    ids=["no-http", "no-chunk"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
async def test_what_is_not_http_is_a_connection_error(
    llm: LLM, wire: WireServer, said: bytes, stream: bool
) -> None:
    wire.script(RawBytes(said))
    with pytest.raises(ConnectionFailedError) as caught:
        await (read(llm) if stream else llm.complete("Hi"))
    assert caught.value.billable


async def test_a_web_page_is_not_an_answer(llm: LLM, wire: WireServer) -> None:
    wire.script(NotJSON())
    with pytest.raises(MalformedResponseError):
        await llm.complete("Hi")


async def test_a_stream_that_ends_without_a_finish_reason_is_an_error_with_what_arrived(
    llm: LLM, wire: WireServer
) -> None:
    wire.script(EndEarly())
    with pytest.raises(IncompleteStreamError) as caught:
        await read(llm)
    assert caught.value.completion is not None
    assert caught.value.completion.text == Reply().text


async def test_a_corrupt_chunk_is_an_error_not_skipped(llm: LLM, wire: WireServer) -> None:
    wire.script(CorruptChunk())
    with pytest.raises(MalformedResponseError):
        await read(llm)


async def test_a_stream_that_breaks_is_a_connection_error(llm: LLM, wire: WireServer) -> None:
    wire.script(Disconnect(after_text=True))
    with pytest.raises(ConnectionFailedError):
        await read(llm)


async def test_an_error_told_inside_a_stream_becomes_ours(llm: LLM, wire: WireServer) -> None:
    wire.script(ErrorEvent("overloaded"))
    with pytest.raises(OverloadedError):
        await read(llm)


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
async def test_a_refusal_is_an_error_that_carries_what_it_cost(
    llm: LLM, subject: Subject, wire: WireServer, stream: bool
) -> None:
    if "refusal" in subject.lacks or (stream and "streamed_refusal" in subject.lacks):
        pytest.skip("this API has no refusals")
    usage = Usage(input_tokens=9, output_tokens=2)
    wire.script(Reply(refusal="I cannot help with that.", usage=usage))
    with pytest.raises(ContentRefusedError) as caught:
        await (read(llm) if stream else llm.complete("Hi"))
    assert caught.value.completion is not None
    assert caught.value.completion.usage == usage


# Going away


async def test_cancelling_a_call_closes_its_connection(llm: LLM, wire: WireServer) -> None:
    wire.script(Stall())
    call = asyncio.create_task(llm.complete("Hi"))
    await eventually(lambda: len(wire.requests) == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await eventually(wire.last.abandoned.is_set)


async def test_closing_a_stream_early_closes_its_connection(llm: LLM, wire: WireServer) -> None:
    wire.script(Stall(after_text=True))
    stream = llm.stream("Hi")
    assert await anext(stream)
    await stream.aclose()
    await eventually(wire.last.abandoned.is_set)


# Setting up


def test_building_an_adapter_loads_no_sdk(subject: Subject) -> None:
    program = (
        "import sys\n"
        "from tests.providers.subjects import SUBJECTS\n"
        f"[subject] = [s for s in SUBJECTS if s.name == {subject.name!r}]\n"
        "subject.make(base_url='http://127.0.0.1:9', api_key='k')\n"
        "assert subject.sdk not in sys.modules, subject.sdk\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


async def test_a_missing_sdk_is_an_error_with_the_install_command(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, subject.sdk, None)  # how Python marks "not importable"
    llm = subject.make(base_url="http://127.0.0.1:9", api_key="key-of-no-one")
    install = f'pip install "pyagent-sdk[{subject.extra}]"'
    with pytest.raises(MissingDependencyError) as caught:
        llm.check()
    assert install in str(caught.value)
    with pytest.raises(MissingDependencyError):
        await llm.complete("Hi")


async def test_a_missing_key_is_an_error_naming_the_variable(subject: Subject) -> None:
    llm = subject.make(base_url="https://llm.invalid", api_key=None)
    with pytest.raises(MissingAPIKeyError) as caught:
        llm.check()
    assert subject.key_variables[0] in str(caught.value)
    with pytest.raises(MissingAPIKeyError):
        await llm.complete("Hi")


async def test_key_and_address_come_from_the_sdks_usual_variables(
    subject: Subject, wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if subject.base_url_variable is None:
        pytest.skip("this SDK reads no base URL from the environment")
    monkeypatch.setenv(subject.base_url_variable, wire.base_url(subject.dialect))
    monkeypatch.setenv(subject.key_variables[0], "key-from-environment")
    wire.script(Reply("Hello."))
    llm = subject.make(base_url=None, api_key=None)
    llm.check()
    assert (await llm.complete("Hi")).text == "Hello."
    assert wire.last.sent.key == "key-from-environment"


async def test_an_argument_beats_the_environment(
    subject: Subject, wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if subject.base_url_variable is not None:
        monkeypatch.setenv(subject.base_url_variable, "http://127.0.0.1:9/nowhere")
    monkeypatch.setenv(subject.key_variables[0], "key-from-environment")
    wire.script(Reply())
    await subject.make(base_url=wire.base_url(subject.dialect), api_key=KEY).complete("Hi")
    assert wire.last.sent.key == KEY


async def test_the_key_is_in_no_error_and_no_span(llm: LLM, wire: WireServer) -> None:
    """Not even when the provider repeats it."""
    wire.script(
        Failure("authentication", message=f"Incorrect API key provided: {KEY}."),
        Failure("bad_request", message="x" * 290 + KEY),
    )
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with using(Telemetry(tracer_provider=provider)):
        for _ in range(2):
            with pytest.raises(ProviderError) as caught:
                await llm.complete("Hi")
            assert KEY[:10] not in str(caught.value) + repr(caught.value) + repr(llm)
    spans = exporter.get_finished_spans()
    assert len(spans) == 2
    assert not [span for span in spans if KEY[:10] in span.to_json()]


async def test_a_client_of_your_own_is_used_and_left_open(
    subject: Subject, wire: WireServer
) -> None:
    if subject.make_client is None:
        pytest.skip("this SDK has no client object")
    client = subject.make_client(wire.base_url(subject.dialect))
    llm = subject.make(base_url=None, api_key=None, client=client)
    llm.check()
    wire.script(Reply("Hello."), Reply("Hello."))
    assert (await llm.complete("Hi")).text == "Hello."
    assert (await read(llm))[1].text == "Hello."
    assert wire.last.sent.key == "sk-own-client-key"
    assert subject.is_open(client)
    await subject.close_client(client)


def test_one_object_works_in_one_event_loop_after_another(llm: LLM, wire: WireServer) -> None:
    """And leaves nothing open: the suite turns a ResourceWarning into a failure."""
    wire.respond(lambda sent: Reply(sent.messages[0].content))
    for number in ("one", "two", "three"):
        assert asyncio.run(llm.complete(number)).text == number
        assert asyncio.run(read(llm, number))[1].text == number
    gc.collect()


def test_one_object_works_in_several_threads_at_once(llm: LLM, wire: WireServer) -> None:
    def reply(sent: Sent) -> Reply:
        return Reply(sent.messages[0].content, delay=0.02)

    wire.respond(reply)
    answers: dict[str, str] = {}

    async def ask(name: str) -> None:
        completions = await asyncio.gather(*(llm.complete(name) for _ in range(3)))
        answers[name] = "".join(completion.text for completion in completions)

    threads = [threading.Thread(target=asyncio.run, args=(ask(name),)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {"a": "aaa", "b": "bbb", "c": "ccc"}


async def test_concurrent_calls_do_not_mix(llm: LLM, wire: WireServer) -> None:
    wire.respond(lambda sent: Reply(sent.messages[0].content, delay=0.01))
    prompts = [f"prompt {number}" for number in range(40)]
    completions = await asyncio.gather(*(llm.complete(prompt) for prompt in prompts))
    assert [completion.text for completion in completions] == prompts
