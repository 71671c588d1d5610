"""How long things may take."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Limits in seconds; None is no limit.

    `call`: one attempt at one model, from the request to the whole answer. `idle`: the wait for
    the next piece of a streamed answer (`Agent(stream=True)`). `assignment`: one question with
    all its attempts, pauses and models; an assignment that is handed to another agent shares it.
    `run`: one execution of the run, after which it ends with `RunTimeoutError`. A provider
    adapter's own `timeout` is another: of one wait on the network.

    A call that is cut off has been sent and is billed for: see "Budgets" in the documentation.
    """

    call: float | None = None
    idle: float | None = None
    assignment: float | None = None
    run: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            seconds = getattr(self, field.name)
            if seconds is not None and not seconds > 0:
                raise ValueError(
                    f"timeout {field.name!r} must be more than 0 seconds, or None; got {seconds!r}"
                )


NO_TIMEOUTS = Timeouts()
