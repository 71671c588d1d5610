"""Put one question to one agent, within one span.

It needs nothing of the run but what the question says, so that a worker process on another
machine can do it for a run that goes on elsewhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from pyagent_providers.base import OutputSchema
from pyagent_providers.errors import ContentRefusedError, EmptyAnswerError
from pyagent_providers.semconv import Phase
from pyagent_providers.types import JSONObject

from .agent import Agent
from .attempts import NOBODY, Attempts, Watch
from .errors import AgentError, FailureKind, agent_error
from .ledger import CallRecord
from .policy import Policy
from .purse import Purse, Refused
from .telemetry import AgentLabels, AgentSpan, count, count_rejection


@dataclass(frozen=True, slots=True)
class Assigned:
    """The plan's task that a question belongs to."""

    id: str
    depends_on: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question to one agent, and where in the run it is asked.

    `closing` is the one that writes the answer. `seconds` are left for it with all its attempts.
    """

    run_id: str
    pattern: str
    step: int
    agent: Agent
    prompt: str
    phase: Phase
    schema: OutputSchema | None
    task: Assigned | None
    closing: bool = False
    seconds: float | None = None

    @property
    def task_id(self) -> str | None:
        return None if self.task is None else self.task.id

    @property
    def input_hash(self) -> str:
        """Changes with anything that could change the answer."""
        schema = "" if self.schema is None else self.schema.text
        content = "\0".join((self.agent.fingerprint, schema, self.prompt))
        return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()

    def confidence_in(self, answer: str) -> float | None:
        """The `confidence` in an answer, where the agent's own schema has one: from 0 to 1."""
        schema = self.agent.output_schema
        if schema is None or schema is not self.schema:
            return None
        if "confidence" not in cast("Mapping[str, object]", schema.schema.get("properties", {})):
            return None
        try:
            confidence = json.loads(answer)["confidence"]
            return float(confidence) if 0 <= confidence <= 1 else None
        except (ValueError, TypeError, KeyError):
            return None

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
            "seconds": self.seconds,
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
            seconds=cast("float | None", stored.get("seconds")),
            schema=None if schema is None else OutputSchema(**schema),  # pyright: ignore[reportArgumentType]
            task=None
            if task_id is None
            else Assigned(task_id, tuple(cast("Sequence[str]", stored["depends_on"]))),
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """How a question was answered, or failed and why, as a journal keeps it."""

    text: str | None
    error: str | None
    kind: FailureKind | None
    calls: tuple[CallRecord, ...]

    def to_dict(self) -> JSONObject:
        return {
            "text": self.text,
            "error": self.error,
            "kind": self.kind,
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
            kind=cast("FailureKind | None", stored["kind"]),
            calls=tuple(call.as_replayed() if replayed else call for call in calls),
        )


Labels = dict[tuple[Agent, Phase], AgentLabels]


def labels_of(question: Question, known: Labels) -> AgentLabels:
    """The telemetry labels of the question's agent, worked out once for each pattern."""
    labels = known.get((question.agent, question.phase))
    if labels is None:
        labels = AgentLabels(question.pattern, question.agent, question.phase)
        known[question.agent, question.phase] = labels
    return labels


class Asking:
    """A question being asked, within the policy and, where there is one, the purse of its run."""

    __slots__ = ("_attempts", "_labels", "_question", "error", "reply")

    def __init__(
        self,
        question: Question,
        labels: AgentLabels,
        policy: Policy,
        *,
        purse: Purse | None = None,
        watch: Watch = NOBODY,
    ) -> None:
        self._question = question
        self._labels = labels
        self._attempts = Attempts(question, policy, purse, watch)
        self.reply: Reply | None = None
        self.error: AgentError | None = None

    async def ask(self) -> JSONObject:
        """Ask until there is an answer, or no sense in asking again: a `Reply`, as JSON.

        A failure is a reply too; `error` is then what to raise. Raises nothing of its own, but
        a cancellation goes through, its attempt in the ledger.
        """
        try:
            with agent_span(self._question, self._labels, replayed=False) as span:
                span.calls = self._attempts.calls
                self.reply = await self._answer()
        except AgentError as error:
            self.error = error
            self.reply = Reply(None, error.reason, error.kind, tuple(self._attempts.calls))
        return self.reply.to_dict()

    def count(self) -> None:
        """Count what was paid in the metrics: once, when it is on record or never will be."""
        count(self._labels, self._attempts.calls)
        if self.error is not None and self.error.kind == "budget":
            count_rejection(self._labels)

    async def _answer(self) -> Reply:
        seconds, limit = self._question.seconds, None
        try:
            if seconds is None:
                completion = await self._attempts.answer()
            else:
                async with asyncio.timeout(seconds) as limit:
                    completion = await self._attempts.answer()
        except Exception as failure:
            too_late = limit is not None and limit.expired()
            raise self._error(failure, too_late=too_late) from failure
        return Reply(completion.text, None, None, tuple(self._attempts.calls))

    def _error(self, failure: Exception, *, too_late: bool) -> AgentError:
        agent, calls = self._question.agent, self._attempts.calls
        kind = "timeout" if too_late else _kind_of(failure)
        if kind == "budget":
            reason = str(failure)
        elif kind == "timeout":
            reason = f"there was no answer within {self._attempts.timeouts.assignment:g} s"
        else:
            tries = f"{len(calls)} attempts failed, the last with " if len(calls) > 1 else ""
            reason = f"{tries}{type(failure).__name__}: {failure}"
        model = calls[-1].requested_model if calls else agent.llm.model
        return agent_error(reason, agent=agent.name, model=model, kind=kind)


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


def _kind_of(failure: Exception) -> FailureKind:
    match failure:
        case Refused():
            return "budget"
        case EmptyAnswerError():
            return "empty"
        case ContentRefusedError():
            return "refused"
        case _:
            return "failed"
