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


class MemorySession:
    """A conversation that lasts as long as the object."""

    def __init__(self) -> None:
        self._turns: dict[str, Turn] = {}

    async def turns(self) -> Sequence[Turn]:
        return list(self._turns.values())

    async def add(self, run_id: str, turn: Turn) -> None:
        self._turns.setdefault(run_id, turn)


def messages_of(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """The turns as a model is told of them."""
    return tuple(
        message
        for turn in turns
        for message in (Message("user", turn.task), Message("assistant", turn.answer))
    )
