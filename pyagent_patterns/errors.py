"""What can go wrong in a run, in one tree. Each error of a run carries the run's `.result`.

PyAgentError
├── AgentError             an agent got no answer after every attempt
├── PlanError              the planner gave no valid plan, also when told what was wrong
├── WorkersFailedError     no assignment completed: there is nothing to synthesise
├── InputChanged           a recorded call was made again with another input
└── ScopeError             a pattern used its context in a way that cannot be replayed
"""

from __future__ import annotations

from collections.abc import Sequence

from pyagent_providers.hostile import shown

from .result import Outcome, Result


class PyAgentError(Exception):
    """The base of every error of a run.

    `result` has everything that did finish, with the ledger of every call made; it is None
    only while the error is still inside the run.
    """

    result: Result | None = None


class AgentError(PyAgentError):
    """An agent got no answer. The provider's error is the `__cause__`, unless it is replayed."""

    def __init__(self, message: str, *, agent: str, model: str) -> None:
        super().__init__(shown(f"agent {agent!r} ({model}): {message}"))
        self.agent = agent
        self.model = model


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


class WorkersFailedError(PyAgentError):
    """No assignment completed, so there is nothing to answer from. See `result.outcomes`."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        listed = shown(
            "\n".join(f"  - {o.id} ({o.worker}) {o.status}: {o.error}" for o in outcomes)
        )
        super().__init__(f"no assignment completed, so there is nothing to answer from:\n{listed}")


class InputChanged(PyAgentError):
    """A call that the journal knows is made again with another input.

    Something it depends on was edited: the code, a prompt, a model or the task.
    """

    def __init__(self, run_id: str, key: str) -> None:
        super().__init__(
            f"run {run_id!r} has call {key!r} on record with another input; run the code and "
            "prompts it was recorded with, or start a new run"
        )
        self.key = key


class ScopeError(PyAgentError):
    """Two calls at once in one scope, or two scopes of one name: keys would be ambiguous."""
