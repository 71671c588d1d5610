"""Spans, metrics and logs to an OTLP receiver, over http (protobuf) or grpc."""

from __future__ import annotations

from opentelemetry.sdk._logs.export import LogRecordExporter
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.trace.export import SpanExporter

from .errors import ExporterError
from .settings import Otlp


def span_exporter(otlp: Otlp) -> SpanExporter:
    """The SDK's span exporter for these settings. Raises ExporterError if they do not fit."""
    try:
        if otlp.protocol_for("traces") == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

            return OTLPSpanExporter(otlp.endpoint, headers=_grpc_headers(otlp))
        from opentelemetry.exporter.otlp.proto.http import trace_exporter as http

        return http.OTLPSpanExporter(_url(otlp, "v1/traces"), headers=_http_headers(otlp))
    except (ValueError, OSError, RuntimeError) as error:
        raise _unfit(error) from error


def metric_exporter(otlp: Otlp) -> MetricExporter:
    """The SDK's metric exporter for these settings. Raises ExporterError if they do not fit."""
    try:
        if otlp.protocol_for("metrics") == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

            return OTLPMetricExporter(otlp.endpoint, headers=_grpc_headers(otlp))
        from opentelemetry.exporter.otlp.proto.http import metric_exporter as http

        return http.OTLPMetricExporter(_url(otlp, "v1/metrics"), headers=_http_headers(otlp))
    except (ValueError, OSError, RuntimeError) as error:
        raise _unfit(error) from error


def log_exporter(otlp: Otlp) -> LogRecordExporter:
    """The SDK's log exporter for these settings. Raises ExporterError if they do not fit."""
    try:
        if otlp.protocol_for("logs") == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

            return OTLPLogExporter(otlp.endpoint, headers=_grpc_headers(otlp))
        from opentelemetry.exporter.otlp.proto.http import _log_exporter as http

        return http.OTLPLogExporter(_url(otlp, "v1/logs"), headers=_http_headers(otlp))
    except (ValueError, OSError, RuntimeError) as error:
        raise _unfit(error) from error


def _url(otlp: Otlp, path: str) -> str | None:
    return f"{otlp.endpoint.rstrip('/')}/{path}" if otlp.endpoint else None


def _http_headers(otlp: Otlp) -> dict[str, str] | None:
    return dict(otlp.headers) if otlp.headers else None


def _grpc_headers(otlp: Otlp) -> dict[str, str] | None:
    """As gRPC wants them: metadata keys are lower case."""
    return {name.lower(): value for name, value in otlp.headers.items()} if otlp.headers else None


def _unfit(error: Exception) -> ExporterError:
    return (
        error
        if isinstance(error, ExporterError)
        else ExporterError(f"the OTLP exporter cannot be set up: {error}")
    )
