"""When processes are killed, and how many runs go on meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from .processes import Child
from .suite import Killer, Suite


async def until_killed(
    suite: Suite, wanted: int, one: Callable[[str, str], Coroutine[Any, Any, None]], lanes: int = 4
) -> None:
    """`one` run after the other, each lane in a store of its own, for so many kills."""

    async def lane() -> None:
        address = suite.new_store()
        while suite.tally.kills < wanted:
            await one(address, suite.new_run())

    await side_by_side(suite, lane, lanes=lanes)


async def side_by_side(
    suite: Suite, lane: Callable[[], Coroutine[Any, Any, None]], lanes: int = 4
) -> None:
    """As many lanes as the engine can have; one that fails ends all."""
    async with asyncio.TaskGroup() as group:
        for _ in range(min(lanes, suite.engine.lanes)):
            group.create_task(lane())


def after(
    suite: Suite, *what: str, call: str | None = None, times: int = 1, within: float = 0.0
) -> Killer:
    """Kill at a random moment `within` seconds of what a process says of a call."""

    async def kill(child: Child) -> None:
        if await child.says(*what, call=call, times=times):
            await asyncio.sleep(suite.chance.uniform(0, within))
            child.kill()

    return kill


class Between:
    """Kill at a random moment from what a process says first to what it says last, or just after.

    How long that takes depends on the engine and on what else the machine does, so it is learnt
    from the processes themselves. The first is as good as never killed in between: it shows.
    """

    def __init__(
        self,
        suite: Suite,
        first: tuple[str, ...],
        last: tuple[str, ...],
        *,
        call: str | None = None,
        times: int = 1,
    ) -> None:
        self._chance = suite.chance
        self._first = first
        self._last = last
        self._call = call
        self._times = times  # at most: after the first, the second ... of them
        self._seconds = 2.0

    async def __call__(self, child: Child) -> None:
        times = self._chance.randint(1, self._times)
        if not await child.says(*self._first, call=self._call, times=times):
            return
        begun = time.monotonic()
        moment = self._chance.uniform(0, 1.1 * self._seconds)
        try:
            async with asyncio.timeout(moment):
                await child.says(*self._last, call=self._call, times=times)
            self._seconds = time.monotonic() - begun
            await asyncio.sleep(begun + moment - time.monotonic())
        except TimeoutError:
            self._seconds *= 1.1
        child.kill()


def at_most(times: int, killer: Killer) -> Killer:
    """Kill so often, and then no more."""
    left = times

    async def kill(child: Child) -> None:
        nonlocal left
        if left:
            await killer(child)
            left -= child.killed

    return kill


async def never(child: Child) -> None:
    """Kill nothing."""
