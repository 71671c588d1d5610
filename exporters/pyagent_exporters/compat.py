"""What other backends read and the conventions have no name for, added to spans on their way out.

The names are other people's, so they are here and not in `semconv`. They repeat what the span says
already: whoever adds up `gen_ai.usage.*` or a name of these, and not both, gets the true sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.util.types import AttributeValue

from pyagent_providers import semconv

SESSION_ID: Final = "session.id"  # Phoenix, Langfuse, Datadog; on every span of a run
LANGFUSE_USAGE: Final = "langfuse.observation.usage_details"
LANGFUSE_COST: Final = "langfuse.observation.cost_details"
LANGFUSE_FIRST_CHUNK: Final = "langfuse.observation.completion_start_time"
LOGFIRE_COST: Final = "operation.cost"


class CompatProcessor(SpanProcessor):
    """Hands spans on to `inner` with what Phoenix, Langfuse, Logfire and Datadog look for.

    Each span of a run says which run, session and user it belongs to, that of a library below one
    of ours included; `chat` spans say their tokens and cost in Langfuse's words and their cost in
    Logfire's. Spans outside runs are handed on as they are.
    """

    # Not `langfuse.observation.type`: Langfuse takes the type from `openinference.span.kind`, and
    # Datadog would take the span for one of Langfuse's own. Not `llm.token_count.*`: Phoenix
    # derives them from `gen_ai.usage.*`, and Datadog would have two counts of the same tokens.

    def __init__(self, inner: SpanProcessor) -> None:
        self._inner = inner
        self._open = True  # a processor cannot be taken off its provider

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self._open:
            more = _known_at_the_start(span, trace.get_current_span(parent_context))
            if more:
                span.set_attributes(more)
        self._inner.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        if self._open and _is_ours(span):
            own = _attributes(span)
            if more := _known_at_the_end(own, span.start_time):
                span = _Extended(span, own | more)
        self._inner.on_end(span)

    def shutdown(self) -> None:
        self._open = False
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


_Attributes: TypeAlias = dict[str, AttributeValue]

# Spans of other operations come with theirs.
_KINDS: Final[Mapping[AttributeValue, str]] = {"chat": "LLM", "invoke_agent": "AGENT"}


def _known_at_the_start(span: Span, parent: trace.Span) -> _Attributes:
    """What the span is, and what the span above it belongs to."""
    own = _attributes(span)
    more: _Attributes = {}
    if isinstance(parent, ReadableSpan):
        above = _attributes(parent)
        if semconv.RUN_ID in above:
            # A run's own span learns of its conversation after its start.
            more = {
                name: above[source]
                for name, source in (
                    (semconv.RUN_ID, semconv.RUN_ID),
                    (SESSION_ID, semconv.CONVERSATION_ID),
                    (SESSION_ID, SESSION_ID),
                    (semconv.USER_ID, semconv.USER_ID),
                )
                if source in above and name not in own
            }
    if _is_ours(span) and (kind := _KINDS.get(own.get(semconv.OPERATION_NAME, ""))):
        more[semconv.OPENINFERENCE_KIND] = kind
    return more


def _known_at_the_end(own: _Attributes, start: int | None) -> _Attributes:
    if own.get(semconv.OPERATION_NAME) != "chat":
        conversation = own.get(semconv.CONVERSATION_ID)
        return {} if conversation is None else {SESSION_ID: conversation}
    more: _Attributes = {}
    if semconv.INPUT_TOKENS in own:
        more[LANGFUSE_USAGE] = _json(_usage(own))
    cost = own.get(semconv.COST_USD)
    if isinstance(cost, float):
        more[LANGFUSE_COST] = _json({"total": cost})
        more[LOGFIRE_COST] = cost
    wait = own.get(semconv.RESPONSE_TIME_TO_FIRST_CHUNK)
    if isinstance(wait, float) and start is not None:
        then = datetime.fromtimestamp(start / 1e9 + wait, UTC)
        more[LANGFUSE_FIRST_CHUNK] = then.isoformat(timespec="milliseconds")
    return more


def _usage(own: _Attributes) -> dict[str, int]:
    """Tokens as Langfuse adds them up: each is in one of the parts, and all are in the total."""

    def count(name: str) -> int:
        value = own.get(name, 0)
        return value if isinstance(value, int) else 0

    fed, written = count(semconv.INPUT_TOKENS), count(semconv.OUTPUT_TOKENS)
    read, kept = count(semconv.CACHE_READ_TOKENS), count(semconv.CACHE_WRITE_TOKENS)
    thought = count(semconv.REASONING_TOKENS)
    parts = {
        "input_cached_tokens": read,
        "input_cache_creation": kept,
        "output_reasoning_tokens": thought,
    }
    return {
        "input": max(0, fed - read - kept),
        "output": max(0, written - thought),
        **{name: tokens for name, tokens in parts.items() if tokens},
        "total": fed + written,
    }


def _json(numbers: Mapping[str, float]) -> str:
    """Numbers under plain names, for which the encoder would take five times as long."""
    return "{" + ",".join([f'"{name}":{number}' for name, number in numbers.items()]) + "}"


def _is_ours(span: ReadableSpan) -> bool:
    scope = span.instrumentation_scope
    return scope is not None and scope.name == semconv.SCOPE


def _attributes(span: ReadableSpan) -> _Attributes:
    """A copy to look things up in: the SDK's own mapping takes ten times as long for a miss."""
    attributes = span.attributes
    if isinstance(attributes, MappingProxyType):
        return attributes.copy()
    return dict(attributes or {})


class _Extended(ReadableSpan):
    """An ended span, which nothing can be added to, with other attributes."""

    def __init__(self, span: ReadableSpan, attributes: _Attributes) -> None:
        super().__init__(
            name=span.name,
            context=span.get_span_context(),
            parent=span.parent,
            resource=span.resource,
            attributes=attributes,
            events=span.events,
            links=span.links,
            kind=span.kind,
            status=span.status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )
        self._span = span

    @property
    def dropped_attributes(self) -> int:
        return self._span.dropped_attributes

    @property
    def dropped_events(self) -> int:
        return self._span.dropped_events

    @property
    def dropped_links(self) -> int:
        return self._span.dropped_links
