"""The OpenTelemetry SDK as an application sets it up, for a measured process.

Imported only by contenders that want it: with none configured, it must not even be loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult


class OTelSDK:
    """Global providers with a batch processor and a periodic reader."""

    def __init__(self, spans: SpanExporter, metric_exporter: MetricExporter) -> None:
        self._spans = _Counted(spans)
        self._tracers = TracerProvider()
        # A model that answers at once makes spans faster than any application; none may be lost.
        processor = BatchSpanProcessor(self._spans, max_queue_size=1 << 16)
        self._tracers.add_span_processor(processor)
        self._meters = MeterProvider([PeriodicExportingMetricReader(metric_exporter)])
        trace.set_tracer_provider(self._tracers)
        metrics.set_meter_provider(self._meters)

    @classmethod
    def null(cls) -> OTelSDK:
        """The exporters throw away what they are given."""
        return cls(_NullSpans(), _NullMetrics())

    @classmethod
    def otlp(cls, endpoint: str) -> OTelSDK:
        """OTLP over HTTP to `endpoint`."""
        return cls(
            OTLPSpanExporter(f"{endpoint}/v1/traces"),
            OTLPMetricExporter(f"{endpoint}/v1/metrics"),
        )

    @property
    def spans_exported(self) -> int:
        return self._spans.count

    def flush(self) -> None:
        self._tracers.force_flush()
        self._meters.force_flush()

    def shutdown(self) -> None:
        self._tracers.shutdown()
        self._meters.shutdown()


class _Counted(SpanExporter):
    """Counts what reaches the exporter: a batch processor drops spans without raising."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.count = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.count += len(spans)
        return self._exporter.export(spans)

    def shutdown(self) -> None:
        self._exporter.shutdown()


class _NullSpans(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class _NullMetrics(MetricExporter):
    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object
    ) -> MetricExportResult:
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        pass
