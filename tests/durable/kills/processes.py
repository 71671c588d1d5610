"""Children as the test sees them: begun, listened to, stopped, killed."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from .child import Job

ROOT: Final = Path(__file__).parents[3]
_LINE: Final = 64 * 1024 * 1024  # a result with large answers is one line
_END: Final = 10.0  # seconds in which the kernel has closed what a killed process had open


class Child:
    """One process. `pid` is there once it has said its first word."""

    def __init__(self) -> None:
        self.pid = 0
        self.said: list[Mapping[str, Any]] = []
        self.killed = False
        self._heard = asyncio.Condition()
        self._gone = False

    async def says(self, *what: str, call: str | None = None, times: int = 1) -> bool:
        """Wait until it has said one of these, of a call, so often; False if it is gone before."""

        def is_said() -> bool:
            said = (s for s in self.said if s.get("what") in what)
            return sum(call in (None, s.get("call")) for s in said) >= times

        async with self._heard:
            await self._heard.wait_for(lambda: is_said() or self._gone)
            return is_said()

    def kill(self) -> None:
        self.killed = not self._gone
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    async def ended(self, patience: float) -> Mapping[str, Any] | None:
        """Wait until it is gone; how its job ended, None if it did not come to an end.

        Raises TimeoutError when it says nothing for `patience` seconds.
        """
        async with self._heard:
            while not self._gone:
                async with asyncio.timeout(patience):
                    await self._heard.wait()
        return self.said[-1].get("ended") if self.said else None

    def _signal(self, number: signal.Signals) -> None:
        assert self.pid, "it has not begun"
        if not self._gone:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def hear(self, reader: asyncio.StreamReader) -> None:
        """Listen to its end. What it was cut off in the middle of does not count."""
        try:
            with suppress(ConnectionResetError, asyncio.IncompleteReadError):
                while True:
                    said = json.loads(await reader.readuntil())
                    async with self._heard:
                        self.said.append(said)
                        self._heard.notify_all()
        finally:
            async with self._heard:
                self._gone = True
                self._heard.notify_all()


@asynccontextmanager
async def nursery(engine: str) -> AsyncGenerator[Nursery]:
    """A process that has imported everything, to fork children from; none outlives the block."""
    with tempfile.TemporaryDirectory(prefix="kills") as directory:  # a socket's path is short
        nursery = Nursery()
        path = os.path.join(directory, "socket")
        server = await asyncio.start_unix_server(nursery.accept, path, limit=_LINE)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.durable.kills.child", path, engine),
            stdin=asyncio.subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,  # so that it can be ended with all its children
        )
        nursery.process = process
        try:
            yield nursery
        finally:
            await nursery.close()
            server.close()


class Nursery:
    """Starts children and listens to them."""

    process: asyncio.subprocess.Process

    def __init__(self) -> None:
        self.numbers = itertools.count(1)  # of jobs
        self.runs = itertools.count()
        self._born: dict[int, asyncio.Future[Child]] = {}
        self._children: list[Child] = []

    async def start(self, job: Job) -> Child:
        """A new process that does the job; on return it runs."""
        born = self._born[job.number] = asyncio.get_running_loop().create_future()
        stdin = self.process.stdin
        assert stdin is not None
        stdin.write(json.dumps(asdict(job)).encode() + b"\n")
        return await asyncio.wait_for(born, 30)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A child has connected."""
        hello = json.loads(await reader.readuntil())
        child = Child()
        child.pid = hello["pid"]
        self._children.append(child)
        born = self._born.pop(hello["number"])
        if not born.done():  # somebody still waits for it
            born.set_result(child)
        try:
            await child.hear(reader)
        finally:
            writer.close()

    async def close(self) -> None:
        """Kill what is left: the stopped ones too, and those that have not said a word yet."""
        os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        for child in self._children:
            await child.ended(_END)
