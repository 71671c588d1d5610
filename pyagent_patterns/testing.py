"""Help for tests of code that runs agents: what a run emitted, in memory.

with capture_trace() as trace:
    team.run_sync("Say hello")
assert trace.tree() == "..."
assert trace.metric("pyagent.cost.usd").total == pytest.approx(0.0012)
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from pyagent_providers import semconv
from pyagent_providers.telemetry import Telemetry, using

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.metrics.export import Metric as SDKMetric
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.util.types import AnyValue

Attributes: TypeAlias = "Mapping[str, AnyValue]"


@contextmanager
def capture_trace() -> Generator[CapturedTrace]:
    """Catch the spans and metrics of every run and call in the block, and in tasks it starts.

    They do not reach the application's own providers. What was caught can also be read after the
    block. Needs `opentelemetry-sdk`; raises ImportError, saying how to get it, without.
    """
    try:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON
    except ImportError as error:
        raise ImportError(
            'capture_trace needs opentelemetry-sdk: pip install "pyagent-sdk[console]"'
        ) from error

    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider([reader], shutdown_on_exit=False)
    with using(Telemetry(tracer_provider=tracers, meter_provider=meters)):
        yield CapturedTrace(exporter, reader)


class CapturedTrace:
    """The spans and metrics so far."""

    def __init__(self, exporter: InMemorySpanExporter, reader: InMemoryMetricReader) -> None:
        self._exporter = exporter
        self._reader = reader

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """Every span that has ended, in the order they started."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def tree(self) -> str:
        """The spans as indented lines, siblings in the order they started, for a snapshot.

        A line is the span's name; then, as far as it has them, its phase, the assignment it was
        made for, `replayed`, and the type of the error it ended with:

            pyagent.agent.researcher worker t1
              chat gpt-4o-mini !RateLimitError
              chat gpt-4o-mini
        """
        spans = self.spans
        own = {span.context.span_id for span in spans if span.context}
        children: dict[int | None, list[ReadableSpan]] = {}
        for span in spans:
            parent = span.parent.span_id if span.parent else None
            children.setdefault(parent if parent in own else None, []).append(span)
        return "\n".join(_lines(children, None, ""))

    def metric(self, name: str) -> Metric:
        """What one instrument recorded; without points if it recorded nothing."""
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        return Metric(name, metric.unit or "", tuple(_points(metric)))
        return Metric(name, "", ())


@dataclass(frozen=True, slots=True)
class Point:
    """What an instrument recorded under one set of attributes.

    `total` is the sum of the values; `count` how many there were, None for a counter. `bounds`
    are the upper bounds of a histogram's buckets.
    """

    attributes: Attributes
    total: float
    count: int | None = None
    bounds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """One instrument's points. `total` is the sum over all of them, in the metric's unit."""

    name: str
    unit: str
    points: tuple[Point, ...]

    @property
    def total(self) -> float:
        return sum(point.total for point in self.points)

    @property
    def count(self) -> int:
        """How many values a histogram recorded."""
        return sum(point.count or 0 for point in self.points)

    def where(self, attributes: Attributes) -> Metric:
        """Only the points that have these attributes."""
        kept = (p for p in self.points if attributes.items() <= p.attributes.items())
        return Metric(self.name, self.unit, tuple(kept))


_TOLD: Final = (semconv.PHASE, semconv.TASK_ID)


def _lines(
    children: Mapping[int | None, Sequence[ReadableSpan]], parent: int | None, indent: str
) -> Iterator[str]:
    for span in children.get(parent, ()):
        yield indent + _label(span)
        yield from _lines(children, span.context.span_id if span.context else None, indent + "  ")


def _label(span: ReadableSpan) -> str:
    attributes = span.attributes or {}
    words = [span.name, *(str(attributes[name]) for name in _TOLD if name in attributes)]
    if attributes.get(semconv.REPLAYED):
        words.append("replayed")
    if semconv.ERROR_TYPE in attributes:
        words.append(f"!{attributes[semconv.ERROR_TYPE]}")
    return " ".join(words)


def _points(metric: SDKMetric) -> Iterator[Point]:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint, NumberDataPoint

    for point in metric.data.data_points:
        attributes = dict(point.attributes or {})
        if isinstance(point, NumberDataPoint):
            yield Point(attributes, point.value)
        elif isinstance(point, HistogramDataPoint):
            yield Point(attributes, point.sum, point.count, tuple(point.explicit_bounds))
