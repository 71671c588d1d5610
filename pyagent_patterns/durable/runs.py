"""`Runs`: the runs kept in one journal file, to go on with, look at, steer and clear away."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar, cast

from pyagent_patterns.errors import JournalError, RunBusyError, RunSuspended, UnknownRunError
from pyagent_patterns.events import Observer
from pyagent_patterns.journal import FINISHED, Journal, RunStart, Status
from pyagent_patterns.people import Human, decided_by
from pyagent_patterns.policy import Policy
from pyagent_patterns.question import Reply
from pyagent_patterns.result import Result
from pyagent_patterns.session import Session
from pyagent_providers.base import LLMLike, as_llm
from pyagent_providers.redaction import redacted_json
from pyagent_providers.types import JSONObject, JSONValue

from . import teams
from .bell import Bell, ring
from .database import Database, Operation
from .local_journal import Claim, Leases, LocalJournal, claim
from .owner import Owner
from .reading import Reader, Unfinished, until_next
from .replaying import answered, ask_again, model_of
from .teams import Team
from .values import Values
from .views import Replay, RunDetail, RunView

LEASE: Final = 15.0  # seconds a silent execution keeps its run
T = TypeVar("T")


class Runs:
    """The runs of one journal file (SQLite). Give it to `run(durable=...)`, or the path itself.

    The file is made, with mode 0600, when the first run is kept; large values lie beside it in
    `<path>.values`. Any number of processes of one machine may use it at once: a run belongs to one
    execution at a time, which renews its claim while it goes on; when it is silent for `lease`
    seconds, or its process is gone, another may take the run over, and what the first one still
    does is refused.

    Use it as a context manager, or `close` it.
    """

    def __init__(self, path: str | os.PathLike[str], *, lease: float = LEASE) -> None:
        self.path = Path(path)
        if not lease > 0:
            raise ValueError(f"lease must be a number of seconds above 0; got {lease!r}")
        self._leases = Leases(lease)
        self._database = Database(self.path, self._leases)
        self._values = Values(self.path.with_name(self.path.name + ".values"))
        self._reader = Reader(self._values, str(self.path))
        self._bell = self.path.with_name(self.path.name + ".bell")

    def __repr__(self) -> str:
        return f"Runs({str(self.path)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Not while a run of it goes on."""
        self._database.close()

    # What a run needs of a store

    async def open(self, start: RunStart) -> Journal:
        """Claim a run, new or known, for this execution.

        Raises RunBusyError when another one goes on, RunCancelled, InputChanged for another task
        or pattern than the recorded one, JournalError when the file cannot be used.
        """
        owner = Owner.new()
        task = self._values.put("the task", start.task)
        operation = claim(start, teams.locate(start.team), task, owner, self._leases.lease)
        claimed: Claim = await self._database.do(operation)
        journal = LocalJournal(
            self._database, self._values, start.run_id, owner, claimed, self._ended
        )
        self._leases.add(journal)
        ring(self._bell)  # whoever serves the store may have to take over one day
        return journal

    # Going on

    async def resume(
        self,
        run_id: str,
        team: Team | None = None,
        *,
        on_event: Observer | None = None,
        human: Human | None = None,
        session: Session | None = None,
    ) -> Result:
        """Go on with a run; what is on record is not asked, and not paid, again.

        `team` is the pattern that it is a run of; without it, the one is imported that the run
        was started with, if that stands at the top of a module. `result.resumed` says what was
        found on record and which calls may have been paid for twice. A run that has ended gives its
        result, or its error, again. `human` and `session` are as for `run`; neither is on record.
        `human` also decides what the run waits for.

        Raises UnknownRunError, LookupError when the team cannot be imported, and what `run` raises.
        """
        run = await self._known(run_id)
        if team is None:
            team = teams.of_run(run.run_id, run.team)
        if human is not None and run.status == "suspended":
            for wanted in (await self.get(run_id)).wanted:
                decision = await decided_by(human, wanted)
                await self.signal(run_id, wanted.key, decision.to_dict())
        return await team.run(
            run.task,
            run_id=run_id,
            durable=self,
            on_event=on_event,
            human=human,
            session=session,
        )

    async def team_of(self, run_id: str) -> Team:
        """The team that a run's record names, imported.

        Raises UnknownRunError, and LookupError when there is none.
        """
        return teams.of_run(run_id, (await self._known(run_id)).team)

    async def resume_all(
        self, team: Team | None = None, *, at_once: int = 100
    ) -> dict[str, Result | Exception]:
        """Go on with every run that can: whose process ended, or that was suspended and is due.

        At most `at_once` at a time. What became of each, by run id: its result, or why there is
        none (`RunSuspended` if it waits again). With `team`, only the runs that are that team's, as
        far as the record tells.
        """
        ready = [run.run_id for run in await self._unfinished(team) if run.can_go_on]
        places = asyncio.Semaphore(at_once)

        async def go_on(run_id: str) -> Result | Exception:
            async with places:
                try:
                    return await self.resume(run_id, team)
                except Exception as error:
                    return error

        outcomes = await asyncio.gather(*(go_on(run_id) for run_id in ready))
        return dict(zip(ready, outcomes, strict=True))

    async def serve(
        self,
        team: Team | None = None,
        *,
        on_end: Callable[[str, Result | Exception], None] = lambda run_id, outcome: None,
    ) -> None:
        """Go on with every run that can, as soon as it can, until this is cancelled.

        A run whose process ends, whose time comes or that is sent a signal, by any process of this
        machine, is gone on with here; `on_end` is told what became of it. Between two of them
        nothing is polled. One that cannot go on (its prompt was edited, its team is gone) is not
        tried again here. Any number of processes may serve one store. `team` as in `resume_all`.
        """
        tried: set[str] = set()  # and going on, or given up

        async def go_on(run_id: str) -> None:
            try:
                outcome: Result | Exception = await self.resume(run_id, team)
                tried.discard(run_id)
            except RunBusyError:  # another one that serves was faster
                tried.discard(run_id)
                return
            except RunSuspended as error:
                tried.discard(run_id)
                outcome = error
            except Exception as error:
                outcome = error
            on_end(run_id, outcome)

        async with asyncio.TaskGroup() as group:
            with Bell(self._bell) as bell:
                while True:
                    unfinished = await self._unfinished(team)
                    for run in unfinished:
                        if run.can_go_on and run.run_id not in tried:
                            tried.add(run.run_id)
                            group.create_task(go_on(run.run_id))
                    await bell.wait(until_next(unfinished))

    async def signal(self, run_id: str, name: str, value: JSONValue = None) -> None:
        """Send a run a value under a name. It is kept until the run waits for it.

        A run that is suspended for it is then due: a process that `serve`s the store goes on with
        it, or `resume` and `resume_all` do, anywhere. Raises UnknownRunError, and JournalError for
        a run that has ended.
        """
        stored = self._values.put(f"signal {name!r}", {"value": redacted_json(value)})

        def send(db: sqlite3.Connection) -> None:
            status = self._reader.status(db, run_id)
            if status in FINISHED:
                raise JournalError(f"run {run_id!r} is {status}; it takes no signals any more")
            db.execute(
                "INSERT INTO signal (run, name, value, sent) VALUES (?, ?, ?, ?)",
                (run_id, name, stored, time.time()),
            )

        await self._database.do(send)
        ring(self._bell)

    async def cancel(self, run_id: str) -> None:
        """End a run for good. Where it goes on, it stops within a third of the lease.

        Raises UnknownRunError, and JournalError for a run that has ended.
        """

        def cancel(db: sqlite3.Connection) -> None:
            status = self._reader.status(db, run_id)
            if status in FINISHED:
                raise JournalError(f"run {run_id!r} is {status} already")
            db.execute(
                "UPDATE run SET status = 'cancelled', owner = NULL, lease = NULL, updated = ?"
                " WHERE id = ?",
                (time.time(), run_id),
            )

        await self._database.do(cancel)

    async def fork(self, run_id: str, *, from_key: str | None = None) -> str:
        """A new run with the answers of this one; `resume` it. The new run's id.

        In it a call whose input has changed, since a prompt, a model or the code was edited, is
        made again, and so is what depends on it; all else is taken from the record, unpaid. Calls
        that had failed are made again; with `from_key` that call is, whatever is on record.

        Raises UnknownRunError, and LookupError for a key that the run does not have.
        """
        new = uuid.uuid4().hex

        def fork(db: sqlite3.Connection) -> None:
            self._reader.status(db, run_id)
            rows = db.execute(
                "SELECT key, activity, value FROM call WHERE run = ? AND state = 'done'", (run_id,)
            ).fetchall()
            if from_key is not None and from_key not in {key for key, _, _ in rows}:
                known = ", ".join(repr(key) for key, _, _ in rows)
                raise LookupError(
                    f"run {run_id!r} has no finished call {from_key!r}; it has {known or 'none'}"
                )
            kept = [
                key
                for key, activity, value in rows
                if key != from_key and not (activity == "ask" and self._failed(value))
            ]
            now = time.time()
            db.execute(
                "INSERT INTO run (id, pattern, name, team, task, status, execution, traceparent,"
                " forked_from, created, updated) SELECT ?, pattern, name, team, task, 'running', 0,"
                " traceparent, id, ?, ? FROM run WHERE id = ?",
                (new, now, now, run_id),
            )
            db.executemany(
                "INSERT INTO call (run, key, activity, input_hash, input, state, begun, copied,"
                " value, t0, t1) SELECT ?, key, activity, input_hash, input, state, 1, 1,"
                " value, t0, t1 FROM call WHERE run = ? AND key = ?",
                [(new, run_id, key) for key in kept],
            )

        await self._database.do(fork)
        return new

    async def replay(
        self,
        run_id: str,
        task: str,
        team: Team | None = None,
        *,
        llm: LLMLike | None = None,
        prompt: str | None = None,
        system_prompt: str | None = None,
    ) -> Replay:
        """One worker's question again, with exactly the inputs that were recorded.

        `task` is the assignment's id, or a call's key. With nothing changed no call is made: the
        answer is the recorded one. With another `llm`, `prompt` (what it is asked) or
        `system_prompt` the worker is asked again, outside of any run: nothing is recorded, and
        both answers and both costs can be compared.

        Raises UnknownRunError, LookupError when there is no such answered question or no such
        agent in the team.
        """
        detail = await self.get(run_id)
        call = answered(detail, task)
        recorded = cast(Reply, call.reply)
        if llm is None and prompt is None and system_prompt is None:
            return Replay(call=call, recorded=recorded, again=None)
        if llm is None:
            team = team or teams.of_run(run_id, detail.run.team)
            llm = model_of(call, team.agents)
        policy = Policy() if team is None else team.policy
        again = await ask_again(
            call.input, as_llm(llm), policy, prompt=prompt, system_prompt=system_prompt
        )
        return Replay(call=call, recorded=recorded, again=again)

    # Looking

    async def list(
        self, *, status: Status | None = None, limit: int | None = None
    ) -> Sequence[RunView]:
        """The runs, the newest first."""

        return await self._read(lambda db: self._reader.runs(db, status, limit)) or []

    async def get(self, run_id: str) -> RunDetail:
        """A run with its calls. Raises UnknownRunError."""

        detail = await self._read(lambda db: self._reader.detail(db, run_id))
        if detail is None:
            raise UnknownRunError(run_id, str(self.path))
        return detail

    async def find(self, prefix: str) -> str:
        """The id of the only run whose id begins with `prefix`.

        Raises UnknownRunError when there is none, LookupError when there are several.
        """
        ids = await self._read(lambda db: self._reader.ids(db, prefix)) or []
        if prefix in ids:
            return prefix
        if not ids:
            raise UnknownRunError(prefix, str(self.path))
        if len(ids) > 1:
            raise LookupError(f"{len(ids)} runs begin with {prefix!r}; give more of the id")
        return ids[0]

    # Clearing away

    async def prune(self, *, older_than: float, status: Sequence[Status] = FINISHED) -> int:
        """Delete the runs that ended more than `older_than` seconds ago; how many it were.

        Only those of the given `status`; by default all that have ended, and none that can go on.
        """
        before = time.time() - older_than

        def prune(db: sqlite3.Connection) -> tuple[int, set[str]]:
            gone = db.execute(
                "DELETE FROM run WHERE updated < ? AND owner IS NULL"
                " AND status IN (SELECT value FROM json_each(?))",
                (before, json.dumps(list(status))),
            ).rowcount
            stored = db.execute(
                "SELECT value FROM call UNION SELECT input FROM call UNION SELECT result FROM run"
                " UNION SELECT task FROM run UNION SELECT value FROM signal"
            )
            # What another process has just written, and is about to refer to, is younger.
            kept = {text for (text,) in stored if text is not None and text.startswith("@")}
            return gone, kept

        gone, kept = await self._database.do(prune)
        self._values.keep_only(kept, written_before=time.time() - 3600)
        return gone

    # How

    async def _read(self, operation: Operation[T]) -> T | None:
        """What a reading operation gives; None when there is no file yet, which stays so."""
        if not self.path.exists():
            return None
        return await self._database.do(operation, write=False)

    def _ended(self, journal: LocalJournal) -> None:
        self._leases.remove(journal)
        ring(self._bell)  # it may be suspended, and be due at once

    async def _known(self, run_id: str) -> RunView:
        run = await self._read(lambda db: self._reader.run(db, run_id))
        if run is None:
            raise UnknownRunError(run_id, str(self.path))
        return run

    async def _unfinished(self, team: Team | None) -> Sequence[Unfinished]:
        """The runs that have not ended; with `team`, those that may be its."""
        pattern, where = (None, None) if team is None else (team.kind, teams.locate(team))
        return await self._read(lambda db: self._reader.unfinished(db, pattern, where)) or []

    def _failed(self, stored: str) -> bool:
        value = cast(JSONObject, self._values.get(stored))
        return value["text"] is None
