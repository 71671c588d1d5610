"""What one process measures: CPU, wall and memory of a number of runs."""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one process measured over `runs` runs.

    `spans_exported` is None for a contender without telemetry: a batch processor that drops
    spans would make ours look cheap, so the reader wants to see that it did not.
    """

    runs: int
    calls: int
    cpu_seconds: float
    wall_seconds: float
    median_run_seconds: float
    added_rss_bytes: int
    spans_exported: int | None


Run = Callable[[], Awaitable[object]]


class Telemetry(Protocol):
    """What a process has set up and must push out before the clock stops."""

    @property
    def spans_exported(self) -> int: ...
    def flush(self) -> None: ...


async def measure(
    run: Run,
    telemetry: Telemetry | None,
    *,
    runs: int,
    at_once: int,
    warm_up: int,
    calls_per_run: int,
) -> Sample:
    """`runs` runs, `at_once` of them at a time, after `warm_up` rounds of the same."""
    durations: list[float] = []

    async def one_run() -> None:
        started = time.perf_counter()
        await run()
        durations.append(time.perf_counter() - started)

    async def rounds(count: int) -> None:
        for _ in range(count):
            if at_once == 1:
                await one_run()
            else:
                await asyncio.gather(*(one_run() for _ in range(at_once)))

    await rounds(warm_up)
    if telemetry is not None:
        telemetry.flush()
    durations.clear()
    spans = telemetry.spans_exported if telemetry is not None else 0
    resident = _resident_bytes()
    wall, cpu = time.perf_counter(), _cpu_seconds()
    await rounds(runs // at_once)
    if telemetry is not None:
        telemetry.flush()
    cpu, wall = _cpu_seconds() - cpu, time.perf_counter() - wall
    return Sample(
        runs=len(durations),
        calls=len(durations) * calls_per_run,
        cpu_seconds=cpu,
        wall_seconds=wall,
        median_run_seconds=statistics.median(durations),
        added_rss_bytes=_peak_resident_bytes() - resident,
        spans_exported=telemetry.spans_exported - spans if telemetry is not None else None,
    )


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _peak_resident_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
