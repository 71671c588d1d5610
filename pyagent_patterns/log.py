"""The run in standard `logging`, on the logger `pyagent`.

INFO: one record per step, its facts also as attributes of the record for structured handlers
(`run_id`, `step`, `worker`, `input_tokens`, `output_tokens`, `latency_seconds`, `success`, ...).
DEBUG: the plan as a numbered list, and each worker's input and output, the application's own data.
"""

from __future__ import annotations

import logging

from pyagent_providers.hostile import shown

from . import ledger
from .events import Event, PlanAccepted, PlanRejected, StepEnded, StepStarted

logger = logging.getLogger("pyagent")


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
    usage = ledger.total_usage(event.calls)
    cost = ledger.total_cost(event.calls)
    unpriced = ledger.unpriced(event.calls)
    facts: dict[str, object] = {
        "run_id": event.run_id,
        "step": event.step,
        "phase": event.phase,
        "worker": event.agent,
        "model": event.model,
        "task_id": event.task_id,
        "attempts": len(event.calls),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": str(cost),
        "unpriced_calls": unpriced,
        "latency_seconds": event.seconds,
        "success": event.error is None,
        "replayed": event.replayed,
    }
    logger.info(
        "run %s step %d %s %s: %s, %d+%d tokens, %.2fs, $%.6f%s",
        event.run_id,
        event.step,
        event.phase,
        event.agent,
        "ok" if event.error is None else f"failed ({shown(event.error).splitlines()[0]})",
        usage.input_tokens,
        usage.output_tokens,
        event.seconds,
        cost,
        f" + {unpriced} unpriced" if unpriced else "",
        extra=facts,
    )
