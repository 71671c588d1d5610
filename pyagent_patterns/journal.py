"""Where finished calls are kept, so that a run that goes on never pays for one twice.

A call is known by its run and its key: the scope path, the activity and an ordinal, as in
`work/t3/ask:0`. Nothing depends on the order in which calls happen. Of a value, a pattern sees
only text, which JSON gives back as it was: a first run and a replay see the same.
"""

from __future__ import annotations

from typing import Protocol

from pyagent_providers.types import JSONObject

from .errors import InputChanged


class Journal(Protocol):
    """What a run needs of a journal. Values are JSON objects."""

    async def begin(self, run_id: str, key: str, input_hash: str) -> JSONObject | None:
        """The stored value of a finished call; None when it is to be made, now recorded as begun.

        Raises `InputChanged` when the key is known with another input.
        """
        ...

    async def finish(self, run_id: str, key: str, value: JSONObject) -> None:
        """Store a call's value; returns when it is stored for good."""
        ...


class MemoryJournal:
    """A journal that lives as long as the object. Pass it again to go on with a run."""

    def __init__(self) -> None:
        self._inputs: dict[tuple[str, str], str] = {}
        self._values: dict[tuple[str, str], JSONObject] = {}

    async def begin(self, run_id: str, key: str, input_hash: str) -> JSONObject | None:
        known = self._inputs.setdefault((run_id, key), input_hash)
        if known != input_hash:
            raise InputChanged(run_id, key)
        return self._values.get((run_id, key))

    async def finish(self, run_id: str, key: str, value: JSONObject) -> None:
        self._values[run_id, key] = value
