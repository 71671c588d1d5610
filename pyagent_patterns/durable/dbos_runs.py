"""The cluster's own tables: who executes which run, what it waits for, and how it ended.

Every write of an execution says whose it is, and is refused when the run is no longer that one's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from pyagent_patterns.errors import (
    InputChanged,
    JournalError,
    LeaseLost,
    RunCancelled,
    UnknownRunError,
)
from pyagent_patterns.journal import FINISHED, Call, RunEnd, RunStart, Status
from pyagent_providers.types import JSONValue

from .dbos_database import Connection, Database
from .values import LIMIT

CHANNEL: Final = "pyagent_due"  # notified when a run is there to be executed

encode: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
Row = dict[str, Any]

_TAKE: Final = """
    UPDATE pyagent.run SET execution = execution + 1, owner = %(owner)s,
        -- One that has its result is only told again: nothing can become of it but what it is.
        status = CASE WHEN status IN ('completed', 'partial') THEN status ELSE 'running' END,
        team = coalesce(%(team)s, team), due = NULL, wake_at = NULL, waiting_for = '[]',
        error = NULL, updated = pyagent.now()
    WHERE id = ANY(%(ids)s) RETURNING *"""


_DOUBT: Final = """
    INSERT INTO pyagent.doubt (run, key, times) VALUES (%s, %s, 1)
    ON CONFLICT (run, key) DO UPDATE SET times = pyagent.doubt.times + 1"""


@dataclass(frozen=True, slots=True)
class Claim:
    """One execution of a run, by the worker `owner`."""

    run_id: str
    owner: str
    execution: int
    team: str | None
    pattern: str | None
    task: str
    first_traceparent: str | None


@dataclass(frozen=True, slots=True)
class Own:
    """A call on record that is not a question. `value` is None if it was begun and never ended."""

    input_hash: str
    value: str | None


class RunTable:
    """The operations on `pyagent.run` and what belongs to a run. All raise `JournalError`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.explaining = database.explaining

    # From anywhere

    async def submit(self, run_id: str, team: str, task: str) -> None:
        stored = stored_json("the task", task)
        async with self._database.transaction() as db:
            await db.execute(
                "INSERT INTO pyagent.run (id, team, task, status, due, created, updated)"
                " VALUES (%s, %s, %s, 'running', pyagent.now(), pyagent.now(), pyagent.now())"
                " ON CONFLICT DO NOTHING",
                (run_id, team, stored),
            )
            found = await db.execute("SELECT team, task FROM pyagent.run WHERE id = %s", (run_id,))
            if await found.fetchone() != {"team": team, "task": stored}:
                raise InputChanged(run_id, "task")
            await db.execute("SELECT pg_notify(%s, '')", (CHANNEL,))

    async def signal(self, run_id: str, name: str, value: JSONValue) -> None:
        stored = stored_json(f"signal {name!r}", {"value": value})
        async with self._database.transaction() as db:
            run = await self._locked(db, run_id)
            if run["status"] in FINISHED:
                raise JournalError(f"run {run_id!r} is {run['status']}; it takes no signals")
            await db.execute(
                "INSERT INTO pyagent.signal (run, name, value, sent)"
                " VALUES (%s, %s, %s, pyagent.now())",
                (run_id, name, stored),
            )
            if run["status"] == "suspended" and name in json.loads(run["waiting_for"]):
                await self._make_due(db, run_id)

    async def cancel(self, run_id: str) -> None:
        async with self._database.transaction() as db:
            run = await self._locked(db, run_id)
            if run["status"] in FINISHED:
                raise JournalError(f"run {run_id!r} is {run['status']} already")
            await db.execute(
                "UPDATE pyagent.run SET status = 'cancelled', owner = NULL, due = NULL,"
                " updated = pyagent.now() WHERE id = %s",
                (run_id,),
            )

    async def get(self, run_id: str) -> Row:
        rows = await self._rows("SELECT * FROM pyagent.run WHERE id = %s", (run_id,))
        if not rows:
            raise UnknownRunError(run_id, str(self._database.address))
        return rows[0]

    async def newest(self, status: Status | None, limit: int | None) -> list[Row]:
        return await self._rows(
            "SELECT * FROM pyagent.run WHERE %(status)s::text IS NULL"
            " OR status = %(status)s ORDER BY created DESC, id LIMIT %(limit)s",
            {"status": status, "limit": limit},
        )

    async def doubts(self, run_id: str) -> dict[str, int]:
        """How often questions were begun and left no answer, by key."""
        rows = await self._rows("SELECT key, times FROM pyagent.doubt WHERE run = %s", (run_id,))
        return {row["key"]: row["times"] for row in rows}

    async def own_calls(self, run_id: str) -> list[Row]:
        return await self._rows(
            "SELECT * FROM pyagent.call WHERE run = %s ORDER BY t0, key", (run_id,)
        )

    # By workers

    async def claim_due(self, owner: str, limit: int) -> list[Claim]:
        """Take runs that may go on, those that have waited longest first."""
        async with self._database.transaction() as db:
            found = await db.execute(
                "SELECT id FROM pyagent.run WHERE due <= pyagent.now() ORDER BY due LIMIT %s"
                " FOR UPDATE SKIP LOCKED",
                (limit,),
            )
            ids = [row["id"] for row in await found.fetchall()]
            return await self._take(db, ids, owner) if ids else []

    async def claim(self, start: RunStart, team: str | None, owner: str) -> Claim | str:
        """Take this run, new or known; or the worker that executes it.

        Raises RunCancelled, and InputChanged for another task or pattern than the recorded one.
        """
        stored = stored_json("the task", start.task)
        async with self._database.transaction() as db:
            await db.execute(
                "INSERT INTO pyagent.run (id, team, pattern, task, status, created, updated)"
                " VALUES (%s, %s, %s, %s, 'running', pyagent.now(), pyagent.now())"
                " ON CONFLICT DO NOTHING",
                (start.run_id, team, start.pattern, stored),
            )
            run = await self._locked(db, start.run_id)
            if run["task"] != stored or run["pattern"] not in (start.pattern, None):
                raise InputChanged(start.run_id, "task")
            if run["status"] == "cancelled":
                raise RunCancelled(start.run_id)
            if run["owner"] is not None:
                return cast(str, run["owner"])
            [claim] = await self._take(db, [start.run_id], owner, team)
            return claim

    async def owned(self, owner: str) -> set[tuple[str, int]]:
        """The runs, each with its execution, that are the worker's."""
        rows = await self._rows("SELECT id, execution FROM pyagent.run WHERE owner = %s", (owner,))
        return {(row["id"], row["execution"]) for row in rows}

    async def release(self, owner: str, run_id: str | None = None) -> None:
        """Give up the worker's runs, or the one of them, for any worker to go on with."""
        async with self._database.transaction() as db:
            await db.execute(
                "UPDATE pyagent.run SET owner = NULL, updated = pyagent.now(),"
                " due = CASE WHEN team IS NOT NULL AND status = 'running' THEN pyagent.now() END"
                " WHERE owner = %(owner)s AND id = coalesce(%(id)s, id)",
                {"owner": owner, "id": run_id},
            )
            await db.execute("SELECT pg_notify(%s, '')", (CHANNEL,))

    async def doubt_queued(self, run_id: str, key: str) -> None:
        """Note that a worker had taken a question from a queue, and left no answer."""
        async with self._database.transaction() as db:
            await db.execute(_DOUBT, (run_id, key))

    # By the execution that owns the run

    async def started(self, claim: Claim, start: RunStart) -> dict[str, Own]:
        """Note what is known only now; the calls on record that are not questions."""
        async with self._database.transaction() as db:
            await db.execute(
                "UPDATE pyagent.run SET pattern = %s, traceparent = coalesce(traceparent, %s)"
                " WHERE id = %s",
                (start.pattern, start.traceparent, claim.run_id),
            )
            found = await db.execute(
                "SELECT key, input_hash, value FROM pyagent.call WHERE run = %s", (claim.run_id,)
            )
            return {
                row["key"]: Own(row["input_hash"], row["value"]) for row in await found.fetchall()
            }

    async def check(self, claim: Claim) -> None:
        """Raise LeaseLost or RunCancelled unless the run is still this execution's."""
        async with self._database.transaction() as db:
            await self._check(db, claim)

    async def doubt(self, claim: Claim, key: str) -> dict[str, int]:
        """Note that a question was begun and left no answer; all such by their keys, with it."""
        async with self._database.transaction() as db:
            await self._check(db, claim)
            await db.execute(_DOUBT, (claim.run_id, key))
        return await self.doubts(claim.run_id)

    async def begin(self, claim: Claim, call: Call) -> None:
        """Intent first: a call that may have been made is known, whatever happens next."""
        given = stored_json(f"the input of call {call.key!r}", call.input)
        async with self._database.transaction() as db:
            await self._check(db, claim)
            await db.execute(
                "INSERT INTO pyagent.call (run, key, activity, input_hash, input, begun, t0)"
                " VALUES (%s, %s, %s, %s, %s, 1, pyagent.now())"
                " ON CONFLICT (run, key)"
                " DO UPDATE SET begun = pyagent.call.begun + 1, t0 = excluded.t0",
                (claim.run_id, call.key, call.activity, call.input_hash, given),
            )

    async def finish(self, claim: Claim, key: str, stored: str) -> None:
        async with self._database.transaction() as db:
            await self._check(db, claim)
            await db.execute(
                "UPDATE pyagent.call SET value = %s, t1 = pyagent.now()"
                " WHERE run = %s AND key = %s",
                (stored, claim.run_id, key),
            )

    async def take_signal(self, claim: Claim, key: str, name: str) -> str | None:
        """The next value that was sent under `name`, now this call's; None if there is none."""
        async with self._database.transaction() as db:
            await self._check(db, claim)
            found = await db.execute(
                "UPDATE pyagent.signal SET taken_by = %s WHERE id = (SELECT min(id) FROM"
                " pyagent.signal WHERE run = %s AND name = %s AND taken_by IS NULL)"
                " RETURNING value",
                (key, claim.run_id, name),
            )
            row = await found.fetchone()
            if row is None:
                return None
            await db.execute(
                "INSERT INTO pyagent.call (run, key, activity, input_hash, input, begun, value, t0,"
                " t1) VALUES (%s, %s, 'signal', %s, %s, 1, %s, pyagent.now(), pyagent.now())",
                (claim.run_id, key, name, encode({"input": name}), row["value"]),
            )
            return cast(str, row["value"])

    async def end(self, claim: Claim, end: RunEnd, *, calls: int, going_on: bool) -> None:
        """How the execution ended. With `going_on` another one may follow at once."""
        if end.status == "running":  # cut off: it is as it was when it was claimed
            async with self._database.transaction() as db:
                await self._check(db, claim)
                await db.execute(
                    "UPDATE pyagent.run SET owner = NULL, updated = pyagent.now() WHERE id = %s",
                    (claim.run_id,),
                )
                if going_on:
                    await self._make_due(db, claim.run_id)
            return
        result = None if end.result is None else stored_json("the result", end.result)
        totals = end.result or {}
        usage = cast("dict[str, int]", totals.get("usage") or {})
        async with self._database.transaction() as db:
            await self._check(db, claim)
            await db.execute(
                "UPDATE pyagent.run SET status = %(status)s, result = %(result)s,"
                " error = %(error)s, cost = coalesce(%(cost)s, cost),"
                " unpriced = coalesce(%(unpriced)s, unpriced), tokens = coalesce(%(tokens)s,"
                " tokens), calls = %(calls)s, owner = NULL, wake_at = %(wake_at)s,"
                " waiting_for = %(waiting_for)s, due = %(wake_at)s, updated = pyagent.now()"
                " WHERE id = %(id)s",
                {
                    "status": end.status,
                    "result": result,
                    "error": None if end.error is None else encode(end.error),
                    "cost": totals.get("cost_estimate"),
                    "unpriced": totals.get("unpriced"),
                    "tokens": usage["input_tokens"] + usage["output_tokens"] if usage else None,
                    "calls": calls,
                    "wake_at": end.wake_at,
                    "waiting_for": encode(end.waiting_for),
                    "id": claim.run_id,
                },
            )
            if end.waiting_for and await self._is_there(db, claim, end.waiting_for):
                await self._make_due(db, claim.run_id)

    async def fail(self, claim: Claim, error: str) -> None:
        """The execution could not begin, or not record how it ended: nothing will go on."""
        async with self._database.transaction() as db:
            await db.execute(
                "UPDATE pyagent.run SET status = 'failed', error = %s, owner = NULL, due = NULL,"
                " updated = pyagent.now() WHERE id = %s AND execution = %s AND status = 'running'"
                " AND coalesce(owner, %s) = %s",
                (encode(error), claim.run_id, claim.execution, claim.owner, claim.owner),
            )

    # How

    async def _rows(self, query: Any, values: Sequence[object] | dict[str, object]) -> list[Row]:
        async with self._database.transaction() as db:
            return await (await db.execute(query, values)).fetchall()

    async def _take(
        self, db: Connection, ids: Sequence[str], owner: str, team: str | None = None
    ) -> list[Claim]:
        values = {"ids": list(ids), "owner": owner, "team": team}
        return [_claim(row) for row in await (await db.execute(_TAKE, values)).fetchall()]

    async def _locked(self, db: Connection, run_id: str) -> Row:
        """The run, which nobody else changes before this transaction ends."""
        found = await db.execute("SELECT * FROM pyagent.run WHERE id = %s FOR UPDATE", (run_id,))
        row = await found.fetchone()
        if row is None:
            raise UnknownRunError(run_id, str(self._database.address))
        return row

    async def _check(self, db: Connection, claim: Claim) -> None:
        """Raise unless the run is still this execution's; until the end it then stays so."""
        run = await self._locked(db, claim.run_id)
        if (run["owner"], run["execution"]) != (claim.owner, claim.execution):
            raise lost(claim.run_id, run["status"])

    async def _is_there(self, db: Connection, claim: Claim, names: Sequence[str]) -> bool:
        found = await db.execute(
            "SELECT 1 FROM pyagent.signal WHERE run = %s AND taken_by IS NULL AND name = ANY(%s)"
            " LIMIT 1",
            (claim.run_id, list(names)),
        )
        return await found.fetchone() is not None

    async def _make_due(self, db: Connection, run_id: str) -> None:
        await db.execute("UPDATE pyagent.run SET due = pyagent.now() WHERE id = %s", (run_id,))
        await db.execute("SELECT pg_notify(%s, '')", (CHANNEL,))


def lost(run_id: str, status: str | None) -> LeaseLost | RunCancelled:
    """Why a run is not its execution's any more."""
    return RunCancelled(run_id) if status == "cancelled" else LeaseLost(run_id)


def stored_json(what: str, value: JSONValue) -> str:
    """The text to store for `value`. Raises JournalError for one too large, or not JSON."""
    try:
        text = encode(value)
    except (TypeError, ValueError) as error:
        raise JournalError(f"the value of {what} cannot be stored as JSON: {error}") from error
    if len(text) > LIMIT:
        raise JournalError(
            f"the value of {what} is {len(text) / 2**20:.1f} MB of JSON; a cluster takes at most "
            f"{LIMIT // 2**20} MB: keep large data elsewhere and pass a reference to it"
        )
    return text


def _claim(row: Row) -> Claim:
    return Claim(
        run_id=row["id"],
        owner=row["owner"],
        execution=row["execution"],
        team=row["team"],
        pattern=row["pattern"],
        task=json.loads(row["task"]),
        first_traceparent=row["traceparent"] if row["execution"] > 1 else None,
    )
