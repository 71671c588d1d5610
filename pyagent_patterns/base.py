"""`Pattern`, what every orchestration is, beside `Agent` and `Result`."""

from __future__ import annotations

import asyncio
import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from typing import ClassVar

from .agent import Agent
from .asking import Labels
from .errors import InputChanged, JournalError, RunSuspended
from .events import Observer
from .journal import Journal, MemoryStore, RunEnd, RunStart, Store, Suspend
from .log import log_event, logger
from .record import RunRecord
from .result import Outcome, Result
from .retry import RetryPolicy
from .run import Run, RunContext
from .telemetry import PatternSpan

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
        self._labels: Labels = {}

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
        durable: str | PathLike[str] | Store | None = None,
    ) -> Result:
        """Do the task. Cancelling this cancels every call in flight.

        `on_event` is called with each event of the run (see `pyagent_patterns.events`).
        `durable` keeps the run: the path of a journal file, such as `"runs.db"`, or a `Runs`
        that has it open. Every answer is then on disk before it is used, and running again with
        the same `run_id`, or `Runs.resume`, goes on where the run stopped and pays for no finished
        call again. Without it nothing is written anywhere.

        Raises TypeError or ValueError for a task that is not one and ConfigurationError for an
        agent whose model cannot be called, before anything is spent. Every exception that ends
        a run, a cancellation included, carries `.result`: all that did finish. A run with a store
        may also raise `RunSuspended`, `RunBusyError` and `JournalError`.
        """
        _check_task(task)
        for agent in self.agents:
            agent.llm.check()
        run_id = run_id or uuid.uuid4().hex
        observers = [on_event] if on_event else []
        if logger.isEnabledFor(logging.INFO):
            observers.append(log_event)
        with PatternSpan(self.name, run_id) as span, _opened(durable) as store:
            record = RunRecord(run_id=run_id, pattern=self.name, observers=observers, span=span)
            try:
                result = await self._carry_out(task, record, span, store)
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
        durable: str | PathLike[str] | Store | None = None,
    ) -> Result:
        """`run`, for code that is not async.

        Raises RuntimeError where an event loop is running; there, await `run`.
        """
        if _loop_is_running():
            raise RuntimeError("an event loop is running here: await run() instead of run_sync()")
        return asyncio.run(self.run(task, on_event=on_event, run_id=run_id, durable=durable))

    async def _carry_out(
        self, task: str, record: RunRecord, span: PatternSpan, store: Store
    ) -> Result:
        """Execute the pattern on a journal, and tell that how it ended."""
        journal = await store.open(
            RunStart(
                run_id=record.run_id,
                pattern=self.name,
                task=task,
                team=self,
                traceparent=span.traceparent,
            )
        )
        record.goes_on(journal.execution)
        if journal.first_traceparent is not None:
            span.goes_on_from(journal.first_traceparent)
        run = Run(record=record, journal=journal, retry=self.retry, labels=self._labels)
        try:
            result = record.result(await self._execute(RunContext(run), task))
            await journal.end(RunEnd(status=result.status, shows=result))
        except BaseException as error:
            stopped_by = await _stop(error, journal, record)
            if stopped_by is error:
                raise
            raise stopped_by from None
        return result


async def _stop(error: BaseException, journal: Journal, record: RunRecord) -> BaseException:
    """Tell the journal how an execution ended; what is to be raised for it."""
    try:
        await journal.end(_end(error, record))
    except JournalError as unrecorded:
        if isinstance(error, Suspend):  # nobody would wake it
            return journal.lost or unrecorded
    except asyncio.CancelledError:
        if journal.lost is None:
            raise
    if journal.lost is not None:  # then this task was cancelled, whatever that hit first
        _uncancel()
        return error if isinstance(error, JournalError) else journal.lost
    if isinstance(error, Suspend):
        return RunSuspended(record.run_id, waiting_for=error.signals, wake_at=error.until)
    return error  # it says more than what may have become of recording it


def _uncancel() -> None:
    """The cancellation was the journal's and goes no further."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        task.uncancel()


def _end(error: BaseException, record: RunRecord) -> RunEnd:
    """What ended by itself has failed; what was cut off, or cannot be recorded, can go on."""
    if isinstance(error, Suspend):
        return RunEnd(status="suspended", wake_at=error.until, waiting_for=error.signals)
    if isinstance(error, Exception) and not isinstance(error, JournalError | InputChanged):
        return RunEnd(status="failed", shows=record.result(None), error=str(error))
    return RunEnd(status="running")


@contextmanager
def _opened(durable: str | PathLike[str] | Store | None) -> Generator[Store]:
    if durable is None:
        yield MemoryStore()
    elif isinstance(durable, str | PathLike):
        from .durable import Runs  # SQLite is loaded when it is wanted

        with Runs(durable) as runs:
            yield runs
    else:
        yield durable


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
