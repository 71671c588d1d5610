"""The runs in one PostgreSQL database: to submit them, to execute them, and to look at them."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Sequence
from decimal import Decimal
from types import TracebackType
from typing import Final, Self, Unpack, cast

from pyagent_patterns import ledger
from pyagent_patterns.durable import teams
from pyagent_patterns.durable.submission import HowSubmitted, Submission
from pyagent_patterns.durable.teams import Team
from pyagent_patterns.durable.views import CallView, RunDetail, RunView, waiting
from pyagent_patterns.errors import PyAgentError, RunCancelled, UnknownRunError
from pyagent_patterns.events import Observer
from pyagent_patterns.journal import FINISHED, Journal, RunStart, Status
from pyagent_patterns.result import Result
from pyagent_providers.redaction import redacted_json
from pyagent_providers.types import JSONObject, JSONValue

from .database import Address, Database, Row
from .questions import Limit
from .record import Found, Record
from .run_table import OwnCall, RunTable, encode
from .worker import LEASE, Worker

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
        self._record = Record(self._address)
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
        await self._record.close()
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

    async def submit(self, team: str, task: str, **how: Unpack[HowSubmitted]) -> str:
        """Have a run executed by whichever worker is free; its id.

        `team` names the pattern for the workers, as `package.module:object`; `run_id`, `inputs`,
        `budget`, `tenant` and `user` are as for `Pattern.run`, and hold in whichever process
        executes the run. Inputs are checked where the team can be imported here, else by the
        worker. Submitting a run again under its id changes nothing.

        Raises TypeError or ValueError for a task, inputs, a tenant or a user that are none,
        ValueError for such a name that is not one, InputChanged when the id is that of another run.
        """
        run = Submission.of(team, task, **how)
        await self._runs.submit(run)
        return run.run_id

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
        await self._runs.signal(run_id, name, redacted_json(value))

    async def cancel(self, run_id: str) -> None:
        """End a run for good. Where it is executed, it stops within a second.

        Raises UnknownRunError, and JournalError for a run that has ended.
        """
        cancelled = await self._runs.cancel(run_id)
        if cancelled["execution"]:
            with self._database.explaining():
                await self._record.withdraw(run_id)

    async def resume(
        self, run_id: str, team: Team | None = None, *, on_event: Observer | None = None
    ) -> Result:
        """Go on with a run in this process; what is on record is not asked, and not paid, again.

        Workers go on by themselves with what was submitted, interrupted or is due; this is for a
        fork, for a run that nobody else can go on with, and to see one. `team` is the pattern that
        it is a run of; without it, the one is imported that the run names. Should this process die,
        a worker goes on. A run that has ended gives its result, or its error, again.

        Raises UnknownRunError, LookupError when the team cannot be imported, RunBusyError when
        another worker executes the run, and what `run` raises.
        """
        run = await self._runs.get(run_id)
        team = team or teams.of_run(run_id, run["team"])
        return await team.run(
            json.loads(run["task"]), run_id=run_id, durable=self, on_event=on_event
        )

    async def team_of(self, run_id: str) -> Team:
        """The team that a run's record names, imported.

        Raises UnknownRunError, and LookupError when there is none.
        """
        return teams.of_run(run_id, (await self._runs.get(run_id))["team"])

    async def fork(self, run_id: str, *, from_key: str | None = None) -> str:
        """A new run with the answers of this one; `resume` it. The new run's id.

        In it a call whose input has changed, since a prompt, a model or the code was edited, is
        made again, and so is what depends on it; all else is taken from the record, unpaid. Calls
        that had failed are made again; with `from_key` that call is, whatever is on record.

        Raises UnknownRunError, and LookupError for a key that the run does not have.
        """
        calls = await self._on_record(await self._runs.get(run_id))
        done = [call for call in calls if call.value is not None]
        if from_key is not None and from_key not in {call.key for call in done}:
            known = ", ".join(repr(call.key) for call in done)
            raise LookupError(
                f"run {run_id!r} has no finished call {from_key!r}; it has {known or 'none'}"
            )
        new = uuid.uuid4().hex
        kept = [call for call in done if call.key != from_key and not _failed(call)]
        await self._runs.fork(run_id, new, kept)
        return new

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

    async def find(self, prefix: str) -> str:
        """The id of the only run whose id begins with `prefix`.

        Raises UnknownRunError when there is none, LookupError when there are several.
        """
        ids = await self._runs.ids(prefix)
        if prefix in ids:
            return prefix
        if not ids:
            raise UnknownRunError(prefix, str(self._address))
        if len(ids) > 1:
            raise LookupError(f"{len(ids)} runs begin with {prefix!r}; give more of the id")
        return ids[0]

    async def list(
        self, *, status: Status | None = None, limit: int | None = None
    ) -> Sequence[RunView]:
        """The runs, the newest first."""
        rows = await self._runs.newest(status, limit)
        return [
            _view(row, () if row["cost"] is not None else await self._calls(row)) for row in rows
        ]

    # Clearing away

    async def prune(self, *, older_than: float, status: Sequence[Status] = FINISHED) -> int:
        """Delete the runs that ended more than `older_than` seconds ago; how many it were.

        Only those of the given `status`; by default all that have ended, and none that can go on.
        """
        gone = 0
        while runs := await self._runs.begin_pruning(older_than, status):
            with self._database.explaining():
                await self._record.forget_all([run["id"] for run in runs if run["execution"]])
            await self._runs.delete([run["id"] for run in runs])
            gone += len(runs)
        return gone

    # How

    async def _member(self) -> Worker:
        async with self._joining:
            if self._worker is None:
                worker = Worker(self._database, self._runs, self._record, self._limits, self._lease)
                await worker.join()
                self._worker = worker
            return self._worker

    async def _calls(self, row: Row) -> tuple[CallView, ...]:
        return tuple(_call_view(call) for call in await self._on_record(row))

    async def _on_record(self, row: Row) -> list[OwnCall]:
        """All calls of a run, oldest first: questions, and the others."""
        asked: dict[str, Found] = {}
        if row["execution"]:  # else there may be no tables of DBOS yet
            with self._database.explaining():
                asked = await self._record.questions(row["id"])
        doubts = await self._runs.doubts(row["id"]) if asked else {}
        own = await self._runs.calls(row["id"])
        calls = [
            *(call for call in own if call.key not in asked),  # a copy that was asked again
            *(_as_own(key, found, 1 + doubts.get(key, 0)) for key, found in asked.items()),
        ]
        return sorted(calls, key=lambda call: (call.started_at, call.key))


def _view(row: Row, calls: Sequence[CallView]) -> RunView:
    cost, unpriced, tokens = row["cost"], row["unpriced"], row["tokens"]
    if row["status"] not in FINISHED or cost is None:  # what is on record so far
        attempts = [attempt for call in calls for attempt in call.attempts]
        cost, unpriced = ledger.total_cost(attempts), ledger.unpriced(attempts)
        tokens = ledger.total_usage(attempts).total_tokens
    return RunView(
        run_id=row["id"],
        pattern=row["pattern"] or "",
        name=row["name"] or row["pattern"] or "",
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
        forked_from=row["forked_from"],
        created_at=row["created"],
        updated_at=row["updated"],
    )


def _call_view(call: OwnCall) -> CallView:
    return CallView(
        key=call.key,
        activity=call.activity,
        input=json.loads(call.input),
        state="begun" if call.value is None else "done",
        begun=call.begun,
        copied=call.copied,
        value=None if call.value is None else json.loads(call.value),
        started_at=call.started_at,
        ended_at=call.ended_at,
    )


def _as_own(key: str, found: Found, begun: int) -> OwnCall:
    return OwnCall(
        key=key,
        activity="ask",
        input_hash=found.input_hash,
        input=encode(found.question),
        value=None if found.value is None else encode(found.value),
        begun=begun,
        copied=False,
        started_at=found.started_at,
        ended_at=found.ended_at,
    )


def _failed(call: OwnCall) -> bool:
    return call.activity == "ask" and json.loads(call.value or "{}").get("text") is None
