"""One process that runs while its collector dies: `python -m benchmarks.killed FATE`.

It sends by OTLP, as `configure` sets it up, to a sink of its own, which halfway through goes on
(`healthy`), is killed (`killed`), or takes connections and answers none (`stalled`). Prints one
JSON object: the CPU time of all its runs, and how many of them failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from pyagent_exporters import configure

from . import ours
from .measure import Run

Fate = Literal["healthy", "killed", "stalled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one process measured. `failed` are runs, `dropped` spans."""

    cpu_seconds: float
    failed: int
    dropped: int
    export_failures: int


async def _main(fate: Fate, base_url: str, runs: int, at_once: int) -> Outcome:
    logging.disable()  # what is said of it is not the question here
    with _sink() as (sink, endpoint), configure(otlp=endpoint) as handle:
        async with ours.team(base_url, 4) as run:
            await _all(run, at_once, at_once)  # loads what is loaded on first use
            handle.flush()
            before = _cpu()
            failed = await _all(run, runs // 2, at_once)
            if fate != "healthy":
                os.kill(sink, signal.SIGKILL if fate == "killed" else signal.SIGSTOP)
            failed += await _all(run, runs - runs // 2, at_once)
            await asyncio.to_thread(handle.flush, 1.0)
            used = _cpu() - before
        handle.close(0.1)
        if fate == "stalled":
            os.kill(sink, signal.SIGCONT)
        return Outcome(
            cpu_seconds=used,
            failed=failed,
            dropped=handle.dropped,
            export_failures=handle.export_failures,
        )


async def _all(run: Run, runs: int, at_once: int) -> int:
    """How many of the runs failed."""
    failed, left = 0, iter(range(runs))

    async def one_after_the_other() -> None:
        nonlocal failed
        for _ in left:
            try:
                await run()
            except Exception:
                failed += 1

    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
    return failed


@contextmanager
def _sink() -> Iterator[tuple[int, str]]:
    """The process id and endpoint of a sink, which may be gone by the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.fake_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.pid, f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fate", choices=get_args(Fate))
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--at-once", type=int, default=10)
    given = parser.parse_args()
    outcome = asyncio.run(_main(given.fate, given.base_url, given.runs, given.at_once))
    json.dump(asdict(outcome), sys.stdout)
