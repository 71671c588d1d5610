"""What a store is given to keep, without secrets; the run goes on with the same.

What is on record decides what a run does when it goes on, so a first execution must see what the
next one will. Hence values are redacted before they are stored and handed on, both at once, and
what was on record is handed on as it is. Without a store nothing is kept, and nothing redacted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from pyagent_providers.redaction import redacted, redacted_json
from pyagent_providers.types import JSONObject, JSONValue

from .errors import InputChanged, JournalError
from .journal import (
    AsJSON,
    Call,
    Called,
    Earlier,
    Given,
    Journal,
    MemoryStore,
    RunEnd,
    RunStart,
    Store,
    Work,
)


async def opened(store: Store, start: RunStart) -> tuple[Journal, str]:
    """The run's journal, and its task as it is on record. Raises what `Store.open` does."""
    if isinstance(store, MemoryStore):
        return await store.open(start), start.task
    clean = replace(start, task=redacted(start.task), name=start.name and redacted(start.name))
    try:
        return RedactedJournal(await store.open(clean)), clean.task
    except InputChanged:
        # It is there with another task: this one, if it was recorded before it was seen that there
        # is a secret in it.
        if clean.task == start.task:
            raise
        return RedactedJournal(await store.open(start)), start.task


def redacted_reply(value: JSONObject) -> JSONObject:
    """A `Reply`, as JSON, without secrets; itself where there are none.

    The ledger is left as it is: it has figures and names, and no text that anybody wrote. So are
    the ids and signatures of tool calls, which the provider is to know again.
    """
    text, error = value["text"], value["error"]
    clean: dict[str, JSONValue] = {"text": redacted_json(text), "error": redacted_json(error)}
    same = clean["text"] is text and clean["error"] is error
    if calls := cast("Sequence[Mapping[str, str]]", value.get("tool_calls", ())):
        written = [
            {**call, "name": redacted(call["name"]), "arguments": redacted(call["arguments"])}
            for call in calls
        ]
        clean["tool_calls"] = written
        same = same and all(new == call for new, call in zip(written, calls, strict=True))
    return value if same else {**value, **clean}


class RedactedJournal:
    """A `Journal` that tells another one nothing secret."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @property
    def execution(self) -> int:
        return self._journal.execution

    @property
    def first_traceparent(self) -> str | None:
        return self._journal.first_traceparent

    @property
    def lost(self) -> JournalError | None:
        return self._journal.lost

    async def earlier(self, activity: str) -> Sequence[Earlier]:
        return await self._journal.earlier(activity)

    async def call(self, call: Call, work: Work) -> Called:
        async def clean() -> JSONObject:
            return _value(call.activity, await work())

        given = _Shown(call.given, lambda shown: _without(shown, _OF_A_QUESTION))
        shown = Call(call.key, call.activity, given, here=call.here)
        return await self._journal.call(shown, clean)

    async def signal(self, key: str, name: str) -> JSONValue:
        return await self._journal.signal(key, name)  # as it was when it was sent: redacted

    async def sleep(self, key: str, until: float) -> None:
        await self._journal.sleep(key, until)

    async def end(self, end: RunEnd) -> None:
        shows = None if end.shows is None else _Result(end.shows)
        error = None if end.error is None else redacted(end.error)
        await self._journal.end(replace(end, shows=shows, error=error))


# Values that are the SDK's own: figures and marks, which any pattern of digits could hit.
_FIGURES: Final = ("budget", "estimate", "begin", "sleep")
# What of a question tells who is asked, and is compared when it is put.
_OF_A_QUESTION: Final = ("fingerprint", "run_id")
# What of a result is figures, times, ids and the ledger; its outcomes are looked at one by one.
_OF_A_RESULT: Final = (
    *("run_id", "trace_id", "calls", "usage", "started_at"),
    *("cost_estimate", "plan_estimate", "outcomes"),
)
_OF_AN_OUTCOME: Final = ("cost", "usage", "started_at", "ended_at")


def _value(activity: str, value: JSONObject) -> JSONObject:
    if activity == "ask":
        return redacted_reply(value)
    return value if activity in _FIGURES else cast(JSONObject, redacted_json(value))


def _without(value: JSONObject, kept: Sequence[str]) -> JSONObject:
    """An object of ours without secrets, but for the parts that are kept as they are."""
    return {
        name: each if name in kept else redacted_json(each)  # names are ours, too
        for name, each in value.items()
    }


@dataclass(frozen=True, eq=False)
class _Shown:
    """What a call is made with, as it is kept; it is known by what it really is."""

    given: Given
    clean: Callable[[JSONObject], JSONObject]

    def to_dict(self) -> JSONObject:
        return self.clean(self.given.to_dict())

    @property
    def input_hash(self) -> str:
        return self.given.input_hash


@dataclass(frozen=True, eq=False)
class _Result:
    """A result, as it is kept."""

    shows: AsJSON

    def to_dict(self) -> JSONObject:
        result = self.shows.to_dict()
        outcomes = cast("Sequence[JSONObject]", result.get("outcomes", ()))
        clean = [_without(each, _OF_AN_OUTCOME) for each in outcomes]
        return {**_without(result, _OF_A_RESULT), "outcomes": clean}
