"""An event loop on a clock of its own: when nothing is ready, the time of the next timer has come.

An hour of pauses takes no time, and the same program runs the same way each time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import TypeVar

T = TypeVar("T")


class Stuck(BaseException):
    """Everything waits and nothing will ever happen. On a real clock this would hang."""


def run_virtually(main: Callable[[], Coroutine[None, None, T]]) -> T:
    """What `main` returns, run on a `VirtualLoop`. Raises `Stuck` where it would hang."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its `time` begins at 0 and moves only when there is nothing else to do."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self._now

    def next_timer(self) -> float | None:
        """When the next timer goes off; None if there is none that was not cancelled."""
        return min((t.when() for t in self._scheduled if not t.cancelled()), default=None)

    def skip(self) -> None:
        """Go to the next timer. Raises `Stuck` if there is none."""
        when = self.next_timer()
        if when is None:
            waiting = [task for task in asyncio.all_tasks(self) if not task.done()]
            raise Stuck(f"at {self._now:g} s nothing is left that could wake {waiting}")
        self._now = max(self._now, when)

    def what_is_left(self) -> list[str]:
        """Tasks other than the current one, and timers, that are still there."""
        tasks = asyncio.all_tasks(self) - {asyncio.current_task(self)}
        timers = [timer for timer in self._scheduled if not timer.cancelled()]
        return [*map(repr, tasks), *map(repr, timers)]


class _Selector(selectors.DefaultSelector):
    """Never waits: where a loop would sleep, its time moves on."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            self._loop.skip()
        return ready
