"""One scope of a run: the keys of what is done in it, and what of that is put on record.

Work that is not to be done twice (`call`), waits (`wait_signal`, `sleep`) and people (`consult`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import cast

from pyagent_providers.types import JSONObject, JSONValue

from .door import Run
from .journal import Call, Called, Suspend
from .keys import Input, OneAtATime, segment
from .log import logger
from .people import Decision, Gate, Wanted, WantedKind, decided_by
from .purse import Purse
from .question import Assigned
from .record import RunRecord


class Scope:
    """One scope of a run. Calls in a scope come one after another; parallel work takes children.

    A call's key is the scope's path, the activity and an ordinal, so that it is the same in
    every execution of the run, in whatever order things happen.
    """

    __slots__ = ("_calling", "_children", "_made", "_path", "_purse", "_run", "_task")

    def __init__(
        self,
        run: Run,
        path: str = "",
        task: Assigned | None = None,
        purse: Purse | None = None,
    ) -> None:
        self._run = run
        self._purse = purse
        self._path = path
        self._task = task
        self._children: set[str] = set()
        self._made = 0
        self._calling = OneAtATime(path)

    @property
    def record(self) -> RunRecord:
        """What the run has to show so far; a pattern reports its plan and outcomes to it."""
        return self._run.record

    @property
    def task_id(self) -> str | None:
        """The assignment that this scope is for, if any."""
        return None if self._task is None else self._task.id

    async def call(
        self,
        activity: str,
        work: Callable[[], Awaitable[JSONValue]],
        *,
        input: JSONValue = None,
    ) -> JSONValue:
        """Do something that is not to be done twice, or differs each time: what it gave.

        On record, it is not done again. `input` is what decides the result: with another one the
        same call raises InputChanged. Time, chance and every look outside belong in here.
        """
        with self._calling:
            key = self._key(activity)
            return (await self._recorded(key, activity, input, work)).value["value"]

    async def wait_signal(self, name: str) -> JSONValue:
        """The next value that is sent to the run under `name`.

        Until it comes the run is suspended: nothing of it runs, in any process.
        """
        with self._calling:
            return await self._run.journal.signal(self._key("signal"), name)

    async def sleep(self, seconds: float) -> None:
        """Wait. A run with a store is suspended meanwhile, as by `wait_signal`."""
        with self._calling:

            async def until() -> JSONValue:
                return time.time() + seconds

            key = self._key("sleep")
            called = await self._recorded(key, "sleep", seconds, until)
            await self._run.journal.sleep(key, cast(float, called.value["value"]))

    async def consult(self, kind: WantedKind, who: str, text: str, details: JSONObject) -> Decision:
        """Ask a person. A run with a store and nobody at hand is suspended until they decide."""
        with self._calling:
            run, key = self._run, self._key("consult")
            wanted = Wanted(
                run_id=run.record.run_id, key=key, kind=kind, who=who, text=text, details=details
            )
            telling = run.record.telling

            async def decision() -> JSONValue:
                if run.human is None:
                    return None
                if telling is not None:
                    telling.approval_wanted(wanted)
                return (await decided_by(run.human, wanted)).to_dict()

            asked = wanted.to_dict()
            value = (await self._recorded(key, "consult", asked, decision)).value["value"]
            if value is None:  # nobody at hand
                decided = await self._decision_sent(wanted, Input("consult", asked).input_hash)
            else:
                decided = Decision.from_value(value, kind)
            if telling is not None:
                telling.approval_given(wanted, decided)
            return decided

    def gated(self, gate: Gate) -> bool:
        """Whether a person is asked there."""
        return gate in self._run.gates

    async def _decision_sent(self, wanted: Wanted, asked: str) -> Decision:
        """The decision that is sent to the run; until there is one it is suspended.

        It is kept under what was asked, so that a fork does not take one for something else. What
        is no decision is passed over: a slip of whoever sends it must not end the run.
        """
        run, name = self._run, wanted.key
        while True:
            try:
                value = await run.journal.signal(self._key(f"signal-{asked[:8]}"), name)
            except Suspend:
                if run.record.telling is not None:
                    run.record.telling.approval_wanted(wanted)
                raise
            try:
                return Decision.from_value(value, wanted.kind)
            except ValueError as error:
                run_id = run.record.run_id
                logger.warning("run %s, signal %r: %s; send another", run_id, name, error)

    async def _recorded(
        self, key: str, activity: str, input: JSONValue, work: Callable[[], Awaitable[JSONValue]]
    ) -> Called:
        async def value() -> JSONObject:
            # What is given back is what JSON makes of it, as it will be on a replay.
            return {"value": json.loads(json.dumps(await work()))}

        call = Call(key, activity, Input(activity, input))
        called = await self._run.journal.call(call, value)
        self.record.called(key, called)
        return called

    def _key(self, activity: str) -> str:
        key = f"{self._path}{segment(activity)}:{self._made}"
        self._made += 1
        return key
