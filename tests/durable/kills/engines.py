"""The engines that the kill suite is run on: what it needs of each, and the local journal's.

To add an engine, write `engines_<name>.py` beside this file, with a class that fills in `Engine`,
and name it in `KNOWN`. The suite then runs every row on it, but those that it `lacks`.

An engine object is made anew in every process, from an address and a lease alone: in the test's
process, which only looks (`recorded`), and in each child, which opens the store, does one job with
it and ends, or is killed. Children are forked from a process that has imported the engine's module
and nothing else, so that module must not start threads when it is imported.
"""

from __future__ import annotations

import importlib
import json
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import ClassVar, Final, Literal, Protocol, cast

from pyagent_patterns.durable import Runs
from pyagent_patterns.durable.teams import Team
from pyagent_patterns.events import Observer
from pyagent_patterns.people import Wanted
from pyagent_patterns.result import Result
from pyagent_providers.types import JSONValue

Row = Literal[  # the tests of `test_kills.py`, without "test_"
    "random_moments",
    "latencies_reversed",
    "during_the_plan",
    "during_the_synthesis",
    "while_suspending",
    "while_sending_a_signal",
    "while_writing_large_values",
    "frozen_owner",
    "two_healthy_processes",
    "cost_after_50_kills",
    "1000_suspended_runs",
    "every_pattern",  # from here on those of `test_patterns.py`
    "tools",
    "approvals",
]

KNOWN: Final = {
    "local": "tests.durable.kills.engines:LocalEngine",
    "dbos": "tests.durable.kills.engines_dbos:DbosEngine",
    "temporal": "tests.durable.kills.engines_temporal:TemporalEngine",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCall:
    """A paid call on record. `begun` counts how often it was sent; None if the engine does not.

    `response_ids` are those of the answer on record, empty while there is none: the stub provider
    gives each answer one of its own, so they say which process's answer was kept.
    """

    begun: int | None
    response_ids: tuple[str, ...]
    cost: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRun:
    """What the store tells of a run. `status` as in `Runs.list`; `cost` is the store's total.

    `calls` are the questions to agents, by key. `untaken` are the values of signals that were sent
    and that no wait has taken, in the order they were sent. `wanted` is what the run waits for
    people to decide, by the name of the signal that says it.
    """

    status: str
    cost: Decimal
    calls: Mapping[str, RecordedCall]
    untaken: tuple[JSONValue, ...] = ()
    wanted: Mapping[str, Wanted] = field(default_factory=dict[str, Wanted])


class Opened(Protocol):
    """A store in a child process, ready for work."""

    async def run(self, team: Team, run_id: str, task: str, on_event: Observer) -> Result:
        """Begin the run, or go on with it, to its end; raises what `Pattern.run` raises.

        RunBusyError while another process has it; the child tries again as long as its job says.
        An engine whose workers drive runs makes this process one of them, and waits.
        """
        ...

    async def signal(self, run_id: str, name: str, value: JSONValue) -> None:
        """Send the signal; on return it is kept for good."""
        ...

    async def resume_all(self) -> Mapping[str, Result | Exception]:
        """Go on with all runs that can, to their end; what became of each, by run id."""
        ...


class Engine(Protocol):
    """One kind of durable store.

    `kills` is how many random kills are wanted of it, `window` the share of kills for which a call
    may be paid again that was answered and not yet stored. `lacks` has the rows it cannot pass
    by its nature, each with the reason, which is shown. `lease` is the time after which a
    silent process loses its runs, in seconds; `short_lease` is that of runs it is to lose so.

    `driven_by` says whether a run is executed by whoever begins it, or goes on with it; or by
    workers, which look for work as long as they live, and leave alone what has ended.
    """

    name: ClassVar[str]
    kills: ClassVar[int]
    window: ClassVar[float]
    lanes: ClassVar[int]  # stores in use at once; their processes mostly wait
    lease: ClassVar[float]
    short_lease: ClassVar[float]
    large: ClassVar[int]  # characters of an answer that it can only just store, ten to a run
    driven_by: ClassVar[Literal["caller", "worker"]]
    lacks: ClassVar[Mapping[Row, str]]

    def __init__(self, address: str, lease: float) -> None: ...

    @classmethod
    def missing(cls) -> str | None:
        """What this machine lacks to run it, such as a server; None if nothing."""
        ...

    @classmethod
    def stores(cls, directory: Path) -> AbstractContextManager[Callable[[], str]]:
        """Whatever servers it needs, up for one test; a function that makes an empty store.

        It gives the new store's address, a text. `directory` is the test's own.
        """
        ...

    def opened(self) -> AbstractAsyncContextManager[Opened]:
        """Called in a child, once: connect to the store."""
        ...

    async def recorded(self, run_id: str) -> RecordedRun | None:
        """What is on record of a run, seen from the test's process; None if there is no run."""
        ...


def load(place: str) -> type[Engine] | None:
    """The engine at a place in `KNOWN`; None if its module is not there, or its extra."""
    module, _, attribute = place.partition(":")
    try:
        return cast("type[Engine]", getattr(importlib.import_module(module), attribute))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("pyagent_"):
            raise
        return None


class LocalEngine:
    """`Runs` on a SQLite file; its address is the path."""

    name = "local"
    kills = 200
    window = 0.05
    lanes = 72
    lease, short_lease = 15.0, 0.5
    large = 1_000_000
    driven_by = "caller"
    lacks: ClassVar[Mapping[Row, str]] = {}

    def __init__(self, address: str, lease: float) -> None:
        self._path = Path(address)
        self._lease = lease

    @classmethod
    def missing(cls) -> str | None:
        return None

    @classmethod
    @contextmanager
    def stores(cls, directory: Path) -> Generator[Callable[[], str]]:
        made = 0

        def new() -> str:
            nonlocal made
            made += 1
            return str(directory / f"runs{made}.db")

        yield new

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[_LocalRuns]:
        with Runs(self._path, lease=self._lease) as runs:
            yield _LocalRuns(runs)

    async def recorded(self, run_id: str) -> RecordedRun | None:
        if not self._path.exists():
            return None
        with Runs(self._path) as runs:
            if run_id not in [run.run_id for run in await runs.list()]:
                return None
            detail = await runs.get(run_id)
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
        connection = sqlite3.connect(self._path)
        try:
            rows = connection.execute(
                "SELECT value FROM signal WHERE run = ? AND taken_by IS NULL ORDER BY id", (run_id,)
            ).fetchall()
        finally:
            connection.close()
        return tuple(json.loads(value)["value"] for (value,) in rows)


class _LocalRuns:
    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def run(self, team: Team, run_id: str, task: str, on_event: Observer) -> Result:
        return await team.run(task, run_id=run_id, durable=self._runs, on_event=on_event)

    async def signal(self, run_id: str, name: str, value: JSONValue) -> None:
        await self._runs.signal(run_id, name, value)

    async def resume_all(self) -> Mapping[str, Result | Exception]:
        return await self._runs.resume_all()
