"""The handle on what `configure` started: it flushes, counts what failed, and closes."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Final, Self

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from pyagent_providers import semconv

LOGGER: Final = logging.getLogger("pyagent.exporters")

_GRACE = 1.0  # seconds an export gets to return after it was told to give up


class Failures:
    """How many exports failed, and the counter that says so to whoever still listens."""

    def __init__(self, meter_provider: MeterProvider) -> None:
        self._lock = threading.Lock()
        self._total = 0
        self._counter = meter_provider.get_meter("pyagent").create_counter(
            semconv.EXPORT_FAILURES,
            "{export}",
            "Batches of telemetry that could not be delivered.",
        )

    @property
    def total(self) -> int:
        return self._total

    def count(self, destination: str, signal: str) -> None:
        with self._lock:
            self._total += 1
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
        failures: Failures,
        pipelines: Sequence[Pipeline] = (),
        prometheus_url: str | None = None,
    ) -> None:
        self.tracer_provider = tracer_provider
        self.meter_provider = meter_provider
        self.prometheus_url = prometheus_url
        self._failures = failures
        self._lanes = [_Lane(pipeline) for pipeline in pipelines]
        self._lock = threading.Lock()
        self._closed = False
        atexit.register(self.close)

    @property
    def export_failures(self) -> int:
        """How many batches of spans or metrics could not be delivered so far."""
        return self._failures.total

    def flush(self, timeout: float = 5.0) -> bool:
        """Send what is waiting; True if all of it was delivered within `timeout` seconds."""
        if self._closed:
            return False
        before = self._failures.total
        done = [lane.do(lane.pipeline.flush) for lane in self._lanes]
        return _wait(done, timeout) and self._failures.total == before

    def close(self, timeout: float = 5.0) -> None:
        """Send what is waiting, then stop every thread and free the port. Twice is fine.

        What cannot be delivered within `timeout` seconds is given up, with one log line.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        atexit.unregister(self.close)
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


class _Lane(threading.Thread):
    """A pipeline's own thread for flushing and closing, since the SDK bounds neither in time.

    It exists from the start because none can be started while the interpreter exits.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(name=f"pyagent-export-{pipeline.name}", daemon=True)
        self.pipeline = pipeline
        self._jobs: SimpleQueue[tuple[Callable[[], object], threading.Event] | None] = SimpleQueue()
        self.start()

    def do(self, job: Callable[[], object]) -> threading.Event:
        done = threading.Event()
        self._jobs.put((job, done))
        return done

    def stop(self) -> None:
        self._jobs.put(None)

    def run(self) -> None:
        while (next_job := self._jobs.get()) is not None:
            job, done = next_job
            try:
                job()
            except Exception as error:
                LOGGER.warning("%s: %s: %s", self.pipeline.name, type(error).__name__, error)
            finally:
                done.set()


def _wait(events: Sequence[threading.Event], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    return all([event.wait(max(0.0, deadline - time.monotonic())) for event in events])
