"""A backend that takes nothing, in any way there is, neither fails a run nor slows it down."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from typing import cast

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, TraceFlags

from pyagent_exporters import ExporterError, Handle, Otlp, configure
from pyagent_patterns import OrchestratorWorkers, Result
from pyagent_providers.telemetry import Telemetry, using
from pyagent_providers.testing import Step
from tests.patterns.teams import item, plan_text, team

from .backends import CollectorProcess, Protocol, Trouble, bad_receiver
from .test_prometheus import read, samples, url_of

STALL = 10.0  # seconds an export is given, by default, to be answered


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export while the run goes on, not only when it is over."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "5")
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "5")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")


@pytest.fixture(autouse=True)
def _threads_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a closed handle gave up on ends by itself, before the next test."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith(("Otel", "pyagent")):
            thread.join(2 * STALL)


def working() -> OrchestratorWorkers:
    """A team whose run takes a tenth of a second."""
    plan = plan_text(item("researcher", "look it up"), item("writer", "write it down"))
    return team(
        [Step(plan, delay=0.02)],
        {"researcher": [Step("found", delay=0.03)], "writer": [Step("written", delay=0.05)]},
        final=Step("the final answer", delay=0.02),
    )


async def observed(handle: Handle) -> tuple[Result, float]:
    """The result of a run on the handle's providers, and the event loop's longest silence."""
    longest, over = 0.0, asyncio.Event()

    async def tick() -> None:
        nonlocal longest
        before = time.monotonic()
        while not over.is_set():
            await asyncio.sleep(0.002)
            longest, before = max(longest, time.monotonic() - before), time.monotonic()

    ticking = asyncio.create_task(tick())
    telemetry = Telemetry(
        tracer_provider=handle.tracer_provider,
        meter_provider=handle.meter_provider,
        logger_provider=handle.logger_provider,
    )
    with using(telemetry):
        result = await working().run("a task")
        for _ in range(4):  # enough for exports to begin, and be waited for
            await working().run("a task")
    over.set()
    await ticking
    return result, longest


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize(
    "trouble", ["down", "silent", "resets", "garbage", "401", "413", "429", "503"]
)
async def test_a_run_ends_as_without_it_and_in_the_meantime_the_loop_turns(
    protocol: Protocol, trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pyagent")
    with bad_receiver(protocol, trouble) as endpoint:
        handle = configure(otlp=Otlp(protocol, endpoint=endpoint), logs=True, set_global=False)
        result, longest = await observed(handle)
        flushed = await asyncio.to_thread(handle.flush, 0.05)
        began = time.monotonic()
        await asyncio.to_thread(handle.close, 0.1)
        closing = time.monotonic() - began
    assert (result.status, result.output, len(result.calls)) == (
        "completed",
        "the final answer",
        4,
    )
    assert longest < STALL / 5
    assert not flushed
    assert closing < STALL / 2
    exporters = [r for r in caplog.records if r.name != "pyagent"]
    assert {record.name for record in exporters} == {"pyagent.exporters"}
    said = [record.getMessage() for record in exporters]
    assert len([line for line in said if "exporting" in line]) <= 1
    assert len(said) <= 2  # the other: closed without delivering
    assert len(said) >= 1


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_a_collector_killed_in_the_middle_of_runs_is_no_ones_trouble_and_gets_all_when_back(
    protocol: Protocol, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "pyagent.exporters")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")  # so that it gives up, and says so
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    collector = CollectorProcess(protocol)
    endpoint = collector.endpoint
    handle = configure(otlp=Otlp(protocol, endpoint=endpoint), set_global=False)
    try:
        running = asyncio.create_task(observed(handle))
        await asyncio.to_thread(collector.got, "pyagent.pattern.orchestrator_workers")
        collector.kill()
        result, longest = await running
        assert not await asyncio.to_thread(handle.flush, 3)
        assert handle.export_failures >= 1
        assert (result.status, result.output) == ("completed", "the final answer")
        assert longest < STALL / 5

        collector = CollectorProcess(protocol, port=int(endpoint.rpartition(":")[2]))
        deadline = time.monotonic() + 20
        while not await asyncio.to_thread(handle.flush):  # grpc takes its time to try again
            handle.tracer_provider.get_tracer("t").start_span("again").end()
            assert time.monotonic() < deadline
        handle.tracer_provider.get_tracer("t").start_span("at last").end()
        await asyncio.to_thread(handle.flush)
        await asyncio.to_thread(collector.got, "at last")
    finally:
        handle.close(0.1)
        collector.kill()
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if "exporting spans fails" in line]) == 1
    assert len([line for line in said if "exporting spans works again" in line]) == 1


# When there is more than can be sent.


class Stuck(InMemorySpanExporter):
    """Holds on to its first batch until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.has_one, self.go_on = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.has_one.set()
        self.go_on.wait(30)
        return super().export(spans)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Handle, Stuck]]:
    """An exporter that holds on to ten spans, while there is room for twenty."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "20")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")  # milliseconds: not before there are ten
    exporter = Stuck()
    handle = configure(span_exporters=[exporter], prometheus=0, set_global=False)
    spans(handle, 10)
    assert exporter.has_one.wait(10)
    yield handle, exporter
    exporter.go_on.set()
    handle.close()


def spans(handle: Handle, count: int) -> None:
    tracer = handle.tracer_provider.get_tracer("t")
    for _ in range(count):
        tracer.start_span("x").end()


def test_what_there_is_no_room_for_is_counted_and_said_once(
    stuck: tuple[Handle, Stuck], caplog: pytest.LogCaptureFixture
) -> None:
    handle, exporter = stuck
    spans(handle, 100)
    assert handle.dropped == 80
    exporter.go_on.set()
    assert handle.flush()
    spans(handle, 20)  # there is room again
    assert handle.flush()
    assert len(exporter.get_finished_spans()) == 50
    assert (handle.dropped, handle.export_failures) == (80, 0)
    [(labels, value)] = samples(read(url_of(handle)))["pyagent_export_dropped_total"]
    assert (labels["destination"], labels["signal"], value) == ("Stuck", "spans", 80)
    assert [record.getMessage() for record in caplog.records] == [
        "Stuck: 20 spans wait to be sent and there is no room for more, so they are dropped; runs "
        "go on, each is counted, and this is said once"
    ]


def test_from_many_threads_every_span_is_either_sent_or_counted(
    stuck: tuple[Handle, Stuck],
) -> None:
    handle, exporter = stuck
    threads = [threading.Thread(target=spans, args=(handle, 200)) for _ in range(4)]
    for thread in threads:
        thread.start()
    exporter.go_on.set()
    for thread in threads:
        thread.join()
    assert handle.flush()
    assert len(exporter.get_finished_spans()) + handle.dropped == 810


def test_spans_that_are_not_sampled_take_no_room(
    stuck: tuple[Handle, Stuck], caplog: pytest.LogCaptureFixture
) -> None:
    handle, exporter = stuck
    recorded = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(0))
    processor = cast(TracerProvider, handle.tracer_provider)._active_span_processor
    for _ in range(30):
        processor.on_end(ReadableSpan("recorded only", recorded))
    spans(handle, 20)
    assert handle.dropped == 0
    exporter.go_on.set()
    assert handle.flush()
    assert len(exporter.get_finished_spans()) == 30


def test_log_records_that_there_is_no_room_for_are_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BLRP_MAX_QUEUE_SIZE", "20")
    monkeypatch.setenv("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "20")
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "60000")
    with bad_receiver("http", "silent") as endpoint:
        handle = configure(otlp=endpoint, logs=True, set_global=False)
        for _ in range(100):
            logging.getLogger("pyagent").warning("x")
        assert 0 < handle.dropped <= 80
        handle.close(0.1)
    said = [r.getMessage() for r in caplog.records if r.name == "pyagent.exporters"]
    assert len([line for line in said if line.startswith("OTLP: 20 logs wait to be sent")]) == 1


@pytest.mark.parametrize("given", ["0", "-1", "many", "1.5"])
def test_a_queue_of_no_size_is_an_error(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", given)
    message = f"OTEL_BSP_MAX_QUEUE_SIZE='{given}' is not a whole number above 0"
    with pytest.raises(ExporterError, match=message):
        configure(span_exporters=[InMemorySpanExporter()], set_global=False)


def test_a_batch_that_is_larger_than_the_queue_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "20")
    with pytest.raises(ExporterError, match="max_export_batch_size must be less than or equal"):
        configure(span_exporters=[InMemorySpanExporter()], set_global=False)
