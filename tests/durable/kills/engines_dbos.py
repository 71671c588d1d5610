"""The cluster in the kill suite: DBOS on a PostgreSQL server of the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import ClassVar, cast

import psycopg

from pyagent_patterns.durable.dbos import Cluster
from pyagent_patterns.durable.teams import Team, load
from pyagent_patterns.durable.views import RunView
from pyagent_patterns.errors import UnknownRunError
from pyagent_patterns.events import Observer
from pyagent_patterns.result import Result
from pyagent_providers.types import JSONValue
from tests.durable import postgres

from .engines import RecordedCall, RecordedRun, Row


class DbosEngine:
    """`Cluster`; its address is the database's URL."""

    name = "dbos"
    kills = 100
    window = 0.15
    lanes = 8  # each process has connections to the server, and takes its time to start
    lease, short_lease = 15.0, 0.5
    large = 1_000_000
    driven_by = "caller"
    lacks: ClassVar[Mapping[Row, str]] = {
        "1000_suspended_runs": "a worker gives signs of life, and looks at its queues, however many"
        " runs it has; tests/durable/test_dbos.py has a test of suspended runs",
    }

    def __init__(self, address: str, lease: float) -> None:
        self._url = address
        self._lease = lease

    @classmethod
    def missing(cls) -> str | None:
        return postgres.missing()

    @classmethod
    @contextmanager
    def stores(cls, directory: Path) -> Generator[Callable[[], str]]:
        # Processes are killed, the machine is not: a commit need not wait for the disk.
        with postgres.LocalPostgres(sync=False) as server:
            yield server.new_database

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[_OpenedCluster]:
        async with Cluster(self._url, lease=self._lease) as cluster:
            await cluster.join()
            yield _OpenedCluster(cluster)

    async def recorded(self, run_id: str) -> RecordedRun | None:
        async with Cluster(self._url) as cluster:
            try:
                detail = await cluster.get(run_id)
            except UnknownRunError:
                return None
        return RecordedRun(
            status=detail.run.status,
            cost=detail.run.cost,
            calls={
                call.key: RecordedCall(
                    begun=call.begun,
                    response_ids=tuple(
                        a.response_id or "" for a in call.attempts if a.status == "ok"
                    ),
                    cost=sum((a.cost or Decimal(0) for a in call.attempts), Decimal(0)),
                )
                for call in detail.calls
                if call.activity == "ask"
            },
            untaken=self._untaken(run_id),
            wanted={wanted.key: wanted for wanted in detail.wanted},
        )

    def _untaken(self, run_id: str) -> tuple[JSONValue, ...]:
        with psycopg.connect(self._url) as connection:
            rows = connection.execute(
                "SELECT value FROM pyagent.signal WHERE run = %s AND taken_by IS NULL ORDER BY id",
                (run_id,),
            ).fetchall()
        return tuple(json.loads(value)["value"] for (value,) in rows)


class _OpenedCluster:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def run(self, team: Team, run_id: str, task: str, on_event: Observer) -> Result:
        return await team.run(task, run_id=run_id, durable=self._cluster, on_event=on_event)

    async def signal(self, run_id: str, name: str, value: JSONValue) -> None:
        await self._cluster.signal(run_id, name, value)

    async def resume_all(self) -> Mapping[str, Result | Exception]:
        async def go_on(run: RunView) -> Result | Exception:
            team = cast(Team, load(run.team or ""))
            try:
                return await team.run(run.task, run_id=run.run_id, durable=self._cluster)
            except Exception as error:
                return error

        runs = [run for run in await self._cluster.list() if run.status == "running" or run.due]
        outcomes = await asyncio.gather(*(go_on(run) for run in runs))
        return {run.run_id: outcome for run, outcome in zip(runs, outcomes, strict=True)}
