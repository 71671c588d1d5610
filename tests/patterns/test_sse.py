"""Server-sent events: frames that no text breaks, and a run that ends with its client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from pyagent_patterns import sse
from pyagent_patterns.events import CallSettled, Event
from pyagent_patterns.orchestration import Parallel, Pipeline
from pyagent_providers.testing import ScriptedLLM, Step

from .streams import calls_tool, look_up, piecewise, pipeline

HOSTILE = "a\n\nevent: run_done\ndata: {}\n\n\r\rid: 9\r\n\u2028\x00\ud800\x1b[31m: comment\n\n"


def parsed(text: str) -> list[dict[str, str]]:
    """What a browser makes of it, by the rules of the standard."""
    events: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line:
            if fields:
                events.append(fields)
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
    return events


async def text_of(events: AsyncGenerator[bytes]) -> str:
    return b"".join([piece async for piece in events]).decode("ascii")


async def test_each_event_has_its_name_its_number_and_itself_as_json() -> None:
    got = parsed(await text_of(sse.events(pipeline(), "the task")))
    assert [event["id"] for event in got] == [str(n + 1) for n in range(len(got))]
    assert all(json.loads(event["data"])["type"] == event["event"] for event in got)
    assert (got[0]["event"], got[-1]["event"]) == ("run_started", "run_done")
    assert json.loads(got[-1]["data"])["result"]["output"] == "the final answer"
    said = [json.loads(event["data"]) for event in got if event["event"] == "text_delta"]
    assert "".join(one["text"] for one in said if one["closing"]) == "the final answer"


async def test_no_text_breaks_the_framing() -> None:
    agent = piecewise("a", calls_tool("look_up", HOSTILE), HOSTILE, tools=[look_up])
    got = parsed(await text_of(sse.events(Parallel([agent]), HOSTILE)))
    assert all(event.keys() == {"id", "event", "data"} for event in got)
    assert [event["event"] for event in got].count("run_done") == 1
    assert HOSTILE in json.loads(got[-1]["data"])["result"]["output"]


async def test_a_run_that_fails_ends_with_the_reason() -> None:
    team = Parallel([piecewise("a", ValueError("it broke"))])
    *_, last = parsed(await text_of(sse.events(team, "the task", run_id="r1")))
    told = json.loads(last["data"])
    assert (last["event"], told["status"], told["run_id"]) == ("run_stopped", "failed", "r1")
    assert "it broke" in told["error"]


async def test_a_fault_in_code_is_told_without_its_text_and_raised() -> None:
    def faulty(work: str) -> bool:
        raise KeyError("the password is hunter2")

    from pyagent_patterns.orchestration import Loop

    got: list[bytes] = []

    async def read() -> None:
        async for piece in sse.events(Loop(piecewise("a", "done"), faulty), "the task"):
            got.append(piece)

    with pytest.raises(KeyError):
        await read()
    assert b"run_stopped" in got[-1]
    assert b"internal error: KeyError" in got[-1]
    assert b"hunter2" not in b"".join(got)


async def test_a_run_that_waits_for_a_person_says_so_and_goes_on_when_it_is_asked_again(
    tmp_path: Path,
) -> None:
    from pyagent_patterns.durable import Runs

    team = Pipeline([piecewise("a", "the final answer")], approve=["answer"])
    with Runs(tmp_path / "runs.db") as runs:
        *_, last = parsed(await text_of(sse.events(team, "do", durable=runs, run_id="r1")))
        told = json.loads(last["data"])
        assert (told["type"], told["status"]) == ("run_stopped", "suspended")
        await runs.signal("r1", told["waiting_for"][0], True)
        *_, last = parsed(await text_of(sse.events(team, "do", durable=runs, run_id="r1")))
    assert json.loads(last["data"])["result"]["output"] == "the final answer"


async def test_only_the_events_that_are_named_are_sent_and_keep_their_numbers() -> None:
    only: Sequence[sse.EventName] = ("text_delta", "run_done")
    text = await text_of(sse.events(pipeline(), "the task", only=only))
    got = parsed(text)
    assert {event["event"] for event in got} == {"text_delta", "run_done"}
    assert got[0]["id"] != "1"


async def test_a_run_that_is_silent_is_heard_of_all_the_same() -> None:
    team = Pipeline([piecewise("a", Step("done", delay=0.1))])
    text = await text_of(sse.events(team, "the task", heartbeat=0.01))
    assert text.count("\n:\n\n") + text.startswith(":\n\n") > 2
    assert parsed(text)[-1]["event"] == "run_done"


async def test_a_client_that_is_gone_ends_the_run_and_its_call_is_settled() -> None:
    told: list[Event] = []
    agent = piecewise("a", Step("done", delay=60))
    events = sse.events(Pipeline([agent]), "the task", on_event=told.append, heartbeat=0.01)
    assert isinstance(agent.llm, ScriptedLLM)
    async with aclosing(events):
        async for piece in events:
            if agent.llm.requests and piece.startswith(b":"):  # it waits for the next event
                break
    assert [e.call.status for e in told if isinstance(e, CallSettled)] == ["cancelled"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_cancelling_who_sends_the_events_ends_the_run() -> None:
    told: list[Event] = []
    agent = piecewise("a", Step("done", delay=60))
    sending = asyncio.create_task(
        text_of(sse.events(Pipeline([agent]), "the task", on_event=told.append))
    )
    assert isinstance(agent.llm, ScriptedLLM)
    while not agent.llm.requests:
        await asyncio.sleep(0)
    sending.cancel()
    await asyncio.wait([sending])
    assert [e.call.status for e in told if isinstance(e, CallSettled)] == ["cancelled"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
