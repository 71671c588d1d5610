"""The JSON formatter: one object a line with all that is known, whatever the record holds."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from pyagent_exporters import JsonFormatter
from tests.patterns.teams import item, plan_text, team


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("app.json")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger, out
    logger.removeHandler(handler)
    logger.propagate = True


Log = tuple[logging.Logger, io.StringIO]


def line(out: io.StringIO) -> dict[str, object]:
    """The only line there is, by any splitting, as an object without a key twice."""
    text = out.getvalue()
    assert text.endswith("\n")
    [only] = text.splitlines()

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert len(pairs) == len(dict(pairs))
        return dict(pairs)

    def never(constant: str) -> object:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(only, object_pairs_hook=once, parse_constant=never)


def test_a_record_is_one_object_with_the_time_in_utc_and_its_extras(log: Log) -> None:
    logger, out = log
    before = datetime.now(UTC)
    logger.info("%s of %d", "one", 2, extra={"run_id": "r", "cost": 0.5, "tags": ["a", "b"]})
    said = line(out)
    assert list(said) == ["timestamp", "level", "logger", "message", "run_id", "cost", "tags"]
    assert before <= datetime.fromisoformat(str(said["timestamp"])) <= datetime.now(UTC)
    assert str(said["timestamp"]).endswith("+00:00")
    assert (said["level"], said["logger"]) == ("INFO", "app.json")
    assert (said["message"], said["run_id"], said["cost"]) == ("one of 2", "r", 0.5)
    assert said["tags"] == ["a", "b"]


def test_a_record_in_a_span_says_which(log: Log) -> None:
    logger, out = log
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    with tracer.start_as_current_span("x") as span:
        logger.info("in it")
    context = span.get_span_context()
    said = line(out)
    assert said["trace_id"] == trace.format_trace_id(context.trace_id)
    assert said["span_id"] == trace.format_span_id(context.span_id)


def test_an_exception_has_its_type_message_and_stack(log: Log) -> None:
    logger, out = log
    try:
        raise KeyError("gone")
    except KeyError:
        logger.exception("failed", stack_info=True)
    said = line(out)
    raised = said["exception"]
    assert isinstance(raised, dict)
    assert (raised["type"], raised["message"]) == ("KeyError", "'gone'")
    assert raised["stack"].startswith("Traceback")
    assert "test_json_logs.py" in raised["stack"]
    assert "Stack (most recent call last)" in str(said["stack"])


HOSTILE = (
    'quote " and \\ backslash\n{"level": "ERROR"}\r\n\x00\x1b[2J\x07',
    "\u2028line\u2029paragraph\x85next\x0b\x0c\x1c\u202eright to left\ufeff",
    "half a \ud83d character",
    "</script><script>alert(1)</script>",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_inside_its_string(text: str, log: Log) -> None:
    logger, out = log
    try:
        raise RuntimeError(text)
    except RuntimeError:
        logger.exception("%s", text, extra={"said": text, text: 1, "deep": {text: [text]}})
    said = line(out)
    assert said["message"] == said["said"] == text
    assert said[text] == 1
    assert said["deep"] == {text: [text]}
    assert isinstance(said["exception"], dict)
    assert said["exception"]["message"] == text
    assert out.getvalue().rstrip("\n").isascii()
    assert out.getvalue().rstrip("\n").isprintable()


class Unwilling:
    def __str__(self) -> str:
        raise ValueError("no")

    __repr__ = __str__


CYCLE: list[object] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    "value",
    [
        Unwilling(),
        CYCLE,
        {("a", 1): 2},
        float("nan"),
        [float("inf")],
        object(),
        b"bytes",
        {1, 2},
        {"in": {"it": Unwilling()}},
        Unwilling,
    ],
)
def test_no_value_is_too_odd(value: object, log: Log) -> None:
    logger, out = log
    logger.info("odd: %s", "value", extra={"value": value, "after": "it"})
    said = line(out)
    assert "value" in said
    assert said["after"] == "it"


def test_arguments_that_do_not_fit_are_shown_as_they_are() -> None:
    record = logging.makeLogRecord({"msg": "%d of %d", "args": ("one", 2)})
    assert json.loads(JsonFormatter().format(record))["message"] == "%d of %d ('one', 2)"
    record = logging.makeLogRecord({"msg": "%d", "args": (Unwilling(),)})
    assert json.loads(JsonFormatter().format(record))["message"].startswith("%d <tuple, whose")


def test_extras_cannot_pass_for_what_the_record_says_itself(log: Log) -> None:
    logger, out = log
    logger.warning("true", extra={"level": "DEBUG", "timestamp": "never", "logger": "other"})
    said = line(out)
    assert (said["level"], said["logger"], said["message"]) == ("WARNING", "app.json", "true")
    assert said["timestamp"] != "never"


def test_secrets_are_taken_out_wherever_they_are(log: Log) -> None:
    logger, out = log
    secret = "sk-proj-" + "a1B2" * 12
    try:
        raise RuntimeError(f"bad key {secret}")
    except RuntimeError:
        deep = {"list": [secret, 1]}
        logger.exception("with %s", secret, extra={"key": secret, "deep": deep, secret: 1})
    assert secret not in out.getvalue()
    said = line(out)
    raised = said["exception"]
    assert isinstance(raised, dict)
    assert raised["message"].startswith("bad key [redacted")
    assert "RuntimeError: bad key [redacted" in raised["stack"]
    assert isinstance(said["deep"], dict)
    assert said["deep"]["list"][1] == 1


async def test_a_runs_steps_are_lines_with_their_facts() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("pyagent")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        result = await team([plan_text(item("researcher"))], {"researcher": ["found"]}).run("task")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    said = [json.loads(text) for text in out.getvalue().splitlines()]
    steps = [each for each in said if "step" in each]
    assert [(each["worker"], each["path"], each["success"]) for each in steps] == [
        ("planner", "planner", True),
        ("researcher", "researcher", True),
        ("planner", "planner", True),
    ]
    assert {each["run_id"] for each in steps} == {result.run_id}
    assert sum(each["output_tokens"] for each in steps) == result.usage.output_tokens
