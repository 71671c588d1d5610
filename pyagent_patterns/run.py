"""The one door: every question of every pattern goes through `RunContext.ask`.

Replay, retry, telemetry, the ledger and events sit here and nowhere else. A pattern sees scopes
(`child`), questions (`ask`), a graph of tasks (`dag`) and the run's record (`record`); it never
sees a clock, an asyncio task or a span.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Generic, TypeVar
from urllib.parse import quote

from pyagent_providers.base import Completion, Cost, OutputSchema
from pyagent_providers.errors import ProviderError
from pyagent_providers.semconv import Phase
from pyagent_providers.telemetry import error_type

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
class Question:
    """One question to one agent, and where in the run it is asked."""

    key: str
    step: int
    agent: Agent
    prompt: str
    phase: Phase
    schema: OutputSchema | None
    task_id: str | None
    depends_on: tuple[str, ...]

    @property
    def input_hash(self) -> str:
        """Changes with anything that could change the answer."""
        digest = hashlib.sha256(self.agent.fingerprint.encode())
        digest.update(self.prompt.encode(errors="surrogatepass"))
        if self.schema is not None:
            digest.update(json.dumps(self.schema.schema, sort_keys=True).encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    """How a question was answered, or failed, as the journal keeps it."""

    text: str | None
    error: str | None
    calls: tuple[CallRecord, ...]

    def to_json(self) -> str:
        calls = [call.to_dict() for call in self.calls]
        return json.dumps({"text": self.text, "error": self.error, "calls": calls})

    @classmethod
    def from_json(cls, stored: str) -> Reply:
        fields = json.loads(stored)
        calls = tuple(CallRecord.from_dict(call) for call in fields["calls"])
        return cls(fields["text"], fields["error"], calls)


class RunContext:
    """One scope of a run. Calls in a scope come one after another; parallel work takes children.

    A call's key is the scope's path, the activity and an ordinal, so that it is the same in
    every execution of the run, in whatever order things happen.
    """

    __slots__ = (
        "_asked",
        "_busy",
        "_children",
        "_depends_on",
        "_journal",
        "_labels",
        "_path",
        "_retry",
        "_task_id",
        "record",
    )

    def __init__(self, record: RunRecord, *, journal: Journal, retry: RetryPolicy) -> None:
        self.record = record
        self._journal = journal
        self._retry = retry
        self._labels: dict[tuple[int, Phase], AgentLabels] = {}
        self._path = ""
        self._task_id: str | None = None
        self._depends_on: tuple[str, ...] = ()
        self._children: set[str] = set()
        self._asked = 0
        self._busy = False

    def child(self, name: str) -> RunContext:
        """A scope below this one. Raises ScopeError when the name is taken."""
        if name in self._children:
            raise ScopeError(f"scope {self._path + name!r} exists already; scopes need own names")
        self._children.add(name)
        scope = RunContext(self.record, journal=self._journal, retry=self._retry)
        scope._labels = self._labels
        scope._path = f"{self._path}{quote(name, safe='')}/"
        scope._task_id = self._task_id
        scope._depends_on = self._depends_on
        return scope

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
            name: Node(task.depends_on, partial(task.work, self._task_scope(name, task.depends_on)))
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
                task_id=self._task_id,
                depends_on=self._depends_on,
            )
            self._asked += 1
            return await self._answer(question)
        finally:
            self._busy = False

    async def _answer(self, question: Question) -> str:
        """From the journal, or by asking and recording; either way seen, logged and told."""
        run_id = self.record.run_id
        recorded = await self._journal.begin(run_id, question.key, question.input_hash)
        replayed = recorded is not None
        cause: BaseException | None = None
        started = time.perf_counter()
        self._tell_start(question)
        with AgentSpan(
            self._labels_of(question),
            run_id=run_id,
            step=question.step,
            task_id=question.task_id,
            depends_on=question.depends_on,
            replayed=replayed,
        ) as span:
            if recorded is None:
                reply, cause = await self._attempts(question, span)
                recorded = await self._journal.finish(run_id, question.key, reply.to_json())
            reply = Reply.from_json(recorded)  # what a replay will see, also the first time
            if replayed:
                reply = replace(reply, calls=tuple(call.as_replayed() for call in reply.calls))
                for call in reply.calls:
                    self._settle(question, span, call)
            self._tell_end(question, reply, replayed, time.perf_counter() - started)
            if reply.text is None:
                raise AgentError(
                    reply.error or "", agent=question.agent.name, model=question.agent.llm.model
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
                pause = self._retry.pause(error, attempt)
            except BaseException as stop:  # cancelled: it may have been billed, so it is settled
                failure = stop
                raise
            finally:
                seconds = time.perf_counter() - clock
                call = _call(question, attempt, completion, failure, started_at, seconds)
                calls.append(call)
                self._settle(question, span, call, retry_in=pause)
            if completion is not None:
                return Reply(completion.text, None, tuple(calls)), None
            if pause is None:
                tries = f"{attempt} attempts failed, the last with " if attempt > 1 else ""
                text = f"{tries}{type(failure).__name__}: {failure}"
                return Reply(None, text, tuple(calls)), failure
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    def _settle(
        self,
        question: Question,
        span: AgentSpan,
        call: CallRecord,
        *,
        retry_in: float | None = None,
    ) -> None:
        """The one place where a call is accounted for: ledger, metrics and event, one number."""
        self.record.call(call)
        span.settled(call)
        if self.record.watched:
            self.record.tell(CallSettled(run_id=self.record.run_id, call=call, retry_in=retry_in))

    def _task_scope(self, name: str, depends_on: tuple[str, ...]) -> RunContext:
        scope = self.child(name)
        scope._task_id = name
        scope._depends_on = depends_on
        return scope

    def _labels_of(self, question: Question) -> AgentLabels:
        key = (id(question.agent), question.phase)
        labels = self._labels.get(key)
        if labels is None:
            labels = AgentLabels(self.record.pattern, question.agent, question.phase)
            self._labels[key] = labels
        return labels

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
