"""One execution of a run on a cluster."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from pyagent_patterns.errors import InputChanged, JournalError
from pyagent_patterns.journal import Call, Called, Earlier, RunEnd, RunStart, Suspend, Work
from pyagent_providers.types import JSONObject, JSONValue

from .questions import Questions
from .record import Found, Record
from .run_table import Claim, OwnCall, RunTable, stored_json


class ClusterJournal:
    """A `Journal`: questions are DBOS workflows, everything else is in the cluster's own tables.

    So are questions that only this process may ask, and what a fork was given.

    `may_begin` returns when a call may be begun, and raises when none may any more.
    """

    def __init__(
        self,
        runs: RunTable,
        record: Record,
        questions: Questions,
        claim: Claim,
        start: RunStart,
        may_begin: Callable[[ClusterJournal], Awaitable[None]],
        ended: Callable[[ClusterJournal], None],
    ) -> None:
        self.claim = claim
        self.execution = claim.execution
        self.first_traceparent = claim.first_traceparent
        self.over = False
        self.going_on = False  # it is given up for another worker to go on with
        self.making = 0  # calls that are being made here, questions as DBOS workflows aside
        self._runs = runs
        self._record = record
        self._questions = questions
        self._traceparent = start.traceparent
        self._may_begin = may_begin
        self._ended = ended
        self.task = asyncio.current_task()
        self._lost: JournalError | None = None
        self._asked: dict[str, Found] = {}
        self._own: dict[str, OwnCall] = {}
        self._doubts: dict[str, int] = {}
        self._made = 0

    async def load(self, start: RunStart) -> None:
        """Read what is on record."""
        if self.claim.pattern is None:
            await self._runs.note(self.claim, start)
        if self.claim.is_new:
            return
        self._own = {call.key: call for call in await self._runs.calls(self.claim.run_id)}
        if self.execution == 1:  # only what it was submitted or forked with
            return
        self._doubts = await self._runs.doubts(self.claim.run_id)
        with self._runs.explaining():
            self._asked = await self._record.questions(self.claim.run_id)

    @property
    def lost(self) -> JournalError | None:
        return self._lost

    def lose(self, reason: JournalError) -> None:
        """The run belongs to this execution no longer."""
        if self._lost is None and not self.over:
            self._lost = reason
            if self.task is not None:
                self.task.cancel()

    async def earlier(self, activity: str) -> Sequence[Earlier]:
        calls = [
            Earlier(json.loads(call.input), None if call.value is None else json.loads(call.value))
            for call in self._own.values()
            if call.activity == activity and not call.copied
        ]
        if activity == "ask":  # a refused one was not sent, one in a queue is not left
            calls += [
                Earlier(found.question, found.value)
                for found in self._asked.values()
                if not found.queued and not found.refused
            ]
        return calls

    async def call(self, call: Call, work: Work) -> Called:
        self._made += 1
        asked = call.key in self._asked
        own = None if asked else self._own.get(call.key)
        if own is not None and own.input_hash != call.input_hash:
            if not own.copied:
                raise InputChanged(self.claim.run_id, call.key)
            own = None  # a fork makes again what has changed
        if own is not None and own.value is not None:
            return Called(cast(JSONObject, json.loads(own.value)), "before")
        if call.activity == "ask" and (asked or not (call.here or own)):
            return await self._ask(call, work)
        await self._may_begin(self)
        self.making += 1
        try:
            return await self._make(call, work, doubtful=own is not None)
        finally:
            self.making -= 1

    async def signal(self, key: str, name: str) -> JSONValue:
        self._made += 1
        own = self._own.get(key)
        if own is not None and own.input_hash != name:
            raise InputChanged(self.claim.run_id, key)
        value = None if own is None else own.value
        if value is None:
            value = await self._runs.take_signal(self.claim, key, name)
            if value is None:
                raise Suspend(signals=(name,))
        return cast("dict[str, JSONValue]", json.loads(value))["value"]

    async def sleep(self, key: str, until: float) -> None:
        if time.time() < until:
            raise Suspend(until=until)

    async def end(self, end: RunEnd) -> None:
        self.over = True
        try:
            going_on = self.going_on and end.status == "running"
            await self._runs.end(self.claim, end, calls=self._made, going_on=going_on)
        finally:
            self._ended(self)

    async def _make(self, call: Call, work: Work, *, doubtful: bool) -> Called:
        """Do here what is not on record, and record it here."""
        await self._runs.begin(self.claim, call)
        value = await work()
        try:
            stored = stored_json(f"call {call.key!r}", value)
            await self._runs.finish(self.claim, call.key, stored)
        except JournalError as error:
            error.unrecorded[call.key] = value
            raise
        return Called(value, "here", doubtful=doubtful)

    async def _ask(self, call: Call, work: Work) -> Called:
        found = self._asked.get(call.key)
        if found is not None and found.value is not None:
            if found.input_hash != call.input_hash:
                raise InputChanged(self.claim.run_id, call.key)
            return Called(found.value, "before", doubtful=call.key in self._doubts)
        await self._may_begin(self)
        with self._runs.explaining():
            return await self._put(call, work, found)

    async def _put(self, call: Call, work: Work, found: Found | None) -> Called:
        """Ask a question that has no answer, or wait for it where it is being asked."""
        run_id, key, queue = self.claim.run_id, call.key, True
        while True:
            if found is None:
                given = self._given(call)
                answered = await self._questions.ask(run_id, key, given, work, queue=queue)
            elif found.input_hash != call.input_hash:
                raise InputChanged(run_id, key)
            elif found.value is not None:  # an execution that has lost the run was quicker
                return Called(found.value, "elsewhere", doubtful=key in self._doubts)
            elif found.queued:
                answered = await self._questions.wait(run_id, key, work)
            else:
                if not found.refused:  # it was begun, and whoever did so is gone
                    self._doubts = await self._runs.doubt(self.claim, key)
                await self._record.forget(run_id, key)
                queue, found = not found.refused, None
                continue
            if answered is not None and answered.queued:
                self._doubts = await self._runs.doubts(run_id)
            if answered is not None and answered.value is not None:
                made = "here" if answered.here else "elsewhere"
                doubtful = answered.twice or key in self._doubts
                return Called(answered.value, made, doubtful=doubtful)
            await self._runs.check(self.claim)
            found = await self._record.question(run_id, key)

    def _given(self, call: Call) -> JSONObject:
        """All that another process needs to ask the question."""
        given: JSONObject = {
            "team": self.claim.team,
            "question": call.input,
            "input_hash": call.input_hash,
            "traceparent": self._traceparent,
        }
        stored_json(f"the input of call {call.key!r}", given)
        return given
