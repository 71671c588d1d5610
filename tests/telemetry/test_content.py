"""Prompts and answers leave the process only when, and only where, they are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pyagent_patterns import Agent
from pyagent_patterns.errors import PlanError
from pyagent_providers import content
from pyagent_providers.base import Completion, Message, ToolCall
from pyagent_providers.errors import MalformedResponseError
from pyagent_providers.telemetry import Telemetry, using
from pyagent_providers.testing import ScriptedLLM
from tests.patterns.teams import item, plan_text, team

TASK, SUBTASK, WORK, ANSWER, ROLE = "tell-7", "look-8", "found-9", "told-10", "patient-11"
SECRETS = (TASK, SUBTASK, WORK, ANSWER, ROLE)
CONVERSATION = (
    Message("system", ROLE),
    Message("user", TASK),
    Message("assistant", "let me see", tool_calls=(ToolCall("c1", "search", '{"q": 1}'),)),
    Message("tool", "nothing", tool_call_id="c1"),
)
REPLY = Completion(
    text=ANSWER, finish_reason="tool_calls", tool_calls=(ToolCall("c2", "search", "{}"),)
)

INPUT = [
    {"role": "user", "parts": [{"type": "text", "content": TASK}]},
    {
        "role": "assistant",
        "parts": [
            {"type": "text", "content": "let me see"},
            {"type": "tool_call", "id": "c1", "name": "search", "arguments": '{"q": 1}'},
        ],
    },
    {
        "role": "tool",
        "parts": [{"type": "tool_call_response", "id": "c1", "response": "nothing"}],
    },
]
OUTPUT = [
    {
        "role": "assistant",
        "parts": [
            {"type": "text", "content": ANSWER},
            {"type": "tool_call", "id": "c2", "name": "search", "arguments": "{}"},
        ],
        "finish_reason": "tool_call",
    }
]
SYSTEM = [{"type": "text", "content": ROLE}]


class Captured:
    """Spans and log records, in memory."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._logs = InMemoryLogRecordExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.loggers = LoggerProvider(shutdown_on_exit=False)
        self.loggers.add_log_record_processor(SimpleLogRecordProcessor(self._logs))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._spans.get_finished_spans()

    @property
    def events(self):
        return [data.log_record for data in self._logs.get_finished_logs()]


@pytest.fixture
def captured() -> Iterator[Captured]:
    captured = Captured()
    with using(Telemetry(tracer_provider=captured.tracers, logger_provider=captured.loggers)):
        yield captured


def everything_said(captured: Captured) -> str:
    spans = [
        (
            span.name,
            dict(span.attributes or {}),
            span.status.description,
            [(event.name, dict(event.attributes or {})) for event in span.events],
        )
        for span in captured.spans
    ]
    events = [(event.event_name, event.body, dict(event.attributes)) for event in captured.events]
    return repr((spans, events))


async def a_run_that_says_it_all() -> None:
    plan = plan_text(item("worker", SUBTASK))
    broken = MalformedResponseError("half of it", completion=Completion(text=WORK))
    worker = ScriptedLLM([broken, WORK])
    await team(
        [plan],
        {"worker": worker},
        synthesizer=Agent("editor", ScriptedLLM([ANSWER]), system_prompt=ROLE),
    ).run(TASK)
    with pytest.raises(PlanError):
        await team([SUBTASK, f"{WORK}\n{ANSWER}"], {"worker": [WORK]}).run(TASK)


@pytest.mark.parametrize("wish", [None, "", "NO_CONTENT", "true", "false", "1"])
async def test_no_prompt_or_answer_is_anywhere_by_default(
    captured: Captured, monkeypatch: pytest.MonkeyPatch, wish: str | None
):
    """Also in runs that fail, whose errors have the model's words in them."""
    monkeypatch.delenv(content.VARIABLE, raising=False)
    if wish is not None:
        monkeypatch.setenv(content.VARIABLE, wish)
    await a_run_that_says_it_all()
    said = everything_said(captured)
    assert len(captured.spans) == 13
    assert [secret for secret in SECRETS if secret in said] == []


async def test_span_only_puts_the_conversation_on_the_chat_span_as_json(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(content.VARIABLE, "SPAN_ONLY")
    await ScriptedLLM([REPLY]).complete(CONVERSATION)
    [span] = captured.spans
    attributes = span.attributes or {}
    assert json.loads(attributes["gen_ai.input.messages"]) == INPUT
    assert json.loads(attributes["gen_ai.output.messages"]) == OUTPUT
    assert json.loads(attributes["gen_ai.system_instructions"]) == SYSTEM
    assert captured.events == []
    assert not span.events


async def test_event_only_sends_a_structured_event_and_leaves_the_span_without(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(content.VARIABLE, "event_only")
    await ScriptedLLM([REPLY]).complete(CONVERSATION)
    [span], [event] = captured.spans, captured.events
    assert not {name for name in span.attributes or {} if "messages" in name or "system" in name}
    assert not span.events
    assert event.event_name == "gen_ai.client.inference.operation.details"
    assert event.span_id == span.context.span_id
    said = json.loads(json.dumps(dict(event.attributes), default=list))
    assert said["gen_ai.input.messages"] == INPUT
    assert said["gen_ai.output.messages"] == OUTPUT
    assert said["gen_ai.system_instructions"] == SYSTEM
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.response.finish_reasons"] == ["tool_calls"]


async def test_span_and_event_does_both(captured: Captured, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(content.VARIABLE, "SPAN_AND_EVENT")
    await ScriptedLLM([REPLY]).complete(CONVERSATION)
    [span], [event] = captured.spans, captured.events
    assert ANSWER in str((span.attributes or {})["gen_ai.output.messages"])
    assert ANSWER in str(event.attributes["gen_ai.output.messages"])


async def test_content_stays_on_inference_spans(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(content.VARIABLE, "SPAN_ONLY")
    await a_run_that_says_it_all()
    tellers = {
        span.name.split()[0]
        for span in captured.spans
        if any(secret in repr(span.attributes) for secret in SECRETS)
    }
    assert tellers == {"chat"}


async def test_what_arrived_of_a_failed_answer_is_content_that_ended_in_an_error(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(content.VARIABLE, "SPAN_ONLY")
    broken = MalformedResponseError("half of it", completion=Completion(text="half"))
    with pytest.raises(MalformedResponseError):
        await ScriptedLLM([broken]).complete("hi")
    [message] = json.loads((captured.spans[0].attributes or {})["gen_ai.output.messages"])
    assert message["finish_reason"] == "error"
    assert message["parts"] == [{"type": "text", "content": "half"}]


async def test_long_parts_are_cut_inside_so_that_the_json_stays_valid(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(content.VARIABLE, "SPAN_ONLY")
    long = 'é"\\\n' * content.PART_LIMIT
    call = ToolCall("c1", "search", long)
    turns = (Message("user", long), Message("tool", long, tool_call_id="c1"))
    await ScriptedLLM([Completion(text=long, tool_calls=(call,))]).complete(turns)
    attributes = captured.spans[0].attributes or {}
    cut = long[: content.PART_LIMIT]
    user, tool = json.loads(attributes["gen_ai.input.messages"])
    [answer] = json.loads(attributes["gen_ai.output.messages"])
    assert user["parts"] == [{"type": "text", "content": cut}]
    assert tool["parts"][0]["response"] == cut
    assert [part.get("content", part.get("arguments")) for part in answer["parts"]] == [cut, cut]


async def test_text_that_is_not_unicode_can_still_be_exported(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(content.VARIABLE, "SPAN_ONLY")
    await ScriptedLLM(["ok"]).complete("half a pair: \ud83d")
    text = (captured.spans[0].attributes or {})["gen_ai.input.messages"]
    assert "half a pair: ?" in text.encode().decode()
