"""How spans, log records and readings of metrics get from a provider to an exporter."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry.sdk._logs import LoggerProvider, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from .compat import CompatProcessor
from .errors import ExporterError
from .handle import Pipeline
from .logs import LOGGER_NAME, Bridge
from .room import Room
from .watch import Watch
from .watched import Make, WatchedLogExporter, WatchedMetricExporter, WatchedSpanExporter


def export_spans(
    provider: TracerProvider, make: Make[SpanExporter], watch: Watch, *, compat: bool = False
) -> Pipeline:
    """Send the provider's spans to the exporter, batched as the OTEL_BSP_* variables say.

    `compat` adds to them what other backends read.
    """
    room = Room("OTEL_BSP_MAX_QUEUE_SIZE", "spans", watch)
    watched = WatchedSpanExporter(make, watch, room)
    processor: SpanProcessor = _SpanBatches(watched, room)
    if compat:
        processor = CompatProcessor(processor)
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


def export_logs(provider: LoggerProvider, make: Make[LogRecordExporter], watch: Watch) -> Pipeline:
    """Send the provider's log records to the exporter, batched as the OTEL_BLRP_* variables say.

    Those of the loggers `pyagent` are among them until it is closed.
    """
    room = Room("OTEL_BLRP_MAX_QUEUE_SIZE", "logs", watch)
    watched = WatchedLogExporter(make, watch, room)
    processor = _LogBatches(watched, room)
    provider.add_log_record_processor(processor)
    bridge, logger = Bridge(provider), logging.getLogger(LOGGER_NAME)
    logger.addHandler(bridge)

    def close() -> None:
        logger.removeHandler(bridge)
        processor.shutdown()

    return Pipeline(f"{watch.destination} logs", processor.force_flush, close, watched.shutdown)


def export_metrics(provider: MeterProvider, make: Make[MetricExporter], watch: Watch) -> Pipeline:
    """Send the provider's metrics to the exporter, as often as OTEL_METRIC_EXPORT_INTERVAL says."""
    watched = WatchedMetricExporter(make, watch)
    reader = _PushReader(watched)
    provider.add_metric_reader(reader)

    def close() -> None:
        reader.shutdown()  # before it is removed: a removed reader has nothing left to send
        provider.remove_metric_reader(reader)

    return Pipeline(f"{watch.destination} metrics", reader.force_flush, close, watched.shutdown)


class _SpanBatches(BatchSpanProcessor):
    """The SDK's, silent once shut down: it cannot be taken off the provider it was added to."""

    def __init__(self, exporter: SpanExporter, room: Room) -> None:
        self._room = room
        self._open = True
        with _fitting("OTEL_BSP"):
            super().__init__(exporter, room.size)

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        sampled = context is not None and context.trace_flags.sampled
        if self._open and sampled and self._room.enter():
            super().on_end(span)

    def shutdown(self) -> None:
        self._open = False
        super().shutdown()


class _LogBatches(BatchLogRecordProcessor):
    """The SDK's, silent once shut down."""

    def __init__(self, exporter: LogRecordExporter, room: Room) -> None:
        self._room = room
        self._open = True
        with _fitting("OTEL_BLRP"):
            super().__init__(exporter, max_queue_size=room.size)

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        if self._open and self._room.enter():
            super().on_emit(log_record)

    def shutdown(self) -> None:
        self._open = False
        super().shutdown()


@contextmanager
def _fitting(variables: str) -> Generator[None]:
    try:
        yield
    except ValueError as error:
        raise ExporterError(f"the {variables}_* variables do not fit: {error}") from error


class _PushReader(PeriodicExportingMetricReader):
    """The SDK's, which may be shut down twice: by us, and by the provider that lets go of it."""

    def __init__(self, exporter: MetricExporter) -> None:
        self._shut = threading.Lock()
        super().__init__(exporter)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        if self._shut.acquire(blocking=False):
            super().shutdown(timeout_millis)  # pyright: ignore[reportUnknownMemberType]
