"""The FastAPI example over real HTTP: events as they happen, and a plan that a person approves."""

from __future__ import annotations

import asyncio
import json
import runpy
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from pyagent_patterns import sse
from pyagent_patterns.base import Pattern
from pyagent_patterns.durable import Runs
from pyagent_patterns.events import CallSettled, Event
from pyagent_patterns.orchestration import Pipeline
from pyagent_providers.testing import ScriptedLLM, Step
from tests.patterns.streams import piecewise
from tests.patterns.test_sse import parsed
from tests.wire import CHAT, WireServer
from tests.wire.team import team_responder

fastapi = pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "fastapi_app.py"


@asynccontextmanager
async def serving(app: object) -> AsyncGenerator[aiohttp.ClientSession]:
    """A client of the application, over real HTTP."""
    config = uvicorn.Config(app, port=0, log_level="warning", ws="none")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
    server.should_exit = True
    await task


async def events_of(client: aiohttp.ClientSession, run_id: str) -> list[dict[str, object]]:
    async with client.get(f"/runs/{run_id}/events") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        return [json.loads(event["data"]) for event in parsed(await response.text())]


@pytest.fixture
def example(wire: WireServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, object]:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    monkeypatch.setenv("OPENAI_BASE_URL", wire.base_url(CHAT))
    monkeypatch.setenv("PYAGENT_DB", str(tmp_path / "runs.db"))
    wire.respond(team_responder())
    return runpy.run_path(str(EXAMPLE))


async def test_a_run_waits_for_its_plan_to_be_approved_and_is_streamed_to_its_end(
    example: dict[str, object], wire: WireServer
) -> None:
    async with serving(example["app"]) as client:
        assert "EventSource" in await (await client.get("/")).text()
        begun = await client.post("/runs", json={"task": "Why is the sea salty?"})
        run_id = (await begun.json())["run_id"]
        *_, wanted, stopped = await events_of(client, run_id)
        assert (stopped["type"], stopped["status"]) == ("run_stopped", "suspended")
        assert wanted["type"] == "approval_wanted"
        key = wanted["wanted"]["key"]
        asked = len(wire.requests)
        url = f"/runs/{run_id}/decisions"
        wrong = await client.post(url, json={"key": "another", "approved": True})
        assert wrong.status == 409
        assert (await client.post(url, json={"key": key, "approved": True})).status == 204
        events = await events_of(client, run_id)
        assert events[-1]["type"] == "run_done"
        result = events[-1]["result"]
        assert result["status"] == "completed"
        said = [e["text"] for e in events if e["type"] == "text_delta" and e["closing"]]
        assert "".join(said) == result["output"]
        assert len(said) > 1
        assert len(wire.requests) == asked + 3  # two workers and the answer: no second plan
        again = await events_of(client, run_id)
        assert again[-1]["result"]["output"] == result["output"]
        assert len(wire.requests) == asked + 3


async def test_a_plan_that_is_declined_ends_the_run(example: dict[str, object]) -> None:
    async with serving(example["app"]) as client:
        begun = await client.post("/runs", json={"task": "Why is the sea salty?"})
        run_id = (await begun.json())["run_id"]
        *_, wanted, _ = await events_of(client, run_id)
        declined = {"key": wanted["wanted"]["key"], "approved": False, "reason": "too dear"}
        assert (await client.post(f"/runs/{run_id}/decisions", json=declined)).status == 204
        *_, last = await events_of(client, run_id)
        assert last["type"] == "run_stopped"
        assert last["status"] != "suspended"
        assert (await client.get("/runs/nothing/events")).status == 404


def streamed(team: Pattern, runs: Runs, told: list[Event]):
    """An application with one run, whose events are noted."""
    from fastapi.responses import StreamingResponse

    app = fastapi.FastAPI()

    @app.get("/runs/one/events")
    async def events() -> StreamingResponse:
        stream = sse.events(
            team, "the task", run_id="one", durable=runs, on_event=told.append, heartbeat=0.05
        )
        return StreamingResponse(stream, headers=dict(sse.HEADERS))

    return app


async def test_a_client_that_goes_away_cancels_the_run_and_may_come_back_to_it(
    tmp_path: Path,
) -> None:
    told: list[Event] = []
    slow = piecewise("b", Step("never", delay=60), "the final answer")
    team = Pipeline([piecewise("a", "a did it"), slow])
    assert isinstance(slow.llm, ScriptedLLM)
    with Runs(tmp_path / "runs.db") as runs:
        async with serving(streamed(team, runs, told)) as client:
            async with client.get("/runs/one/events") as response:
                while not slow.llm.requests:
                    assert await response.content.readline()
            while not any(isinstance(e, CallSettled) and e.call.agent == "b" for e in told):
                await asyncio.sleep(0.01)
            while (await runs.get("one")).run.is_owned:
                await asyncio.sleep(0.01)
            events = await events_of(client, "one")
    assert [e.call.status for e in told if isinstance(e, CallSettled)][:2] == ["ok", "cancelled"]
    assert events[-1]["result"]["output"] == "the final answer"
    assert events[-1]["result"]["resumed"]["replayed"] == 1
