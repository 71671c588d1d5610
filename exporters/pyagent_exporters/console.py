"""Prints each pattern run as a tree when it ends."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field
from typing import Final, TextIO

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from pyagent_providers import semconv

from .tree import Node, SpanKey, draw
from .watch import Watch

MAX_SPANS: Final = 20_000  # a few hundred bytes each


@dataclass(slots=True)
class _Open:
    """A run whose outermost pattern span has not ended."""

    root: SpanKey
    keys: list[SpanKey] = field(default_factory=list[SpanKey])
    nodes: list[Node] = field(default_factory=list[Node])


class ConsoleTraces(SpanProcessor):
    """Collects the spans under each outermost pattern span and prints them when it ends.

    Runs that go on at the same time are printed one after another. At most `max_spans` spans are
    held: beyond that the oldest unfinished runs are dropped, and that is logged once.
    """

    def __init__(self, stream: TextIO | None, watch: Watch, *, max_spans: int = MAX_SPANS) -> None:
        self._stream = stream
        self._watch = watch
        self._max_spans = max_spans
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._open: dict[SpanKey, _Open] = {}  # by root, oldest first
        self._run_of: dict[SpanKey, _Open] = {}  # every span of an open run
        self._closed = False

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self._closed:
            return
        key, parent = _key(span), span.parent
        with self._lock:
            run = self._run_of.get((parent.trace_id, parent.span_id)) if parent else None
            if run is None:
                if not span.name.startswith(semconv.PATTERN_SPAN):
                    return
                run = self._open[key] = _Open(key)
            self._run_of[key] = run
            run.keys.append(key)
            dropped = len(self._run_of) > self._max_spans
            while len(self._run_of) > self._max_spans:
                self._forget(next(iter(self._open.values())))
        if dropped:
            self._watch.failed("traces", f"more than {self._max_spans} spans in unfinished runs")

    def on_end(self, span: ReadableSpan) -> None:
        key = _key(span)
        with self._lock:
            run = self._run_of.get(key)
            if run is None:
                return
        # What is raised here would reach the code that ended the span: the run itself.
        try:
            node = Node.of(span)
            with self._lock:
                run.nodes.append(node)
                if key != run.root:
                    return
                self._forget(run)
            self._print(draw(run.nodes))
        except Exception as error:
            self._watch.failed("traces", f"{type(error).__name__}: {error}")

    def shutdown(self) -> None:
        self._closed = True
        with self._lock:
            self._open.clear()
            self._run_of.clear()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True

    def _forget(self, run: _Open) -> None:
        self._open.pop(run.root, None)
        for key in run.keys:
            self._run_of.pop(key, None)

    def _print(self, text: str) -> None:
        stream = self._stream or sys.stderr  # looked up late: it may have been redirected
        with self._write_lock:
            stream.write(_fitting(text, stream.encoding) + "\n")
            stream.flush()
        self._watch.worked("traces")


def _key(span: ReadableSpan) -> SpanKey:
    context = span.get_span_context()
    return (context.trace_id, context.span_id) if context else (0, 0)


_ASCII: Final = str.maketrans(
    {"├": "|", "└": "`", "│": "|", "─": "-", "—": "-", "✗": "x", "…": "..."}
)


def _fitting(text: str, encoding: str | None) -> str:
    """The text as the stream can take it; in memory, streams have no encoding and take all."""
    if not encoding:
        return text
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    return text
