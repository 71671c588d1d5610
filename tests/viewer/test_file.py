"""Spans in a file, a line of OTLP's JSON for each batch."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pyagent_exporters.errors import ExporterError
from pyagent_exporters.file import span_exporter
from pyagent_exporters.viewer import otlp_json, otlp_protobuf
from pyagent_exporters.viewer.lines import Lines
from pyagent_exporters.viewer.store import SpanStore
from pyagent_patterns.testing import capture_trace

from . import crews


async def test_a_run_in_a_file_is_what_the_otlp_exporter_sends(tmp_path: Path) -> None:
    with capture_trace() as trace:
        await crews.hierarchical().run("the task")
    path = tmp_path / "trace.jsonl"
    assert span_exporter(path).export(trace.spans) is SpanExportResult.SUCCESS
    [line] = path.read_bytes().splitlines()
    sent = otlp_protobuf.decode(encode_spans(trace.spans).SerializeToString())
    assert otlp_json.decode(line) == sent
    assert len(sent.spans) == 17


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    span_exporter(tmp_path / "trace.jsonl")
    assert (tmp_path / "trace.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ExporterError, match=r"trace.jsonl.*its folder must exist and be writable"):
        span_exporter(tmp_path / "none" / "trace.jsonl")
    with pytest.raises(ExporterError, match="Is a directory"):
        span_exporter(tmp_path)


def tracing(path: Path) -> TracerProvider:
    provider = TracerProvider(resource=Resource({"service.name": "shop"}))
    provider.add_span_processor(BatchSpanProcessor(span_exporter(path)))
    return provider


def names(path: Path) -> list[str]:
    found = [otlp_json.decode(line).spans for line in path.read_bytes().splitlines()]
    return [span.name for spans in found for span in spans]


def test_each_batch_is_a_line_and_what_was_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    for batch in ("one", "two"):
        provider = tracing(path)
        tracer = provider.get_tracer("t")
        tracer.start_span(batch).end()
        tracer.start_span(batch).end()
        provider.shutdown()
    assert names(path) == ["one", "one", "two", "two"]
    assert len(path.read_bytes().splitlines()) == 2
    assert path.read_bytes().endswith(b"\n")


def test_a_line_that_was_cut_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"resourceSpans": [{"sco')
    provider = tracing(path)
    provider.get_tracer("t").start_span("whole").end()
    provider.shutdown()
    with SpanStore() as store, Lines(path, store) as lines:
        assert (lines.read(), lines.skipped) == (1, 1)


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    provider = tracing(path)
    tracer = provider.get_tracer("t")
    tracer.start_span("one").end()
    provider.force_flush()
    path.rename(tmp_path / "old.jsonl")
    tracer.start_span("two").end()
    provider.shutdown()
    assert (names(tmp_path / "old.jsonl"), names(path)) == (["one"], ["two"])
    assert path.stat().st_mode & 0o777 == 0o600


def test_numbers_that_json_does_not_have_are_written_as_otlp_says(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    provider = tracing(path)
    numbers = {"nan": math.nan, "up": math.inf, "down": -math.inf, "none": None, "raw": b"\0"}
    provider.get_tracer("t").start_span("s", attributes=numbers).end()  # pyright: ignore[reportArgumentType]
    provider.shutdown()
    json.loads(path.read_text(), parse_constant=pytest.fail)
    [span] = otlp_json.decode(path.read_bytes()).spans
    assert math.isnan(span.attributes["nan"])  # pyright: ignore[reportArgumentType]
    assert (span.attributes["up"], span.attributes["down"]) == (math.inf, -math.inf)


def test_processes_that_write_at_once_do_not_spoil_each_others_lines(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    program = (
        "import sys\n"
        "from pyagent_exporters.file import span_exporter\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import SimpleSpanProcessor\n"
        "provider = TracerProvider()\n"
        "provider.add_span_processor(SimpleSpanProcessor(span_exporter(sys.argv[1])))\n"
        "for n in range(100):\n"
        "    attributes = {'text': 'x' * 20_000}\n"
        "    provider.get_tracer('t').start_span('s', attributes=attributes).end()\n"
    )
    run = [sys.executable, "-c", program, str(path)]
    processes = [subprocess.Popen(run) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    with SpanStore() as store, Lines(path, store) as lines:
        assert (lines.read(), lines.skipped) == (300, 0)


def test_the_exporter_can_be_used_after_its_provider_is_gone(tmp_path: Path) -> None:
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    provider.get_tracer("t").start_span("s").end()
    exporter = span_exporter(str(tmp_path / "trace.jsonl"))
    exporter.shutdown()
    assert exporter.force_flush()
    assert exporter.export([]) is SpanExportResult.SUCCESS
    assert exporter.export(memory.get_finished_spans()) is SpanExportResult.SUCCESS
    assert names(tmp_path / "trace.jsonl") == ["s"]
