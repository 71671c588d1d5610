"""The cluster's own tables: who executes which run, what it waits for, and how it ended.

Every write of an execution says whose it is, and does nothing when the run is no longer that one's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, LiteralString, cast

from pyagent_patterns.durable.submission import Submission
from pyagent_patterns.durable.values import LIMIT
from pyagent_patterns.errors import (
    InputChanged,
    JournalError,
    LeaseLost,
    RunCancelled,
    UnknownRunError,
)
from pyagent_patterns.journal import FINISHED, Call, RunEnd, RunStart, Status
from pyagent_providers.types import JSONObject, JSONValue

from .database import Database, Row

CHANNEL: Final = "pyagent_due"  # notified when a run is there to be executed; workers look anyway

encode: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode

_SUBMIT: Final = """
    WITH new AS (
        INSERT INTO pyagent.run (id, team, task, status, due, created, updated)
        VALUES (%(run)s, %(team)s, %(task)s, 'running', pyagent.now(), pyagent.now(), pyagent.now())
        ON CONFLICT DO NOTHING RETURNING id
    ), given AS (
        INSERT INTO pyagent.call (run, key, activity, input_hash, input, begun, value, t0, t1)
        SELECT id, activity || ':submitted', activity, value, value, 1, value, pyagent.now(),
            pyagent.now()
        FROM new, unnest(%(activities)s::text[], %(values)s::text[]) AS given (activity, value)
    ) SELECT pg_notify('pyagent_due', id) FROM new"""
_BEGIN_NEW: Final = """
    INSERT INTO pyagent.run (id, team, pattern, name, task, status, execution, owner, traceparent,
        created, updated)
    VALUES (%s, %s, %s, %s, %s, 'running', 1, %s, %s, pyagent.now(), pyagent.now())
    ON CONFLICT DO NOTHING RETURNING *"""
_TAKE: Final = """
    UPDATE pyagent.run SET execution = execution + 1, owner = %(owner)s,
        -- One that has its result is only told again: nothing can become of it but what it is.
        status = CASE WHEN status IN ('completed', 'partial') THEN status ELSE 'running' END,
        team = coalesce(%(team)s, team), pattern = coalesce(pattern, %(pattern)s),
        name = coalesce(%(name)s, name), traceparent = coalesce(traceparent, %(traceparent)s),
        due = NULL, wake_at = NULL, waiting_for = '[]', error = NULL, updated = pyagent.now() """
_TAKE_DUE: Final = (
    _TAKE
    + """WHERE id = ANY(ARRAY(
        SELECT id FROM pyagent.run WHERE due <= pyagent.now() AND team IS NOT NULL
        ORDER BY due LIMIT %(limit)s FOR UPDATE SKIP LOCKED)) RETURNING *"""
)
_RELEASE: Final = """
    WITH released AS (
        UPDATE pyagent.run SET owner = NULL, updated = pyagent.now(),
            due = CASE WHEN status = 'running' THEN pyagent.now() END
        WHERE owner = %(owner)s AND id = coalesce(%(id)s, id) RETURNING id
    ) SELECT pg_notify('pyagent_due', id) FROM released"""
_FORK: Final = """
    INSERT INTO pyagent.run (id, team, pattern, name, task, status, traceparent, forked_from,
        created, updated)
    SELECT %s, team, pattern, name, task, 'running', traceparent, id, pyagent.now(), pyagent.now()
    FROM pyagent.run WHERE id = %s"""
_COPY: Final = """
    INSERT INTO pyagent.call (run, key, activity, input_hash, input, begun, copied, value, t0, t1)
    VALUES (%s, %s, %s, %s, %s, 1, true, %s, %s, %s)"""
_PRUNE: Final = """
    UPDATE pyagent.run SET status = 'cancelled', due = NULL WHERE id = ANY(ARRAY(
        SELECT id FROM pyagent.run WHERE updated < pyagent.now() - %s AND owner IS NULL
            AND status = ANY(%s) LIMIT 100 FOR UPDATE SKIP LOCKED))
    RETURNING id, execution"""

# What an execution writes begins with its run, which then stays its own until that is written.
_IS_OWN: Final = "id = %(run)s AND owner = %(owner)s AND execution = %(execution)s"
_OWN: Final = f"WITH own AS (SELECT id FROM pyagent.run WHERE {_IS_OWN} FOR SHARE)"
_NOTE: Final = f"""
    UPDATE pyagent.run SET pattern = %(pattern)s, name = %(name)s,
        traceparent = coalesce(traceparent, %(traceparent)s)
    WHERE {_IS_OWN} RETURNING id"""
_BEGIN: Final = f"""{_OWN}
    INSERT INTO pyagent.call (run, key, activity, input_hash, input, begun, t0)
    SELECT id, %(key)s, %(activity)s, %(input_hash)s, %(input)s, 1, pyagent.now() FROM own
    ON CONFLICT (run, key) DO UPDATE SET begun = pyagent.call.begun + 1, copied = false,
        input_hash = excluded.input_hash, input = excluded.input, value = NULL, t0 = excluded.t0
    RETURNING key"""
_FINISH: Final = f"""{_OWN}
    UPDATE pyagent.call SET value = %(value)s, t1 = pyagent.now() FROM own
    WHERE run = own.id AND key = %(key)s RETURNING key"""
_DOUBT: Final = f"""{_OWN}
    INSERT INTO pyagent.doubt (run, key, times) SELECT id, %(key)s, 1 FROM own
    ON CONFLICT (run, key) DO UPDATE SET times = pyagent.doubt.times + 1 RETURNING key"""
_TAKE_SIGNAL: Final = f"""{_OWN}, taken AS (
        UPDATE pyagent.signal SET taken_by = %(key)s WHERE id = (
            SELECT id FROM pyagent.signal WHERE run = (SELECT id FROM own) AND name = %(name)s
                AND taken_by IS NULL ORDER BY id LIMIT 1 FOR UPDATE)
        RETURNING run, value)
    INSERT INTO pyagent.call (run, key, activity, input_hash, input, begun, value, t0, t1)
    SELECT run, %(key)s, 'signal', %(name)s, %(input)s, 1, value, pyagent.now(), pyagent.now()
    FROM taken RETURNING value"""
_STOP: Final = f"""
    UPDATE pyagent.run SET owner = NULL, updated = pyagent.now(),
        due = CASE WHEN %(going_on)s AND status = 'running' THEN pyagent.now() END
    WHERE {_IS_OWN} RETURNING id"""
_END: Final = f"""
    UPDATE pyagent.run SET status = %(status)s, result = %(result)s, error = %(error)s,
        cost = coalesce(%(cost)s, cost), unpriced = coalesce(%(unpriced)s, unpriced),
        tokens = coalesce(%(tokens)s, tokens), calls = %(calls)s, owner = NULL,
        wake_at = %(wake_at)s, waiting_for = %(waiting_for)s, due = %(wake_at)s,
        updated = pyagent.now()
    WHERE {_IS_OWN} RETURNING id"""
_WAKE: Final = """
    WITH woken AS (
        UPDATE pyagent.run SET due = pyagent.now() WHERE id = %(run)s AND status = 'suspended'
            AND EXISTS (SELECT 1 FROM pyagent.signal WHERE run = %(run)s AND taken_by IS NULL
                AND name IN (SELECT jsonb_array_elements_text(waiting_for::jsonb)))
        RETURNING id
    ) SELECT pg_notify('pyagent_due', id) FROM woken"""


@dataclass(frozen=True, slots=True)
class Claim:
    """One execution of a run, by the worker `owner`. `is_new`: it was begun by being claimed."""

    run_id: str
    owner: str
    execution: int
    is_new: bool
    team: str | None
    pattern: str | None
    task: str
    first_traceparent: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCall:
    """A call on record in these tables. `value` is None if it was begun and never ended.

    `input` and `value` are JSON texts, times Unix time. `copied`: from the run that this one was
    forked from.
    """

    key: str
    activity: str
    input_hash: str
    input: str
    value: str | None
    begun: int
    copied: bool
    started_at: float
    ended_at: float | None


class RunTable:
    """The operations on `pyagent.run` and what belongs to a run. All raise `JournalError`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.explaining = database.explaining

    # From anywhere

    async def submit(self, run: Submission) -> None:
        """Raises InputChanged when the id is that of another run."""
        task = stored_json("the task", run.task)
        values = {
            **{"run": run.run_id, "team": run.team, "task": task},
            "activities": list(run.on_record),
            "values": [encode(value) for value in run.on_record.values()],
        }
        if await self._database.row(_SUBMIT, values) is not None:
            return
        known = await self.get(run.run_id)
        if (known["team"], known["task"]) != (run.team, task):
            raise InputChanged(run.run_id, "task")
        before = {
            call.activity: cast(JSONObject, json.loads(call.value))
            for call in await self.calls(run.run_id)
            if call.key.endswith(":submitted") and call.value is not None
        }
        run.check_same(before)

    async def signal(self, run_id: str, name: str, value: JSONValue) -> None:
        stored = stored_json(f"signal {name!r}", {"value": value})
        async with self._database.transaction() as db:
            # An execution that is just ending waits for this, and then sees the signal.
            found = await db.execute(
                "SELECT * FROM pyagent.run WHERE id = %s FOR UPDATE", (run_id,)
            )
            run = self._known(run_id, await found.fetchone())
            if run["status"] in FINISHED:
                raise JournalError(f"run {run_id!r} is {run['status']}; it takes no signals")
            await db.execute(
                "INSERT INTO pyagent.signal (run, name, value, sent)"
                " VALUES (%s, %s, %s, pyagent.now())",
                (run_id, name, stored),
            )
            await db.execute(_WAKE, {"run": run_id})

    async def cancel(self, run_id: str) -> Row:
        cancelled = await self._database.row(
            "UPDATE pyagent.run SET status = 'cancelled', owner = NULL, due = NULL,"
            " updated = pyagent.now() WHERE id = %s AND status <> ALL(%s) RETURNING *",
            (run_id, list(FINISHED)),
        )
        if cancelled is None:
            raise JournalError(f"run {run_id!r} is {(await self.get(run_id))['status']} already")
        return cancelled

    async def fork(self, run_id: str, new: str, calls: Iterable[OwnCall]) -> None:
        async with self._database.transaction() as db:
            await db.execute(_FORK, (new, run_id))
            async with db.cursor() as cursor:
                await cursor.executemany(_COPY, [
                    (
                        *(new, call.key, call.activity, call.input_hash, call.input, call.value),
                        *(call.started_at, call.ended_at),
                    )
                    for call in calls
                ])  # fmt: skip

    async def begin_pruning(self, older_than: float, status: Sequence[Status]) -> list[Row]:
        """Some of the runs that are to be deleted, by id and execution; nobody takes one now."""
        return await self._database.rows(_PRUNE, (older_than, list(status)))

    async def delete(self, run_ids: Sequence[str]) -> None:
        await self._database.rows("DELETE FROM pyagent.run WHERE id = ANY(%s)", (list(run_ids),))

    async def get(self, run_id: str) -> Row:
        found = await self._database.row("SELECT * FROM pyagent.run WHERE id = %s", (run_id,))
        return self._known(run_id, found)

    async def ids(self, prefix: str) -> list[str]:
        """The ids that begin with `prefix`."""
        rows = await self._database.rows(
            "SELECT id FROM pyagent.run WHERE starts_with(id, %s)", (prefix,)
        )
        return [row["id"] for row in rows]

    async def newest(self, status: Status | None, limit: int | None) -> list[Row]:
        return await self._database.rows(
            "SELECT * FROM pyagent.run WHERE %(status)s::text IS NULL"
            " OR status = %(status)s ORDER BY created DESC, id LIMIT %(limit)s",
            {"status": status, "limit": limit},
        )

    async def doubts(self, run_id: str) -> dict[str, int]:
        """How often questions were begun and left no answer, by key."""
        rows = await self._database.rows(
            "SELECT key, times FROM pyagent.doubt WHERE run = %s", (run_id,)
        )
        return {row["key"]: row["times"] for row in rows}

    async def calls(self, run_id: str) -> list[OwnCall]:
        """The calls of the run that are on record here, oldest first."""
        rows = await self._database.rows(
            "SELECT key, activity, input_hash, input, value, begun, copied, t0 AS started_at,"
            " t1 AS ended_at FROM pyagent.call WHERE run = %s ORDER BY t0, key",
            (run_id,),
        )
        return [OwnCall(**row) for row in rows]

    # By workers

    async def claim_due(self, owner: str, limit: int) -> list[Claim]:
        """Take runs that may go on, those that have waited longest first."""
        values = {"owner": owner, "limit": limit, "team": None, "pattern": None}
        rows = await self._database.rows(_TAKE_DUE, {**values, "name": None, "traceparent": None})
        return [_claim(row, row["traceparent"]) for row in rows]

    async def claim(self, start: RunStart, team: str | None, owner: str) -> Claim | str:
        """Take this run, new or known; or the worker that executes it.

        Raises RunCancelled, and InputChanged for another task or pattern than the recorded one.
        """
        stored = stored_json("the task", start.task)
        what = (start.run_id, team, start.pattern, start.name, stored)
        values = (*what, owner, start.traceparent)
        new = await self._database.row(_BEGIN_NEW, values)
        if new is not None:
            return _claim(new, None, is_new=True)
        async with self._database.transaction() as db:
            found = await db.execute(
                "SELECT * FROM pyagent.run WHERE id = %s FOR UPDATE", (start.run_id,)
            )
            run = self._known(start.run_id, await found.fetchone())
            if run["task"] != stored or run["pattern"] not in (start.pattern, None):
                raise InputChanged(start.run_id, "task")
            if run["status"] == "cancelled":
                raise RunCancelled(start.run_id)
            if run["owner"] is not None:
                return cast(str, run["owner"])
            taken = await db.execute(
                f"{_TAKE} WHERE id = %(run)s RETURNING *",
                {
                    "run": start.run_id,
                    "owner": owner,
                    "team": team,
                    "pattern": start.pattern,
                    "name": start.name,
                    "traceparent": start.traceparent,
                },
            )
            return _claim(cast(Row, await taken.fetchone()), run["traceparent"])

    async def owned(self, owner: str) -> set[tuple[str, int]]:
        """The runs, each with its execution, that are the worker's."""
        rows = await self._database.rows(
            "SELECT id, execution FROM pyagent.run WHERE owner = %s", (owner,)
        )
        return {(row["id"], row["execution"]) for row in rows}

    async def release(self, owner: str, run_id: str | None = None) -> None:
        """Give up the worker's runs, or the one of them, for any worker to go on with."""
        await self._database.rows(_RELEASE, {"owner": owner, "id": run_id})

    async def doubt_queued(self, run_id: str, key: str) -> None:
        """Note that a worker had taken a question from a queue, and left no answer."""
        await self._database.rows(
            "INSERT INTO pyagent.doubt (run, key, times) VALUES (%s, %s, 1)"
            " ON CONFLICT (run, key) DO UPDATE SET times = pyagent.doubt.times + 1",
            (run_id, key),
        )

    # By the execution that owns the run

    async def note(self, claim: Claim, start: RunStart) -> None:
        """Note what is known of a submitted run only now that its team is loaded."""
        known = {"pattern": start.pattern, "name": start.name, "traceparent": start.traceparent}
        await self._own(claim, _NOTE, known)

    async def check(self, claim: Claim) -> None:
        """Raise LeaseLost or RunCancelled unless the run is still this execution's."""
        run = await self.get(claim.run_id)
        if (run["owner"], run["execution"]) != (claim.owner, claim.execution):
            raise lost(claim.run_id, run["status"])

    async def doubt(self, claim: Claim, key: str) -> dict[str, int]:
        """Note that a question was begun and left no answer; all such by their keys, with it."""
        await self._own(claim, _DOUBT, {"key": key})
        return await self.doubts(claim.run_id)

    async def begin(self, claim: Claim, call: Call) -> None:
        """Intent first: a call that may have been made is known, whatever happens next."""
        given = stored_json(f"the input of call {call.key!r}", call.input)
        values = {"key": call.key, "activity": call.activity, "input_hash": call.input_hash}
        await self._own(claim, _BEGIN, {**values, "input": given})

    async def finish(self, claim: Claim, key: str, stored: str) -> None:
        await self._own(claim, _FINISH, {"key": key, "value": stored})

    async def take_signal(self, claim: Claim, key: str, name: str) -> str | None:
        """The next value that was sent under `name`, now this call's; None if there is none."""
        values = {**_whose(claim), "key": key, "name": name, "input": encode({"input": name})}
        taken = await self._database.row(_TAKE_SIGNAL, values)
        if taken is None:
            await self.check(claim)
            return None
        return cast(str, taken["value"])

    async def end(self, claim: Claim, end: RunEnd, *, calls: int, going_on: bool) -> None:
        """How the execution ended. With `going_on` another one may follow at once."""
        if end.status == "running":  # cut off: it is as it was when it was claimed
            await self._own(claim, _STOP, {"going_on": going_on})
            return
        totals = end.result or {}
        usage = cast("dict[str, int]", totals.get("usage") or {})
        values: dict[str, object] = {
            "status": end.status,
            "result": None if end.result is None else stored_json("the result", end.result),
            "error": None if end.error is None else encode(end.error),
            "cost": totals.get("cost_estimate"),
            "unpriced": totals.get("unpriced"),
            "tokens": usage["input_tokens"] + usage["output_tokens"] if usage else None,
            "calls": calls,
            "wake_at": end.wake_at,
            "waiting_for": encode(end.waiting_for),
        }
        if not end.waiting_for:
            await self._own(claim, _END, values)
            return
        async with self._database.transaction() as db:
            done = await db.execute(_END, {**values, **_whose(claim)})
            if await done.fetchone() is not None:
                await db.execute(_WAKE, {"run": claim.run_id})  # a signal may have come meanwhile
                return
        raise lost(claim.run_id, (await self.get(claim.run_id))["status"])

    async def fail(self, claim: Claim, error: str) -> None:
        """The execution could not begin, or not record how it ended: nothing will go on."""
        await self._database.rows(
            "UPDATE pyagent.run SET status = 'failed', error = %(error)s, owner = NULL, due = NULL,"
            " updated = pyagent.now() WHERE id = %(run)s AND execution = %(execution)s"
            " AND status = 'running' AND coalesce(owner, %(owner)s) = %(owner)s",
            {**_whose(claim), "error": encode(error)},
        )

    # How

    async def _own(
        self, claim: Claim, statement: LiteralString, values: Mapping[str, object]
    ) -> None:
        """Carry out a statement that gives a row if the run is still this execution's.

        Raises LeaseLost or RunCancelled when it is not.
        """
        if await self._database.row(statement, {**values, **_whose(claim)}) is None:
            raise lost(claim.run_id, (await self.get(claim.run_id))["status"])

    def _known(self, run_id: str, row: Row | None) -> Row:
        if row is None:
            raise UnknownRunError(run_id, str(self._database.address))
        return row


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


def _whose(claim: Claim) -> dict[str, object]:
    return {"run": claim.run_id, "owner": claim.owner, "execution": claim.execution}


def _claim(row: Row, traceparent: str | None, *, is_new: bool = False) -> Claim:
    return Claim(
        run_id=row["id"],
        owner=row["owner"],
        execution=row["execution"],
        is_new=is_new,
        team=row["team"],
        pattern=row["pattern"],
        task=json.loads(row["task"]),
        first_traceparent=traceparent if row["execution"] > 1 else None,
    )
