"""Exporters that say once that they fail, and once that they work again.

The SDK's own exporters write a line for every retry and every lost batch. While one of ours is
exporting, those lines are heard here instead, and the first gives the reason.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from .handle import LOGGER, Losses

_REASON_LIMIT: Final = 300


class Watch:
    """Whether one destination answers. Only a change is logged; every failure is counted.

    Its signals share the line: an endpoint that is down is down for spans and metrics alike, but
    one that takes spans and refuses metrics is said to fail for metrics only.
    """

    def __init__(self, destination: str, losses: Losses) -> None:
        self.destination = destination
        self._losses = losses
        self._lock = threading.RLock()  # reentrant: a finalizer may end a span anywhere
        self._lost: dict[str, int] = {}  # batches of each failing signal since it last worked
        self._said = False  # a line was written, and nothing has worked since
        self._full: set[str] = set()  # signals of which it was said that there was no room

    def failed(self, signal: str, reason: str) -> None:
        """A batch could not be delivered."""
        self._losses.failures.add(self.destination, signal)
        with self._lock:
            news = signal not in self._lost and not self._said
            self._said = self._said or news
            self._lost[signal] = self._lost.get(signal, 0) + 1
        if news:
            LOGGER.warning(
                "%s: exporting %s fails and what is not sent is lost; runs go on and this is said "
                "once: %s",
                self.destination,
                signal,
                reason[:_REASON_LIMIT],
            )

    def worked(self, signal: str) -> None:
        """A batch was delivered."""
        with self._lock:
            self._said = False
            lost = self._lost.pop(signal, 0)
        if lost:
            LOGGER.info(
                "%s: exporting %s works again; %d batches were lost",
                self.destination,
                signal,
                lost,
            )

    def dropped(self, signal: str, room: int) -> None:
        """There was no room for one more, to wait until it is sent."""
        self._losses.dropped.add(self.destination, signal)
        with self._lock:
            news = signal not in self._full
            self._full.add(signal)
        if news:
            LOGGER.warning(
                "%s: %d %s wait to be sent and there is no room for more, so they are dropped; "
                "runs go on, each is counted, and this is said once",
                self.destination,
                room,
                signal,
            )

    def export(self, signal: str, send: Callable[[], object], success: object) -> bool:
        """Whether `send` gave `success`; if not, or if it raised, that is said and counted."""
        with _listening() as heard:
            try:
                delivered = send() is success
            except Exception as error:
                heard.insert(0, f"{type(error).__name__}: {error}")
                delivered = False
        if delivered:
            self.worked(signal)
        else:
            self.failed(signal, heard[0] if heard else "the exporter gave no reason")
        return delivered


def hear(exporter: object) -> None:
    """Keep this exporter's own log lines from being written while a `Watch` has it export."""
    for kind in type(exporter).__mro__:
        if kind.__module__.startswith("opentelemetry.exporter."):
            logging.getLogger(kind.__module__).addFilter(_EAR)


class _Ear(logging.Filter):
    """Keeps the lines that are logged by this thread while one of our exporters runs."""

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        heard: list[str] | None = getattr(self.here, "heard", None)
        if heard is None:
            return True  # someone else's exporter
        heard.append(record.getMessage())
        return False


_EAR: Final = _Ear()


@contextmanager
def _listening() -> Generator[list[str]]:
    heard: list[str] = []
    _EAR.here.heard = heard
    try:
        yield heard
    finally:
        _EAR.here.heard = None
