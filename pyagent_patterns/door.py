"""One question of a run: asked or replayed, on record, in the ledger, and told of.

Every model call of every pattern comes through `put`. Nothing else accounts for a call.
"""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from .agent import Agent, Member
from .asking import Asking, Labels, agent_span, labels_of
from .attempts import Watch
from .errors import AgentError, BudgetExceeded, agent_error
from .estimate import Past
from .form import Form
from .journal import Call, Journal
from .ledger import CallRecord
from .people import Gate, Human
from .policy import Policy
from .purse import Purse
from .question import Question, Reply
from .record import RunRecord
from .session import Conversation
from .telemetry import AgentLabels
from .toolsets import OpenToolsets


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """What all scopes of one pattern's run share. `labels` belongs to the pattern: it outlives it.

    `last` is the agent that writes the answer. Of a pattern within another's run, `path` are the
    names of those it is in, each with a "/" after it, and `answers` says whether its answer is the
    whole run's. `agents` are those that other processes know too; None: all. `tenant` is whom the
    run is for. `conversation` is what was said before the run. `form` is what the answer must be.
    At `gates` a person is asked: `human`, where the application gave one. `streams`: somebody reads
    along.
    """

    record: RunRecord
    journal: Journal
    policy: Policy
    labels: Labels
    tenant: str | None = None
    conversation: Conversation = field(default_factory=Conversation)
    past: Past = field(default_factory=Past)
    agents: Container[Agent] | None = None
    toolsets: OpenToolsets = field(default_factory=OpenToolsets)
    last: Member | None = None
    path: str = ""
    answers: bool = True
    form: Form | None = None
    gates: frozenset[Gate] = frozenset()
    human: Human | None = None
    streams: bool = False

    def knows(self, agent: Agent) -> bool:
        """Whether it is one of the team's own, not one that a planner defined."""
        return self.agents is None or agent in self.agents

    def labels_of(self, question: Question) -> AgentLabels:
        return labels_of(question, self.labels, known=self.knows(question.agent))


async def put(run: Run, purse: Purse | None, key: str, question: Question) -> Reply:
    """Ask and record, or answer from the record; either way seen, logged and told.

    Raises AgentError when every attempt failed, now or on record.
    """
    record, began = run.record, time.perf_counter()
    telling = record.telling
    if telling is not None:
        telling.step_started(question)
    known = run.knows(question.agent)
    labels = labels_of(question, run.labels, known=known)
    watch = Watch(attempt=partial(_settle, record, purse), streams=run.streams)
    if telling is not None:
        closing = question.closing and run.answers
        watch.text = partial(telling.text, question, closing=closing)
    asking = Asking(question, labels, run.policy, purse=purse, watch=watch)
    try:
        # What limits the run is in this process, so what it limits is as well; and only here is
        # an agent known that a planner defined.
        call = Call(key, "ask", question, here=purse is not None or not known)
        called = await run.journal.call(call, asking.ask)
    finally:
        asking.count()
    record.called(key, called)
    reply = asking.reply
    if reply is None or called.value is not asking.value:  # the record is what counts
        reply = Reply.from_dict(called.value, replayed=called.made == "before")
    error = asking.error
    if reply.text is None and (error is None or error.reason != reply.error):
        error = _recorded_error(question.agent, reply, error)
    if called.made == "before":
        _replay(run, purse, question, reply, error)
    elif called.made == "elsewhere":
        for call in reply.calls:
            _settle(record, purse, call, None)
    if telling is not None:
        seconds, replayed = time.perf_counter() - began, called.made == "before"
        telling.step_ended(question, reply, seconds=seconds, replayed=replayed)
    if error is not None:
        if isinstance(error, BudgetExceeded):
            record.refused(error)
        raise error
    if question.task_id is not None:
        confidence = question.confidence_in(cast(str, reply.text))
        if confidence is not None:
            record.confident(question.task_id, confidence)
    return reply


def _replay(
    run: Run, purse: Purse | None, question: Question, reply: Reply, error: AgentError | None
) -> None:
    """Show an answer that was paid for before."""
    if purse is not None:
        for call in reply.calls:
            purse.count_replayed(call)
        if reply.text is not None and not question.closing:
            purse.count_output(reply.text)
    if question.part:
        _settle_all(run.record, purse, reply.calls)
        return
    with agent_span(question, run.labels_of(question), replayed=True) as span:
        span.calls = reply.calls
        _settle_all(run.record, purse, reply.calls)
        if error is not None:
            span.failed(error)


def _settle_all(record: RunRecord, purse: Purse | None, calls: Sequence[CallRecord]) -> None:
    for call in calls:
        _settle(record, purse, call, None)


def _settle(
    record: RunRecord, purse: Purse | None, call: CallRecord, retry_in: float | None
) -> None:
    """The one place where a call is accounted for in this run: ledger and events."""
    record.call(call)
    if record.telling is not None:
        record.telling.call_settled(call, retry_in, () if purse is None else purse.spent)


def _recorded_error(agent: Agent, reply: Reply, here: AgentError | None) -> AgentError:
    """The failure in the words of the record; its cause is known where it happened."""
    model = reply.calls[-1].requested_model if reply.calls else agent.llm.model
    error = agent_error(
        reply.error or "", agent=agent.name, model=model, kind=reply.kind or "failed"
    )
    error.__cause__ = None if here is None else here.__cause__
    return error
