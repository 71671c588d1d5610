"""The one door: every question of every pattern goes through `RunContext.ask`.

Replay, budget, retry, timeouts, telemetry, the ledger and events sit here and nowhere else. A
pattern sees scopes (`child`), questions (`ask`), other recorded work (`call`), a graph of tasks
(`dag`), waits (`wait_signal`, `sleep`) and the run's record (`record`); it never sees a clock, an
asyncio task or a span.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar, cast
from urllib.parse import quote

from pyagent_providers.base import OutputSchema
from pyagent_providers.semconv import Phase
from pyagent_providers.types import JSONObject, JSONValue

from . import schedule
from .agent import Agent
from .asking import Asking, Labels, agent_span, labels_of
from .attempts import Watch
from .budget import Budget
from .errors import AgentError, BudgetExceeded, RunAborted, ScopeError, agent_error
from .events import CallSettled, StepEnded, StepStarted, TextDelta
from .journal import Call, Called, Journal
from .ledger import CallRecord
from .policy import Policy
from .purse import Closing, Purse
from .question import Assigned, Question, Reply
from .record import RunRecord
from .schedule import Failed, Node, Settled

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Task(Generic[T]):
    """A task of `RunContext.dag`: called with a scope of its own and its dependencies' results."""

    depends_on: tuple[str, ...]
    work: Callable[[RunContext, Mapping[str, T]], Awaitable[T]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What all scopes of one run share. `labels` belongs to the pattern, which outlives the run.

    `last` is the agent that writes the answer.
    """

    record: RunRecord
    journal: Journal
    policy: Policy
    labels: Labels
    last: Agent | None = None


@dataclass(frozen=True, slots=True)
class _Input:
    """What other work than a question is given."""

    activity: str
    value: JSONValue

    def to_dict(self) -> JSONObject:
        return {"input": self.value}

    @property
    def input_hash(self) -> str:
        text = json.dumps(self.value, sort_keys=True)
        return hashlib.sha256(f"{self.activity}\0{text}".encode()).hexdigest()


class _OneAtATime:
    """The block in which a scope makes a call."""

    __slots__ = ("_busy", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._busy = False

    def __enter__(self) -> None:
        if self._busy:
            raise ScopeError(
                f"two calls at once in scope {self._path or '/'!r}; parallel calls need scopes "
                "of their own: use child() or dag()"
            )
        self._busy = True

    def __exit__(self, *error: object) -> None:
        self._busy = False


class RunContext:
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
        self._calling = _OneAtATime(path)

    @property
    def record(self) -> RunRecord:
        """What the run has to show so far; a pattern reports its plan and outcomes to it."""
        return self._run.record

    def child(self, name: str, *, budget: Budget | None = None) -> RunContext:
        """A scope below this one; a `budget` holds in it beside those above.

        Raises ScopeError when the name is taken.
        """
        scope = self._child(name, self._task)
        if budget is not None:
            scope._purse = Purse([budget], of_scope=True, above=self._purse)
        return scope

    def for_pattern(self, budget: Budget | None, closing: Closing | None) -> RunContext:
        """This scope, for a pattern within the run: its plan and outcomes are beside the run's.

        Its `budget` holds in it beside those above, and keeps enough for its answer, `closing`.
        """
        run, purse = replace(self._run, record=self.record.beside()), self._purse
        if budget is not None:
            purse = Purse([budget], closing, of_scope=True, above=purse)
        return RunContext(run, self._path, self._task, purse)

    async def dag(
        self,
        tasks: Mapping[str, Task[T]],
        *,
        limit: int | None = None,
        on_settled: Callable[[str, Settled[T]], None] = lambda name, settled: None,
    ) -> dict[str, Settled[T]]:
        """Run tasks, each in a scope of its name, as soon as what they depend on is done.

        An agent that fails fails its task; what depends on it is skipped, the others go on. They
        also go on while a task waits for a signal or a time.
        """

        async def work(name: str, scope: RunContext, results: Mapping[str, T]) -> T:
            try:
                return await tasks[name].work(scope, results)
            except RunAborted as aborted:  # this one failed; only the others are cut off
                on_settled(name, Failed(aborted.failure))
                raise

        nodes = {
            name: Node(
                task.depends_on,
                partial(work, name, self._child(name, Assigned(name, task.depends_on))),
            )
            for name, task in tasks.items()
        }
        return await schedule.run_graph(
            nodes,
            survive=AgentError,
            pass_over=_is_passed_over,
            limit=limit,
            on_settled=on_settled,
        )

    async def ask(
        self,
        agent: Agent,
        prompt: str,
        *,
        phase: Phase,
        schema: OutputSchema | None = None,
    ) -> str:
        """Ask an agent a question; the text of its answer, or of its fallback's.

        A question on record is answered from there, unpaid. Raises AgentError when every attempt
        failed, RunAborted when that is the policy then, InputChanged when the record has another
        input under the same key.
        """
        on_error = agent.on_error or self._run.policy.on_error
        with self._calling:
            try:
                return await self._ask_somebody(agent, prompt, phase, schema, _now())
            except AgentError as error:
                if on_error == "abort":
                    raise RunAborted(error) from error
                error.passed_over = on_error == "skip"
                raise

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

    async def _ask_somebody(
        self, agent: Agent, prompt: str, phase: Phase, schema: OutputSchema | None, began: float
    ) -> str:
        """Ask the agent, once more where that is the policy, then its fallback."""
        again = (agent.on_error or self._run.policy.on_error) == "retry"
        try:
            return await self._ask(agent, prompt, phase, schema, began)
        except AgentError as error:
            # No other agent has more time or money.
            if error.kind in ("timeout", "budget") or not (again or agent.fallback):
                raise
            failure = error
        if again:
            try:
                return await self._ask(agent, prompt, phase, schema, began)
            except AgentError as error:
                failure = error
        if agent.fallback is None:
            raise failure
        return await self._ask_somebody(agent.fallback, prompt, phase, schema, began)

    async def _ask(
        self, agent: Agent, prompt: str, phase: Phase, schema: OutputSchema | None, began: float
    ) -> str:
        limit = (agent.timeouts or self._run.policy.timeouts).assignment
        last = agent is self._run.last and phase != "plan"
        question = Question(
            run_id=self.record.run_id,
            pattern=self.record.pattern,
            step=self.record.next_step(),
            agent=agent,
            prompt=prompt,
            phase=phase,
            schema=schema or agent.output_schema,
            task=self._task,
            closing=last or phase == "synthesis",
            seconds=None if limit is None else max(0.0, limit + began - _now()),
        )
        return await self._answer(self._key("ask"), question)

    async def _answer(self, key: str, question: Question) -> str:
        """By asking and recording, or from the record; either way seen, logged and told."""
        started = time.perf_counter()
        self._tell_start(question)
        labels = labels_of(question, self._run.labels)
        watch = Watch(
            attempt=self._settle,
            text=partial(self._tell_text, question) if self.record.watched else None,
        )
        asking = Asking(question, labels, self._run.policy, purse=self._purse, watch=watch)
        try:
            # What limits the run is in this process, so what it limits is as well.
            call = Call(key, "ask", question, here=self._purse is not None)
            called = await self._run.journal.call(call, asking.ask)
        finally:
            asking.count()
        self.record.called(key, called)
        reply = asking.reply
        if reply is None or called.made != "here":
            reply = Reply.from_dict(called.value, replayed=called.made == "before")
        error = asking.error
        if error is None and reply.text is None:
            error = _recorded_error(question.agent, reply)
        if called.made == "before":
            self._replay(question, reply, error)
        elif called.made == "elsewhere":
            for call in reply.calls:
                self._settle(call, None)
        self._tell_end(question, reply, called.made == "before", time.perf_counter() - started)
        if error is not None:
            if isinstance(error, BudgetExceeded) and self.record.refusal is None:
                self.record.refusal = error
            raise error
        text = cast(str, reply.text)
        if question.task_id is not None:
            confidence = question.confidence_in(text)
            if confidence is not None:
                self.record.confident(question.task_id, confidence)
        return text

    def _replay(self, question: Question, reply: Reply, error: AgentError | None) -> None:
        """Show an answer that was paid for before."""
        labels = labels_of(question, self._run.labels)
        if self._purse is not None:
            for call in reply.calls:
                self._purse.count_replayed(call)
            if reply.text is not None and not question.closing:
                self._purse.count_output(reply.text)
        with agent_span(question, labels, replayed=True) as span:
            span.calls = reply.calls
            for call in reply.calls:
                self._settle(call, None)
            if error is not None:
                span.failed(error)

    async def _recorded(
        self, key: str, activity: str, input: JSONValue, work: Callable[[], Awaitable[JSONValue]]
    ) -> Called:
        async def value() -> JSONObject:
            # What is given back is what JSON makes of it, as it will be on a replay.
            return {"value": json.loads(json.dumps(await work()))}

        call = Call(key, activity, _Input(activity, input))
        called = await self._run.journal.call(call, value)
        self.record.called(key, called)
        return called

    def _settle(self, call: CallRecord, retry_in: float | None) -> None:
        """The one place where a call is accounted for in this run: ledger and event."""
        self.record.call(call)
        if self.record.watched:
            self.record.tell(CallSettled(run_id=self.record.run_id, call=call, retry_in=retry_in))

    def _key(self, activity: str) -> str:
        key = f"{self._path}{_segment(activity)}:{self._made}"
        self._made += 1
        return key

    def _child(self, name: str, task: Assigned | None) -> RunContext:
        if name in self._children:
            raise ScopeError(f"scope {self._path + name!r} exists already; scopes need own names")
        self._children.add(name)
        return RunContext(self._run, f"{self._path}{_segment(name)}/", task, self._purse)

    def _tell_start(self, question: Question) -> None:
        if self.record.watched:
            self.record.tell(
                StepStarted(
                    run_id=self.record.run_id,
                    step=question.step,
                    phase=question.phase,
                    agent=question.agent.name,
                    model=question.agent.llm.model,
                    task_id=question.task_id,
                    prompt=question.prompt,
                )
            )

    def _tell_text(self, question: Question, text: str) -> None:
        self.record.tell(
            TextDelta(
                run_id=self.record.run_id,
                step=question.step,
                phase=question.phase,
                agent=question.agent.name,
                task_id=question.task_id,
                text=text,
            )
        )

    def _tell_end(self, question: Question, reply: Reply, replayed: bool, seconds: float) -> None:
        if self.record.watched:
            self.record.tell(
                StepEnded(
                    run_id=self.record.run_id,
                    step=question.step,
                    phase=question.phase,
                    agent=question.agent.name,
                    model=question.agent.llm.model,
                    task_id=question.task_id,
                    output=reply.text,
                    error=reply.error,
                    calls=reply.calls,
                    seconds=seconds,
                    replayed=replayed,
                )
            )


def _recorded_error(agent: Agent, reply: Reply) -> AgentError:
    model = reply.calls[-1].requested_model if reply.calls else agent.llm.model
    return agent_error(
        reply.error or "", agent=agent.name, model=model, kind=reply.kind or "failed"
    )


def _now() -> float:
    """By the clock that the event loop keeps its time limits by."""
    return asyncio.get_running_loop().time()


def _is_passed_over(error: Exception) -> bool:
    return isinstance(error, AgentError) and error.passed_over


def _segment(name: str) -> str:
    """A scope's name as part of a path, in which `/` separates."""
    return name if name.isalnum() and name.isascii() else quote(name, safe="")
