"""How a server is reached: a process of ours that we talk to by pipe, or a URL."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self, TextIO
from urllib.parse import parse_qsl, urlsplit

from pyagent_providers.version import __version__

if TYPE_CHECKING:
    import httpx2
    import mcp
    from mcp.client import Transport
    from mcp.client._transport import ReadStream, WriteStream
    from mcp.shared.message import SessionMessage

REFUSALS: ContextVar[list[int]] = ContextVar("pyagent_mcp_refusals")
"""Takes the HTTP status of each refusal that a request meets; the SDK does not tell it.

It sends a request in the context of whoever makes it, so each sees its own.
"""


class Connection(Protocol):
    """A way to a server."""

    @property
    def place(self) -> str:
        """Where the server is, for people, without secrets."""
        ...

    def connect(
        self, stderr: Stderr, ended: Callable[[], None]
    ) -> AbstractAsyncContextManager[mcp.Client]:
        """A session of its own; `ended` is called when nothing more will come from the server."""
        ...

    def hide(self, text: str) -> str:
        """The text without the secrets that were given for the server, should it repeat them."""
        ...


@dataclass(frozen=True, kw_only=True)
class Stdio:
    """A command that speaks MCP on its standard input and output."""

    command: str
    args: Sequence[str] = field(repr=False)  # may hold secrets, as `env` does
    env: Mapping[str, str] = field(repr=False)
    cwd: Path | None

    @property
    def place(self) -> str:
        return f"command {self.command!r}"

    @asynccontextmanager
    async def connect(
        self, stderr: Stderr, ended: Callable[[], None]
    ) -> AsyncGenerator[mcp.Client]:
        from mcp import StdioServerParameters, stdio_client

        parameters = StdioServerParameters(
            command=self.command, args=list(self.args), env=dict(self.env), cwd=self.cwd
        )
        with stderr.writer() as writer:
            async with _client(stdio_client(parameters, errlog=writer), ended) as client:
                yield client

    def hide(self, text: str) -> str:
        return _hide(text, self.env.values())


@dataclass(frozen=True, kw_only=True)
class HTTP:
    """A URL that speaks MCP: the streamable HTTP transport."""

    url: str = field(repr=False)  # may hold a secret, as `headers` do
    headers: Mapping[str, str] = field(repr=False)

    @property
    def place(self) -> str:
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=host, query="", fragment="").geturl()

    @asynccontextmanager
    async def connect(
        self, stderr: Stderr, ended: Callable[[], None]
    ) -> AsyncGenerator[mcp.Client]:
        import httpx2
        from mcp.client.streamable_http import streamable_http_client

        async with httpx2.AsyncClient(
            headers=dict(self.headers),
            # An answer may take as long as its call may; the call's own timeout ends it.
            timeout=httpx2.Timeout(_CONNECT_SECONDS, read=None),
            event_hooks={"response": [_note_refusal]},
        ) as http:
            transport = streamable_http_client(
                self.url, http_client=http, max_sse_event_size=_LONGEST_EVENT
            )
            async with _client(transport, ended) as client:
                yield client

    def hide(self, text: str) -> str:
        parts = urlsplit(self.url)
        secrets = [parts.username or "", parts.password or ""]
        secrets += [value for _, value in parse_qsl(parts.query)]
        for value in self.headers.values():
            secrets += [value, value.rpartition(" ")[2]]  # as in "Bearer TOKEN"
        return _hide(text, secrets)


_CONNECT_SECONDS: Final = 30.0
_LONGEST_EVENT: Final = 16 * 2**20  # bytes


class Stderr:
    """The last of what a server writes to its error output, for the error it may end in."""

    def __init__(self) -> None:
        self._tail = b""
        self._reader: threading.Thread | None = None

    def writer(self) -> TextIO:
        """The end of a pipe to give the server; to be closed here when the server is."""
        read_end, write_end = os.pipe()
        # A thread, since not every event loop can read a pipe; it ends when nobody can write.
        self._reader = threading.Thread(
            target=self._read, args=(read_end,), name="mcp-stderr", daemon=True
        )
        self._reader.start()
        return os.fdopen(write_end, "w")

    async def tail(self) -> str:
        """What a server that has ended wrote last; waits a moment for what is still to be read."""
        if self._reader is not None:
            await asyncio.to_thread(self._reader.join, _STDERR_SECONDS)
        return self._tail.decode("utf-8", "replace").strip()

    def _read(self, read_end: int) -> None:
        with os.fdopen(read_end, "rb", buffering=0) as pipe:
            while chunk := pipe.read(4096):
                self._tail = (self._tail + chunk)[-_STDERR_BYTES:]


_STDERR_SECONDS: Final = 0.5
_STDERR_BYTES: Final = 2000


def _client(transport: Transport, ended: Callable[[], None]) -> mcp.Client:
    """A client that lets the server ask nothing of us: no sampling, no questions, no roots."""
    from mcp import Client, Implementation

    return Client(
        _watched(transport, ended),
        client_info=Implementation(name="pyagent-sdk", version=__version__),
        cache=None,
    )


@asynccontextmanager
async def _watched(
    transport: Transport, ended: Callable[[], None]
) -> AsyncGenerator[tuple[ReadStream[SessionMessage | Exception], WriteStream[SessionMessage]]]:
    """The transport, telling when the last message has come: the SDK keeps that to itself."""
    async with transport as (read, write):
        yield _Messages(read, ended), write


class _Messages:
    def __init__(
        self, stream: ReadStream[SessionMessage | Exception], ended: Callable[[], None]
    ) -> None:
        self._stream = stream
        self._ended = ended

    def __aiter__(self) -> _Messages:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self._stream.__anext__()
        except BaseException:  # there is none any more, or nobody reads them any more
            self._ended()
            raise

    async def receive(self) -> SessionMessage | Exception:
        return await self._stream.receive()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.aclose()


async def _note_refusal(response: httpx2.Response) -> None:
    if response.status_code >= 400 and response.request.method == "POST":
        REFUSALS.get([]).append(response.status_code)


def _hide(text: str, secrets: Iterable[str]) -> str:
    """The text with each secret replaced; words of up to three letters are not worth it."""
    long = sorted({secret for secret in secrets if len(secret) > 3}, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, long)), "***", text) if long else text
