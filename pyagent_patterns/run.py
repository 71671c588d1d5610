"""The one door: every question of every pattern goes through `RunContext.ask`.

Replay, retry, telemetry, the ledger and events sit here and nowhere else. A pattern sees scopes
(`child`), questions (`ask`), a graph of tasks (`dag`) and the run's record (`record`); it never
sees a clock, an asyncio task or a span.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Generic, TypeVar, cast
from urllib.parse import quote

from pyagent_providers.base import Completion, Cost, OutputSchema
from pyagent_providers.errors import ProviderError
from pyagent_providers.semconv import Phase
from pyagent_providers.telemetry import error_type
from pyagent_providers.types import JSONObject

from . import schedule
from .agent import Agent
from .errors import AgentError, ScopeError
from .events import CallSettled, StepEnded, StepStarted
from .journal import Journal
from .ledger import CallRecord, CallStatus
from .record import RunRecord
from .retry import RetryPolicy
from .schedule import Node, Settled
from .telemetry import AgentLabels, AgentSpan

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Task(Generic[T]):
    """A task of `RunContext.dag`: called with a scope of its own and its dependencies' results."""

    depends_on: tuple[str, ...]
    work: Callable[[RunContext, Mapping[str, T]], Awaitable[T]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What all scopes of one run share. `labels` belongs to the pattern, which outlives the run."""

    record: RunRecord
    journal: Journal
    retry: RetryPolicy
    labels: dict[tuple[Agent, Phase], AgentLabels]


@dataclass(frozen=True, slots=True)
class Assigned:
    """The plan's task that a scope belongs to."""

    id: str
    depends_on: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question to one agent, and where in the run it is asked."""

    key: str
    step: int
    agent: Agent
    prompt: str
    phase: Phase
    schema: OutputSchema | None
    task: Assigned | None

    @property
    def task_id(self) -> str | None:
        return None if self.task is None else self.task.id

    @property
    def input_hash(self) -> str:
        """Changes with anything that could change the answer."""
        schema = "" if self.schema is None else self.schema.text
        content = "\0".join((self.agent.fingerprint, schema, self.prompt))
        return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    """How a question was answered, or failed, as the journal keeps it."""

    text: str | None
    error: str | None
    calls: tuple[CallRecord, ...]

    def to_dict(self) -> JSONObject:
        return {
            "text": self.text,
            "error": self.error,
            "calls": [call.to_dict() for call in self.calls],
        }

    @classmethod
    def replayed(cls, stored: JSONObject) -> Reply:
        """The reply that `to_dict` gave, its calls marked as paid for before."""
        calls = cast("Sequence[JSONObject]", stored["calls"])
        return cls(
            text=cast("str | None", stored["text"]),
            error=cast("str | None", stored["error"]),
            calls=tuple(CallRecord.from_dict(call).as_replayed() for call in calls),
        )


class RunContext:
    """One scope of a run. Calls in a scope come one after another; parallel work takes children.

    A call's key is the scope's path, the activity and an ordinal, so that it is the same in
    every execution of the run, in whatever order things happen.
    """

    __slots__ = ("_asked", "_busy", "_children", "_path", "_run", "_task")

    def __init__(self, run: Run, path: str = "", task: Assigned | None = None) -> None:
        self._run = run
        self._path = path
        self._task = task
        self._children: set[str] = set()
        self._asked = 0
        self._busy = False

    @property
    def record(self) -> RunRecord:
        """What the run has to show so far; a pattern reports its plan and outcomes to it."""
        return self._run.record

    def child(self, name: str) -> RunContext:
        """A scope below this one. Raises ScopeError when the name is taken."""
        return self._child(name, self._task)

    async def dag(
        self,
        tasks: Mapping[str, Task[T]],
        *,
        limit: int | None = None,
        on_settled: Callable[[str, Settled[T]], None] = lambda name, settled: None,
    ) -> dict[str, Settled[T]]:
        """Run tasks, each in a scope of its name, as soon as what they depend on is done.

        An agent that fails fails its task; what depends on it is skipped, the others go on.
        """
        nodes = {
            name: Node(
                task.depends_on,
                partial(task.work, self._child(name, Assigned(name, task.depends_on))),
            )
            for name, task in tasks.items()
        }
        return await schedule.run_graph(
            nodes, survive=AgentError, limit=limit, on_settled=on_settled
        )

    async def ask(
        self,
        agent: Agent,
        prompt: str,
        *,
        phase: Phase,
        schema: OutputSchema | None = None,
    ) -> str:
        """Ask an agent a question; the text of its answer.

        A question on record is answered from there, unpaid. Raises AgentError when every attempt
        failed, InputChanged when the record has another input under the same key.
        """
        if self._busy:
            raise ScopeError(
                f"two calls at once in scope {self._path or '/'!r}; parallel calls need scopes "
                "of their own: use child() or dag()"
            )
        self._busy = True
        try:
            question = Question(
                key=f"{self._path}ask:{self._asked}",
                step=self.record.next_step(),
                agent=agent,
                prompt=prompt,
                phase=phase,
                schema=schema,
                task=self._task,
            )
            self._asked += 1
            return await self._answer(question)
        finally:
            self._busy = False

    async def _answer(self, question: Question) -> str:
        """From the journal, or by asking and recording; either way seen, logged and told."""
        journal, run_id = self._run.journal, self.record.run_id
        started = time.perf_counter()
        recorded = await journal.begin(run_id, question.key, question.input_hash)
        self._tell_start(question)
        with self._agent_span(question, replayed=recorded is not None) as span:
            cause: BaseException | None = None
            if recorded is not None:
                reply = Reply.replayed(recorded)
                for call in reply.calls:
                    self._settle(span, call)
            else:
                reply, cause = await self._attempts(question, span)
                await journal.finish(run_id, question.key, reply.to_dict())
            self._tell_end(question, reply, recorded is not None, time.perf_counter() - started)
            if reply.text is None:
                agent = question.agent
                raise AgentError(
                    reply.error or "", agent=agent.name, model=agent.llm.model
                ) from cause
            return reply.text

    async def _attempts(
        self, question: Question, span: AgentSpan
    ) -> tuple[Reply, BaseException | None]:
        """Ask until there is an answer, or no sense in asking again. Every attempt is settled."""
        agent = question.agent
        messages = agent.messages(question.prompt)
        calls: list[CallRecord] = []
        for attempt in itertools.count(1):
            completion: Completion | None = None
            failure: BaseException | None = None
            pause: float | None = None
            started_at, clock = time.time(), time.perf_counter()
            try:
                completion = await agent.llm.complete(
                    messages, schema=question.schema, sampling=agent.sampling
                )
            except Exception as error:
                failure = error
                pause = self._run.retry.pause(error, attempt)
            except BaseException as stop:  # cancelled: it may have been billed, so it is settled
                failure = stop
                raise
            finally:
                seconds = time.perf_counter() - clock
                call = _call(question, attempt, completion, failure, started_at, seconds)
                calls.append(call)
                self._settle(span, call, retry_in=pause)
            if completion is not None:
                return Reply(completion.text, None, tuple(calls)), None
            if pause is None:
                tries = f"{attempt} attempts failed, the last with " if attempt > 1 else ""
                text = f"{tries}{type(failure).__name__}: {failure}"
                return Reply(None, text, tuple(calls)), failure
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    def _settle(self, span: AgentSpan, call: CallRecord, *, retry_in: float | None = None) -> None:
        """The one place where a call is accounted for: ledger, metrics and event, one number."""
        self.record.call(call)
        span.settled(call)
        if self.record.watched:
            self.record.tell(CallSettled(run_id=self.record.run_id, call=call, retry_in=retry_in))

    def _child(self, name: str, task: Assigned | None) -> RunContext:
        if name in self._children:
            raise ScopeError(f"scope {self._path + name!r} exists already; scopes need own names")
        self._children.add(name)
        return RunContext(self._run, f"{self._path}{_segment(name)}/", task)

    def _agent_span(self, question: Question, *, replayed: bool) -> AgentSpan:
        labels = self._run.labels.get((question.agent, question.phase))
        if labels is None:
            labels = AgentLabels(self.record.pattern, question.agent, question.phase)
            self._run.labels[question.agent, question.phase] = labels
        return AgentSpan(
            labels,
            run_id=self.record.run_id,
            step=question.step,
            task_id=question.task_id,
            depends_on=() if question.task is None else question.task.depends_on,
            replayed=replayed,
        )

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


def _segment(name: str) -> str:
    """A scope's name as part of a path, in which `/` separates."""
    return name if name.isalnum() and name.isascii() else quote(name, safe="")


def _call(
    question: Question,
    attempt: int,
    completion: Completion | None,
    failure: BaseException | None,
    started_at: float,
    seconds: float,
) -> CallRecord:
    """The ledger's entry for one attempt, whatever became of it."""
    llm = question.agent.llm
    status: CallStatus = "ok"
    if failure is not None:
        status = "failed" if isinstance(failure, Exception) else "cancelled"
        if isinstance(failure, ProviderError):
            completion = failure.completion  # what arrived of a failed answer is paid for too
    cost = completion.cost if completion is not None else _cost_without_answer(failure)
    return CallRecord(
        step=question.step,
        attempt=attempt,
        phase=question.phase,
        agent=question.agent.name,
        task_id=question.task_id,
        provider=llm.provider,
        requested_model=llm.model,
        model=(completion and completion.model) or llm.model,
        status=status,
        usage=completion and completion.usage,
        cost=cost and cost.usd,
        price_source=cost and cost.source,
        price_version=cost and cost.version,
        error=None if failure is None else error_type(failure),
        finish_reason=completion and completion.finish_reason,
        response_id=completion and completion.response_id,
        started_at=started_at,
        seconds=seconds,
    )


def _cost_without_answer(failure: BaseException | None) -> Cost | None:
    """A refusal at the door is free; what broke on the way may have been billed: unpriced."""
    if isinstance(failure, ProviderError) and not failure.billable:
        return _NOT_BILLED
    return None


_NOT_BILLED = Cost(Decimal(0), "not-billed")
