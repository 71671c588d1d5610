"""A process that executes runs: it says that it is alive, takes up runs, and takes over dead ones.

It holds a lock of its name in a session with PostgreSQL, which ends with the process. A peer that
can take that lock goes on with what the dead process had. A process that is frozen keeps its
session; when it has been silent for the lease, a peer ends the session for it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import platform
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, cast

import psycopg

from pyagent_patterns.durable import teams
from pyagent_patterns.durable.teams import Team
from pyagent_patterns.errors import (
    JournalError,
    LeaseLost,
    PyAgentError,
    RunBusyError,
    RunCancelled,
    RunSuspended,
)
from pyagent_patterns.journal import Journal, RunStart
from pyagent_providers.redaction import redacted

from .database import Connection, Database, DatabaseUnusable
from .journal import ClusterJournal
from .questions import Limit, Questions
from .record import Record
from .run_table import CHANNEL, Claim, RunTable, lost

logger = logging.getLogger("pyagent")

LEASE: Final = 15.0  # seconds of silence after which a worker that seems alive is taken for frozen
TICK: Final = 0.5  # seconds between two signs of life
_SETTLE: Final = 20.0  # seconds a leaving worker waits for answers that are being paid for
_AT_A_TIME: Final = 4  # runs taken up at a time, so that workers who start together share them
_LIMITS_EVERY: Final = 10  # ticks between two looks at which providers have a limit
_STARTING: Final = 3.0  # seconds a PostgreSQL that was restarted gives workers to come back

_SIGN_OF_LIFE: Final = """
    INSERT INTO pyagent.worker (id, backend, seen) VALUES (%s, pg_backend_pid(), pyagent.now())
    ON CONFLICT (id) DO UPDATE SET backend = excluded.backend, seen = excluded.seen"""
_PEERS: Final = """
    SELECT id, backend, seen < pyagent.now() - %(lease)s AS is_silent,
        pg_try_advisory_lock(pyagent.lock_of(id)) AS taken
    FROM pyagent.worker WHERE id <> %(own)s AND (%(only)s::text IS NULL OR id = %(only)s)
        AND extract(epoch FROM pg_postmaster_start_time()) < pyagent.now() - %(starting)s"""
_GONE: Final = """
    DELETE FROM pyagent.worker WHERE id = %s
        AND NOT EXISTS (SELECT 1 FROM pyagent.run WHERE owner = %s)"""

# Only while it is that session that has the lock, not a peer that is just taking over.
_END_SESSION: Final = """
    SELECT pg_terminate_backend(pid) FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND pid = %(backend)s
        AND (classid::bigint << 32) | objid::bigint = pyagent.lock_of(%(id)s)"""


class Worker:
    """This process as a worker, from `join` to `leave`."""

    def __init__(
        self,
        database: Database,
        runs: RunTable,
        record: Record,
        limits: Sequence[Limit],
        lease: float,
    ) -> None:
        self.name = f"{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._database = database
        self._runs = runs
        self._record = record
        self._lease = lease
        self._questions = Questions(database, record, self.name, limits)
        self._session: Connection | None = None
        self._held: dict[str, object] = {}  # a run's journal, or what stands for it till then
        self._driving: set[asyncio.Task[None]] = set()
        self._at_once = 0  # runs that may be taken up; 0: none are
        self._seen = 0.0  # when the last sign of life was given, by the monotonic clock
        self._beaten = asyncio.Condition()
        self._leaving = False
        self._loop_task: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Become a worker. Raises JournalError, and RuntimeError if DBOS runs here already."""
        with self._database.explaining():
            await self._beat()
        try:
            await self._questions.launch()
        except BaseException:
            await self._hang_up()
            raise
        # In a context of its own: nothing of whoever came first is carried on.
        self._loop_task = asyncio.create_task(self._go_round(), context=contextvars.Context())

    async def leave(self) -> None:
        """Let what is being answered be recorded, give up the runs, and stop."""
        self._leaving = True
        with suppress(JournalError):
            await self._questions.settle(_SETTLE, lambda: any(j.making for j in self._journals()))
        for journal in self._journals():
            journal.going_on = True
            if journal.task not in self._driving:
                journal.lose(JournalError("the cluster was closed while the run went on"))
        for task in self._driving:
            task.cancel()
        if self._driving:
            await asyncio.wait(self._driving)
        with suppress(JournalError):  # then a peer will see that they are not executed
            await self._runs.release(self.name)
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.wait([self._loop_task])
        await self._questions.close()
        with suppress(JournalError), self._database.explaining():
            if not await self._record.taken_by(self.name):  # else a peer is to put that back
                await self._database.rows(_GONE, (self.name, self.name))
        await self._hang_up()

    async def serve(self, at_once: int) -> None:
        """Take up runs, `at_once` at most, until cancelled."""
        self._at_once = at_once
        try:
            await asyncio.Event().wait()
        finally:
            self._at_once = 0

    async def open(self, start: RunStart) -> Journal:
        """Begin or go on with a run that this process was asked for, not one it took up."""
        if start.run_id in self._held:
            raise RunBusyError(start.run_id, "this process")
        holder = self._held[start.run_id] = object()
        try:
            team = teams.locate(start.team)
            claim = await self._runs.claim(start, team, self.name)
            if isinstance(claim, str) and await self._is_gone(claim):
                claim = await self._runs.claim(start, team, self.name)
            if isinstance(claim, str):
                raise RunBusyError(start.run_id, f"worker {claim}")
            return await self.begin(claim, start)
        finally:
            self._give_up(start.run_id, holder)

    async def begin(self, claim: Claim, start: RunStart) -> ClusterJournal:
        journal = ClusterJournal(
            *(self._runs, self._record, self._questions),
            *(claim, start, self._may_begin, self._ended),
        )
        self._held[claim.run_id] = journal
        try:
            await journal.load(start)
        except BaseException:
            self._ended(journal)
            raise
        return journal

    def _journals(self) -> list[ClusterJournal]:
        return [holder for holder in self._held.values() if isinstance(holder, ClusterJournal)]

    # What a journal asks of its worker

    async def _may_begin(self, journal: ClusterJournal) -> None:
        """Return when a call may be begun: not while leaving, nor after a silence.

        A process that was frozen may have lost its runs; it knows with its next sign of life.
        """
        if self._leaving:
            await asyncio.Event().wait()
        if time.monotonic() - self._seen > self._lease / 2:
            async with self._beaten:
                await self._beaten.wait_for(
                    lambda: time.monotonic() - self._seen <= self._lease / 2
                )
        if journal.lost is not None:
            raise journal.lost

    def _ended(self, journal: ClusterJournal) -> None:
        self._give_up(journal.claim.run_id, journal)

    def _give_up(self, run_id: str, holder: object) -> None:
        if self._held.get(run_id) is holder:
            del self._held[run_id]

    # The round

    async def _go_round(self) -> None:
        for turn in range(1, 2**63):
            try:
                await self._beat()
                await self._see_to_dead_workers()
                if turn % _LIMITS_EVERY == 0:
                    await self._questions.refresh_limits()
                more = await self._take_up()
                await self._listen(0.01 if more else TICK)
            except Exception as error:
                if isinstance(error, psycopg.Error):
                    error = self._database.address.explained(error)
                logger.warning("worker %s tries again: %s", self.name, error)
                await self._hang_up()
                await asyncio.sleep(TICK)

    async def _beat(self) -> None:
        """Give a sign of life, and learn which runs are still this worker's."""
        at = time.monotonic()
        session = await self._connected()
        await session.execute(_SIGN_OF_LIFE, (self.name,))
        before = dict(self._held)
        owned = await self._runs.owned(self.name)
        for run_id, journal in before.items():
            if not isinstance(journal, ClusterJournal) or journal.over:
                continue
            if (run_id, journal.execution) not in owned:
                journal.lose(await self._why_lost(run_id))
        for run_id, _ in owned:
            if run_id not in self._held:  # its end could not be recorded
                await self._runs.release(self.name, run_id)
        self._seen = at
        async with self._beaten:
            self._beaten.notify_all()

    async def _why_lost(self, run_id: str) -> JournalError:
        with suppress(JournalError):
            return lost(run_id, (await self._runs.get(run_id))["status"])
        return LeaseLost(run_id)

    async def _see_to_dead_workers(self, only: str | None = None) -> None:
        """Take over from every peer whose session is gone, and end that of a frozen one."""
        values = {"lease": self._lease, "own": self.name, "only": only, "starting": _STARTING}
        async with self._database.connection() as db:
            for peer in await (await db.execute(_PEERS, values)).fetchall():
                if peer["taken"]:
                    await self._take_over(db, peer["id"])
                elif peer["is_silent"]:
                    logger.warning("worker %s is silent: ending its session", peer["id"])
                    await db.execute(_END_SESSION, peer)

    async def _take_over(self, db: Connection, peer: str) -> None:
        """Go on with what a dead worker had, whose lock `db` has; nobody else does so meanwhile."""
        logger.warning("worker %s takes over from %s, which is gone", self.name, peer)
        for taken in await self._record.taken_by(peer):
            await self._runs.doubt_queued(taken.run_id, taken.key)
            await self._record.put_back(taken)
        await self._runs.release(peer)
        await db.execute("DELETE FROM pyagent.worker WHERE id = %s", (peer,))
        await db.execute("SELECT pg_advisory_unlock(pyagent.lock_of(%s))", (peer,))

    async def _is_gone(self, peer: str) -> bool:
        """Whether a worker has been taken over from, now or before."""
        await self._see_to_dead_workers(peer)
        found = await self._database.row("SELECT 1 FROM pyagent.worker WHERE id = %s", (peer,))
        return found is None

    async def _take_up(self) -> bool:
        """Take up some of the runs that are due; whether there may be more."""
        room = self._at_once - len(self._driving)
        if self._leaving or room <= 0:
            return False
        claims = await self._runs.claim_due(self.name, min(room, _AT_A_TIME))
        for claim in claims:
            self._held[claim.run_id] = claim
            task = asyncio.create_task(self._drive(claim), context=contextvars.Context())
            self._driving.add(task)
            task.add_done_callback(self._driving.discard)
        return len(claims) == _AT_A_TIME

    async def _listen(self, seconds: float) -> None:
        """Wait until a run is said to be due, but not longer than that."""
        session = await self._connected()
        async for _ in session.notifies(timeout=seconds, stop_after=1):
            pass

    async def _drive(self, claim: Claim) -> None:
        """Execute a run to its end, whatever that is."""
        try:
            team = cast(Team, teams.load(claim.team or ""))
            await team.run(claim.task, run_id=claim.run_id, durable=_Taken(self, claim))
        except (RunSuspended, LeaseLost, RunCancelled, DatabaseUnusable):
            pass  # others go on with it, or this worker when the next round sees to it
        except Exception as error:
            known = isinstance(error, PyAgentError | LookupError)
            with suppress(JournalError):
                said = str(error) if known else f"{type(error).__name__}: {error}"
                await self._runs.fail(claim, redacted(said))
        finally:
            self._give_up(claim.run_id, claim)

    async def _connected(self) -> Connection:
        if self._session is not None and not self._session.closed:
            return self._session
        session = await self._database.connect()
        try:
            await session.execute(f"LISTEN {CHANNEL}")
            found = await session.execute(
                "SELECT pg_try_advisory_lock(pyagent.lock_of(%s)) AS taken", (self.name,)
            )
            if not (await found.fetchone() or {}).get("taken"):
                raise JournalError("another worker is just taking over from this one")
        except BaseException:
            await session.close()
            raise
        self._session = session
        return session

    async def _hang_up(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class _Taken:
    """The store of one run that was taken up."""

    def __init__(self, worker: Worker, claim: Claim) -> None:
        self._worker = worker
        self._claim = claim

    async def open(self, start: RunStart) -> Journal:
        return await self._worker.begin(self._claim, start)
