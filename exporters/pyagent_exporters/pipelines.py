"""How a batch of spans or a reading of metrics gets from a provider to an exporter."""

from __future__ import annotations

import threading

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from .handle import Pipeline
from .watch import Watch, WatchedMetricExporter, WatchedSpanExporter


def export_spans(provider: TracerProvider, exporter: SpanExporter, watch: Watch) -> Pipeline:
    """Send the provider's spans to `exporter`, batched as the OTEL_BSP_* variables say."""
    watched = WatchedSpanExporter(exporter, watch)
    processor = _BatchProcessor(watched)
    provider.add_span_processor(processor)
    return Pipeline(
        f"{watch.destination} spans", processor.force_flush, processor.shutdown, watched.shutdown
    )


def process_spans(provider: TracerProvider, processor: SpanProcessor) -> Pipeline:
    """Give the provider's spans to the application's own processor."""
    provider.add_span_processor(processor)
    return Pipeline(
        type(processor).__name__, processor.force_flush, processor.shutdown, lambda: None
    )


def export_metrics(provider: MeterProvider, exporter: MetricExporter, watch: Watch) -> Pipeline:
    """Send the provider's metrics to `exporter`, as often as OTEL_METRIC_EXPORT_INTERVAL says."""
    watched = WatchedMetricExporter(exporter, watch)
    reader = _PushReader(watched)
    provider.add_metric_reader(reader)

    def close() -> None:
        reader.shutdown()  # before it is removed: a removed reader has nothing left to send
        provider.remove_metric_reader(reader)

    return Pipeline(f"{watch.destination} metrics", reader.force_flush, close, watched.shutdown)


class _BatchProcessor(BatchSpanProcessor):
    """The SDK's, silent once shut down: it cannot be taken off the provider it was added to."""

    _open = True

    def on_end(self, span: ReadableSpan) -> None:
        if self._open:
            super().on_end(span)

    def shutdown(self) -> None:
        self._open = False
        super().shutdown()


class _PushReader(PeriodicExportingMetricReader):
    """The SDK's, which may be shut down twice: by us, and by the provider that lets go of it."""

    def __init__(self, exporter: MetricExporter) -> None:
        self._shut = threading.Lock()
        super().__init__(exporter)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        if self._shut.acquire(blocking=False):
            super().shutdown(timeout_millis)  # pyright: ignore[reportUnknownMemberType]
