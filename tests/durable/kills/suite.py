"""Runs that are killed until they end, and what each call of them was paid."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from .child import Job
from .engines import Engine, RecordedRun
from .log import OF_CALLS, Entry, LogReader
from .processes import Child, Nursery

_LIMIT: Final = os.environ.get("PYAGENT_KILLS")
ROUNDS: Final = 200  # a run that has not ended after so many processes is stuck
PATIENCE: Final = 60.0  # seconds without a word from a process that was not killed: it is stuck
FAST: Final = (0.001, 0.01)

Killer = Callable[[Child], Awaitable[None]]


def many(count: int) -> int:
    """`count`, or as many as PYAGENT_KILLS allows."""
    return count if _LIMIT is None else min(count, int(_LIMIT))


@dataclass(slots=True)
class Tally:
    """One test's line of the table.

    `window` and `flight` count calls paid again that had been answered, or not, when their process
    was killed; `seen` those whose answer the pattern had seen.
    """

    engine: str
    test: str
    runs: int = 0
    processes: int = 0
    kills: int = 0
    others: int = 0  # processes that ended by themselves, and no run with them
    seen: int = 0
    window: int = 0
    flight: int = 0
    lost: int = 0
    stuck: int = 0
    storing: list[float] = field(default_factory=list[float])  # seconds from answered to seen


def total(engine: str, tallies: Sequence[Tally]) -> Tally:
    """The last line of an engine's table."""
    whole = Tally(engine=engine, test="total")
    for name in ("runs", "kills", "flight", "window", "seen", "lost", "stuck"):
        setattr(whole, name, sum(getattr(tally, name) for tally in tallies))
    return whole


class Suite:
    """One test's store, processes, log and tally."""

    def __init__(
        self,
        engine: type[Engine],
        nursery: Nursery,
        new_store: Callable[[], str],
        directory: Path,
        tally: Tally,
    ) -> None:
        self.engine = engine
        self.tally = tally
        self.new_store = new_store
        self.chance = random.Random()
        self._recorded = self._unseen = Decimal(0)
        self.parts: list[Tally] = []
        self.one_world = asyncio.Lock()  # the test's process has one, in which a run can be tried
        self._nursery = nursery
        self._directory = directory
        self.log = LogReader(directory / "log")

    def of(self, part: str) -> Suite:
        """The same for a part of the test, with a log and a line of the table of its own."""
        directory = self._directory / part
        directory.mkdir()
        tally = Tally(engine=self.engine.name, test=f"{self.tally.test} {part}")
        self.parts.append(tally)
        return Suite(self.engine, self._nursery, self.new_store, directory, tally)

    def new_run(self) -> str:
        """The id of a run that there is not yet."""
        return f"r{next(self._nursery.runs)}"

    def check(self, *, window: float | None = None, counted: bool = True) -> None:
        """Assert what holds for every test.

        `window` limits the share of kills. What the cost metric `counted` is what is on record,
        but perhaps for what a process stored and was killed before it saw.
        """
        tally = self.tally
        assert (tally.seen, tally.lost, tally.stuck) == (0, 0, 0)
        assert tally.processes == tally.runs + tally.kills + tally.others
        if window is not None and tally.kills >= 100:
            assert tally.window <= window * tally.kills
        if counted:
            assert self._recorded - self._unseen <= self.counted() <= self._recorded

    def counted(self) -> Decimal:
        """What all processes together added to the cost metric, in US dollars."""
        amounts = (entry.usd for entry in self.log.all() if entry.what == "COST")
        return sum(map(Decimal, amounts), Decimal(0))

    async def start(
        self,
        address: str,
        do: str,
        *,
        lease: float | None = None,
        latency: tuple[float, float] = FAST,
        slow: Mapping[str, float] | None = None,
        size: int = 0,
        freeze: str = "",
        begin_at: float = 0.0,
        **having: Any,
    ) -> Child:
        """A process that does a job; see `child.Job`."""
        return await self._nursery.start(
            Job(
                number=next(self._nursery.numbers),
                address=address,
                lease=self.engine.lease if lease is None else lease,
                log=str(self.log.path),
                do=do,
                having=having,
                latency=latency,
                slow=slow or {},
                seed=self.chance.randrange(2**32),
                size=size,
                freeze=freeze,
                begin_at=begin_at,
            )
        )

    async def attempt(
        self, address: str, run_id: str, killer: Killer | None, **job: Any
    ) -> Mapping[str, Any] | None:
        """Go on with a run in a new process: how that ended, None if it was killed."""
        child = await self.start(address, "run", run_id=run_id, **job)
        return await self.watch(child, killer)

    async def watch(self, child: Child, killer: Killer | None) -> Mapping[str, Any] | None:
        """How the process ended, None if it was killed. Raises what the killer raises."""
        self.tally.processes += 1
        killing = asyncio.ensure_future((killer or _never)(child))
        try:
            ended = await child.ended(PATIENCE)
        except TimeoutError:
            self.tally.stuck += 1
            raise AssertionError(f"a process has said nothing for {PATIENCE:.0f} s") from None
        finally:
            if not killing.done():
                killing.cancel()
        await asyncio.wait([killing])
        if not killing.cancelled():
            killing.result()
        if ended is None:
            assert child.killed, "a process died by itself; see its traceback above"
            self.tally.kills += 1
        return ended

    async def to_the_end(
        self, address: str, run_id: str, killer: Killer, **job: Any
    ) -> Mapping[str, Any]:
        """Kill, and go on in a new process, until the run ends; its last process's report."""
        for _ in range(ROUNDS):
            ended = await self.attempt(address, run_id, killer, **job)
            if ended is not None:
                return ended
        self.tally.stuck += 1
        raise AssertionError(f"run {run_id!r} is stuck: it did not end in {ROUNDS} processes")

    async def settle(
        self, address: str, run_id: str, ended: Mapping[str, Any], expected: str
    ) -> RecordedRun:
        """Judge a run that has ended: its answer, its record, and every call paid again."""
        tally = self.tally
        tally.runs += 1
        recorded = await self.recorded(address, run_id)
        entries = [entry for entry in self.log.of(run_id) if entry.what in OF_CALLS]
        if recorded is None or ended.get("output", "").partition("\n")[0] != expected:
            tally.lost += 1
            raise AssertionError(f"run {run_id!r} ended with {ended}, not with {expected!r}")
        assert recorded.status == "completed", f"run {run_id!r} is {recorded.status} on record"
        self._settle_calls(run_id, entries, recorded, ended)
        return recorded

    async def recorded(self, address: str, run_id: str) -> RecordedRun | None:
        """What is on record of a run."""
        return await self.engine(address, self.engine.lease).recorded(run_id)

    def _settle_calls(
        self,
        run_id: str,
        entries: Sequence[Entry],
        recorded: RecordedRun,
        ended: Mapping[str, Any],
    ) -> None:
        tally, last = self.tally, entries[-1].pid
        keys = {answer: key for key, row in recorded.calls.items() for answer in row.response_ids}
        for call in dict.fromkeys(entry.call for entry in entries):
            found = [e for e in entries if e.call == call]
            key = next((keys[e.answer] for e in found if e.answer in keys), "")
            row = recorded.calls.get(key)
            if row is None or len(row.response_ids) != 1:
                tally.lost += 1
                raise AssertionError(f"call {call!r} of run {run_id!r} is not on record: {row}")
            self._count_paid_again(found)
            self._recorded += row.cost
            if not any(
                e.what == "ACK" and row.response_ids[0].startswith(f"{e.pid}-") for e in found
            ):
                self._unseen += row.cost
            starts = [e for e in found if e.what == "START"]
            assert row.begun is None or len(starts) <= row.begun, (
                f"call {key!r} of run {run_id!r} was sent {len(starts)} times; on record: {row}"
            )
            if len(starts) > 1 and starts[-1].pid == last:
                assert key in ended["doubtful"], (
                    f"call {key!r} of run {run_id!r} was paid again; the result does not list it"
                )
        assert not tally.seen, f"run {run_id!r} paid again for an answer it had seen"

    def _count_paid_again(self, entries: Sequence[Entry]) -> None:
        """What was known of a call each time it was sent again."""
        known: set[str] = set()
        for before, entry in pairwise(entries):
            if (before.what, entry.what) == ("DONE", "ACK"):
                self.tally.storing.append(entry.at - before.at)
        for entry in entries:
            if entry.what == "START" and known:
                if known & {"ACK", "REPLAY"}:
                    self.tally.seen += 1
                elif "DONE" in known:
                    self.tally.window += 1
                else:
                    self.tally.flight += 1
                known -= {"DONE"}  # of the one before
            known.add(entry.what)


async def _never(child: Child) -> None:
    """Kill nothing."""
