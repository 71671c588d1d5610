"""What a span is called and how it went, in a word or two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

from pyagent_providers import semconv

from .forest import Node
from .spans import Span

State = Literal["ok", "running", "failed", "partial", "cancelled", "suspended", "awaited"]

_OF_PATTERNS: Final[Mapping[str, State]] = {
    "partial": "partial",
    "failed": "failed",
    "cancelled": "cancelled",
    "suspended": "suspended",
}


def name_of(node: Node) -> str:
    """An agent's, a pattern's or a tool's own name; of other spans the span's."""
    span = node.span
    if span is None:
        return "(has not come yet)"
    match node.role:
        case "pattern":
            return span.workflow or span.name.removeprefix(semconv.PATTERN_SPAN)
        case "agent":
            return span.agent or span.name.removeprefix(semconv.AGENT_SPAN)
        case "tool":
            return span.tool or span.name
        case "chat":
            return span.text(semconv.OPERATION_NAME) or "chat"
        case "other":
            return span.name


def state_of(span: Span | None) -> State:
    """How it went, or goes; "awaited" for a span that has not come."""
    if span is None:
        return "awaited"
    if span.end is None:
        return "running"
    said = _OF_PATTERNS.get(span.run_status or "")
    if said is not None:
        return said
    if error_of(span) == "CancelledError":
        return "cancelled"
    return "failed" if span.status == "error" else "ok"


def error_of(span: Span | None) -> str | None:
    """The short name of what went wrong: `openai.RateLimitError` is a `RateLimitError`."""
    kind = span.error_type if span is not None else None
    return (kind.rpartition(".")[2] or kind) if kind else None


def badges(node: Node, attempt: int) -> Iterator[str]:
    """What else to know of a span at first sight. `attempt` is which try at a question it is."""
    span = node.span
    if span is None:
        return
    match node.role:
        case "pattern" if span.pattern and span.pattern != name_of(node):
            yield span.pattern
        case "agent" if span.phase:
            yield span.phase
        case "tool":
            yield "tool"
        case _:
            pass
    if span.task_id:
        yield span.task_id
    if span.attempts > 1:
        yield f"{span.attempts} calls"
    if attempt > 1:
        yield f"attempt {attempt}"
    if span.replayed:
        yield "replayed"
