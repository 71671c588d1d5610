"""`Pattern`, what every orchestration is, beside `Agent` and `Result`."""

from __future__ import annotations

import asyncio
import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from os import PathLike
from typing import TYPE_CHECKING, Unpack

from .agent import Agent, Member, MemberTool, all_agents, on_one_line
from .approval import approved
from .asking import Labels
from .attribution import Attribution, attribution_of
from .budget import Budget
from .door import Run
from .ending import stop
from .errors import (
    AgentError,
    AnswerError,
    DeclinedError,
    NobodyToAskError,
    PatternError,
    PlanError,
    RouteError,
    RunAborted,
    RunTimeoutError,
    StageError,
    WorkersFailedError,
)
from .estimate import Past
from .form import Form, Unfit
from .funding import closing_of, purse_of
from .journal import MemoryStore, RunEnd, RunStart, Store
from .log import log_end, logger
from .options import How, Options, Policies
from .people import GATES, AskHuman, Human, ask_at_terminal, at_terminal
from .policy import Policy
from .record import RunRecord
from .redacted import opened
from .result import Outcome, Result
from .retry import RetryPolicy
from .run import Inner, RunContext
from .session import Session, Turn, conversation_of
from .standing_in import hand_over
from .task import whole_task
from .telemetry import PatternSpan, RunSpan
from .timeouts import Timeouts
from .tools import Tool
from .toolsets import OpenToolsets

if TYPE_CHECKING:
    from .events import Event, Observer
    from .telling import Telling

__all__ = ["Agent", "Budget", "How", "Member", "Options", "Outcome", "Pattern", "Policies",
           "Result", "RetryPolicy", "Timeouts"]  # fmt: skip


class Pattern(ABC):
    """A way for agents to work together. Immutable; any number of runs may go on at once.

    A subclass sets `name`, gives its `members`, and writes `_execute`: what is asked of whom, in
    which order. It must be a function of its inputs and the answers alone, so that a run can be
    replayed: no clock, no randomness, no state on `self`.
    """

    name: str

    def __init__(self, **options: Unpack[Options]) -> None:
        self.name = options.get("name") or type(self).name
        self.description = options.get("description", "")
        self.options = options
        self._own_policy = partial(
            Policy.within,
            retry=options.get("retry"),
            timeouts=options.get("timeouts"),
            on_error=options.get("on_error"),
            traffic=options.get("traffic"),
        )
        self.policy = self._own_policy(Policy())
        self.budget = options.get("budget")
        self.degrade_to = tuple(options.get("degrade_to", ()))
        for stand_in in self.degrade_to:
            if not isinstance(stand_in, Agent | Pattern):
                raise TypeError(f"degrade_to must have Agents and Patterns; got {stand_in!r}")
        self.approve = frozenset(options.get("approve", ()))
        if unknown := self.approve - set(GATES):
            raise ValueError(f"approve must be of {', '.join(GATES)}; got {sorted(unknown)}")
        output_type, inputs = options.get("output_type"), options.get("inputs")
        self.form = None if output_type is None else Form(output_type)
        self.inputs = None if inputs is None else Form(inputs)
        # Of the agents, not of any run: worked out once, on first use.
        self._agents: Sequence[Agent] | None = None
        self._labels: Labels = {}
        self._past = Past()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    @abstractmethod
    def members(self) -> Sequence[Member]:
        """Every agent or pattern that this one may ask, in the order in which it first does."""

    @property
    def answered_by(self) -> Member | None:
        """The member that writes the answer: a budget keeps enough for it.

        By default the last. None where the answer is put together from what several wrote.
        """
        return self.members[-1] if self.members else None

    @abstractmethod
    async def _execute(self, ctx: RunContext, task: str) -> str:
        """The pattern itself: from the task to the final answer."""

    @property
    def kind(self) -> str:
        """Which pattern this is, whatever its name."""
        return type(self).name

    @property
    def purpose(self) -> str:
        """What a planner is told this is for, on one line."""
        return on_one_line(self.description)

    @property
    def agents(self) -> Sequence[Agent]:
        """Every agent that a run may ask: of its members, their fallbacks, and who stands in."""
        if self._agents is None:
            self._agents = all_agents([*self.members, *self.degrade_to])
        return self._agents

    def as_tool(self, name: str | None = None, description: str | None = None) -> MemberTool:
        """This pattern as a tool of agents."""
        return MemberTool(self, name=name, description=description)

    async def run(
        self,
        task: str,
        *,
        inputs: object = None,
        on_event: Observer | None = None,
        run_id: str | None = None,
        durable: str | PathLike[str] | Store | None = None,
        budget: Budget | None = None,
        human: Human | None = None,
        session: Session | None = None,
        tenant: str | None = None,
        user: str | None = None,
    ) -> Result:
        """Do the task. Cancelling this cancels every call in flight.

        `inputs` is what the task is about, as a value; it is checked against the pattern's own
        `inputs`, and told after the task.
        `on_event` is called with each event of the run (see `pyagent_patterns.events`).
        `durable` keeps the run: the path of a journal file, such as `"runs.db"`, or a `Runs`
        that has it open. Every answer is then on disk before it is used, and running again with
        the same `run_id`, or `Runs.resume`, goes on where the run stopped and pays for no finished
        call again. Without it nothing is written anywhere.
        `budget` limits what is spent, beside the pattern's own. A run that is gone on with and is
        given none has the one it was begun with.
        `session` is a conversation that this run goes on from, and adds its task and answer to.
        `human` decides at gates and answers agents' questions (see `pyagent_patterns.people`).
        `tenant` and `user` are whom it is done for, as its trace tells; metrics tell of tenants
        that are allowed (`pyagent_providers.telemetry.allow_tenants`). A run that is gone on with
        and is given neither has those it was begun with.

        Raises TypeError or ValueError for a task or inputs that are none, ConfigurationError for
        an agent whose model cannot be called, BudgetError for a budget that cannot hold, and
        NobodyToAskError, before anything is spent; BudgetExceeded when the budget has no room for
        an answer, RunAborted and RunTimeoutError where the policies say so. Every exception that
        ends a run, a cancellation included, carries `.result`: all that did finish. A run with a
        store may also raise `RunSuspended`, `RunBusyError` and `JournalError`.
        """
        how = How(
            on_event=on_event,
            run_id=run_id,
            durable=durable,
            budget=budget,
            human=human,
            session=session,
            tenant=tenant,
            user=user,
        )
        return await self._run(whole_task(task, inputs, self.inputs), how, streams=False)

    def run_sync(self, task: str, **how: Unpack[How]) -> Result:
        """`run`, for code that is not async.

        Raises RuntimeError where an event loop is running; there, await `run`.
        """
        if _loop_is_running():
            raise RuntimeError("an event loop is running here: await run() instead of run_sync()")
        return asyncio.run(self.run(task, **how))

    async def stream(self, task: str, **how: Unpack[How]) -> AsyncGenerator[Event]:
        """Do the task, as by `run`; yields every event of the run, the last a `RunDone`.

        Answers come in pieces, as `TextDelta` events, wherever a model can. Closing the generator
        before its end cancels the run. What `run` raises is raised when the events are read.
        """
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        on_event = how.get("on_event")

        def observe(event: Event) -> None:
            events.put_nowait(event)
            if on_event is not None:
                on_event(event)

        whole = whole_task(task, how.get("inputs"), self.inputs)
        how["on_event"] = observe
        running = asyncio.create_task(self._run(whole, how, streams=True))

        def ended(running: asyncio.Task[Result]) -> None:
            events.put_nowait(None)
            if not running.cancelled():
                running.exception()  # it is raised below, or nobody reads on

        running.add_done_callback(ended)
        try:
            while (event := await events.get()) is not None:
                yield event
            result = await running
            from .events import RunDone  # loaded already, for the run was followed

            yield RunDone(run_id=result.run_id, result=result)
        finally:
            running.cancel()
            await asyncio.wait([running])

    def policy_at(self, path: str) -> Policy:
        """What is said about failure where an agent of that path is asked."""
        policy, members = self.policy, [*self.members, *self.degrade_to]
        for name in path.split("/")[:-1]:
            inner = next((p for p in _patterns_among(members) if p.name == name), None)
            if inner is None:
                break
            policy, members = inner._own_policy(policy), [*inner.members, *inner.degrade_to]
        return policy

    async def answer_within(self, scope: RunContext, task: str, *, answers: bool) -> str:
        """Do a task as a member of another pattern's run, in a scope of that run.

        Raises AgentError when it comes to nothing.
        """
        record, last = scope.record, self.answered_by
        with PatternSpan(self.kind, record.run_id, name=self.name, task_id=scope.task_id) as span:
            inner = Inner(
                pattern=self.kind,
                name=self.name,
                policy=self._own_policy,
                labels=self._labels,
                past=self._past,
                last=last,
                budget=self.budget,
                closing=closing_of(_writer(self), task),
                form=self.form,
                gates=self.approve,
                answers=answers,
            )
            ctx, answer = scope.inside(inner, span), None
            try:
                answer = await self._in_time(ctx, task)
                return answer
            except AgentError:
                raise
            except _CAME_TO_NOTHING as error:
                raise PatternError(self.name, self.kind, error) from error
            finally:
                span.finished(ctx.record.result(answer))

    async def _run(self, task: str, how: How, *, streams: bool) -> Result:
        durable, on_event = how.get("durable"), how.get("on_event")
        agents = self.agents
        for agent in agents:
            for llm in agent.llms:
                llm.check()
        human, session = how.get("human"), how.get("session")
        if human is not None and not callable(human):
            raise TypeError(f"human must be a function that decides; got {human!r}")
        if session is not None and not isinstance(session, Session):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"session must be a Session, such as MemorySession(); got {session!r}")
        conversation = getattr(session, "session_id", None)
        whom = Attribution(how.get("tenant"), how.get("user"), conversation)
        human = human or self._who_is_asked(durable)
        run_id = how.get("run_id") or uuid.uuid4().hex
        with RunSpan(self.kind, run_id, name=self.name) as span, _opened(durable) as store:
            telling = _telling(run_id, on_event)
            record = RunRecord(run_id=run_id, pattern=self.kind, span=span, telling=telling)
            try:
                async with OpenToolsets() as toolsets:
                    run = partial(
                        Run,
                        record=record,
                        policy=self.policy,
                        labels=self._labels,
                        past=self._past,
                        agents=frozenset(agents),
                        toolsets=toolsets,
                        last=self.answered_by,
                        form=self.form,
                        gates=self.approve,
                        human=human,
                        streams=streams,
                    )
                    result = await self._carry_out(task, how, whom, record, span, store, run)
            except BaseException as error:
                partly = record.result(None)
                span.finished(partly)
                log_end(partly, span.ended_as(error), error)
                with suppress(AttributeError):  # an exception type with slots
                    error.result = partly  # pyright: ignore[reportAttributeAccessIssue]
                raise
            span.finished(result)
            log_end(result, result.status)
            return result

    def _who_is_asked(self, durable: str | PathLike[str] | Store | None) -> Human | None:
        """Who sits at the terminal. None where a store waits, or nobody is to be asked."""
        if durable is not None or not self._may_ask_people:
            return None
        if at_terminal():
            return ask_at_terminal
        if self.asks_people is None:
            return None
        raise NobodyToAskError(self.asks_people)

    @cached_property
    def _may_ask_people(self) -> bool:
        """Also where only a toolset's tools turn out to, or those of agents that are made later."""
        later = any(agent.toolsets for agent in self.agents) or self.makes_agents
        return later or self.asks_people is not None

    @property
    def makes_agents(self) -> bool:
        """Whether a run may have agents besides `agents`."""
        inner = (m for m in (*self.members, *self.degrade_to) if isinstance(m, Pattern))
        return any(pattern.makes_agents for pattern in inner)

    @cached_property
    def asks_people(self) -> str | None:
        """In which way this pattern, one within, or an agent asks a person; None if none does."""
        if self.approve:
            return f"{self.name!r} has gates (approve=)"
        for agent in self.agents:
            for tool in agent.tools:
                if isinstance(tool, AskHuman) or (isinstance(tool, Tool) and tool.approve):
                    return f"agent {agent.name!r} has the tool {tool.name!r}"
        handed = [member for agent in self.agents for member in agent.hands_to]
        inner = (m for m in (*self.members, *self.degrade_to, *handed) if isinstance(m, Pattern))
        return next((asks for pattern in inner if (asks := pattern.asks_people)), None)

    async def _carry_out(
        self,
        task: str,
        how: How,
        whom: Attribution,
        record: RunRecord,
        span: RunSpan,
        store: Store,
        run: Callable[..., Run],
    ) -> Result:
        """Execute the pattern on a journal, and tell that how it ended."""
        journal, task = await opened(
            store,
            RunStart(
                run_id=record.run_id,
                pattern=self.kind,
                name=self.name,
                task=task,
                team=self,
                traceparent=span.traceparent,
            ),
        )
        record.goes_on(journal.execution)
        if journal.first_traceparent is not None:
            span.goes_on_from(journal.first_traceparent)
        try:
            whom = await attribution_of(whom, journal)
            span.is_for(whom)
            budgets = [self.budget] if self.budget else []
            last = _writer(self)
            purse = await purse_of(budgets, how.get("budget"), journal, task, last, self.agents)
            if purse is not None:
                span.limited_to(lambda: purse.spent)
            session = how.get("session")
            conversation = await conversation_of(session, journal)
            ctx = RunContext(
                run(journal=journal, conversation=conversation, tenant=whom.tenant), purse=purse
            )
            if record.telling is not None:
                record.telling.run_started(self.kind, task, journal.execution)
            result = record.result(await self._in_time(ctx, task))
            if session is not None:
                await session.add(record.run_id, Turn(task, result.output))
                if conversation.made is not None:
                    await session.keep(conversation.made)
            await journal.end(RunEnd(status=result.status, shows=result))
        except BaseException as error:
            stopped_by = await stop(error, journal, record)
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
                answer = await approved(ctx, self.name, self.form, await self._answer(ctx, task))
        except TimeoutError as error:
            if seconds is None or not limit.expired():
                raise
            raise RunTimeoutError(ctx.record.run_id, seconds) from error
        if self.form is not None:
            try:
                ctx.record.data = self.form.read(answer)
            except Unfit as unfit:
                raise AnswerError(self.name, unfit.faults, unfit.text) from None
        return answer

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
                answer = await scope.ask(stand_in, given, phase="synthesis", answers=True)
            except _FAILURES:
                continue
            ctx.record.degraded(stand_in.name)
            return answer
        refused = ctx.record.refusal
        if refused is not None and refused is not failure:
            raise refused from failure  # what it came of
        raise failure


# What ends a run from within, and a simpler pattern or agent may do better at.
_FAILURES = (AgentError, PlanError, WorkersFailedError, StageError, RunAborted, RouteError)
# What of a pattern within another's run is a failure of its own.
_CAME_TO_NOTHING = (*_FAILURES[1:], RunTimeoutError, DeclinedError)


def _patterns_among(members: Iterable[Member]) -> Iterator[Pattern]:
    """The patterns among members, and those that an agent among them hands work to."""
    for member in members:
        if isinstance(member, Pattern):
            yield member
        elif isinstance(member, Agent):
            yield from _patterns_among(member.hands_to)


def _writer(member: Member | None) -> Agent | None:
    """The agent that writes a member's answer."""
    while isinstance(member, Pattern):
        member = member.answered_by
    return member if isinstance(member, Agent) else None


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


def _telling(run_id: str, on_event: Observer | None) -> Telling | None:
    """Who is told of a run: the application, and the log where it takes the steps."""
    logged = logger.isEnabledFor(logging.INFO)
    if on_event is None and not logged:
        return None
    from .step_log import log_event  # loaded when a run is followed, and all events with it
    from .telling import Telling

    observers = [] if on_event is None else [on_event]
    return Telling(run_id, [*observers, log_event] if logged else observers)


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
