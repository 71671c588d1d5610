"""OTLP over http and grpc: all of it arrives, and an endpoint that fails is no one's trouble."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings

from pyagent_exporters import Handle, Otlp, configure
from pyagent_providers import semconv
from pyagent_providers.telemetry import Telemetry

from .backends import HttpReceiver, Kept, free_port, grpc_receiver, http_receiver
from .spans import emit, pattern, recorded, sample


def run(handle: Handle) -> None:
    """Emit the sample trace and its cost."""
    telemetry = Telemetry(
        tracer_provider=handle.tracer_provider, meter_provider=handle.meter_provider
    )
    emit(telemetry.tracer, sample())
    telemetry.cost.add(0.028, {semconv.PHASE: "worker"})


def family(spans: list[Span]) -> list[tuple[str, str | None]]:
    """Each span's name with its parent's."""
    names = {span.span_id: span.name for span in spans}
    return sorted(
        (span.name, names[span.parent_span_id] if span.parent_span_id else None) for span in spans
    )


def sample_family() -> list[tuple[str, str | None]]:
    spans = recorded(sample())
    names = {span.get_span_context().span_id: span.name for span in spans}
    return sorted(
        ((span.name, names[span.parent.span_id] if span.parent else None) for span in spans),
        key=lambda pair: (pair[0], pair[1] or ""),
    )


def cost_of(metric: Metric) -> float:
    assert metric.unit == "{USD}"
    return sum(point.as_double for point in metric.sum.data_points)


async def test_over_http_a_trace_arrives_whole_and_so_do_the_metrics() -> None:
    port = free_port()
    settings = OtelTapHttpProtobufReceiverSettings(http_port=port)
    async with OtelTapHttpProtobufReceiver(settings) as tap:
        spans: list[Span] = []

        async def collect() -> None:
            async for span in tap.stream_traces():
                spans.append(span)
                if len(spans) == len(sample_family()):
                    return

        collected = asyncio.create_task(collect())
        cost = asyncio.create_task(tap.await_metric(lambda m: m.name == "pyagent.cost.usd"))
        await asyncio.sleep(0)
        with configure(otlp=f"http://127.0.0.1:{port}/", set_global=False) as handle:
            run(handle)
        assert handle.export_failures == 0
        await asyncio.wait_for(collected, 10)
        assert cost_of(await asyncio.wait_for(cost, 10)) == 0.028
    assert family(spans) == sample_family()
    assert len({span.trace_id for span in spans}) == 1


@pytest.fixture
def collector() -> Iterator[tuple[Kept, str]]:
    with grpc_receiver() as started:
        yield started


def test_over_grpc_a_trace_arrives_whole_and_so_do_the_metrics(
    collector: tuple[Kept, str],
) -> None:
    kept, endpoint = collector
    to = Otlp("grpc", endpoint=endpoint, headers={"Authorization": "Bearer k3y"})
    assert "k3y" not in repr(to)
    with configure(otlp=to, set_global=False) as handle:
        run(handle)
        assert handle.flush()
    assert family(kept.spans) == sample_family()
    assert cost_of(kept.metrics["pyagent.cost.usd"]) == 0.028
    assert kept.headers["authorization"] == "Bearer k3y"


def test_the_standard_variables_are_enough(
    collector: tuple[Kept, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, endpoint = collector
    for name, value in {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=blue",
        "OTEL_SERVICE_NAME": "my-team",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
        "OTEL_METRICS_EXPORTER": "none",
    }.items():
        monkeypatch.setenv(name, value)
    with configure(set_global=False) as handle:
        run(handle)
    assert family(kept.spans) == sample_family()
    assert kept.metrics == {}
    assert kept.headers["x-tenant"] == "blue"
    assert kept.resource["service.name"] == "my-team"
    assert kept.resource["deployment.environment"] == "test"


def test_a_signal_can_have_its_own_endpoint_and_protocol(
    collector: tuple[Kept, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, endpoint = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")
    with configure(set_global=False) as handle:
        run(handle)
    assert len(kept.spans) == len(sample_family())
    assert kept.metrics == {}  # no one said where metrics should go
    assert handle.export_failures == 0


# Endpoints that fail.


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_endpoint_that_is_down_fails_nothing_and_is_one_line(
    protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    to = Otlp("grpc" if protocol == "grpc" else "http", endpoint=f"http://127.0.0.1:{free_port()}")
    handle = configure(otlp=to, set_global=False)
    run(handle)
    assert not handle.flush(timeout=0.1)
    run(handle)
    handle.close(timeout=0.2)
    assert handle.export_failures >= 2  # spans and metrics
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].startswith("OTLP: exporting ")
    assert "runs go on" in lines[0]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_closing_does_not_wait_for_an_endpoint_that_never_answers(
    protocol: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")  # how long a lost thread lives on here
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        to = Otlp("grpc" if protocol == "grpc" else "http", endpoint=endpoint)
        handle = configure(otlp=to, set_global=False)
        run(handle)
        closing = threading.Thread(target=handle.close, args=(0.1,))
        closing.start()
        closing.join(2.5)
        assert not closing.is_alive()
        assert len(caplog.records) == 1
        for thread in threading.enumerate():  # let them end before the next test
            if thread.name.startswith(("Otel", "pyagent")):
                thread.join(10)


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as server:
        yield server


def test_a_failing_signal_is_said_once_and_its_recovery_once(
    receiver: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pyagent")
    with configure(otlp=f"http://127.0.0.1:{receiver.server_port}", set_global=False) as handle:
        receiver.status["/v1/metrics"] = 404  # a receiver that takes no metrics
        for _ in range(3):
            run(handle)
            assert not handle.flush()
        assert handle.export_failures == 3
        receiver.status["/v1/traces"] = 400
        run(handle)
        handle.flush()
        receiver.status |= {"/v1/traces": 200, "/v1/metrics": 200}
        run(handle)
        assert handle.flush()
        failures = handle.export_failures
    assert failures == 5
    assert [
        record.getMessage().partition(":")[2].split(" fails")[0].split(" again")[0].strip()
        for record in caplog.records
    ].count("exporting metrics") == 1
    said = sorted(record.getMessage() for record in caplog.records)
    assert len(said) == 4
    assert said[0].startswith("OTLP: exporting metrics fails")
    assert "404" in said[0]
    assert said[1] == "OTLP: exporting metrics works again; 4 batches were lost"
    assert said[2].startswith("OTLP: exporting spans fails")
    assert said[3] == "OTLP: exporting spans works again; 1 batches were lost"


def test_failures_are_counted_in_a_metric_too(receiver: HttpReceiver) -> None:
    receiver.status["/v1/traces"] = 400
    to = f"http://127.0.0.1:{receiver.server_port}"
    with configure(otlp=to, prometheus=0, set_global=False) as handle:
        run(handle)
        handle.flush()
        from .test_prometheus import read, samples, url_of

        ((labels, value),) = samples(read(url_of(handle)))["pyagent_export_failures_total"]
        assert (labels["destination"], labels["signal"], value) == ("OTLP", "spans", 1)


def test_an_exporter_of_the_applications_own_keeps_its_log_lines(
    receiver: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status["/v1/traces"] = 400
    endpoint = f"http://127.0.0.1:{receiver.server_port}"
    with configure(otlp=endpoint, set_global=False):
        OTLPSpanExporter(f"{endpoint}/v1/traces").export(recorded(pattern("router", 0, 1)))
    assert [record.name.partition(".")[0] for record in caplog.records] == ["opentelemetry"]
