"""Exporters that say once that they fail, and once that they work again.

The SDK's own exporters write a line for every retry and every lost batch. While one of ours is
exporting, those lines are heard here instead, and the first gives the reason.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from .handle import LOGGER, Failures

_REASON_LIMIT: Final = 300


class Watch:
    """Whether one destination answers. Only a change is logged; every failure is counted.

    Its signals share the line: an endpoint that is down is down for spans and metrics alike, but
    one that takes spans and refuses metrics is said to fail for metrics only.
    """

    def __init__(self, destination: str, failures: Failures) -> None:
        self.destination = destination
        self._failures = failures
        self._lock = threading.Lock()
        self._lost: dict[str, int] = {}  # batches of each failing signal since it last worked
        self._said = False  # a line was written, and nothing has worked since

    def failed(self, signal: str, reason: str) -> None:
        self._failures.count(self.destination, signal)
        with self._lock:
            news = signal not in self._lost and not self._said
            self._said = self._said or news
            self._lost[signal] = self._lost.get(signal, 0) + 1
        if news:
            LOGGER.warning(
                "%s: exporting %s fails and what is not sent is lost; runs go on and this is said "
                "once: %s",
                self.destination,
                signal,
                reason[:_REASON_LIMIT],
            )

    def worked(self, signal: str) -> None:
        with self._lock:
            self._said = False
            lost = self._lost.pop(signal, 0)
        if lost:
            LOGGER.info(
                "%s: exporting %s works again; %d batches were lost",
                self.destination,
                signal,
                lost,
            )


class WatchedSpanExporter(SpanExporter):
    """A span exporter that reports to a watch, never raises, and shuts down once."""

    def __init__(self, inner: SpanExporter, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch
        self._shut = threading.Lock()
        _hear(inner)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with _listening() as heard:
            try:
                result = self._inner.export(spans)
            except Exception as error:
                heard.insert(0, f"{type(error).__name__}: {error}")
                result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self._watch.worked("spans")
        else:
            self._watch.failed("spans", _reason(heard))
        return result

    def shutdown(self) -> None:
        if self._shut.acquire(blocking=False):
            self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._inner.force_flush(timeout_millis)


class WatchedMetricExporter(MetricExporter):
    """A metric exporter that reports to a watch, never raises, and shuts down once."""

    def __init__(self, inner: MetricExporter, watch: Watch) -> None:
        # The SDK's reader asks these two of an exporter; there is no public way to.
        super().__init__(
            preferred_temporality=inner._preferred_temporality,  # pyright: ignore[reportPrivateUsage]
            preferred_aggregation=inner._preferred_aggregation,  # pyright: ignore[reportPrivateUsage]
        )
        self._inner = inner
        self._watch = watch
        self._shut = threading.Lock()
        _hear(inner)

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object
    ) -> MetricExportResult:
        with _listening() as heard:
            try:
                result = self._inner.export(metrics_data, timeout_millis)  # pyright: ignore[reportUnknownMemberType]
            except Exception as error:
                heard.insert(0, f"{type(error).__name__}: {error}")
                result = MetricExportResult.FAILURE
        if result is MetricExportResult.SUCCESS:
            self._watch.worked("metrics")
        else:
            self._watch.failed("metrics", _reason(heard))
        return result

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        if self._shut.acquire(blocking=False):
            self._inner.shutdown(timeout_millis)  # pyright: ignore[reportUnknownMemberType]

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._inner.force_flush(timeout_millis)


class _Ear(logging.Filter):
    """Keeps the lines that are logged by this thread while one of our exporters runs."""

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        heard: list[str] | None = getattr(self.here, "heard", None)
        if heard is None:
            return True  # someone else's exporter
        heard.append(record.getMessage())
        return False


_EAR: Final = _Ear()


def _hear(exporter: SpanExporter | MetricExporter) -> None:
    for kind in type(exporter).__mro__:
        if kind.__module__.startswith("opentelemetry.exporter."):
            logging.getLogger(kind.__module__).addFilter(_EAR)


@contextmanager
def _listening() -> Generator[list[str]]:
    heard: list[str] = []
    _EAR.here.heard = heard
    try:
        yield heard
    finally:
        _EAR.here.heard = None


def _reason(heard: Sequence[str]) -> str:
    return heard[0] if heard else "the exporter gave no reason"
