"""Conversations that go on over several runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pyagent_providers.types import Message


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
