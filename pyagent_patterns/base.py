"""`Pattern`, what every orchestration is, beside `Agent` and `Result`."""

from __future__ import annotations

import asyncio
import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar

from pyagent_providers.semconv import Phase

from .agent import Agent
from .events import Observer
from .journal import Journal, MemoryJournal
from .log import log_event, logger
from .record import RunRecord
from .result import Outcome, Result
from .retry import RetryPolicy
from .run import Run, RunContext
from .telemetry import AgentLabels, PatternSpan

__all__ = ["Agent", "Outcome", "Pattern", "Result", "RetryPolicy"]


class Pattern(ABC):
    """A way for agents to work together. Immutable; any number of runs may go on at once.

    A subclass sets `name`, gives its `agents`, and writes `_execute`: what is asked of whom, in
    which order. It must be a function of its inputs and the answers alone, so that a run can be
    replayed: no clock, no randomness, no state on `self`.
    """

    name: ClassVar[str]

    def __init__(self, *, retry: RetryPolicy | None = None) -> None:
        self.retry = retry or RetryPolicy()
        # Of the agents, not of any run: worked out once, on first use.
        self._labels: dict[tuple[Agent, Phase], AgentLabels] = {}

    @property
    @abstractmethod
    def agents(self) -> Sequence[Agent]:
        """Every agent the pattern may ask."""

    @abstractmethod
    async def _execute(self, ctx: RunContext, task: str) -> str:
        """The pattern itself: from the task to the final answer."""

    async def run(
        self,
        task: str,
        *,
        on_event: Observer | None = None,
        run_id: str | None = None,
        journal: Journal | None = None,
    ) -> Result:
        """Do the task. Cancelling this cancels every call in flight.

        `on_event` is called with each event of the run (see `pyagent_patterns.events`).
        `journal` keeps finished calls: running again with the same journal and `run_id` goes on
        where the run stopped and pays for no finished call again. Without one, a run is kept in
        memory only, under a new id.

        Raises TypeError or ValueError for a task that is not one and ConfigurationError for an
        agent whose model cannot be called, before anything is spent. Every exception that ends
        a run, a cancellation included, carries `.result`: all that did finish.
        """
        _check_task(task)
        for agent in self.agents:
            agent.llm.check()
        run_id = run_id or uuid.uuid4().hex
        observers = [on_event] if on_event else []
        if logger.isEnabledFor(logging.INFO):
            observers.append(log_event)
        with PatternSpan(self.name, run_id) as span:
            record = RunRecord(run_id=run_id, pattern=self.name, observers=observers, span=span)
            run = Run(
                record=record,
                journal=journal or MemoryJournal(),
                retry=self.retry,
                labels=self._labels,
            )
            try:
                result = record.result(await self._execute(RunContext(run), task))
            except BaseException as error:
                partial = record.result(None)
                span.finished(partial)
                with suppress(AttributeError):  # an exception type with slots
                    error.result = partial  # pyright: ignore[reportAttributeAccessIssue]
                raise
            span.finished(result)
            return result

    def run_sync(
        self,
        task: str,
        *,
        on_event: Observer | None = None,
        run_id: str | None = None,
        journal: Journal | None = None,
    ) -> Result:
        """`run`, for code that is not async.

        Raises RuntimeError where an event loop is running; there, await `run`.
        """
        if _loop_is_running():
            raise RuntimeError("an event loop is running here: await run() instead of run_sync()")
        return asyncio.run(self.run(task, on_event=on_event, run_id=run_id, journal=journal))


def _check_task(task: object) -> None:
    if not isinstance(task, str):
        raise TypeError(f"task must be a string saying what to do; got {task!r}")
    if not task.strip():
        raise ValueError("task is empty; say what to do")


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
