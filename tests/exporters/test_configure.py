"""`configure`: what it takes, what it refuses, and how it lives with providers already set."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pyagent_exporters import ExporterError, MissingExtraError, Otlp, configure
from pyagent_exporters.settings import otlp_signals, read_otlp
from pyagent_providers import semconv
from pyagent_providers.telemetry import tenant_label

from .spans import emit, sample

ROOT = Path(__file__).parents[2]


def run(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, where global providers can be set."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "exporters")])
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(program)],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def check(program: str, **variables: str) -> str:
    """Run a program that must succeed and say nothing on standard error."""
    done = run(program, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


class Batches(SpanExporter):
    """Keeps the sizes of the batches it gets."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.shut = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.sizes.append(len(spans))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.shut += 1

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


# What it takes.


def test_closing_delivers_everything_and_closing_again_is_fine() -> None:
    batches, memory = Batches(), InMemorySpanExporter()
    handle = configure(
        span_exporters=[batches], span_processors=[SimpleSpanProcessor(memory)], set_global=False
    )
    emit(handle.tracer_provider.get_tracer("t"), sample())
    handle.close()
    handle.close()
    assert sum(batches.sizes) == len(memory.get_finished_spans()) == 13
    assert batches.shut == 1
    assert not handle.flush()


def test_after_closing_spans_are_ignored_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    batches, out = Batches(), io.StringIO()
    handle = configure(span_exporters=[batches], console=out, set_global=False)
    handle.close()
    emit(handle.tracer_provider.get_tracer("t"), sample())
    assert (batches.sizes, out.getvalue(), caplog.records) == ([], "", [])


def test_an_exporter_that_raises_is_counted_and_fails_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Batches):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            raise RuntimeError("no")

    with configure(span_exporters=[Broken()], set_global=False) as handle:
        emit(handle.tracer_provider.get_tracer("t"), sample())
        assert not handle.flush()
        assert handle.export_failures == 1
    assert [record.getMessage() for record in caplog.records] == [
        "Broken: exporting spans fails and what is not sent is lost; runs go on and this is said "
        "once: RuntimeError: no"
    ]


def test_the_batch_and_sampler_variables_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5")
    batches = Batches()
    with configure(span_exporters=[batches], set_global=False) as handle:
        emit(handle.tracer_provider.get_tracer("t"), sample())
    assert sorted(batches.sizes) == [3, 5, 5]

    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    silent = Batches()
    with configure(span_exporters=[silent], set_global=False) as handle:
        emit(handle.tracer_provider.get_tracer("t"), sample())
    assert silent.sizes == []


def test_the_service_is_named_in_code_or_by_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def name(**given: str) -> object:
        with configure(console=io.StringIO(), set_global=False, **given) as handle:  # type: ignore[arg-type]
            assert isinstance(handle.tracer_provider, TracerProvider)
            return handle.tracer_provider.resource.attributes["service.name"]

    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-variable")
    assert name() == "from-variable"
    assert name(service_name="from-code") == "from-code"


def test_a_file_gets_a_line_of_json_for_each_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5")
    file = tmp_path / "trace.jsonl"
    with configure(file=file, set_global=False, service_name="my-team") as handle:
        emit(handle.tracer_provider.get_tracer("t"), sample())
        assert handle.flush()
    resources = [json.loads(line)["resourceSpans"][0] for line in file.read_text().splitlines()]
    assert sorted(len(r["scopeSpans"][0]["spans"]) for r in resources) == [3, 5, 5]
    assert "my-team" in str(resources[0]["resource"])


def test_a_file_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(ExporterError, match="cannot be written"):
        configure(file=tmp_path / "no" / "trace.jsonl", set_global=False)


def test_a_file_that_goes_bad_is_counted_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "trace.jsonl"
    with configure(file=file, set_global=False) as handle:
        file.unlink()
        file.mkdir()
        for _ in range(2):
            emit(handle.tracer_provider.get_tracer("t"), sample())
            assert not handle.flush()
        assert handle.export_failures == 2
    [record] = caplog.records
    assert record.getMessage().startswith("file: exporting spans fails")
    assert str(file) in record.getMessage()


def test_metrics_tell_the_given_tenants_apart_until_it_is_closed() -> None:
    def labels() -> list[str | None]:
        return [tenant_label(name) for name in ("acme", "mallory", None)]

    assert labels() == [None, None, None]
    with configure(prometheus=0, tenants=["acme", "globex"], set_global=False):
        assert labels() == ["acme", "other", None]
    assert labels() == [None, None, None]
    with pytest.raises(ExporterError, match="nowhere to send to"):
        configure(tenants=["acme"])
    assert labels() == [None, None, None]


def test_one_text_for_the_tenants_is_an_error() -> None:
    with pytest.raises(ExporterError, match="tenants='acme' is one text: give a list of names"):
        configure(prometheus=0, tenants="acme", set_global=False)


@pytest.mark.parametrize("compat", [False, True])
def test_other_backends_words_are_added_when_asked_for(compat: bool) -> None:
    memory = InMemorySpanExporter()
    with configure(span_exporters=[memory], compat=compat, set_global=False) as handle:
        tracer = handle.tracer_provider.get_tracer(semconv.SCOPE)
        chat = {semconv.OPERATION_NAME: "chat", semconv.COST_USD: 0.5, semconv.INPUT_TOKENS: 1}
        tracer.start_span("chat gpt-4o", attributes=chat).end()
        assert handle.flush()
        [span] = memory.get_finished_spans()
    assert ("langfuse.observation.cost_details" in (span.attributes or {})) is compat
    assert (span.attributes or {})[semconv.COST_USD] == 0.5


def test_a_disabled_sdk_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "TRUE")
    before = threading.active_count()
    tracers = trace.get_tracer_provider()
    out = io.StringIO()
    with configure(otlp=True, prometheus=0, console=out) as handle:
        assert handle.prometheus_url is None
        emit(handle.tracer_provider.get_tracer("t"), sample())
        assert handle.flush()
        assert threading.active_count() == before
    assert out.getvalue() == ""
    assert trace.get_tracer_provider() is tracers


@pytest.mark.parametrize(
    ("asked", "variables", "protocol"),
    [
        ("http", {}, "http"),
        ("grpc", {}, "grpc"),
        (True, {}, "http"),
        ("http://localhost:4317", {}, "grpc"),
        ("http://localhost:4318", {}, "http"),
        ("http://localhost:4317", {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "http"),
        (True, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc"),
        (True, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, "grpc"),
        ("http", {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http"),
        (
            True,
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http"},
            "http",
        ),
    ],
)
def test_code_then_variable_then_port_decides_the_protocol(
    asked: bool | str,
    variables: dict[str, str],
    protocol: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = read_otlp(asked)
    assert settings is not None
    assert settings.protocol_for("traces") == protocol


@pytest.mark.parametrize(
    ("asked", "variables", "signals"),
    [
        (True, {}, ("traces", "metrics")),
        (True, {"OTEL_METRICS_EXPORTER": "none"}, ("traces",)),
        (None, {}, ()),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}, ("traces", "metrics")),
        (None, {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://x:4318/v1/metrics"}, ("metrics",)),
        (None, {"OTEL_TRACES_EXPORTER": "otlp"}, ("traces",)),
    ],
)
def test_the_variables_choose_the_signals(
    asked: bool | None,
    variables: dict[str, str],
    signals: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert otlp_signals(asked) == signals
    assert (read_otlp(asked) is not None) == bool(signals)


def test_otlp_false_is_off_whatever_the_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    assert read_otlp(False) is None


# What it refuses.


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("htpp", "'htpp' is neither a protocol"),
        ("localhost:4317", "neither a protocol"),
        ("ftp://x", "'ftp://x' is not a URL"),
        ("http://", "'http://' is not a URL"),
        ("http://localhost:99999", "is not a URL"),
        ("http://localhost:4318/v1/traces", "give the base URL"),
    ],
)
def test_an_otlp_destination_that_is_none_is_an_error(asked: str, message: str) -> None:
    with pytest.raises(ExporterError, match=message):
        configure(otlp=asked, set_global=False)


def test_an_unknown_protocol_is_an_error_naming_where_it_came_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ExporterError, match="'udp' is not known: use 'http' or 'grpc'"):
        Otlp("udp")  # type: ignore[arg-type]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
    before = threading.active_count()
    with pytest.raises(ExporterError, match="OTEL_EXPORTER_OTLP_PROTOCOL='http/json'"):
        configure(otlp=True, prometheus=0, set_global=False)
    assert threading.active_count() <= before


def test_nowhere_to_send_to_is_an_error() -> None:
    with pytest.raises(ExporterError, match="nowhere to send to: pass otlp="):
        configure()


@pytest.mark.parametrize(
    ("module", "asked", "extra"),
    [
        ("opentelemetry.exporter.otlp.proto.http", {"otlp": "http"}, "otlp"),
        ("opentelemetry.exporter.otlp.proto.grpc.trace_exporter", {"otlp": "grpc"}, "otlp"),
        ("prometheus_client", {"prometheus": 0}, "prometheus"),
    ],
)
def test_a_missing_package_is_an_error_with_the_command(
    module: str, asked: dict[str, str], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "pyagent_exporters.prometheus", raising=False)
    with pytest.raises(MissingExtraError, match=rf'pip install "pyagent-sdk\[{extra}\]"'):
        configure(**asked, set_global=False)  # type: ignore[arg-type]


# Living with the process's global providers.


def test_importing_loads_no_sdk() -> None:
    check("""
        import sys
        import pyagent_exporters
        heavy = "opentelemetry.sdk", "opentelemetry.exporter", "prometheus_client", "grpc"
        loaded = [module for module in sys.modules if module.startswith(heavy)]
        assert not loaded, loaded
    """)


def test_set_global_false_leaves_the_globals_alone() -> None:
    before = trace.get_tracer_provider(), metrics.get_meter_provider()
    with configure(console=io.StringIO(), set_global=False) as handle:
        assert (trace.get_tracer_provider(), metrics.get_meter_provider()) == before
        assert handle.tracer_provider is not before[0]
        assert handle.meter_provider is not before[1]


def test_it_sets_the_global_providers_also_for_what_was_imported_before() -> None:
    out = check("""
        import sys, urllib.request
        from pyagent_providers import semconv, telemetry
        from pyagent_exporters import configure
        with configure(console=sys.stdout, prometheus=0) as handle:
            with telemetry.current().tracer.start_as_current_span("pyagent.pattern.router"):
                telemetry.current().cost.add(0.25, {semconv.PHASE: "route"})
            page = urllib.request.urlopen(handle.prometheus_url).read().decode()
            assert 'pyagent_cost_usd_total{' in page and '} 0.25' in page
    """)
    assert out.startswith("Trace: pyagent.pattern.router (")


def test_the_applications_own_provider_gives_one_unbroken_trace() -> None:
    out = check("""
        import io, logging
        logging.basicConfig()
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from pyagent_exporters import configure
        from pyagent_providers import telemetry

        theirs, ours, console = InMemorySpanExporter(), InMemorySpanExporter(), io.StringIO()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(theirs))
        trace.set_tracer_provider(provider)
        handle = configure(span_exporters=[ours], console=console)
        assert trace.get_tracer_provider() is provider is handle.tracer_provider
        with trace.get_tracer("app").start_as_current_span("POST /ask"):
            with telemetry.current().tracer.start_as_current_span("pyagent.pattern.router"):
                with telemetry.current().tracer.start_as_current_span("pyagent.agent.a"):
                    pass
        handle.flush()
        for memory in theirs, ours:
            agent, pattern, app = memory.get_finished_spans()
            assert app.parent is None
            assert pattern.parent.span_id == app.context.span_id
            assert agent.parent.span_id == pattern.context.span_id
            assert len({span.context.trace_id for span in (agent, pattern, app)}) == 1
        handle.close()
        with trace.get_tracer("app").start_as_current_span("after"):
            pass
        print(len(theirs.get_finished_spans()), console.getvalue().count("Trace:"))
    """)
    assert out.split() == ["4", "1"]


def test_the_applications_own_meter_provider_is_read_too() -> None:
    check("""
        import urllib.request
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from pyagent_exporters import configure
        from pyagent_providers import telemetry

        theirs = InMemoryMetricReader()
        provider = MeterProvider([theirs])
        metrics.set_meter_provider(provider)
        with configure(prometheus=0) as handle:
            assert metrics.get_meter_provider() is provider is handle.meter_provider
            telemetry.current().cost.add(0.5)
            page = urllib.request.urlopen(handle.prometheus_url).read()
            assert b"pyagent_cost_usd_total{" in page
        telemetry.current().cost.add(0.5)
        (resource,) = theirs.get_metrics_data().resource_metrics
        (scope,) = resource.scope_metrics
        (cost,) = scope.metrics
        assert cost.data.data_points[0].value == 1.0
    """)


def test_a_process_can_configure_again_after_closing() -> None:
    out = check("""
        import sys, urllib.request
        from pyagent_exporters import configure
        from pyagent_providers import telemetry
        for _ in range(2):
            with configure(console=sys.stdout, prometheus=0) as handle:
                with telemetry.current().tracer.start_as_current_span("pyagent.pattern.router"):
                    telemetry.current().cost.add(0.5)
                page = urllib.request.urlopen(handle.prometheus_url).read()
                assert page.count(b"\\npyagent_cost_usd_total{") == 1
    """)
    assert out.count("Trace:") == 2


def test_a_provider_that_takes_nothing_is_an_error_that_says_what_to_do() -> None:
    done = run("""
        from opentelemetry import metrics
        class Foreign(metrics.MeterProvider):
            def get_meter(self, *a, **k): return metrics.NoOpMeterProvider().get_meter("x")
        metrics.set_meter_provider(Foreign())
        from pyagent_exporters import configure
        configure(prometheus=0)
    """)
    assert done.returncode == 1
    assert "the global __main__.Foreign has no add_metric_reader()" in done.stderr
    assert "or use set_global=False" in done.stderr


def test_a_service_name_that_cannot_be_used_is_said() -> None:
    done = run("""
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        trace.set_tracer_provider(TracerProvider())
        import sys
        from pyagent_exporters import configure
        configure(console=sys.stdout, service_name="x").close()
    """)
    assert done.returncode == 0
    assert done.stderr == (
        "service_name='x' is not used: the providers already set keep their resource\n"
    )


def test_what_was_not_closed_is_delivered_when_the_interpreter_exits() -> None:
    out = check("""
        import sys
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter
        from pyagent_exporters import configure
        handle = configure(
            span_exporters=[ConsoleSpanExporter(sys.stdout, formatter=lambda s: s.name + "\\n")],
            set_global=False,
        )
        handle.tracer_provider.get_tracer("t").start_span("last words").end()
    """)
    assert out == "last words\n"


def test_exiting_with_the_endpoint_down_is_one_line() -> None:
    done = run(
        """
        from pyagent_exporters import configure
        handle = configure()
        handle.tracer_provider.get_tracer("t").start_span("x").end()
        import atexit
        atexit.register(handle.close, 0.2)  # as it would by itself, after 5 s
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
    )
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("OTLP: exporting spans fails")
