"""The exporters of the SDK or the application, watched."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from .room import Room
from .watch import Watch, hear

_Exporter = TypeVar("_Exporter")
Make: TypeAlias = Callable[[], _Exporter]


class WatchedSpanExporter(SpanExporter):
    """A span exporter that reports to a watch, never raises, and shuts down once."""

    def __init__(self, make: Make[SpanExporter], watch: Watch, room: Room) -> None:
        self._made = _Made(make)
        self._watch = watch
        self._room = room
        self._shut = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._room.leave(len(spans))
        success = SpanExportResult.SUCCESS
        delivered = self._watch.export("spans", lambda: self._made.here.export(spans), success)
        return success if delivered else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        if self._shut.acquire(blocking=False):
            self._made.here.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._made.here.force_flush(timeout_millis)


class WatchedLogExporter(LogRecordExporter):
    """A log exporter that reports to a watch, never raises, and shuts down once."""

    def __init__(self, make: Make[LogRecordExporter], watch: Watch, room: Room) -> None:
        self._made = _Made(make)
        self._watch = watch
        self._room = room
        self._shut = threading.Lock()

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        self._room.leave(len(batch))
        success = LogRecordExportResult.SUCCESS
        delivered = self._watch.export("logs", lambda: self._made.here.export(batch), success)
        return success if delivered else LogRecordExportResult.FAILURE

    def shutdown(self) -> None:
        if self._shut.acquire(blocking=False):
            self._made.here.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._made.here.force_flush(timeout_millis)


class WatchedMetricExporter(MetricExporter):
    """A metric exporter that reports to a watch, never raises, and shuts down once."""

    def __init__(self, make: Make[MetricExporter], watch: Watch) -> None:
        self._made = _Made(make)
        inner = self._made.here
        # The SDK's reader asks these two of an exporter; there is no public way to.
        super().__init__(
            preferred_temporality=inner._preferred_temporality,  # pyright: ignore[reportPrivateUsage]
            preferred_aggregation=inner._preferred_aggregation,  # pyright: ignore[reportPrivateUsage]
        )
        self._watch = watch
        self._shut = threading.Lock()

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object
    ) -> MetricExportResult:
        def send() -> MetricExportResult:
            return self._made.here.export(metrics_data, timeout_millis)  # pyright: ignore[reportUnknownMemberType]

        success = MetricExportResult.SUCCESS
        delivered = self._watch.export("metrics", send, success)
        return success if delivered else MetricExportResult.FAILURE

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        if self._shut.acquire(blocking=False):
            self._made.here.shutdown(timeout_millis)  # pyright: ignore[reportUnknownMemberType]

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._made.here.force_flush(timeout_millis)


class _Made(Generic[_Exporter]):
    """An exporter, made anew in a forked process: its connection would be the parent's, too."""

    def __init__(self, make: Make[_Exporter]) -> None:
        self._make = make
        self._renew()

    @property
    def here(self) -> _Exporter:
        if self._process != os.getpid():
            self._renew()
        return self._exporter

    def _renew(self) -> None:
        self._exporter = self._make()
        self._process = os.getpid()
        hear(self._exporter)
