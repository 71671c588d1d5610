"""How one process tells another that a store has something to do, so that nobody has to poll.

Each listener has a datagram socket in a folder beside the store; who has written something sends
a byte to every one of them. It is only a hint: what there is to do stands in the store.
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self


class Bell:
    """Listens, as a context manager in a running event loop, for `ring` in the same folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rung = asyncio.Event()

    def __enter__(self) -> Self:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._path = self._folder / f"{uuid.uuid4().hex}.sock"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            with _ShortPath(self._folder) as folder:
                self._socket.bind(f"{folder}/{self._path.name}")
            self._socket.setblocking(False)
            asyncio.get_running_loop().add_reader(self._socket, self._hear)
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._path.unlink(missing_ok=True)
        with suppress(OSError):  # others listen too
            self._folder.rmdir()

    async def wait(self, seconds: float | None) -> None:
        """Return when it has rung since the last time, or after `seconds` (None: no limit)."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        self._rung.clear()

    def _hear(self) -> None:
        with suppress(OSError):
            while self._socket.recv(16):
                self._rung.set()


def ring(folder: Path) -> None:
    """Wake every listener; sockets of processes that died are removed."""
    if not folder.is_dir():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out, _ShortPath(folder) as short:
        out.setblocking(False)
        for path in folder.glob("*.sock"):
            try:
                out.sendto(b"!", f"{short}/{path.name}")
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                pass  # its queue is full: it is about to look anyway


class _ShortPath:
    """A folder by a short name: a socket's path has room for about a hundred characters."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def __enter__(self) -> str:
        if not Path("/proc/self/fd").is_dir():
            return str(self._folder)
        self._descriptor = os.open(self._folder, os.O_RDONLY)
        return f"/proc/self/fd/{self._descriptor}"

    def __exit__(self, *error: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
