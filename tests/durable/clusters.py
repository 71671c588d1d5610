"""Worker processes for the tests of clusters, started, waited for, stopped and killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Process:
    """A worker process; what it wrote besides `ready` is its `output` when it has ended."""

    def __init__(self, url: str, *options: str, path: Path | None = None) -> None:
        command = [sys.executable, "-m", "tests.durable.cluster_worker", url, *options]
        known = {**os.environ, "PYTHONPATH": str(path)} if path else None
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=known,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.pid = self._process.pid
        self.output = ""

    def await_ready(self) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == "ready\n", line + self._process.stdout.read()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process.poll() is None:
            self.send(signal.SIGCONT)
            self.send(number)
        if self._process.stdout is not None and not self._process.stdout.closed:
            self.output = self._process.communicate()[0]


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
