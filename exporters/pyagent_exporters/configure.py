"""`configure`: the application's one call that builds the SDK's providers and the ways out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, TextIO, TypeVar, cast

from opentelemetry import _logs, metrics, trace

from pyagent_providers.telemetry import allow_tenants

from .errors import ExporterError, needs
from .handle import LOGGER, Handle, Losses, Pipeline
from .settings import Otlp, Prometheus, Signal, otlp_signals, read_otlp, read_prometheus

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter


def configure(
    *,
    otlp: bool | str | Otlp | None = None,
    prometheus: bool | int | Prometheus = False,
    console: bool | TextIO = False,
    file: str | os.PathLike[str] | None = None,
    logs: bool | None = None,
    tenants: Sequence[str] = (),
    compat: bool = True,
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
    `file`: spans are added to it, a line of OTLP's JSON for each batch, for `pyagent ui` to read.
    `logs`: True sends what is logged on `pyagent`, and content events, by OTLP too. Left out, it
    is on if OTEL_LOGS_EXPORTER=otlp says so.
    `tenants`: the metrics tell these apart, and any other is "other".
    `compat`: spans sent by OTLP, and to `span_exporters`, repeat some of what they say in the
    words of Phoenix, Langfuse, Logfire and Datadog; False leaves that out.
    `span_exporters` get a batch processor each; they and `span_processors` are closed with the
    handle.

    Providers the application has already set globally are kept: ours are added to them, so its
    traces stay whole, and fall silent on close. `set_global=False` leaves the global ones alone;
    use the handle's. With OTEL_SDK_DISABLED=true nothing is started.

    Raises ExporterError if something cannot be set up; nothing is left running then. After that
    no exporter fails a run: what cannot be delivered is logged once and counted.
    """
    signals = otlp_signals(otlp, logs=logs)
    to_otlp, to_page = read_otlp(otlp), read_prometheus(prometheus)
    if isinstance(tenants, str):
        raise ExporterError(f"tenants={tenants!r} is one text: give a list of names")
    if logs and not to_otlp:
        raise ExporterError("logs=True has logs sent by OTLP: pass otlp= too, or set its endpoint")
    if not (to_otlp or to_page or console or file or span_exporters or span_processors):
        raise ExporterError(
            "configure() was given nowhere to send to: pass otlp=, prometheus=, console= or file=, "
            "or set OTEL_EXPORTER_OTLP_ENDPOINT"
        )
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        no_meters = metrics.NoOpMeterProvider()
        return Handle(trace.NoOpTracerProvider(), no_meters, losses=Losses(no_meters))

    with needs("otlp" if to_otlp else "prometheus" if to_page else "console"):
        from . import pipelines
        from .console import ConsoleTraces
        from .watch import Watch

    providers = _Providers(
        service_name,
        set_global=set_global,
        needs_readers=to_page is not None or "metrics" in signals,
        needs_logs="logs" in signals,
    )
    losses = Losses(providers.meters)
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
            for way in _by_otlp(to_otlp, signals, providers, losses, compat=compat):
                add(way)
        if file:
            from .file import span_exporter

            make, watch = partial(span_exporter, file), Watch("file", losses)
            add(pipelines.export_spans(providers.tracers, make, watch))
        for exporter in span_exporters:
            watch, same = Watch(type(exporter).__name__, losses), partial(_same, exporter)
            add(pipelines.export_spans(providers.tracers, same, watch, compat=compat))
        for processor in span_processors:
            add(pipelines.process_spans(providers.tracers, processor))
        if console:
            stream = None if console is True else console
            printer = ConsoleTraces(stream, Watch("console", losses))
            add(pipelines.process_spans(providers.tracers, printer))
        providers.set()
        undo.pop_all()
    if tenants:
        allow_tenants(tenants)
    return Handle(
        providers.tracers,
        providers.meters,
        losses=losses,
        logger_provider=providers.loggers,
        pipelines=ways,
        prometheus_url=url,
        undo=(lambda: allow_tenants(())) if tenants else None,
    )


def _by_otlp(
    to: Otlp, signals: Sequence[Signal], providers: _Providers, losses: Losses, *, compat: bool
) -> Iterator[Pipeline]:
    """Start sending each signal; one after the other, so that a caller can stop those begun."""
    with needs("otlp"):
        from . import otlp as exporters
        from . import pipelines
        from .watch import Watch

        watch = Watch("OTLP", losses)
        if "traces" in signals:
            make = partial(exporters.span_exporter, to)
            yield pipelines.export_spans(providers.tracers, make, watch, compat=compat)
        if "metrics" in signals:
            make = partial(exporters.metric_exporter, to)
            yield pipelines.export_metrics(providers.meters, make, watch)
        if providers.loggers is not None:
            make = partial(exporters.log_exporter, to)
            yield pipelines.export_logs(providers.loggers, make, watch)


class _Providers:
    """The providers to send from: the global ones if there are any, else new ones."""

    def __init__(
        self, service_name: str | None, *, set_global: bool, needs_readers: bool, needs_logs: bool
    ) -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider

        attributes = {} if service_name is None else {"service.name": service_name}
        resource = Resource.create(attributes)
        self._set_global = set_global
        # At exit a global provider lets go of what the application added to it, after our handle.
        self.tracers, self._new_tracers = self._kept_or(
            trace.get_tracer_provider(),
            lambda: TracerProvider(resource=resource, shutdown_on_exit=set_global),
        )
        self.meters, self._new_meters = self._kept_or(
            metrics.get_meter_provider(),
            lambda: MeterProvider(resource=resource, shutdown_on_exit=set_global),
        )
        self.loggers: LoggerProvider | None = None
        self._new_loggers = False
        if needs_logs:
            from opentelemetry.sdk._logs import LoggerProvider

            self.loggers, self._new_loggers = self._kept_or(
                _logs.get_logger_provider(),
                lambda: LoggerProvider(resource=resource, shutdown_on_exit=set_global),
            )
            _must_have(self.loggers, "add_log_record_processor")
        _must_have(self.tracers, "add_span_processor")
        if needs_readers:
            _must_have(self.meters, "add_metric_reader")  # the SDK's have it from 1.43 on
        if service_name is not None and not (self._new_tracers and self._new_meters):
            LOGGER.warning(
                "service_name=%r is not used: the providers already set keep their resource",
                service_name,
            )

    def _kept_or(self, old: object, make: Callable[[], _Provider]) -> tuple[_Provider, bool]:
        """The global provider, if there is one and it is to be kept, else a new one."""
        if self._set_global and not _is_unset(old):
            return cast("_Provider", old), False
        return make(), True

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
        if self.loggers is not None and self._new_loggers:
            _logs.set_logger_provider(self.loggers)
            _must_be(_logs.get_logger_provider(), self.loggers)


_Provider = TypeVar("_Provider")


def _same(exporter: SpanExporter) -> SpanExporter:
    return exporter


def _is_unset(provider: object) -> bool:
    """Whether this is the API's own stand-in, which records nothing."""
    api = ("opentelemetry.trace", "opentelemetry.metrics", "opentelemetry._logs")
    return type(provider).__module__.startswith(api)


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
    "meter_provider=handle.meter_provider, logger_provider=handle.logger_provider))"
)
