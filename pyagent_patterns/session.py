"""Conversations that go on over several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

from pyagent_providers.types import JSONObject, Message

from .journal import Call, Journal


@dataclass(frozen=True, slots=True)
class Turn:
    """One run's part of a conversation."""

    task: str
    answer: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The first `turns` turns of a conversation, in short."""

    turns: int
    text: str


@runtime_checkable
class Session(Protocol):
    """Keeps a conversation: `run(task, session=...)` goes on from its turns and adds its own.

    `MemorySession` keeps it as long as the object lives, `durable.FileSession` in a file.
    """

    async def turns(self) -> Sequence[Turn]:
        """What was said so far, oldest first."""
        ...

    async def add(self, run_id: str, turn: Turn) -> None:
        """Add a run's part; once, however often the run is gone on with."""
        ...

    async def summary(self) -> Summary | None:
        """The summary that was kept last, so that not every run pays for one of its own."""
        ...

    async def keep(self, summary: Summary) -> None:
        """Keep this summary; not in the place of one of more turns."""
        ...


class MemorySession:
    """A conversation that lasts as long as the object."""

    def __init__(self) -> None:
        self._turns: dict[str, Turn] = {}
        self._summary: Summary | None = None

    async def turns(self) -> Sequence[Turn]:
        return list(self._turns.values())

    async def add(self, run_id: str, turn: Turn) -> None:
        self._turns.setdefault(run_id, turn)

    async def summary(self) -> Summary | None:
        return self._summary

    async def keep(self, summary: Summary) -> None:
        if self._summary is None or self._summary.turns <= summary.turns:
            self._summary = summary


@dataclass(slots=True)
class Conversation:
    """What was said before a run, as it was when the run began.

    `made` is a summary that an agent of the run has made of it since.
    """

    turns: tuple[Turn, ...] = ()
    summary: Summary | None = None
    made: Summary | None = None


def messages_of(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """The turns as a model is told of them."""
    return tuple(
        message
        for turn in turns
        for message in (Message("user", turn.task), Message("assistant", turn.answer))
    )


async def conversation_of(session: Session | None, journal: Journal) -> Conversation:
    """What was said before this run, as it was when the run began."""

    async def look(session: Session) -> JSONObject:
        summary = await session.summary()
        return {
            "turns": [asdict(turn) for turn in await session.turns()],
            "summary": None if summary is None else asdict(summary),
        }

    if session is not None:
        called = await journal.call(
            Call("session:0", "session", _Nothing()), partial(look, session)
        )
        stored = called.value
    elif journal.execution > 1 and (earlier := await journal.earlier("session")):
        stored = earlier[-1].value or {}
    else:
        return Conversation()
    turns = cast("Sequence[Mapping[str, str]]", stored.get("turns", ()))
    summary = cast("Mapping[str, Any] | None", stored.get("summary"))
    return Conversation(
        tuple(Turn(**turn) for turn in turns), None if summary is None else Summary(**summary)
    )


class _Nothing:
    """What a conversation is read with."""

    input_hash = ""

    def to_dict(self) -> JSONObject:
        return {}
