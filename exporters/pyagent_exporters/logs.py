"""What is logged on `pyagent` and below as OpenTelemetry's log records, to be sent beside spans."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from opentelemetry._logs import LoggerProvider, LogRecord, SeverityNumber

from .json_logs import as_text, facts_of, message_of

if TYPE_CHECKING:
    from opentelemetry.util.types import AnyValue

LOGGER_NAME: Final = "pyagent"


class Bridge(logging.Handler):
    """A handler that gives a provider the records at INFO and above, in the span they belong to.

    What is below INFO has prompts and answers in it; for those there are content events. Of an
    exception only the type is told: its text and stack may hold what must not leave the process.
    """

    def __init__(self, provider: LoggerProvider) -> None:
        super().__init__(logging.INFO)
        self._provider = provider

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._provider.get_logger(record.name).emit(_translated(record))
            if (last := logging.lastResort) and record.levelno >= last.level and _is_alone(record):
                last.handle(record)
        except Exception:
            self.handleError(record)


def _is_alone(record: logging.LogRecord) -> bool:
    """Whether only bridges get the record: Python itself writes down what no handler gets."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        if any(not isinstance(handler, Bridge) for handler in logger.handlers):
            return False
        logger = logger.parent if logger.propagate else None
    return True


def _translated(record: logging.LogRecord) -> LogRecord:
    """The record as OpenTelemetry's, which takes the ids of the current span by itself."""
    text, number = _severity(record.levelno)
    return LogRecord(
        timestamp=int(record.created * 1e9),
        severity_text=text,
        severity_number=number,
        body=message_of(record),
        attributes=_attributes(record),
    )


def _attributes(record: logging.LogRecord) -> dict[str, AnyValue]:
    attributes: dict[str, AnyValue] = {
        name: value if isinstance(value, bool | int | float) else as_text(value)
        for name, value in facts_of(record).items()
        if value is not None and name not in _IN_THE_RECORD
    }
    if record.exc_info and record.exc_info[0] is not None:
        attributes["exception.type"] = record.exc_info[0].__qualname__
    return attributes


_IN_THE_RECORD: Final = ("trace_id", "span_id")  # which has fields for them


def _severity(level: int) -> tuple[str, SeverityNumber]:
    """OpenTelemetry's name and number for a level of `logging` from INFO on."""
    if level >= logging.CRITICAL:
        return "FATAL", SeverityNumber.FATAL
    if level >= logging.ERROR:
        return "ERROR", SeverityNumber.ERROR
    if level >= logging.WARNING:
        return "WARN", SeverityNumber.WARN
    return "INFO", SeverityNumber.INFO
