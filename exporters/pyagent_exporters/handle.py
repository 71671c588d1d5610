"""The handle on what `configure` started: it flushes, counts what failed, and closes."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Final, Self, TypeAlias

from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import Counter, MeterProvider
from opentelemetry.trace import TracerProvider

from pyagent_providers import semconv

LOGGER: Final = logging.getLogger("pyagent.exporters")

_GRACE = 1.0  # seconds an export gets to return after it was told to give up


class Losses:
    """What could not be sent, and the counters that say so to whoever still listens."""

    def __init__(self, meter_provider: MeterProvider) -> None:
        meter = meter_provider.get_meter(semconv.SCOPE)
        self.failures = _Count(
            meter.create_counter(
                semconv.EXPORT_FAILURES,
                "{export}",
                "Batches of telemetry that could not be delivered.",
            )
        )
        self.dropped = _Count(
            meter.create_counter(
                semconv.EXPORT_DROPPED,
                "{item}",
                "Spans and log records for which there was no room to wait in.",
            )
        )


class _Count:
    """A total, in a metric too."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._lock = threading.RLock()  # reentrant: a finalizer may end a span anywhere
        self.total = 0

    def add(self, destination: str, signal: str) -> None:
        with self._lock:
            self.total += 1
        self._counter.add(1, {"destination": destination, "signal": signal})


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One way out of the process. `abort` makes an export that is under way give up."""

    name: str
    flush: Callable[[], object]
    close: Callable[[], object]
    abort: Callable[[], object]


class Handle:
    """What `configure` set up. Close it at the end, or let the interpreter's exit do so."""

    def __init__(
        self,
        tracer_provider: TracerProvider,
        meter_provider: MeterProvider,
        *,
        losses: Losses,
        logger_provider: LoggerProvider | None = None,
        pipelines: Sequence[Pipeline] = (),
        prometheus_url: str | None = None,
        undo: Callable[[], object] | None = None,
    ) -> None:
        self.tracer_provider = tracer_provider
        self.meter_provider = meter_provider
        self.logger_provider = logger_provider
        self.prometheus_url = prometheus_url
        self._losses = losses
        self._undo = undo
        self._lanes = [_Lane(pipeline) for pipeline in pipelines]
        self._lock = threading.Lock()
        self._closed = False
        atexit.register(self.close)

    @property
    def export_failures(self) -> int:
        """How many batches of spans, metrics or logs could not be delivered so far."""
        return self._losses.failures.total

    @property
    def dropped(self) -> int:
        """How many spans and log records there was no room for, while others waited to be sent."""
        return self._losses.dropped.total

    def flush(self, timeout: float = 5.0) -> bool:
        """Send what is waiting; True if all of it was delivered within `timeout` seconds."""
        if self._closed:
            return False
        before = self.export_failures
        done = [lane.do(lane.pipeline.flush) for lane in self._lanes]
        return _wait(done, timeout) and self.export_failures == before

    def close(self, timeout: float = 5.0) -> None:
        """Send what is waiting, then stop every thread and free the port. Twice is fine.

        What cannot be delivered within `timeout` seconds is given up, with one log line.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        atexit.unregister(self.close)
        if self._undo is not None:
            self._undo()
        done = [lane.do(lane.pipeline.close) for lane in self._lanes]
        if not _wait(done, timeout):
            for lane in self._lanes:
                lane.pipeline.abort()
            if not _wait(done, _GRACE):
                late = [lane.pipeline.name for lane, end in zip(self._lanes, done, strict=True)
                        if not end.is_set()]  # fmt: skip
                LOGGER.warning("closed without delivering to %s in time", ", ".join(late))
        for lane in self._lanes:
            lane.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Lane:
    """A pipeline's own thread for flushing and closing, since the SDK bounds neither in time.

    It exists from the start because none can be started while the interpreter exits; in a forked
    process, from its start.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._start()
        start = weakref.WeakMethod(self._start)
        os.register_at_fork(after_in_child=lambda: (again := start()) and again())

    def _start(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        name = f"pyagent-export-{self.pipeline.name}"
        # Not a method of this object: the thread must not keep it from being forgotten.
        work = partial(_work, self.pipeline.name, self._jobs)
        threading.Thread(target=work, name=name, daemon=True).start()

    def do(self, job: Callable[[], object]) -> threading.Event:
        done = threading.Event()
        self._jobs.put((job, done))
        return done

    def stop(self) -> None:
        """End the thread. Nothing is done any more."""
        self._jobs.put(None)


_Job: TypeAlias = tuple[Callable[[], object], threading.Event]


def _work(name: str, jobs: SimpleQueue[_Job | None]) -> None:
    while (next_job := jobs.get()) is not None:
        job, done = next_job
        try:
            job()
        except Exception as error:
            LOGGER.warning("%s: %s: %s", name, type(error).__name__, error)
        finally:
            done.set()


def _wait(events: Sequence[threading.Event], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    return all([event.wait(max(0.0, deadline - time.monotonic())) for event in events])
