"""One execution of a run on the SQLite journal. Every write says whose it is, and is refused when
the run is no longer that execution's: a process that was frozen and wakes up changes nothing."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from pyagent_patterns.errors import (
    InputChanged,
    JournalError,
    LeaseLost,
    RunBusyError,
    RunCancelled,
)
from pyagent_patterns.journal import Call, Called, Earlier, RunEnd, RunStart, Suspend, Work
from pyagent_providers.types import JSONObject, JSONValue

from .database import Database
from .owner import Owner
from .values import Values


@dataclass(slots=True)
class Row:
    """A call on record. `value` is None for one that was begun and has not ended."""

    input_hash: str
    value: str | None
    copied: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """What was found when the run was claimed."""

    execution: int
    first_traceparent: str | None
    rows: dict[str, Row]


def claim(
    start: RunStart, team: str | None, task: str, owner: Owner, lease: float
) -> Callable[[sqlite3.Connection], Claim]:
    """The operation by which an execution becomes the owner of a run, new or known."""

    def operation(db: sqlite3.Connection) -> Claim:
        now = time.time()
        known = db.execute(
            "SELECT pattern, task, status, owner, lease, execution, traceparent FROM run"
            " WHERE id = ?",
            (start.run_id,),
        ).fetchone()
        if known is None:
            db.execute(
                "INSERT INTO run (id, pattern, name, team, task, status, execution, owner, lease,"
                " traceparent, created, updated)"
                " VALUES (?, ?, ?, ?, ?, 'running', 1, ?, ?, ?, ?, ?)",
                (
                    *(start.run_id, start.pattern, start.name, team, task, str(owner)),
                    *(now + lease, start.traceparent, now, now),
                ),
            )
            return Claim(1, None, {})
        pattern, stored_task, status, holder, lease_end, execution, traceparent = tuple(known)
        if (pattern, stored_task) != (start.pattern, task):
            raise InputChanged(start.run_id, "task")
        if status == "cancelled":
            raise RunCancelled(start.run_id)
        if holder is not None and lease_end > now and not Owner.parse(holder).is_gone():
            raise RunBusyError(start.run_id, Owner.parse(holder).shown)
        # One that has its result is only told again: nothing can become of it but what it is.
        new_status = status if status in ("completed", "partial") else "running"
        db.execute(
            "UPDATE run SET status = ?, execution = execution + 1, owner = ?, lease = ?,"
            " name = coalesce(?, name), team = coalesce(?, team),"
            " traceparent = coalesce(traceparent, ?), wake_at = NULL, waiting_for = NULL,"
            " error = NULL, updated = ? WHERE id = ?",
            (
                *(new_status, str(owner), now + lease, start.name, team, start.traceparent),
                *(now, start.run_id),
            ),
        )
        rows = db.execute(
            "SELECT key, input_hash, value, copied FROM call WHERE run = ?", (start.run_id,)
        )
        found = {key: Row(hash, value, bool(copied)) for key, hash, value, copied in rows}
        return Claim(execution + 1, traceparent, found)

    return operation


class LocalJournal:
    """A `Journal` on a SQLite file."""

    def __init__(
        self,
        database: Database,
        values: Values,
        run_id: str,
        owner: Owner,
        claimed: Claim,
        ended: Callable[[LocalJournal], None],
    ) -> None:
        self.run_id = run_id
        self.owner = str(owner)
        self.execution = claimed.execution
        self.first_traceparent = claimed.first_traceparent
        self._database = database
        self._values = values
        self._rows = claimed.rows
        self._ended = ended
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._lost: JournalError | None = None
        self._ending = False
        self.over = False  # set in the database's thread, with the write that ends it

    async def earlier(self, activity: str) -> Sequence[Earlier]:
        if self.execution == 1:
            return ()

        def read(db: sqlite3.Connection) -> list[tuple[str, str | None]]:
            return db.execute(
                "SELECT input, value FROM call WHERE run = ? AND activity = ? AND NOT copied"
                " ORDER BY t0",
                (self.run_id, activity),
            ).fetchall()

        rows = cast("list[tuple[str, str | None]]", await self._do(read))
        return [
            Earlier(
                cast(JSONObject, self._values.get(given)),
                None if value is None else cast(JSONObject, self._values.get(value)),
            )
            for given, value in rows
        ]

    async def call(self, call: Call, work: Work) -> Called:
        row = self._rows.get(call.key)
        if row is not None and row.input_hash != call.input_hash:
            if not row.copied:
                raise InputChanged(self.run_id, call.key)
            row = None  # a fork makes again what has changed
        if row is not None and row.value is not None:
            return Called(cast(JSONObject, self._values.get(row.value)), "before")
        await self._begin(call)
        value = await work()
        await self._finish(call.key, value)
        return Called(value, "here", doubtful=row is not None)

    async def signal(self, key: str, name: str) -> JSONValue:
        row = self._rows.get(key)
        if row is not None and row.value is not None:
            if row.input_hash != name:
                raise InputChanged(self.run_id, key)
            return cast("dict[str, JSONValue]", self._values.get(row.value))["value"]

        def take(db: sqlite3.Connection) -> str | None:
            self._check(db)
            found = db.execute(
                "SELECT id, value FROM signal WHERE run = ? AND name = ? AND taken_by IS NULL"
                " ORDER BY id LIMIT 1",
                (self.run_id, name),
            ).fetchone()
            if found is None:
                return None
            db.execute("UPDATE signal SET taken_by = ? WHERE id = ?", (key, found[0]))
            now = time.time()
            db.execute(
                "INSERT INTO call (run, key, activity, input_hash, input, state, begun, copied,"
                " value, t0, t1) VALUES (?, ?, 'signal', ?, ?, 'done', 1, 0, ?, ?, ?)",
                (self.run_id, key, name, json.dumps({"input": name}), found[1], now, now),
            )
            return cast(str, found[1])

        taken = cast("str | None", await self._do(take))
        if taken is None:
            raise Suspend(signals=(name,))
        self._rows[key] = Row(name, taken, copied=False)
        return cast("dict[str, JSONValue]", self._values.get(taken))["value"]

    async def sleep(self, key: str, until: float) -> None:
        if time.time() < until:
            raise Suspend(until=until)

    async def end(self, end: RunEnd) -> None:
        self._ending = True
        try:
            what = f"run {self.run_id!r}"
            result = None if end.result is None else self._values.put(what, end.result)
            await self._do(lambda db: self._end(db, end, result))
        finally:
            self.over = True
            self._ended(self)

    def lose(self, reason: JournalError) -> None:
        """Called from the database's thread: the run belongs to this execution no longer."""
        if self._lost is None:
            self._lost = reason
            if self._task is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        # What is ending learns it from its own last write; a cancellation then would hide it.
        if not self._ending and self._task is not None:
            self._task.cancel()

    @property
    def lost(self) -> JournalError | None:
        return self._lost

    async def _begin(self, call: Call) -> None:
        """Intent first: a call that may have been paid for is known, whatever happens next."""
        given = self._values.put(f"the input of call {call.key!r}", call.input)

        def begin(db: sqlite3.Connection) -> None:
            written = db.execute(
                "INSERT INTO call (run, key, activity, input_hash, input, state, begun, copied, t0)"
                " SELECT id, ?, ?, ?, ?, 'begun', 1, 0, ? FROM run WHERE id = ? AND owner = ?"
                " ON CONFLICT (run, key) DO UPDATE SET begun = begun + 1, state = 'begun',"
                " copied = 0, input_hash = excluded.input_hash, input = excluded.input,"
                " value = NULL, t0 = excluded.t0, t1 = NULL",
                (
                    *(call.key, call.activity, call.input_hash, given, time.time()),
                    *(self.run_id, self.owner),
                ),
            )
            if not written.rowcount:
                self._check(db)

        await self._do(begin)

    async def _finish(self, key: str, value: JSONObject) -> None:
        try:
            stored = self._values.put(f"call {key!r}", value)

            def finish(db: sqlite3.Connection) -> None:
                written = db.execute(
                    "UPDATE call SET state = 'done', value = ?, t1 = ? WHERE run = ? AND key = ?"
                    " AND EXISTS (SELECT 1 FROM run WHERE id = ? AND owner = ?)",
                    (stored, time.time(), self.run_id, key, self.run_id, self.owner),
                )
                if not written.rowcount:
                    self._check(db)

            await self._do(finish)
        except JournalError as error:
            error.unrecorded[key] = value  # it was paid for: whoever handles this can keep it
            raise

    def _end(self, db: sqlite3.Connection, end: RunEnd, result: str | None) -> None:
        self._check(db)
        if end.status == "running":  # cut off: it is as it was when it was claimed
            db.execute(
                "UPDATE run SET owner = NULL, lease = NULL, updated = ? WHERE id = ?",
                (time.time(), self.run_id),
            )
            self.over = True
            return
        totals = end.result or {}
        usage = cast("dict[str, int]", totals.get("usage") or {})
        now = time.time()
        db.execute(
            "UPDATE run SET status = ?, result = ?, error = ?, cost = coalesce(?, cost),"
            " unpriced = coalesce(?, unpriced), tokens = coalesce(?, tokens), owner = NULL,"
            " lease = NULL, wake_at = ?, waiting_for = ?, updated = ? WHERE id = ?",
            (
                *(end.status, result, end.error),
                *(totals.get("cost_estimate"), totals.get("unpriced")),
                usage["input_tokens"] + usage["output_tokens"] if usage else None,
                *(end.wake_at, json.dumps(end.waiting_for), now, self.run_id),
            ),
        )
        self.over = True

    def _check(self, db: sqlite3.Connection) -> None:
        """Raise unless the run is still this execution's."""
        row = db.execute("SELECT owner, status FROM run WHERE id = ?", (self.run_id,)).fetchone()
        if row is not None and row[0] == self.owner:
            return
        if row is not None and row[1] == "cancelled":
            raise RunCancelled(self.run_id)
        raise LeaseLost(self.run_id)

    async def _do(self, operation: Callable[[sqlite3.Connection], JSONValue]) -> JSONValue:
        if self._lost is not None:
            raise self._lost
        return await self._database.do(operation)


class Leases:
    """The database thread's heartbeat: it renews the leases of the runs that go on here."""

    def __init__(self, lease: float) -> None:
        self.lease = lease
        self.seconds = lease / 3
        self._held: dict[str, LocalJournal] = {}
        self._gone: list[tuple[LocalJournal, bool]] = []

    def add(self, journal: LocalJournal) -> None:
        self._held[journal.owner] = journal

    def remove(self, journal: LocalJournal) -> None:
        self._held.pop(journal.owner, None)

    def wanted(self) -> bool:
        return bool(self._held)

    def operation(self, connection: sqlite3.Connection) -> None:
        self._gone.clear()
        until = time.time() + self.lease
        for owner, journal in list(self._held.items()):
            if journal.over:
                continue
            renewed = connection.execute(
                "UPDATE run SET lease = ? WHERE id = ? AND owner = ?",
                (until, journal.run_id, owner),
            )
            if renewed.rowcount == 0:
                status = connection.execute(
                    "SELECT status FROM run WHERE id = ?", (journal.run_id,)
                ).fetchone()
                self._gone.append((journal, status is not None and status[0] == "cancelled"))

    def done(self, error: Exception | None) -> None:
        """After the commit. One that fails is tried again at the next beat, before the end."""
        if error is not None:
            return
        for journal, cancelled in self._gone:
            reason = RunCancelled if cancelled else LeaseLost
            journal.lose(reason(journal.run_id))
