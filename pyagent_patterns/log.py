"""The run in standard `logging`, on the logger `pyagent`.

INFO: a record per step, and one when the run ends, their facts also as attributes of the record
for structured handlers (`run_id`, `step`, `worker`, `path`, `cost_usd`, `success`, ...), with the
`trace_id` and `span_id` of the run's span where something traces.
DEBUG: the plan as a numbered list, and each worker's input and output, the application's own data.
Secrets are in neither.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from opentelemetry import trace

from pyagent_providers.redaction import Filter
from pyagent_providers.telemetry import error_type

from . import ledger
from .ledger import CallRecord
from .result import Result

logger = logging.getLogger("pyagent")
logger.addFilter(Filter())  # what is logged here may quote anybody


def log_end(result: Result, status: str, error: BaseException | None = None) -> None:
    """Write how a run ended: as `status` says, with what it shows and what failed, if anything.

    To be called where the run's span is the current one.
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    facts: dict[str, object] = {
        "run_id": result.run_id,
        "pattern": result.pattern,
        "status": status,
        "calls": len(result.calls),
        **figures(result.calls),
        "duration_seconds": result.duration_seconds,
        **span_ids(),
    }
    if error is not None and status == "failed":
        facts["error"] = error_type(error)
    logger.info(
        "run %s %s: %s, %d calls, %s",
        result.run_id,
        result.pattern,
        status if "error" not in facts else f"{status} ({facts['error']})",
        len(result.calls),
        in_words(result.calls, result.duration_seconds),
        extra=facts,
    )


def figures(calls: Sequence[CallRecord]) -> dict[str, object]:
    usage = ledger.total_usage(calls)
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": str(ledger.total_cost(calls)),
        "unpriced_calls": ledger.unpriced(calls),
    }


def in_words(calls: Sequence[CallRecord], seconds: float) -> str:
    usage, unpriced = ledger.total_usage(calls), ledger.unpriced(calls)
    tokens = f"{usage.input_tokens}+{usage.output_tokens} tokens"
    cost = f"${ledger.total_cost(calls):.6f}" + (f" + {unpriced} unpriced" if unpriced else "")
    return f"{tokens}, {seconds:.2f}s, {cost}"


def span_ids() -> dict[str, object]:
    """Where the record belongs in a trace, if something traces."""
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(span.trace_id),
        "span_id": trace.format_span_id(span.span_id),
    }
