"""What a run does when something goes wrong, said once for a pattern and all its agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .retry import RetryPolicy
from .timeouts import NO_TIMEOUTS, Timeouts
from .traffic import SHARED, Traffic

OnError = Literal["partial", "retry", "fallback", "skip", "abort"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How questions are asked, and what becomes of a run when one comes to nothing.

    `retry`, `timeouts` and `on_error` hold for agents that have none of their own.

    `on_error` says what becomes of a question that failed with every attempt at every model of
    the agent, and with the agent's `fallback`, where it has one:

    - "partial": the assignment has failed, what depends on it is skipped, the others go on, and
      the answer is told what is missing.
    - "fallback": the same; for a run that says so, and for an agent whose run says otherwise.
    - "retry": before the fallback is asked, the agent is once more, with all its attempts; then
      as "partial".
    - "skip": the assignment has failed, and what depends on it goes on without it.
    - "abort": the run ends with `RunAborted`, and what is under way is cancelled.
    """

    retry: RetryPolicy = RetryPolicy()  # noqa: RUF009 - immutable
    timeouts: Timeouts = NO_TIMEOUTS
    on_error: OnError = "partial"
    traffic: Traffic = SHARED

    def __post_init__(self) -> None:
        check_on_error("on_error", self.on_error)

    def within(
        self,
        *,
        retry: RetryPolicy | None,
        timeouts: Timeouts | None,
        on_error: OnError | None,
        traffic: Traffic | None,
    ) -> Policy:
        """This policy, with what a pattern within the run says for itself."""
        return Policy(
            retry=retry or self.retry,
            timeouts=timeouts or self.timeouts,
            on_error=on_error or self.on_error,
            traffic=traffic or self.traffic,
        )


def check_on_error(argument: str, value: object) -> None:
    """Raise ValueError if `value` is no `OnError`."""
    if value not in get_args(OnError):
        choices = ", ".join(repr(choice) for choice in get_args(OnError))
        raise ValueError(f"{argument} must be one of {choices}; got {value!r}")
