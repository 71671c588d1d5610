"""Put one question to one agent: attempt after attempt, within one span.

It needs nothing of the run but what the question says, so that a worker process on another
machine can do it for a run that goes on elsewhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from pyagent_providers.base import Completion, Cost, OutputSchema
from pyagent_providers.errors import ProviderError
from pyagent_providers.semconv import Phase
from pyagent_providers.telemetry import error_type
from pyagent_providers.types import JSONObject

from .agent import Agent
from .errors import AgentError
from .ledger import CallRecord, CallStatus
from .retry import RetryPolicy
from .telemetry import AgentLabels, AgentSpan, count


@dataclass(frozen=True, slots=True)
class Assigned:
    """The plan's task that a question belongs to."""

    id: str
    depends_on: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question to one agent, and where in the run it is asked."""

    run_id: str
    pattern: str
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

    def to_dict(self) -> JSONObject:
        """Everything that was asked, as JSON; `fingerprint` stands for the agent as it was."""
        schema = self.schema
        return {
            **self.agent.as_recorded,
            "run_id": self.run_id,
            "pattern": self.pattern,
            "step": self.step,
            "phase": self.phase,
            "task_id": self.task_id,
            "depends_on": () if self.task is None else self.task.depends_on,
            "prompt": self.prompt,
            "schema": None
            if schema is None
            else {"name": schema.name, "schema": schema.schema, "strict": schema.strict},
        }

    @classmethod
    def from_dict(cls, stored: JSONObject, agents: Iterable[Agent]) -> Question:
        """The question that `to_dict` wrote, to the one of `agents` that it was put to.

        Raises LookupError if none of them is that agent, as it was.
        """
        for agent in agents:
            if agent.fingerprint == stored["fingerprint"] and agent.name == stored["agent"]:
                break
        else:
            raise LookupError(
                f"the team has no agent {stored['agent']!r} with the model and prompt of the "
                "recorded question"
            )
        schema = cast("Mapping[str, object] | None", stored["schema"])
        task_id = cast("str | None", stored["task_id"])
        return cls(
            run_id=cast(str, stored["run_id"]),
            pattern=cast(str, stored["pattern"]),
            step=cast(int, stored["step"]),
            agent=agent,
            prompt=cast(str, stored["prompt"]),
            phase=cast(Phase, stored["phase"]),
            schema=None if schema is None else OutputSchema(**schema),  # pyright: ignore[reportArgumentType]
            task=None
            if task_id is None
            else Assigned(task_id, tuple(cast("Sequence[str]", stored["depends_on"]))),
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """How a question was answered, or failed, as a journal keeps it."""

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
    def from_dict(cls, stored: JSONObject, *, replayed: bool) -> Reply:
        """The reply that `to_dict` wrote; its calls marked as paid for before if `replayed`."""
        calls = [
            CallRecord.from_dict(call) for call in cast("Sequence[JSONObject]", stored["calls"])
        ]
        return cls(
            text=cast("str | None", stored["text"]),
            error=cast("str | None", stored["error"]),
            calls=tuple(call.as_replayed() if replayed else call for call in calls),
        )


Labels = dict[tuple[Agent, Phase], AgentLabels]
OnAttempt = Callable[[CallRecord, "float | None"], None]


def labels_of(question: Question, known: Labels) -> AgentLabels:
    """The telemetry labels of the question's agent, worked out once for each pattern."""
    labels = known.get((question.agent, question.phase))
    if labels is None:
        labels = AgentLabels(question.pattern, question.agent, question.phase)
        known[question.agent, question.phase] = labels
    return labels


class Asking:
    """A question being asked. `calls` has an entry for every attempt that was made so far.

    `on_attempt` is told of each as it ends, with the seconds until the next, None without one.
    """

    __slots__ = ("_labels", "_on_attempt", "_question", "_retry", "calls", "error", "reply")

    def __init__(
        self,
        question: Question,
        labels: AgentLabels,
        retry: RetryPolicy,
        on_attempt: OnAttempt = lambda call, retry_in: None,
    ) -> None:
        self._question = question
        self._labels = labels
        self._retry = retry
        self._on_attempt = on_attempt
        self.calls: list[CallRecord] = []
        self.reply: Reply | None = None
        self.error: AgentError | None = None

    async def ask(self) -> JSONObject:
        """Ask until there is an answer, or no sense in asking again: a `Reply`, as JSON.

        A failure is a reply too; `error` is then what to raise. Raises nothing of its own, but
        a cancellation goes through, its attempt on `calls`.
        """
        try:
            with self._span() as span:
                self.reply = await self._attempts(span)
        except AgentError as error:
            self.error = error
            self.reply = Reply(None, error.reason, tuple(self.calls))
        return self.reply.to_dict()

    def count(self) -> None:
        """Count what was paid in the metrics: once, when it is on record or never will be."""
        count(self._labels, self.calls)

    async def _attempts(self, span: AgentSpan) -> Reply:
        agent, question = self._question.agent, self._question
        messages = agent.messages(question.prompt)
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
                self.calls.append(call)
                span.settled(call)
                self._on_attempt(call, pause)
            if completion is not None:
                return Reply(completion.text, None, tuple(self.calls))
            if pause is None:
                tries = f"{attempt} attempts failed, the last with " if attempt > 1 else ""
                raise AgentError(
                    f"{tries}{type(failure).__name__}: {failure}",
                    agent=agent.name,
                    model=agent.llm.model,
                ) from failure
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    def _span(self) -> AgentSpan:
        return agent_span(self._question, self._labels, replayed=False)


def agent_span(question: Question, labels: AgentLabels, *, replayed: bool) -> AgentSpan:
    """The span of one question; of one that was answered before, if `replayed`."""
    return AgentSpan(
        labels,
        run_id=question.run_id,
        step=question.step,
        task_id=question.task_id,
        depends_on=() if question.task is None else question.task.depends_on,
        replayed=replayed,
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
