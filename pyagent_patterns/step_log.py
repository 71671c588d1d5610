"""A run's steps in the log: an observer of its events, where the logger takes them."""

from __future__ import annotations

import logging

from pyagent_providers.hostile import shown

from .events import Event, PlanAccepted, PlanRejected, StepEnded, StepStarted
from .log import figures, in_words, logger, span_ids


def log_event(event: Event) -> None:
    """Write one event to the log. An `Observer`."""
    match event:
        case StepEnded():
            _log_step(event)
        case PlanRejected():
            logger.info("run %s: invalid plan: %s", event.run_id, shown("; ".join(event.faults)))
        case _:
            pass
    if logger.isEnabledFor(logging.DEBUG):
        _log_content(event)


def _log_content(event: Event) -> None:
    run_id = event.run_id
    match event:
        case StepStarted():
            logger.debug("run %s: asking %s:\n%s", run_id, event.agent, shown(event.prompt))
        case StepEnded(output=str(output)):
            logger.debug("run %s: %s answered:\n%s", run_id, event.agent, shown(output))
        case PlanAccepted():
            lines = [
                f"{n}. {a.worker}: {a.subtask}"
                + (f" (after {', '.join(a.depends_on)})" if a.depends_on else "")
                for n, a in enumerate(event.assignments, 1)
            ]
            logger.debug("run %s: the plan:\n%s", run_id, shown("\n".join(lines)))
        case _:
            pass


def _log_step(event: StepEnded) -> None:
    facts: dict[str, object] = {
        "run_id": event.run_id,
        "step": event.step,
        "phase": event.phase,
        "worker": event.agent,
        "path": event.path,
        "model": event.model,
        "task_id": event.task_id,
        "attempts": len(event.calls),
        **figures(event.calls),
        "latency_seconds": event.seconds,
        "success": event.error is None,
        "replayed": event.replayed,
        **span_ids(),
    }
    logger.info(
        "run %s step %d %s %s: %s, %s",
        event.run_id,
        event.step,
        event.phase,
        event.agent,
        "ok" if event.error is None else f"failed ({_first_line(event.error)})",
        in_words(event.calls, event.seconds),
        extra=facts,
    )


def _first_line(text: str) -> str:
    return shown(text).partition("\n")[0]
