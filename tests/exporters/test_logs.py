"""Logs beside spans: what is logged on `pyagent`, and content events, by OTLP with trace ids."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.trace import Tracer

from pyagent_exporters import ExporterError, Handle, Otlp, configure
from pyagent_patterns import Result
from pyagent_patterns.log import log_end
from pyagent_providers import content, semconv
from pyagent_providers.telemetry import Telemetry, using
from tests.patterns.teams import item, plan_text, team

from .backends import Kept, Protocol, http_receiver, receiver
from .test_configure import check, run

LOGGER = logging.getLogger("pyagent")


@pytest.fixture(autouse=True)
def _at_info() -> Iterator[None]:
    before = LOGGER.level
    LOGGER.setLevel(logging.INFO)
    yield
    LOGGER.setLevel(before)
    assert LOGGER.handlers == []


async def a_run(handle: Handle, task: str = "a task") -> Result:
    telemetry = Telemetry(
        tracer_provider=handle.tracer_provider,
        meter_provider=handle.meter_provider,
        logger_provider=handle.logger_provider,
    )
    with using(telemetry):
        return await team(
            [plan_text(item("researcher", "look it up"))], {"researcher": ["found it"]}
        ).run(task)


def facts(record: LogRecord) -> dict[str, object]:
    found: dict[str, object] = {}
    for attribute in record.attributes:
        kind = attribute.value.WhichOneof("value")
        found[attribute.key] = getattr(attribute.value, str(kind))
    return found


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_steps_arrive_as_records_with_their_facts_in_the_trace_of_the_run(
    protocol: Protocol,
) -> None:
    with receiver(protocol) as (kept, endpoint):
        to = Otlp(protocol, endpoint=endpoint)
        with configure(otlp=to, logs=True, set_global=False, service_name="my-team") as handle:
            result = await a_run(handle)
        assert handle.export_failures == handle.dropped == 0
    steps = [record for name, record in kept.logs if "step" in facts(record)]
    assert [(facts(r)["worker"], facts(r)["phase"]) for r in steps] == [
        ("planner", "plan"),
        ("researcher", "worker"),
        ("planner", "synthesis"),
    ]
    spans = {span.span_id: span for span in kept.spans}
    for record in steps:
        assert facts(record)["run_id"] == result.run_id
        assert record.trace_id.hex() == result.trace_id
        assert spans[record.span_id].trace_id == record.trace_id
        assert (record.severity_text, record.severity_number) == ("INFO", 9)
        assert record.body.string_value.startswith(f"run {result.run_id} step")
        assert 0 < record.time_unix_nano <= record.observed_time_unix_nano
        assert facts(record)["input_tokens"] == 10
        assert not {"trace_id", "span_id"} & facts(record).keys()  # the record has fields for them
    assert {span.trace_id.hex() for span in kept.spans} == {result.trace_id}
    exemplars = {
        exemplar.trace_id.hex()
        for point in kept.metrics[semconv.OPERATION_DURATION].histogram.data_points
        for exemplar in point.exemplars
    }
    assert exemplars == {result.trace_id}
    assert {name for name, _ in kept.logs} == {"pyagent"}
    assert kept.resource["service.name"] == "my-team"


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_content_events_arrive_on_the_span_of_their_call(
    protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(content.VARIABLE, "EVENT_ONLY")
    LOGGER.setLevel(logging.WARNING)
    with receiver(protocol) as (kept, endpoint):
        to = Otlp(protocol, endpoint=endpoint)
        with configure(otlp=to, logs=True, set_global=False) as handle:
            await a_run(handle, "where is the treasure?")
    events = [record for _, record in kept.logs]
    assert {record.event_name for record in events} == {semconv.INFERENCE_DETAILS_EVENT}
    chats = {span.span_id: span for span in kept.spans if span.name.startswith("chat ")}
    assert sorted(record.span_id for record in events) == sorted(chats)
    assert "where is the treasure?" in str(events[0])
    assert "where is the treasure?" not in str(kept.spans)


async def test_prompts_and_answers_do_not_go_out_as_log_records(
    caplog: pytest.LogCaptureFixture,
) -> None:
    LOGGER.setLevel(logging.DEBUG)
    with http_receiver() as server:
        to = f"http://127.0.0.1:{server.server_port}"
        with configure(otlp=to, logs=True, set_global=False) as handle:
            await a_run(handle, "where is the treasure?")
    assert "where is the treasure?" in caplog.text
    assert len(server.kept.logs) >= 3
    for text in ("treasure", "look it up", "found it", "the final answer"):
        assert text not in str(server.kept.logs)


def test_secrets_and_what_an_exception_says_do_not_go_out() -> None:
    secret = "sk-proj-" + "a1B2" * 12
    with http_receiver() as server:
        to = f"http://127.0.0.1:{server.server_port}"
        with configure(otlp=to, logs=True, set_global=False):
            try:
                raise RuntimeError("words of a provider")
            except RuntimeError:
                log = logging.getLogger("pyagent.budget")
                log.exception("the key %s is bad", secret, extra={"used": secret, "n": None})
    [(_, record)] = server.kept.logs
    assert facts(record)["exception.type"] == "RuntimeError"
    assert "n" not in facts(record)
    assert secret not in str(record)
    assert "words of a provider" not in str(record)
    assert record.severity_text == "ERROR"


async def test_without_being_asked_for_no_log_goes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_receiver() as server:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        with configure(otlp=endpoint, set_global=False) as handle:
            assert handle.logger_provider is None
            await a_run(handle)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        with configure(set_global=False) as handle:
            await a_run(handle)
        assert server.kept.spans
        assert server.kept.logs == []


async def test_the_variables_turn_logs_on_and_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_receiver() as server:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_LOGS_EXPORTER", "otlp")
        with configure(logs=False, set_global=False) as handle:
            await a_run(handle)
        assert server.kept.logs == []
        with configure(set_global=False) as handle:
            await a_run(handle)
        assert len(server.kept.logs) >= 3
        monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
        server.kept.logs.clear()
        with configure(logs=True, set_global=False) as handle:
            await a_run(handle)
        assert server.kept.logs == []


def test_logs_without_otlp_are_an_error() -> None:
    with pytest.raises(ExporterError, match="logs=True has logs sent by OTLP: pass otlp= too"):
        configure(console=True, logs=True, set_global=False)


def test_a_logger_provider_of_the_applications_own_is_kept_and_added_to() -> None:
    with http_receiver() as server:
        check(
            """
            import logging, os
            from opentelemetry import _logs
            from opentelemetry.sdk._logs import LoggerProvider
            from opentelemetry.sdk._logs.export import (
                InMemoryLogRecordExporter, SimpleLogRecordProcessor,
            )
            from pyagent_exporters import configure

            theirs = InMemoryLogRecordExporter()
            provider = LoggerProvider()
            provider.add_log_record_processor(SimpleLogRecordProcessor(theirs))
            _logs.set_logger_provider(provider)
            log = logging.getLogger("pyagent")
            log.propagate = False
            log.setLevel(logging.INFO)
            with configure(otlp=os.environ["ENDPOINT"], logs=True) as handle:
                assert _logs.get_logger_provider() is provider is handle.logger_provider
                log.info("one")
            log.info("two")
            provider.get_logger("theirs").emit(body="three")
            bodies = [each.log_record.body for each in theirs.get_finished_logs()]
            assert bodies == ["one", "three"], bodies
            """,
            ENDPOINT=f"http://127.0.0.1:{server.server_port}",
        )
    assert [record.body.string_value for _, record in server.kept.logs] == ["one"]


def test_it_sets_the_global_logger_provider_if_there_is_none() -> None:
    with http_receiver() as server:
        check(
            """
            import asyncio, os
            from opentelemetry import _logs
            from pyagent_exporters import configure
            from pyagent_providers import ModelPrice
            from pyagent_providers.testing import ScriptedLLM
            llm = ScriptedLLM(["Paris"], price=ModelPrice(input="1", output="1"))
            with configure(otlp=os.environ["ENDPOINT"], logs=True) as handle:
                assert _logs.get_logger_provider() is handle.logger_provider
                asyncio.run(llm.complete("the capital of France?"))
            """,
            ENDPOINT=f"http://127.0.0.1:{server.server_port}",
            OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="EVENT_ONLY",
        )
    [(_, record)] = server.kept.logs
    assert record.event_name == semconv.INFERENCE_DETAILS_EVENT


def test_warnings_are_still_written_where_the_application_has_set_up_no_logging() -> None:
    done = run(
        """
        import logging, sys
        from pyagent_exporters import configure
        with configure(otlp="http://127.0.0.1:9", logs=True) as handle:
            logging.getLogger("pyagent.budget").warning("one")
            logging.getLogger("pyagent.budget").info("two")
            handle.close(0.2)
        logging.basicConfig(format="%(name)s: %(message)s")
        with configure(otlp="http://127.0.0.1:9", logs=True, set_global=False) as handle:
            logging.getLogger("pyagent.budget").warning("three")
            handle.close(0.2)
        """,
        OTEL_EXPORTER_OTLP_TIMEOUT="0.5",
    )
    lines = done.stderr.splitlines()
    assert (lines[0], lines.count("pyagent.budget: three")) == ("one", 1)
    assert lines[1].startswith("OTLP: exporting")
    assert "two" not in done.stderr


def test_a_backend_that_takes_no_logs_is_one_line_and_logging_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with http_receiver() as server:
        server.status["/v1/logs"] = 404  # Jaeger, say
        to = f"http://127.0.0.1:{server.server_port}"
        with configure(otlp=to, logs=True, set_global=False) as handle:
            for n in range(3):
                LOGGER.info("line %d", n)
                assert not handle.flush()
            assert handle.export_failures >= 3
    said = [record.getMessage() for record in caplog.records]
    assert [line for line in said if line.startswith("line")] == ["line 0", "line 1", "line 2"]
    assert len(said) == 4
    assert next(line for line in said if "404" in line).startswith("OTLP: exporting logs fails")


def test_logging_from_many_threads_loses_nothing() -> None:
    with http_receiver() as server:
        to = f"http://127.0.0.1:{server.server_port}"
        with configure(otlp=to, logs=True, set_global=False) as handle:

            def work(name: int, tracer: Tracer) -> None:
                for n in range(50):
                    with tracer.start_as_current_span(f"{name}-{n}"):
                        LOGGER.info("%d-%d", name, n)

            tracer = handle.tracer_provider.get_tracer("t")
            threads = [threading.Thread(target=work, args=(n, tracer)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    kept: Kept = server.kept
    spans = {span.span_id: span.name for span in kept.spans}
    assert len(kept.logs) == 200
    assert all(spans[record.span_id] == record.body.string_value for _, record in kept.logs)


async def test_the_end_of_a_run_is_one_record_with_its_status_and_totals(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plan = plan_text(item("researcher", "look it up"))
    result = await team([plan], {"researcher": ["found it"]}).run("a task")
    caplog.clear()
    log_end(result, "completed")
    log_end(result, "failed", RuntimeError("words of a model"))
    log_end(result, "cancelled", asyncio.CancelledError())
    completed, failed, cancelled = caplog.records
    for record, status in (completed, "completed"), (failed, "failed"), (cancelled, "cancelled"):
        assert record.levelno == logging.INFO
        assert (record.run_id, record.pattern) == (result.run_id, "orchestrator_workers")
        assert (record.status, record.calls) == (status, 3)
        assert (record.input_tokens, record.output_tokens) == (30, 15)
        assert record.cost_usd == str(result.cost_estimate)
        assert record.duration_seconds == result.duration_seconds
    assert completed.getMessage().startswith(
        f"run {result.run_id} orchestrator_workers: completed, 3 calls, 30+15 tokens, "
    )
    assert failed.error == "RuntimeError"
    assert not hasattr(completed, "error")
    assert not hasattr(cancelled, "error")
    assert "words of a model" not in caplog.text
    LOGGER.setLevel(logging.WARNING)
    caplog.clear()
    log_end(result, "completed")
    assert caplog.records == []
