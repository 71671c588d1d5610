"""`Pattern`, what every orchestration is, beside `Agent` and `Result`."""

from __future__ import annotations

import asyncio
import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from typing import ClassVar, TypedDict, Unpack

from .agent import Agent
from .asking import Labels
from .budget import Budget
from .errors import (
    AgentError,
    InputChanged,
    JournalError,
    PlanError,
    RunAborted,
    RunSuspended,
    RunTimeoutError,
    WorkersFailedError,
)
from .events import Observer
from .funding import closing_of, purse_of
from .journal import Journal, MemoryStore, RunEnd, RunStart, Store, Suspend
from .log import log_event, logger
from .policy import OnError, Policy
from .record import RunRecord
from .result import Outcome, Result
from .retry import RetryPolicy
from .run import Run, RunContext
from .standing_in import hand_over
from .telemetry import PatternSpan
from .timeouts import NO_TIMEOUTS, Timeouts
from .traffic import SHARED, Traffic

__all__ = ["Agent", "Budget", "Outcome", "Pattern", "Policies", "Result", "RetryPolicy", "Timeouts"]


class Policies(TypedDict, total=False):
    """What every pattern can be told about failure, time and money.

    `retry`, `timeouts` and `on_error` hold for agents without their own: see
    `pyagent_patterns.policy`. `budget` holds in every run, beside one that `run` is given.
    `degrade_to` are simpler patterns or single agents, tried in turn when a run fails: they are
    given the task and all work that is done. Of a pattern that stands in its own budget holds too;
    the other policies are the run's. `traffic` has the rate limits and circuit breakers;
    all patterns share one unless they are given their own.
    """

    retry: RetryPolicy | None
    timeouts: Timeouts | None
    on_error: OnError
    budget: Budget | None
    degrade_to: Sequence[Agent | Pattern]
    traffic: Traffic | None


class Pattern(ABC):
    """A way for agents to work together. Immutable; any number of runs may go on at once.

    A subclass sets `name`, gives its `agents`, and writes `_execute`: what is asked of whom, in
    which order. It must be a function of its inputs and the answers alone, so that a run can be
    replayed: no clock, no randomness, no state on `self`.
    """

    name: ClassVar[str]

    def __init__(self, **policies: Unpack[Policies]) -> None:
        self.policy = Policy(
            retry=policies.get("retry") or RetryPolicy(),
            timeouts=policies.get("timeouts") or NO_TIMEOUTS,
            on_error=policies.get("on_error", "partial"),
            traffic=policies.get("traffic") or SHARED,
        )
        self.budget = policies.get("budget")
        self.degrade_to = tuple(policies.get("degrade_to", ()))
        for stand_in in self.degrade_to:
            if not isinstance(stand_in, Agent | Pattern):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"degrade_to must have Agents and Patterns; got {stand_in!r}")
        # Of the agents, not of any run: worked out once, on first use.
        self._labels: Labels = {}

    @property
    @abstractmethod
    def agents(self) -> Sequence[Agent]:
        """Every agent the pattern may ask, in the order in which it first does.

        The last is taken to write the answer: a budget keeps enough for it.
        """

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
        budget: Budget | None = None,
    ) -> Result:
        """Do the task. Cancelling this cancels every call in flight.

        `on_event` is called with each event of the run (see `pyagent_patterns.events`).
        `durable` keeps the run: the path of a journal file, such as `"runs.db"`, or a `Runs`
        that has it open. Every answer is then on disk before it is used, and running again with
        the same `run_id`, or `Runs.resume`, goes on where the run stopped and pays for no finished
        call again. Without it nothing is written anywhere.
        `budget` limits what is spent, beside the pattern's own. A run that is gone on with and is
        given none has the one it was begun with.

        Raises TypeError or ValueError for a task that is not one, ConfigurationError for an
        agent whose model cannot be called, and BudgetError for a budget that cannot hold, before
        anything is spent; BudgetExceeded when the budget has no room for an answer, RunAborted
        and RunTimeoutError where the policies say so. Every exception that ends
        a run, a cancellation included, carries `.result`: all that did finish. A run with a store
        may also raise `RunSuspended`, `RunBusyError` and `JournalError`.
        """
        _check_task(task)
        for agent in self.everybody:
            for llm in agent.llms:
                llm.check()
        run_id = run_id or uuid.uuid4().hex
        observers = [on_event] if on_event else []
        if logger.isEnabledFor(logging.INFO):
            observers.append(log_event)
        with PatternSpan(self.name, run_id) as span, _opened(durable) as store:
            record = RunRecord(run_id=run_id, pattern=self.name, observers=observers, span=span)
            try:
                result = await self._carry_out(task, record, span, store, budget)
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
        budget: Budget | None = None,
    ) -> Result:
        """`run`, for code that is not async.

        Raises RuntimeError where an event loop is running; there, await `run`.
        """
        if _loop_is_running():
            raise RuntimeError("an event loop is running here: await run() instead of run_sync()")
        return asyncio.run(
            self.run(task, on_event=on_event, run_id=run_id, durable=durable, budget=budget)
        )

    @property
    def everybody(self) -> Sequence[Agent]:
        """Every agent that a run may ask: the pattern's, their fallbacks, and who stands in."""
        agents = list(self.agents)
        for stand_in in self.degrade_to:
            agents += stand_in.everybody if isinstance(stand_in, Pattern) else [stand_in]
        for agent in agents:  # it grows meanwhile
            if agent.fallback is not None:
                agents.append(agent.fallback)
        return agents

    async def _carry_out(
        self,
        task: str,
        record: RunRecord,
        span: PatternSpan,
        store: Store,
        budget: Budget | None,
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
        run = Run(
            record=record,
            journal=journal,
            policy=self.policy,
            labels=self._labels,
            last=_last(self.agents),
        )
        try:
            budgets = [self.budget] if self.budget else []
            purse = await purse_of(budgets, budget, journal, task, run.last, self.everybody)
            ctx = RunContext(run, purse=purse)
            result = record.result(await self._in_time(ctx, task))
            await journal.end(RunEnd(status=result.status, shows=result))
        except BaseException as error:
            stopped_by = await _stop(error, journal, record)
            if stopped_by is error:
                raise
            raise stopped_by from None
        return result

    async def _in_time(self, ctx: RunContext, task: str) -> str:
        """The answer, within the run's time."""
        seconds = self.policy.timeouts.run
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await self._answer(ctx, task)
        except TimeoutError as error:
            if seconds is None or not limit.expired():
                raise
            raise RunTimeoutError(ctx.record.run_id, seconds) from error

    async def _answer(self, ctx: RunContext, task: str) -> str:
        """The pattern's answer; when it fails, that of the first who can stand in."""
        try:
            return await self._execute(ctx, task)
        except _FAILURES as error:
            failure = error
        for n, stand_in in enumerate(self.degrade_to):
            scope = ctx.child(f"degraded-{n}")
            given = hand_over(task, ctx.record.all_outcomes)
            try:
                if isinstance(stand_in, Agent):
                    answer = await scope.ask(stand_in, given, phase="synthesis")
                else:
                    closing = closing_of(_last(stand_in.agents), given)
                    scope = scope.for_pattern(stand_in.budget, closing)
                    answer = await stand_in._execute(scope, given)
            except _FAILURES:
                continue
            ctx.record.degraded(stand_in.name)
            return answer
        refused = ctx.record.refusal
        if refused is not None and refused is not failure:
            raise refused from failure  # what it came of
        raise failure


# What ends a run from within, and a simpler pattern or agent may do better at.
_FAILURES = (AgentError, PlanError, WorkersFailedError, RunAborted)


def _last(agents: Sequence[Agent]) -> Agent | None:
    """Who writes the answer."""
    return agents[-1] if agents else None


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
