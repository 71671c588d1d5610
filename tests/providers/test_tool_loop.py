"""The tool loop over the wire: every provider's real SDK, with whole and with streamed answers."""

from __future__ import annotations

import json

import pytest

from pyagent_patterns import Agent, Pipeline, tool
from pyagent_patterns.events import Event, TextDelta
from pyagent_providers import LLM, GeminiLLM, Message, ToolCall
from tests.wire import GEMINI, Reply, WireServer

from .subjects import SUBJECTS, Subject, warm_up

SCHEMA = {
    "type": "object",
    "properties": {"celsius": {"type": "integer"}},
    "required": ["celsius"],
    "additionalProperties": False,
}


@tool(effect="read")
async def weather(city: str) -> str:
    """The weather in a city."""
    return f"{len(city)} degrees"


@pytest.fixture(
    params=[pytest.param(subject, id=str(subject), marks=subject.marks) for subject in SUBJECTS]
)
def llm(request: pytest.FixtureRequest, wire: WireServer) -> LLM:
    subject: Subject = request.param
    warm_up(subject)
    return subject.make(base_url=wire.base_url(subject.dialect))


def calls(*cities: str) -> Reply:
    return Reply(
        "Let me look.",
        finish_reason="tool_calls",
        tool_calls=tuple(
            ToolCall(f"call_{n}", "weather", json.dumps({"city": city}))
            for n, city in enumerate(cities)
        ),
    )


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_tools_are_called_and_told_of_until_the_answer(
    llm: LLM, wire: WireServer, stream: bool
) -> None:
    wire.script(calls("Oslo", "Rome"), calls("Paris"), Reply("Paris is warmest."))
    events: list[Event] = []
    agent = Agent("clerk", llm, system_prompt="Be brief.", tools=[weather], stream=stream)
    result = await Pipeline([agent]).run("Where is it warm?", on_event=events.append)
    assert result.output == "Paris is warmest."
    assert len(result.calls) == 3
    assert wire.last.sent.stream is stream
    assert all(request.sent.tools == (weather.spec,) for request in wire.requests)
    said = [m for m in wire.last.sent.messages if m.content or m.tool_calls]
    assert [m.role for m in said] == ["user", "assistant", "tool", "tool", "assistant", "tool"]
    assert [m.content for m in said if m.role == "tool"] == ["4 degrees", "4 degrees", "5 degrees"]
    asked_for = [call for m in said for call in m.tool_calls]
    assert [json.loads(call.arguments)["city"] for call in asked_for] == ["Oslo", "Rome", "Paris"]
    answered = [m.tool_call_id for m in said if m.role == "tool"]
    assert answered == [call.id for call in asked_for]
    if stream:
        told = "".join(e.text for e in events if isinstance(e, TextDelta))
        assert told == "Let me look.Let me look.Paris is warmest."


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_agent_may_have_both_tools_and_a_form_for_its_answer(
    llm: LLM, wire: WireServer, stream: bool
) -> None:
    """Anthropic's, and older models of Google's, then give the answer by a tool of its own."""

    def respond(sent):
        if not any(m.role == "tool" for m in sent.messages):
            return calls("Oslo")
        if sent.schema is None:
            given = ToolCall("call_9", "answer", '{"celsius": 4}')
            return Reply("", finish_reason="tool_calls", tool_calls=(given,))
        return Reply('{"celsius": 4}')

    wire.respond(respond)
    agent = Agent("clerk", llm, tools=[weather], stream=stream)
    result = await Pipeline([agent], output_type=SCHEMA).run("How warm is Oslo?")
    assert result.data == {"celsius": 4}
    assert len(wire.requests) == 2


def gemini(wire: WireServer, model: str) -> Agent:
    llm = GeminiLLM(model, base_url=wire.base_url(GEMINI), api_key="a-key")
    return Agent("clerk", llm, tools=[weather])


async def test_gemini_before_3_is_not_sent_tools_together_with_a_schema(wire: WireServer) -> None:
    """It answers 400 to that."""
    given = ToolCall("", "answer", '{"celsius": 4}')
    wire.script(calls("Oslo"), Reply("", tool_calls=(given,)))
    await Pipeline([gemini(wire, "gemini-2.5-flash")], output_type=SCHEMA).run("How warm?")
    for request in wire.requests:
        assert "responseJsonSchema" not in request.body["generationConfig"]  # type: ignore[operator]
        assert request.body["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
        assert [t.name for t in request.sent.tools] == ["weather", "answer"]
        assert "thoughtSignature" not in str(request.body)  # which it does not know


async def test_gemini_3_is_sent_both(wire: WireServer) -> None:
    wire.script(calls("Oslo"), Reply('{"celsius": 4}'))
    await Pipeline([gemini(wire, "gemini-3-pro-preview")], output_type=SCHEMA).run("How warm?")
    assert wire.last.sent.schema == SCHEMA
    assert [t.name for t in wire.last.sent.tools] == ["weather"]
    assert "toolConfig" not in wire.last.body


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_gemini_3_gets_back_the_signatures_of_its_calls(
    wire: WireServer, stream: bool
) -> None:
    """Without them it refuses to go on."""
    signature = "/+8A/z8+"  # base64 in which both alphabets differ
    call = ToolCall("call_1", "weather", '{"city": "Oslo"}', signature)
    second = ToolCall("call_2", "weather", '{"city": "Rome"}')
    wire.script(Reply("", tool_calls=(call, second)), Reply("Cold."))
    agent = gemini(wire, "gemini-3-pro-preview")
    agent.stream = stream
    await Pipeline([agent]).run("How warm?")
    parts = [p for c in wire.last.body["contents"] for p in c["parts"]]  # type: ignore[index,union-attr]
    sent = [p.get("thoughtSignature", "") for p in parts if "functionCall" in p]
    assert [s.replace("-", "+").replace("_", "/") for s in sent] == [signature, ""]


async def test_gemini_3_goes_on_from_calls_that_another_model_made(wire: WireServer) -> None:
    wire.script(Reply("Cold."))
    conversation = [
        Message("user", "How warm?"),
        Message("assistant", "", (ToolCall("c1", "weather", '{"city": "Oslo"}'),)),
        Message("tool", "4 degrees", tool_call_id="c1"),
    ]
    llm = gemini(wire, "gemini-3-pro-preview").llm
    await llm.complete(conversation, tools=[weather.spec])
    [call] = wire.last.sent.messages[1].tool_calls
    assert call.signature == "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
