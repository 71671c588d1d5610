"""The console prints each run as a tree when it ends, and never gets in the run's way."""

from __future__ import annotations

import io
import logging
import threading
import time

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider

from pyagent_exporters import Handle, configure
from pyagent_exporters.console import ConsoleTraces
from pyagent_exporters.handle import Losses
from pyagent_exporters.watch import Watch
from pyagent_providers import semconv

from .spans import SAMPLE, Made, agent, emit, pattern, sample


def console(stream: io.TextIOBase) -> Handle:
    return configure(console=stream, set_global=False)  # type: ignore[arg-type]


def test_a_run_is_printed_as_documented() -> None:
    out = io.StringIO()
    with console(out) as handle:
        emit(handle.tracer_provider.get_tracer("t"), sample())
        assert out.getvalue() == SAMPLE + "\n"


def test_true_prints_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with configure(console=True, set_global=False) as handle:
        emit(handle.tracer_provider.get_tracer("t"), sample())
    assert capsys.readouterr() == ("", SAMPLE + "\n")


def test_nothing_is_printed_before_the_outermost_pattern_ends() -> None:
    out = io.StringIO()
    with console(out) as handle:
        tracer = handle.tracer_provider.get_tracer("t")
        root = tracer.start_span(semconv.PATTERN_SPAN + "outer")
        emit(tracer, pattern("inner", 0, 1, agent("a", "worker", 0, 1)), root)
        assert out.getvalue() == ""
        root.end()
    assert [line.partition(" (")[0] for line in out.getvalue().splitlines()] == [
        "Trace: pyagent.pattern.outer",
        "└── pyagent.pattern.inner",
        "    └── pyagent.agent.a",
    ]


def test_two_runs_in_one_trace_of_the_application_are_two_trees() -> None:
    out = io.StringIO()
    runs = [pattern("router", 0, 1), pattern("pipeline", 1, 2)]
    with console(out) as handle:
        emit(handle.tracer_provider.get_tracer("t"), Made("POST /ask", 0, 3, {}, runs))
    assert out.getvalue() == (
        "Trace: pyagent.pattern.router (1.0s)\nTrace: pyagent.pattern.pipeline (1.0s)\n"
    )


def test_runs_at_the_same_time_never_interleave() -> None:
    class Halting(io.StringIO):
        def write(self, text: str) -> int:
            for half in (text[: len(text) // 2], text[len(text) // 2 :]):
                super().write(half)
                time.sleep(0.0001)  # lets another thread in
            return len(text)

    out = Halting()
    with console(out) as handle:
        tracer = handle.tracer_provider.get_tracer("t")
        together = threading.Barrier(8)

        def work() -> None:
            together.wait()
            for _ in range(10):
                emit(tracer, sample())

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert out.getvalue() == (SAMPLE + "\n") * 80


def test_unfinished_runs_are_dropped_beyond_a_bound_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = io.StringIO()
    losses = Losses(NoOpMeterProvider())
    printer = ConsoleTraces(out, Watch("console", losses), max_spans=10)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(printer)
    tracer = provider.get_tracer("t")
    unfinished = [tracer.start_span(semconv.PATTERN_SPAN + f"lost{n}") for n in range(25)]
    emit(tracer, pattern("router", 0, 1))
    for span in unfinished[:10]:  # forgotten: their end prints nothing
        span.end()
    assert out.getvalue() == "Trace: pyagent.pattern.router (1.0s)\n"
    assert losses.failures.total == 16
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "more than 10 spans in unfinished runs" in warnings[0]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_stream_without_box_characters_gets_ascii(encoding: str) -> None:
    raw = io.BytesIO()
    with console(io.TextIOWrapper(raw, encoding=encoding, newline="\n")) as handle:
        emit(handle.tracer_provider.get_tracer("t"), sample())
        text = raw.getvalue().decode(encoding)
    assert text.splitlines()[:5] == [
        "Trace: pyagent.pattern.orchestrator_workers (8.4s, $0.028)",
        "|-- pyagent.agent.planner - planning (1.3s, gpt-4o)",
        "|   `-- assignments: [researcher, coder, tester, reviewer]",
        "|-- [parallel workers]",
        "|   |-- pyagent.agent.researcher (2.1s, gpt-4o-mini)",
    ]


def test_a_broken_stream_fails_no_run_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    out = io.StringIO()
    out.close()
    with console(out) as handle:
        for _ in range(3):
            emit(handle.tracer_provider.get_tracer("t"), sample())
        assert handle.export_failures == 3
    assert [r.getMessage() for r in caplog.records if "console" in r.getMessage()] == [
        "console: exporting traces fails and what is not sent is lost; runs go on and this is said "
        "once: ValueError: I/O operation on closed file"
    ]
