"""What the two forms of OTLP have in common: which spans and values are taken."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from .spans import AttributeValue, Kind, Span, SpanStatus

# By the numbers that the enums have.
KINDS: Final[tuple[Kind, ...]] = (
    "internal", "internal", "server", "client", "producer", "consumer",
)  # fmt: skip
STATUSES: Final[tuple[SpanStatus, ...]] = ("unset", "ok", "error")
_LATEST: Final = 2**63 - 1  # nanoseconds, which SQLite can keep; in the year 2262


class NotARequest(ValueError):
    """What was sent is not an export request."""


class BadSpan(ValueError):
    """One span cannot be kept; the others can."""


@dataclass(frozen=True, slots=True)
class Received:
    """The spans of a request, how many others were `rejected`, and why the first of these was."""

    spans: tuple[Span, ...]
    rejected: int = 0
    reason: str = ""


def received(found: Iterable[Span | BadSpan]) -> Received:
    spans: list[Span] = []
    bad: list[BadSpan] = []
    for each in found:
        if isinstance(each, Span):
            spans.append(each)
        else:
            bad.append(each)
    return Received(tuple(spans), len(bad), str(bad[0]) if bad else "")


def trace_id(raw: bytes) -> str:
    return _id(raw, 16, "trace id")


def span_id(raw: bytes) -> str:
    return _id(raw, 8, "span id")


def parent_id(raw: bytes) -> str | None:
    """None for a root, of which some senders say it with zeros."""
    return span_id(raw) if any(raw) else None


def times(start: int, end: int) -> tuple[int, int | None]:
    """A span's, in nanoseconds; one without an end goes on, and none ends before it begins."""
    if not 0 < start <= _LATEST or end > _LATEST:
        raise BadSpan(f"a span's times must be Unix nanoseconds; got {start} to {end}")
    return start, max(start, end) if end > 0 else None


def event_time(time: int) -> int:
    return min(max(time, 0), _LATEST)


def attribute(value: object) -> AttributeValue | None:
    """A plain value as an attribute has it: what is nested, or mixed, as JSON text."""
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list):
        items = cast("Sequence[object]", value)
        kinds = {type(item) for item in items}
        if len(kinds) <= 1 and kinds <= {str, bool, int, float}:
            return cast(AttributeValue, tuple(items))
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _id(raw: bytes, size: int, what: str) -> str:
    if len(raw) != size or not any(raw):
        raise BadSpan(f"a {what} must be {size} bytes, not all zero; got {raw[:32].hex()!r}")
    return raw.hex()
