"""Runs on many machines: DBOS Transact on PostgreSQL.

    async with Cluster("postgresql://...") as cluster:
        run_id = await cluster.submit("package.module:team", "the task")
        result = await cluster.result(run_id)

while `pyagent worker --database-url postgresql://...`, on any number of machines that can import
the team, does the work. It needs `pip install "pyagent-sdk[dbos]"`.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Sequence
from decimal import Decimal
from types import TracebackType
from typing import Final, Self, cast

from pyagent_patterns import ledger
from pyagent_patterns.errors import PyAgentError, RunCancelled
from pyagent_patterns.journal import FINISHED, Journal, RunStart, Status
from pyagent_providers.types import JSONObject, JSONValue

try:
    from .dbos_calls import Limit
except ModuleNotFoundError as missing:
    if missing.name not in ("dbos", "psycopg"):
        raise
    raise ImportError('a cluster needs DBOS: pip install "pyagent-sdk[dbos]"') from missing

from .dbos_database import Address, Database
from .dbos_looking import Looking
from .dbos_runs import Row, RunTable
from .dbos_worker import LEASE, Worker
from .views import CallView, RunDetail, RunView, waiting

__all__ = ["Cluster", "Limit"]

_POLL: Final = 0.1  # seconds between two looks at whether a run has ended


class Cluster:
    """The runs in one PostgreSQL database, which any number of processes execute.

    As it is, it submits runs and looks at them. With `work` the process is a worker: it takes up
    runs, and takes over those of a worker whose process is gone, or that was silent for `lease`
    seconds. It can also be given to `run(durable=...)`: then the run is executed here,
    and by another worker if this process dies. One process can be one worker.

    `limits` hold for all workers of the database together, whichever of them sets them, until they
    are set anew. Use it as an async context manager.
    """

    def __init__(
        self, database_url: str, *, limits: Sequence[Limit] = (), lease: float = LEASE
    ) -> None:
        if not lease > 0:
            raise ValueError(f"lease must be a number of seconds above 0; got {lease!r}")
        self._address = Address(database_url)
        self._database = Database(self._address)
        self._runs = RunTable(self._database)
        self._looking = Looking(self._address)
        self._limits = tuple(limits)
        self._lease = lease
        self._worker: Worker | None = None
        self._joining = asyncio.Lock()

    def __repr__(self) -> str:
        return f"Cluster({str(self._address)!r})"

    async def __aenter__(self) -> Self:
        """Raises JournalError when the database cannot be used."""
        await self._database.prepare()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._worker is not None:
            await self._worker.leave()
        await self._looking.close()
        await self._database.close()

    # Work

    async def join(self) -> None:
        """Become a worker; `work` does it by itself. Raises what `work` raises."""
        await self._member()

    async def work(self, *, at_once: int = 100) -> None:
        """Execute runs, `at_once` at most, until cancelled.

        Then what is being answered is awaited and recorded, and the runs are left to other workers.

        Raises JournalError when the database cannot be used, and RuntimeError when the process
        uses DBOS for something else.
        """
        await (await self._member()).serve(at_once)

    async def open(self, start: RunStart) -> Journal:
        """What `run(durable=...)` needs: the run's journal, claimed for this process.

        Raises RunBusyError when another worker executes the run, RunCancelled, InputChanged for
        another task or pattern than the recorded one, and what `work` raises.
        """
        return await (await self._member()).open(start)

    # Runs

    async def submit(self, team: str, task: str, *, run_id: str | None = None) -> str:
        """Have a run executed by whichever worker is free; its id.

        `team` names the pattern for the workers, as `package.module:object`. Submitting a run
        again under its id changes nothing. Raises ValueError for an empty task or such a name that
        is not one, InputChanged when the id is that of another run.
        """
        if not task.strip():
            raise ValueError("task is empty; say what to do")
        if not all(team.rpartition(":")):
            raise ValueError(f"a team is named as package.module:object; got {team!r}")
        run_id = run_id or uuid.uuid4().hex
        await self._runs.submit(run_id, team, task)
        return run_id

    async def result(self, run_id: str, *, timeout: float | None = None) -> JSONObject:  # noqa: ASYNC109
        """Wait for a run to end: `Result.to_dict()` of its result.

        Raises PyAgentError with the text of what the run raised, RunCancelled, UnknownRunError,
        and TimeoutError when it has not ended after `timeout` seconds.
        """
        async with asyncio.timeout(timeout):
            run = await self._runs.get(run_id)
            while run["status"] not in FINISHED:
                await asyncio.sleep(_POLL)
                run = await self._runs.get(run_id)
        if run["status"] == "cancelled":
            raise RunCancelled(run_id)
        if run["status"] == "failed":
            raise PyAgentError(json.loads(run["error"]))
        return cast(JSONObject, json.loads(run["result"]))

    async def signal(self, run_id: str, name: str, value: JSONValue = None) -> None:
        """Send a run a value under a name. It is kept until the run waits for it.

        A run that is suspended for it goes on at once, on any worker. Raises UnknownRunError, and
        JournalError for a run that has ended.
        """
        await self._runs.signal(run_id, name, value)

    async def cancel(self, run_id: str) -> None:
        """End a run for good. Where it is executed, it stops within a second.

        Raises UnknownRunError, and JournalError for a run that has ended.
        """
        await self._runs.cancel(run_id)
        with self._database.explaining():
            await self._looking.cancel_queued(run_id)

    # Looking

    async def status(self, run_id: str) -> RunView:
        """Raises UnknownRunError."""
        return (await self.get(run_id)).run

    async def get(self, run_id: str) -> RunDetail:
        """A run with its calls. Raises UnknownRunError."""
        row = await self._runs.get(run_id)
        calls = await self._calls(row)
        return RunDetail(
            run=_view(row, calls),
            calls=calls,
            result=row["result"] and cast(JSONObject, json.loads(row["result"])),
        )

    async def list(
        self, *, status: Status | None = None, limit: int | None = None
    ) -> Sequence[RunView]:
        """The runs, the newest first."""
        rows = await self._runs.newest(status, limit)
        return [
            _view(row, () if row["cost"] is not None else await self._calls(row)) for row in rows
        ]

    # How

    async def _member(self) -> Worker:
        async with self._joining:
            if self._worker is None:
                worker = Worker(self._database, self._runs, self._limits, self._lease)
                await worker.join()
                self._worker = worker
            return self._worker

    async def _calls(self, row: Row) -> tuple[CallView, ...]:
        if row["execution"] == 0:
            return ()
        own = [_own_view(call) for call in await self._runs.own_calls(row["id"])]
        with self._database.explaining():
            doubts = await self._runs.doubts(row["id"])
            asked = await self._looking.questions(row["id"], doubts)
        return tuple(sorted([*own, *asked], key=lambda call: call.started_at))


def _view(row: Row, calls: Sequence[CallView]) -> RunView:
    cost, unpriced, tokens = row["cost"], row["unpriced"], row["tokens"]
    if row["status"] not in FINISHED or cost is None:  # what is on record so far
        attempts = [attempt for call in calls for attempt in call.attempts]
        cost, unpriced = ledger.total_cost(attempts), ledger.unpriced(attempts)
        tokens = ledger.total_usage(attempts).total_tokens
    return RunView(
        run_id=row["id"],
        pattern=row["pattern"] or "",
        team=row["team"],
        task=json.loads(row["task"]),
        status=row["status"],
        is_owned=row["owner"] is not None,
        due=row["due"] is not None and row["due"] <= time.time(),
        execution=row["execution"],
        error=row["error"] and json.loads(row["error"]),
        cost=Decimal(cost),
        unpriced=unpriced or 0,
        tokens=tokens or 0,
        calls=len(calls) or row["calls"] or 0,
        waiting_for=waiting(json.loads(row["waiting_for"])),
        wake_at=row["wake_at"],
        forked_from=None,
        created_at=row["created"],
        updated_at=row["updated"],
    )


def _own_view(row: Row) -> CallView:
    return CallView(
        key=row["key"],
        activity=row["activity"],
        input=json.loads(row["input"]),
        state="begun" if row["value"] is None else "done",
        begun=row["begun"],
        copied=False,
        value=row["value"] and json.loads(row["value"]),
        started_at=row["t0"],
        ended_at=row["t1"],
    )
