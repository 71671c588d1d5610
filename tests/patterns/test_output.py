"""What goes in and what comes out have a form: told, held to, checked, mended once, or refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from pyagent_patterns import Agent, Pipeline, Wanted
from pyagent_patterns.errors import AnswerError
from pyagent_patterns.people import Decision
from pyagent_providers import AnthropicLLM, OpenAILLM
from tests.wire import CHAT, MESSAGES, Reply, WireServer

from .crews import agent, crew, item, planned, refused, written
from .teams import plan_text, questions, scripted

CALL = Decimal("0.00006")
PLAN = plan_text(item("a", "find it", id="x"))


class Report(BaseModel):
    title: str
    pages: int = Field(ge=1)


@dataclass
class Note:
    title: str
    pages: int


SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "pages": {"type": "integer", "minimum": 1}},
    "required": ["title", "pages"],
}
GOOD = '{"title": "The sea", "pages": 3}'
BAD = '{"title": "The sea", "pages": 0, "mood": "blue"}'


@pytest.mark.parametrize(
    ("wanted", "value"),
    [
        (Report, Report(title="The sea", pages=3)),
        (Note, Note(title="The sea", pages=3)),
        (SCHEMA, {"title": "The sea", "pages": 3}),
    ],
    ids=["pydantic", "dataclass", "JSON Schema"],
)
async def test_the_answer_is_a_value_of_the_form_asked_for(wanted: Any, value: object) -> None:
    team = crew([PLAN], {"a": ["alpha"]}, final=[GOOD], output_type=wanted)
    result = await team.run("the task")
    assert result.data == value
    assert result.output == GOOD
    assert result.to_dict()["data"] == {"title": "The sea", "pages": 3}
    assert result.status == "completed"
    assert isinstance(team.synthesizer, Agent)
    [request] = scripted(team.synthesizer).requests
    assert request.schema is not None
    assert request.schema.text in written(team)
    assert "pages" in request.schema.text


async def test_only_who_writes_the_answer_is_told_its_form() -> None:
    team = crew([PLAN], {"a": ["alpha"]}, final=[GOOD], output_type=Report)
    await team.run("the task")
    assert "pages" not in planned(team)[0]
    worker = team.workers["a"]
    assert isinstance(worker, Agent)
    assert scripted(worker).requests[0].schema is None


@pytest.mark.parametrize("wanted", [Report, SCHEMA], ids=["pydantic", "JSON Schema"])
async def test_an_answer_with_faults_is_sent_back_once_with_all_of_them_and_priced(
    wanted: Any,
) -> None:
    team = crew([PLAN], {"a": ["alpha"]}, final=['{"pages": 0}', GOOD], output_type=wanted)
    result = await team.run("the task")
    again = written(team)
    assert '{"pages": 0}' in again
    assert "title" in again.split("It does not follow the schema:")[1]
    assert "pages" in again.split("It does not follow the schema:")[1]
    assert result.data is not None
    assert result.cost_by("phase")["synthesis"] == 2 * CALL


async def test_prose_and_a_fence_are_told_apart() -> None:
    fenced = f"```json\n{GOOD}\n```"
    team = crew([PLAN], {"a": ["alpha"]}, final=["Here it is:", fenced], output_type=Report)
    result = await team.run("the task")
    assert result.data == Report(title="The sea", pages=3)
    assert "it is not JSON" in written(team)


async def test_an_answer_still_without_the_form_is_an_error_with_its_faults() -> None:
    team = crew([PLAN], {"a": ["alpha"]}, final=["prose", BAD], output_type=Report)
    with pytest.raises(AnswerError, match="pages: Input should be greater than") as caught:
        await team.run("the task")
    assert caught.value.answer == BAD
    assert len(caught.value.faults) == 1
    assert caught.value.result is not None
    assert caught.value.result.cost_estimate == 4 * CALL
    assert [o.output for o in caught.value.result.outcomes] == ["alpha"]


async def test_a_pattern_that_writes_the_answer_is_held_to_the_form() -> None:
    desk = Pipeline([agent("first", "a draft"), agent("last", "prose", GOOD)], name="desk")
    team = crew([PLAN], {"a": ["alpha"]}, synthesizer=desk, output_type=Report)
    result = await team.run("the task")
    assert result.data == Report(title="The sea", pages=3)
    first, last = (m for m in desk.members if isinstance(m, Agent))
    assert scripted(first).requests[0].schema is None
    assert all(request.schema is not None for request in scripted(last).requests)


async def test_a_function_that_writes_the_answer_is_held_to_the_form() -> None:
    async def write(prompt: str) -> str:
        return GOOD if "does not follow" in prompt else "prose"

    result = await crew([PLAN], {"a": ["alpha"]}, synthesizer=write, output_type=Report).run("it")
    assert result.data == Report(title="The sea", pages=3)


@pytest.mark.parametrize("pattern", [False, True], ids=["agent", "pattern"])
async def test_a_fallback_is_held_to_the_form(pattern: bool) -> None:
    second = agent("second", "prose", GOOD)
    fallback = Pipeline([second], name="line") if pattern else second
    writer = agent("writer", refused(), refused(), fallback=fallback)
    team = crew([PLAN], {"a": ["alpha"]}, synthesizer=writer, output_type=Report)
    result = await team.run("the task")
    assert result.data == Report(title="The sea", pages=3)
    assert "does not follow the schema" in questions(second)[1]


@pytest.mark.parametrize("pattern", [False, True], ids=["agent", "pattern"])
async def test_a_stand_in_is_held_to_the_form(pattern: bool) -> None:
    simple = agent("simple", "prose", GOOD)
    team = crew(
        ["prose", "prose"],
        {"a": []},
        output_type=Report,
        degrade_to=[Pipeline([simple], name="line") if pattern else simple],
    )
    result = await team.run("the task")
    assert result.degraded_to is not None
    assert result.data == Report(title="The sea", pages=3)
    assert "does not follow the schema" in questions(simple)[1]


async def test_an_answer_that_a_person_edits_has_the_form_too() -> None:
    shown: list[str] = []

    async def human(wanted: Wanted) -> Decision:
        shown.append(wanted.text)
        better = '{"title": "The ocean", "pages": 5}'
        return Decision(approved=True, value="prose" if len(shown) == 1 else better)

    team = crew([PLAN], {"a": ["alpha"]}, final=[GOOD], output_type=Report, approve=("answer",))
    result = await team.run("the task", human=human)
    assert len(shown) == 2
    assert "it is not JSON" in shown[1]
    assert result.data == Report(title="The ocean", pages=5)
    assert json.loads(result.output)["title"] == "The ocean"


async def test_the_form_of_a_nested_pattern_is_its_own() -> None:
    desk = crew([PLAN], {"a": ["alpha"]}, final=["prose", GOOD], output_type=Report, name="desk")
    team = crew([plan_text(item("desk"))], {}, worker=desk)
    result = await team.run("the task")
    assert [o.output for o in result.outcomes if o.worker == "desk"] == [GOOD]
    assert result.output == "the final answer"
    assert result.data is None


async def test_a_value_that_is_no_object_is_told_but_not_put_on_the_wire() -> None:
    team = crew([PLAN], {"a": ["alpha"]}, final=['["x", "y"]'], output_type=list[str])
    result = await team.run("the task")
    assert result.data == ["x", "y"]
    assert isinstance(team.synthesizer, Agent)
    assert scripted(team.synthesizer).requests[0].schema is None  # providers take objects only
    assert '"type": "array"' in written(team)


async def test_the_value_is_read_from_the_record_on_going_on(tmp_path: Path) -> None:
    file = tmp_path / "runs.db"
    first = crew([PLAN], {"a": ["alpha"]}, final=["prose", GOOD], output_type=Report)
    await first.run("the task", run_id="r", durable=file)
    again = await crew([], {"a": []}, final=[], output_type=Report).run(
        "the task", run_id="r", durable=file
    )
    assert again.data == Report(title="The sea", pages=3)
    assert all(call.replayed for call in again.calls)


def test_what_is_no_form_is_refused_when_the_team_is_made() -> None:
    with pytest.raises(TypeError, match="42 is neither a type that pydantic knows nor a JSON"):
        crew([], {"a": []}, output_type=42)
    with pytest.raises(TypeError, match="'Nobody' is neither a type"):
        crew([], {"a": []}, output_type="Nobody")
    with pytest.raises(ValueError, match="this is no JSON Schema"):
        crew([], {"a": []}, output_type={"type": "novel"})


# Inputs


async def test_inputs_are_checked_and_told_with_the_task() -> None:
    team = crew([PLAN], {"a": ["alpha"]}, inputs=Report)
    await team.run("review it", inputs={"title": "The sea", "pages": 3})
    for question in (planned(team)[0], written(team)):
        assert "review it" in question
        assert '<inputs>\n{\n  "title": "The sea",\n  "pages": 3\n}\n</inputs>' in question


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        (Report, Report(title="t", pages=1)),
        (Note, Note("t", 1)),
        (SCHEMA, {"title": "t", "pages": 1}),
        (None, {"anything": ["goes"]}),
    ],
    ids=["pydantic", "dataclass", "JSON Schema", "unsaid"],
)
async def test_inputs_may_be_values_of_every_kind(wanted: Any, given: object) -> None:
    team = crew([PLAN], {"a": ["alpha"]}, inputs=wanted)
    await team.run("review it", inputs=given)
    assert "<inputs>" in planned(team)[0]


@pytest.mark.parametrize("wanted", [Report, SCHEMA], ids=["pydantic", "JSON Schema"])
async def test_inputs_that_do_not_fit_cost_nothing(wanted: Any) -> None:
    team = crew([], {"a": []}, inputs=wanted)
    with pytest.raises(ValueError, match=r"inputs do not fit: .*pages"):
        await team.run("review it", inputs={"title": "t", "pages": 0})
    with pytest.raises(TypeError, match="this pattern takes inputs"):
        await team.run("review it")
    assert planned(team) == []


# On the wire


@pytest.mark.parametrize("provider", ["OpenAI", "Anthropic"])
async def test_the_form_is_on_the_wire_for_who_writes_the_answer(
    wire: WireServer, provider: str
) -> None:
    llm = (
        OpenAILLM("gpt-4o", base_url=wire.base_url(CHAT), api_key="k")
        if provider == "OpenAI"
        else AnthropicLLM("claude-sonnet-4-5", base_url=wire.base_url(MESSAGES), api_key="k")
    )
    wire.script(Reply('{"title": "The sea"}'), Reply(GOOD))
    team = crew([PLAN], {"a": ["alpha"]}, synthesizer=Agent("writer", llm), output_type=Report)
    result = await team.run("the task")
    assert result.data == Report(title="The sea", pages=3)
    first, second = (request.sent for request in wire.requests)
    assert first.schema == second.schema == Report.model_json_schema()
    assert "pages: Field required" in second.messages[-1].content
    assert result.cost_estimate > 3 * CALL  # the repair is paid for as well


@pytest.mark.parametrize("provider", ["OpenAI", "Anthropic"])
async def test_a_judges_form_is_on_the_wire(wire: WireServer, provider: str) -> None:
    llm = (
        OpenAILLM("gpt-4o", base_url=wire.base_url(CHAT), api_key="k")
        if provider == "OpenAI"
        else AnthropicLLM("claude-sonnet-4-5", base_url=wire.base_url(MESSAGES), api_key="k")
    )
    wire.script(Reply('{"accepted": true, "reasons": ""}'))
    team = crew([PLAN], {"a": ["alpha"]}, review=Agent("judge", llm))
    result = await team.run("the task")
    assert result.status == "completed"
    [request] = wire.requests
    assert request.sent.schema is not None
    assert set(request.sent.schema["properties"]) == {"accepted", "reasons"}  # type: ignore[arg-type]
