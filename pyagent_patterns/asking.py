"""Put one question to one agent, within one span.

It needs nothing of the run but what the question says, so that a worker process on another
machine can do it for a run that goes on elsewhere.
"""

from __future__ import annotations

import asyncio
from typing import Final

from pyagent_providers.errors import ContentRefusedError, EmptyAnswerError
from pyagent_providers.semconv import Phase
from pyagent_providers.types import JSONObject

from .agent import Agent
from .attempts import NOBODY, Attempts, Watch
from .errors import AgentError, FailureKind, agent_error
from .policy import Policy
from .purse import Purse, Refused
from .question import Question, Reply
from .telemetry import AgentLabels, AgentSpan, count, count_rejection

Labels = dict[tuple[str, Agent, Phase, "str | None"], AgentLabels]


def labels_of(question: Question, kept: Labels, *, known: bool = True) -> AgentLabels:
    """The telemetry labels of the question's agent, worked out once for each pattern.

    `known`: the agent is one of the application's own.
    """
    its = (question.pattern, question.agent, question.phase, question.tenant)
    labels = kept.get(its)
    if labels is None:
        if len(kept) >= _MOST_LABELS:  # a planner may define agents anew in every run
            kept.clear()
        labels = kept[its] = AgentLabels(*its, known=known)
    return labels


_MOST_LABELS: Final = 10_000


class Asking:
    """A question being asked, within the policy and, where there is one, the purse of its run."""

    __slots__ = ("_attempts", "_labels", "_question", "error", "reply", "value")

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
        self.value: JSONObject | None = None  # the reply as JSON

    async def ask(self) -> JSONObject:
        """Ask until there is an answer, or no sense in asking again: a `Reply`, as JSON.

        A failure is a reply too; `error` is then what to raise. Raises nothing of its own, but
        a cancellation goes through, its attempt in the ledger.
        """
        try:
            if self._question.part:
                self.reply = await self._answer()
            else:
                with agent_span(self._question, self._labels, replayed=False) as span:
                    span.calls = self._attempts.calls
                    self.reply = await self._answer()
        except AgentError as error:
            self.error = error
            self.reply = Reply(None, error.reason, error.kind, tuple(self._attempts.calls))
        self.value = self.reply.to_dict()
        return self.value

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
                    if not seconds:
                        await asyncio.sleep(0)  # over already: nothing is sent, and billed for
                    completion = await self._attempts.answer()
        except Exception as failure:
            too_late = limit is not None and limit.expired()
            raise self._error(failure, too_late=too_late) from failure
        calls = tuple(self._attempts.calls)
        return Reply(completion.text, None, None, calls, completion.tool_calls)

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
        path=question.path,
        task_id=question.task_id,
        depends_on=() if question.task is None else question.task.depends_on,
        replayed=replayed,
        compressed=question.compressed,
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
