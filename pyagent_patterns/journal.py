"""The seam to what carries a run: where its calls are kept, so that none is paid for twice.

A call is known by its run and its key: the scope path, the activity and an ordinal, as in
`work/t3/ask:0`. Nothing depends on the order in which calls happen. Values are JSON; of one, a
pattern sees only what JSON gives back as it was, so a first run and a replay see the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, Protocol

from pyagent_providers.types import JSONObject, JSONValue

from .errors import InputChanged, JournalError, NoStoreError

Status = Literal["running", "suspended", "completed", "partial", "failed", "cancelled"]
FINISHED: Final[tuple[Status, ...]] = ("completed", "partial", "failed", "cancelled")


class AsJSON(Protocol):
    """What a journal can keep. It is made JSON of when it is kept, if it is."""

    def to_dict(self) -> JSONObject: ...


class Given(AsJSON, Protocol):
    """What a call is made with. `input_hash` changes with anything that could change the value."""

    @property
    def input_hash(self) -> str: ...


@dataclass(eq=False)  # not frozen, as `Called`
class Call:
    """One call as a journal sees it; `here` if no other process may make it."""

    key: str
    activity: str
    given: Given
    here: bool = False

    @cached_property
    def input(self) -> JSONObject:
        return self.given.to_dict()

    @cached_property
    def input_hash(self) -> str:
        return self.given.input_hash


@dataclass(slots=True)  # not frozen, which takes three times as long to make
class Called:
    """A call's value, and whose work it was.

    `made` says whether it was made now in this process, now by another one, or was on record.
    `doubtful`: an earlier execution had begun it and left no value, so that it may have been paid
    for twice.
    """

    value: JSONObject
    made: Literal["here", "elsewhere", "before"]
    doubtful: bool = False


Work = Callable[[], Awaitable[JSONObject]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """What is known of a run from its first moment. `team` is the pattern object.

    `pattern` says which kind of pattern it is, `name` what it is called itself.
    """

    run_id: str
    pattern: str
    task: str
    name: str | None = None
    team: object = None
    traceparent: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """How one execution of a run ended, and what it had to show."""

    status: Status
    shows: AsJSON | None = None
    error: str | None = None
    wake_at: float | None = None  # Unix time, for a suspended run that waits for it
    waiting_for: tuple[str, ...] = ()  # names of signals

    @cached_property
    def result(self) -> JSONObject | None:
        return None if self.shows is None else self.shows.to_dict()


class Suspend(BaseException):
    """Raised inside a run that cannot go on before a signal or a time.

    Not an Exception: a pattern that handles its agents' errors must not handle this.
    """

    def __init__(self, *, signals: tuple[str, ...] = (), until: float | None = None) -> None:
        super().__init__(signals, until)
        self.signals = signals
        self.until = until

    @classmethod
    def both(cls, one: Suspend, other: Suspend) -> Suspend:
        """To wait for whatever of the two comes first."""
        times = [time for time in (one.until, other.until) if time is not None]
        signals = tuple(dict.fromkeys(one.signals + other.signals))
        return cls(signals=signals, until=min(times, default=None))


@dataclass(frozen=True, slots=True)
class Earlier:
    """A call on record. `value` is None for one that was begun and left without an answer.

    `input` is None where it is not kept.
    """

    input: JSONObject | None
    value: JSONObject | None


class Journal(Protocol):
    """One execution of one run. Every method raises `JournalError` when it cannot record."""

    @property
    def execution(self) -> int:
        """Which execution of the run this is, from 1."""
        ...

    @property
    def first_traceparent(self) -> str | None:
        """The W3C traceparent of the run's first execution; None if this is the first."""
        ...

    @property
    def lost(self) -> JournalError | None:
        """Why the execution was cancelled, if it was by the journal: the run is no longer its."""
        ...

    async def earlier(self, activity: str) -> Sequence[Earlier]:
        """The calls of an activity that this run's earlier executions made, oldest first.

        Before these is what the run was submitted with, which its first execution finds too. Of a
        fork, not those it was given by the run it was forked from.
        """
        ...

    async def call(self, call: Call, work: Work) -> Called:
        """The value on record; else what `work` gives, returned when it is stored for good.

        Raises `InputChanged` when the key is on record with another input, and what `work` does.
        """
        ...

    async def signal(self, key: str, name: str) -> JSONValue:
        """The next value sent to the run under `name`, the same again for the same key.

        Raises `Suspend` when none has come yet.
        """
        ...

    async def sleep(self, key: str, until: float) -> None:
        """Return at Unix time `until`, or raise `Suspend` until then."""
        ...

    async def end(self, end: RunEnd) -> None:
        """This execution is over; the journal is not used again."""
        ...


class Store(Protocol):
    """Keeps runs."""

    async def open(self, start: RunStart) -> Journal:
        """Begin or go on with a run, owned by this process until the journal's `end`."""
        ...


class MemoryStore:
    """Keeps runs as long as the object lives. It has no signals; a sleep is waited out."""

    def __init__(self) -> None:
        self._runs: dict[str, _MemoryRun] = {}

    async def open(self, start: RunStart) -> Journal:
        run = self._runs.setdefault(start.run_id, _MemoryRun(start))
        run.execution += 1
        return run


class _MemoryRun:
    lost = None

    def __init__(self, start: RunStart) -> None:
        self.execution = 0
        self._start = start
        self._calls: dict[str, Call] = {}
        self._values: dict[str, JSONObject] = {}

    @property
    def first_traceparent(self) -> str | None:
        return self._start.traceparent if self.execution > 1 else None

    async def earlier(self, activity: str) -> Sequence[Earlier]:
        return [
            Earlier(call.input, self._values.get(key))
            for key, call in self._calls.items()
            if call.activity == activity
        ]

    async def call(self, call: Call, work: Work) -> Called:
        known = self._calls.setdefault(call.key, call)
        if known is not call and known.input_hash != call.input_hash:
            raise InputChanged(self._start.run_id, call.key)
        value = self._values.get(call.key)
        if value is not None:
            return Called(value, "before")
        value = self._values[call.key] = await work()
        return Called(value, "here")

    async def signal(self, key: str, name: str) -> JSONValue:
        raise NoStoreError(f"wait_signal({name!r})")

    async def sleep(self, key: str, until: float) -> None:
        await asyncio.sleep(max(0.0, until - time.time()))

    async def end(self, end: RunEnd) -> None:
        pass
