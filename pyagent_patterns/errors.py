"""What can go wrong in a run, in one tree. Each error of a run carries the run's `.result`.

PyAgentError
├── AgentError             an agent got no answer after every attempt
│   ├── BudgetExceeded     the budget has no room for the call that was to be made
│   ├── AnswerError        the answer does not have the form that was asked for
│   ├── PatternError       a pattern within the run came to nothing
│   └── RejectedError      what a stage made did not pass its gate
├── BudgetError            a budget that cannot hold, such as for a model without a price
├── RunAborted             an agent failed, and the policy is to stop then
├── RunTimeoutError        the run took longer than it may
├── PlanError              the planner gave no valid plan, also when told what was wrong
├── AgentFactoryError      an agent that the planner defined could not be made
├── WorkersFailedError     no assignment completed: there is nothing to synthesise
├── StageError             a stage of a pipeline came to nothing
├── RouteError             no route fits the task
├── DeclinedError          a person declined a plan or an answer
├── NobodyToAskError       a person is to be asked, and the run has no way to
├── RunSuspended           the run waits for a signal or a time; nothing runs meanwhile
├── InputChanged           a recorded call was made again with another input
├── JournalError           the journal cannot be read or written: the run must not go on
│   ├── LeaseLost          another process has taken the run over
│   └── RunCancelled       the run was cancelled from outside
├── RunBusyError           the run is going on in another process
├── UnknownRunError        the store has no such run
├── NoStoreError           the run asked for what only a run with a store has
└── ScopeError             a pattern used its context in a way that cannot be replayed
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from pyagent_providers.hostile import shown
from pyagent_providers.types import JSONObject

from .result import Outcome, Result

FailureKind = Literal["failed", "empty", "refused", "timeout", "budget"]


class PyAgentError(Exception):
    """The base of every error of a run.

    `result` has everything that did finish, with the ledger of every call made; it is None
    only while the error is still inside the run.
    """

    result: Result | None = None


class AgentError(PyAgentError):
    """An agent got no answer. The provider's error is the `__cause__`, unless it is replayed.

    `kind` says why: it "failed", or the model's answer was "empty", or it "refused"; there was no
    "timeout" left, or no "budget". `passed_over` when what depends on it goes on without it.
    """

    def __init__(
        self, message: str, *, agent: str, model: str, kind: FailureKind = "failed"
    ) -> None:
        super().__init__(shown(f"agent {agent!r} ({model}): {message}"))
        self.reason = message
        self.agent = agent
        self.model = model
        self.kind: FailureKind = kind
        self.passed_over = False


class BudgetExceeded(AgentError):
    """The budget has no room for a call, and nothing under way would give any back.

    It was not made. Finished work is in `result`; a greater budget for the same `run_id`, with a
    store, goes on from there.
    """

    def __init__(self, message: str, *, agent: str, model: str) -> None:
        super().__init__(message, agent=agent, model=model, kind="budget")


class AnswerError(AgentError):
    """The answer does not have the form that `output_type` asks for, also when told what is wrong.

    `faults` are those of the last answer, `answer` its text as it came.
    """

    def __init__(self, agent: str, faults: Sequence[str], answer: str) -> None:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        message = (
            "its answer does not have the form asked for, even after it was told what was wrong:\n"
            f"{listed}\nThe answer it gave:\n{answer}"
        )
        super().__init__(message, agent=agent, model="output_type")
        self.faults = tuple(faults)
        self.answer = answer


class PatternError(AgentError):
    """A pattern that works within another's run came to nothing. Why is the `__cause__`."""

    def __init__(self, pattern: str, kind: str, cause: Exception) -> None:
        super().__init__(str(cause), agent=pattern, model=kind)


class RejectedError(AgentError):
    """What a stage made, its `work`, did not pass its gate, also when it was made again."""

    def __init__(self, stage: str, work: str, reasons: str) -> None:
        super().__init__(f"it did not pass its review: {reasons}", agent=stage, model="gate")
        self.work = work


def agent_error(message: str, *, agent: str, model: str, kind: FailureKind) -> AgentError:
    """The error of that kind."""
    if kind == "budget":
        return BudgetExceeded(message, agent=agent, model=model)
    return AgentError(message, agent=agent, model=model, kind=kind)


class BudgetError(PyAgentError):
    """The budget cannot be held to. Nothing was spent."""


class RunAborted(PyAgentError):
    """An agent failed where the policy is `on_error="abort"`. `failure` is its error."""

    def __init__(self, failure: AgentError) -> None:
        super().__init__(f"the run was aborted: {failure}")
        self.agent = failure.agent
        self.failure = failure


class RunTimeoutError(PyAgentError):
    """The run took longer than `Timeouts.run` allows. Finished work is in `result`."""

    def __init__(self, run_id: str, seconds: float) -> None:
        super().__init__(f"run {run_id!r} took longer than {seconds:g} s and was stopped")


class PlanError(PyAgentError):
    """The planner's answer is not a plan, also after it was told its faults.

    `faults` are those of the last answer, `plan` its text as it came.
    """

    def __init__(self, planner: str, faults: Sequence[str], plan: str) -> None:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        super().__init__(
            f"planner {planner!r} gave no valid plan, even after it was told what was wrong:\n"
            f"{shown(listed)}\nThe plan it gave:\n{shown(plan)}"
        )
        self.faults = tuple(faults)
        self.plan = plan


class AgentFactoryError(PyAgentError):
    """The application's `agent_factory` made no `agent` of what a planner defined."""

    def __init__(self, planner: str, agent: str, why: str) -> None:
        super().__init__(
            shown(f"agent_factory made no {agent!r}, an agent that {planner!r} defined: {why}")
        )
        self.agent = agent


class WorkersFailedError(PyAgentError):
    """No assignment completed, so there is nothing to answer from. See `result.outcomes`."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        listed = shown(
            "\n".join(f"  - {o.id} ({o.worker}) {o.status}: {o.error}" for o in outcomes)
        )
        super().__init__(f"no assignment completed, so there is nothing to answer from:\n{listed}")


class StageError(PyAgentError):
    """A stage of a pipeline came to nothing, and those after it did not run. See `outcome`."""

    def __init__(self, pipeline: str, outcome: Outcome) -> None:
        super().__init__(
            shown(f"stage {outcome.worker!r} of {pipeline!r} {outcome.status}: {outcome.error}")
        )
        self.outcome = outcome


class RouteError(PyAgentError):
    """The classifier named no route, also when told which there are, and there is no default."""

    def __init__(self, router: str, answer: str, routes: Sequence[str]) -> None:
        known = ", ".join(repr(route) for route in routes)
        super().__init__(
            f"router {router!r} found no route for the task; it has {known}\n"
            f"The classifier's answer:\n{shown(answer)}"
        )
        self.answer = answer


class DeclinedError(PyAgentError):
    """A person declined a `plan` or an `answer`, whose text this is. `reason` is theirs."""

    def __init__(self, what: str, who: str, reason: str, text: str) -> None:
        why = f": {reason}" if reason else ""
        super().__init__(shown(f"a person declined the {what} of {who!r}{why}"))
        self.reason = reason
        self.text = text


class NobodyToAskError(PyAgentError):
    """A person is to be asked, and the run has no way to. Nothing was spent."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}, and there is nobody to ask: pass human= to run(), a function that decides; "
            "or durable=, which suspends the run until the decision is sent; or run at a terminal"
        )


class InputChanged(PyAgentError):
    """A call that the journal knows is made again with another input.

    Something it depends on was edited: the code, a prompt, a model or the task.
    """

    def __init__(self, run_id: str, key: str) -> None:
        super().__init__(
            f"run {run_id!r} has call {key!r} on record with another input; go on with the code "
            "and prompts it was recorded with, or fork the run: that pays again only for what "
            "changed and what depends on it"
        )
        self.key = key


class RunSuspended(PyAgentError):
    """The run waits: for a signal of one of the names `waiting_for`, or for the time `wake_at`.

    It is in its store, and nothing of it runs. `wake_at` is Unix time in seconds, None when
    no time will wake it.
    """

    def __init__(self, run_id: str, *, waiting_for: Sequence[str], wake_at: float | None) -> None:
        what = [f"the signal {name!r}" for name in waiting_for]
        if wake_at is not None:
            what.append(time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(wake_at)))
        super().__init__(shown(f"run {run_id!r} is suspended until {' or '.join(what)}"))
        self.run_id = run_id
        self.waiting_for = tuple(waiting_for)
        self.wake_at = wake_at


class JournalError(PyAgentError):
    """What happens cannot be recorded, or what is recorded cannot be read; the run stops.

    `unrecorded` has the values of calls that were made and could not be stored, by their keys.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.unrecorded: dict[str, JSONObject] = {}


class LeaseLost(JournalError):
    """This process no longer owns the run: it was silent too long and another took it over."""

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"run {run_id!r} was taken over by another process while this one was silent; what "
            "this one does is no longer recorded, so it stops here"
        )


class RunCancelled(JournalError):
    """The run was cancelled in its store."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id!r} was cancelled; fork it to go on from what is recorded")


class RunBusyError(PyAgentError):
    """The run is going on, in another process or here."""

    def __init__(self, run_id: str, owner: str) -> None:
        super().__init__(
            f"run {run_id!r} is going on ({owner}); wait for it to end, cancel it, or use "
            "another run_id"
        )


class UnknownRunError(PyAgentError):
    """The store has no run of that id."""

    def __init__(self, run_id: str, store: str) -> None:
        super().__init__(f"{store} has no run {run_id!r}; `pyagent runs` lists those it has")


class NoStoreError(PyAgentError):
    """The run asked for what only a run with a store has."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} needs a store, since it suspends the run: run(task, durable='runs.db')"
        )


class ScopeError(PyAgentError):
    """Two calls at once in one scope, or two scopes of one name: keys would be ambiguous."""
