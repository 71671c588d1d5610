"""`configure`: the application's one call that builds the SDK's providers and the ways out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, TextIO, cast

from opentelemetry import metrics, trace

from .errors import ExporterError, needs
from .handle import LOGGER, Failures, Handle, Pipeline
from .settings import Otlp, Prometheus, otlp_signals, read_otlp, read_prometheus

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter


def configure(
    *,
    otlp: bool | str | Otlp | None = None,
    prometheus: bool | int | Prometheus = False,
    console: bool | TextIO = False,
    service_name: str | None = None,
    span_exporters: Sequence[SpanExporter] = (),
    span_processors: Sequence[SpanProcessor] = (),
    set_global: bool = True,
) -> Handle:
    """Send what this process's runs do to any combination of places, until the handle is closed.

    `otlp`: True, "http", "grpc", the receiver's base URL, or an `Otlp`. Left out, it is on if
    OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_TRACES_EXPORTER=otlp (or a signal's own) says so.
    `prometheus`: a port on 127.0.0.1, 0 for any free one, True for 9464, or a `Prometheus`.
    `console`: True prints each run's tree on standard error, a text stream prints it there.
    `span_exporters` get a batch processor each; they and `span_processors` are closed with the
    handle.

    Providers the application has already set globally are kept: ours are added to them, so its
    traces stay whole, and fall silent on close. `set_global=False` leaves the global ones alone;
    use the handle's. With OTEL_SDK_DISABLED=true nothing is started.

    Raises ExporterError if something cannot be set up; nothing is left running then. After that
    no exporter fails a run: what cannot be delivered is logged once and counted.
    """
    to_otlp, to_page = read_otlp(otlp), read_prometheus(prometheus)
    if not (to_otlp or to_page or console or span_exporters or span_processors):
        raise ExporterError(
            "configure() was given nowhere to send to: pass otlp=, prometheus= or console=, or "
            "set OTEL_EXPORTER_OTLP_ENDPOINT"
        )
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        no_meters = metrics.NoOpMeterProvider()
        return Handle(trace.NoOpTracerProvider(), no_meters, failures=Failures(no_meters))

    with needs("otlp" if to_otlp else "prometheus" if to_page else "console"):
        from . import pipelines
        from .console import ConsoleTraces
        from .watch import Watch

    signals = otlp_signals(otlp) if to_otlp else ()
    providers = _Providers(
        service_name,
        set_global=set_global,
        needs_readers=to_page is not None or "metrics" in signals,
    )
    failures = Failures(providers.meters)
    url: str | None = None
    ways: list[Pipeline] = []
    with ExitStack() as undo:

        def add(way: Pipeline) -> None:
            ways.append(way)
            undo.callback(way.close)

        if to_page:
            with needs("prometheus"):
                from .prometheus import serve_metrics
            way, url = serve_metrics(providers.meters, to_page)
            add(way)
        if to_otlp:
            watch = Watch("OTLP", failures)
            with needs("otlp"):
                from . import otlp as sdk

                if "traces" in signals:
                    exporter = sdk.span_exporter(to_otlp)
                    add(pipelines.export_spans(providers.tracers, exporter, watch))
                if "metrics" in signals:
                    exporter = sdk.metric_exporter(to_otlp)
                    add(pipelines.export_metrics(providers.meters, exporter, watch))
        for exporter in span_exporters:
            watch = Watch(type(exporter).__name__, failures)
            add(pipelines.export_spans(providers.tracers, exporter, watch))
        for processor in span_processors:
            add(pipelines.process_spans(providers.tracers, processor))
        if console:
            stream = None if console is True else console
            printer = ConsoleTraces(stream, Watch("console", failures))
            add(pipelines.process_spans(providers.tracers, printer))
        providers.set()
        undo.pop_all()
    return Handle(
        providers.tracers,
        providers.meters,
        failures=failures,
        pipelines=ways,
        prometheus_url=url,
    )


class _Providers:
    """The providers to send from: the global ones if there are any, else new ones."""

    def __init__(self, service_name: str | None, *, set_global: bool, needs_readers: bool) -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider

        attributes = {} if service_name is None else {"service.name": service_name}
        resource = Resource.create(attributes)
        old_tracers = trace.get_tracer_provider() if set_global else None
        old_meters = metrics.get_meter_provider() if set_global else None
        self._new_tracers = old_tracers is None or _is_unset(old_tracers)
        self._new_meters = old_meters is None or _is_unset(old_meters)
        self._set_global = set_global
        # At exit a global provider lets go of what the application added to it, after our handle.
        self.tracers = (
            TracerProvider(resource=resource, shutdown_on_exit=set_global)
            if self._new_tracers
            else cast("TracerProvider", old_tracers)
        )
        self.meters = (
            MeterProvider(resource=resource, shutdown_on_exit=set_global)
            if self._new_meters
            else cast("MeterProvider", old_meters)
        )
        _must_have(self.tracers, "add_span_processor")
        if needs_readers:
            _must_have(self.meters, "add_metric_reader")  # the SDK's have it from 1.43 on
        if service_name is not None and not (self._new_tracers and self._new_meters):
            LOGGER.warning(
                "service_name=%r is not used: the providers already set keep their resource",
                service_name,
            )

    def set(self) -> None:
        """Make the new ones global. Raises ExporterError if something else got there first."""
        if not self._set_global:
            return
        if self._new_tracers:
            trace.set_tracer_provider(self.tracers)
            _must_be(trace.get_tracer_provider(), self.tracers)
        if self._new_meters:
            metrics.set_meter_provider(self.meters)
            _must_be(metrics.get_meter_provider(), self.meters)


def _is_unset(provider: object) -> bool:
    """Whether this is the API's own stand-in, which records nothing."""
    return type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))


def _must_have(provider: object, method: str) -> None:
    if not hasattr(provider, method):
        raise ExporterError(
            f"the global {_named(provider)} has no {method}(), so nothing can be added to it: "
            f"{_WAY_OUT}"
        )


def _must_be(current: object, wanted: object) -> None:
    if current is not wanted:
        raise ExporterError(f"the global {_named(current)} cannot be replaced: {_WAY_OUT}")


def _named(provider: object) -> str:
    return f"{type(provider).__module__}.{type(provider).__qualname__}"


_WAY_OUT = (
    "call configure() before it is set, or use set_global=False and run within "
    "pyagent_providers.telemetry.using(Telemetry(tracer_provider=handle.tracer_provider, "
    "meter_provider=handle.meter_provider))"
)
