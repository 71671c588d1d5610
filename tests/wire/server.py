"""The wire server: one loopback HTTP server, in a thread, that plays a script in any dialect."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

from aiohttp import web

from pyagent_providers.types import JSONObject, Message, Sampling, ToolSpec

from .script import (
    BrokenFraming,
    CorruptChunk,
    Disconnect,
    EndEarly,
    ErrorEvent,
    Failure,
    NotJSON,
    RawBody,
    RawBytes,
    Reply,
    Stall,
    Step,
)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What a client asked, read from its provider's format."""

    model: str
    messages: tuple[Message, ...]  # without the system prompt
    system: str | None = None
    schema: JSONObject | None = None
    tools: tuple[ToolSpec, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    stream: bool = False
    key: str | None = None


@dataclass(frozen=True)
class Frames:
    """A streamed answer on the wire: all up to the last piece of text, then all that ends it."""

    opening: list[bytes]
    ending: list[bytes]


class Dialect(Protocol):
    """One provider's wire format, read and written independently of the adapter under test."""

    name: str
    base_path: str
    """What follows `http://host:port` in a client's base URL."""
    routes: tuple[str, ...]
    """POST paths, in aiohttp's pattern syntax. The pattern's variables come to `read`."""
    content_type: str
    """Of a streamed answer."""

    def read(self, path: str, headers: Mapping[str, str], body: JSONObject) -> Sent: ...

    def answer(self, reply: Reply, sent: Sent) -> JSONObject: ...

    def frames(self, reply: Reply, sent: Sent) -> Frames: ...

    def failure(self, failure: Failure) -> tuple[int, JSONObject]:
        """The status and the body of an HTTP error."""
        ...

    def error_frame(self, event: ErrorEvent) -> bytes: ...

    def corrupt_frame(self) -> bytes: ...


@dataclass
class Received:
    """One request as it came. `abandoned` is set when the client went away before the end.

    `peer` is the client's port: requests that have it in common came over one connection.
    """

    dialect: str
    path: str
    headers: Mapping[str, str]
    body: JSONObject
    sent: Sent
    peer: int
    abandoned: threading.Event = field(default_factory=threading.Event)


Responder = Callable[[Sent], Step]


class ClosedPort:
    """A port that refuses connections until `open` puts the server behind it."""

    def __init__(self, open: Callable[[socket.socket], None]) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))  # bound but not listening: nobody else gets it
        self._open = open
        self._is_open = False

    def __enter__(self) -> ClosedPort:
        return self

    def __exit__(self, *error: object) -> None:
        if not self._is_open:
            self._socket.close()

    def base_url(self, dialect: Dialect) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}{dialect.base_path}"

    def open(self) -> None:
        self._open(self._socket)
        self._is_open = True


class WireServer:
    """Serves every dialect on 127.0.0.1, on a free port, in a thread with its own event loop.

    Being in a thread, it outlives the test's event loops. Replies come from `script`, in order,
    or from `respond`'s function of the request. A request that nothing was scripted for gets
    an HTTP 501 and fails `check`, and so does a step that nobody asked for.
    """

    def __init__(self, dialects: tuple[Dialect, ...] | None = None) -> None:
        if dialects is None:
            from .dialects import DIALECTS

            dialects = DIALECTS
        self.requests: list[Received] = []
        self.unscripted: list[Received] = []
        self._dialects = dialects
        self._steps: deque[Step] = deque()
        self._responder: Responder | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wire-server", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._runner: web.AppRunner | None = None
        self.port = 0

    def __enter__(self) -> WireServer:
        self._thread.start()
        assert self._ready.wait(10), "the wire server did not start"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def base_url(self, dialect: Dialect) -> str:
        return self.url + dialect.base_path

    def script(self, *steps: Step) -> None:
        """Say these, one per request, in order."""
        self._steps.extend(steps)

    def respond(self, responder: Responder) -> None:
        """Ask `responder` (called in the server's thread) whenever the script has run out."""
        self._responder = responder

    @property
    def last(self) -> Received:
        return self.requests[-1]

    def check(self) -> None:
        """Fail if a request was not scripted for, or a scripted step was not asked for."""
        assert not self.unscripted, f"unscripted requests: {[r.path for r in self.unscripted]}"
        assert not self._steps, f"steps nobody asked for: {list(self._steps)}"

    def reset(self) -> None:
        """Forget the script and what was received, for the next test on a shared server."""
        self._steps.clear()
        self._responder = None
        self.requests.clear()
        self.unscripted.clear()

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        assert self._runner is not None
        assert self._runner.server is not None
        return len(self._runner.server.connections)

    def closed_port(self) -> ClosedPort:
        return ClosedPort(self._listen_on)

    def _listen_on(self, bound: socket.socket) -> None:
        assert self._loop is not None
        assert self._runner is not None
        site = web.SockSite(self._runner, bound)
        asyncio.run_coroutine_threadsafe(site.start(), self._loop).result(10)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        app = web.Application(client_max_size=64 * 1024**2)
        for dialect in self._dialects:
            for route in dialect.routes:
                app.router.add_post(route, self._handler(dialect))
        runner = self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    def _handler(self, dialect: Dialect) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = json.loads(await request.text())
            headers = {name.lower(): value for name, value in request.headers.items()}
            sent = dialect.read(request.path_qs, headers, body)
            assert request.transport is not None
            peer: int = request.transport.get_extra_info("peername")[1]
            received = Received(dialect.name, request.path_qs, headers, body, sent, peer)
            self.requests.append(received)
            try:
                return await self._play(dialect, request, received)
            except (asyncio.CancelledError, ConnectionError):
                received.abandoned.set()
                raise

        return handle

    async def _play(
        self, dialect: Dialect, request: web.Request, received: Received
    ) -> web.StreamResponse:
        sent = received.sent
        step = self._next_step(received)
        if step is None:
            return web.json_response({"error": {"message": "unscripted request"}}, status=501)
        match step:
            case Reply():
                await asyncio.sleep(step.delay)
                if sent.stream:
                    frames = dialect.frames(step, sent)
                    response = await _open_stream(dialect, request, step.headers)
                    for frame in (*frames.opening, *frames.ending):
                        await response.write(frame)
                    await response.write_eof()
                    if step.hang_up and request.transport is not None:
                        request.transport.close()
                    return response
                return web.json_response(dialect.answer(step, sent), headers=step.headers)
            case Failure():
                status, body = dialect.failure(step)
                return web.json_response(body, status=status, headers=step.headers)
            case RawBody():
                return web.Response(
                    text=step.body, status=step.status, content_type=step.content_type
                )
            case NotJSON():
                return web.Response(text="<html>Welcome</html>", content_type="text/html")
            case RawBytes():
                assert request.transport is not None
                request.transport.write(step.said)
                request.transport.close()
                return web.Response()
            case Stall(after_text=False):
                await asyncio.sleep(3600)
                raise AssertionError
            case Disconnect(after_text=False):
                return _cut(request, step)
            case _:
                return await self._break_off(dialect, request, sent, step)

    async def _break_off(
        self, dialect: Dialect, request: web.Request, sent: Sent, step: Step
    ) -> web.StreamResponse:
        """Begin an answer as it should be, then go on as the step says."""
        if sent.stream:
            response = await _open_stream(dialect, request, {})
            for frame in dialect.frames(Reply(), sent).opening:
                await response.write(frame)
        else:
            whole = json.dumps(dialect.answer(Reply(), sent)).encode()
            response = web.StreamResponse(headers={"content-type": "application/json"})
            if isinstance(step, Stall | Disconnect):
                response.content_length = len(whole)
            await response.prepare(request)
            await response.write(whole[: len(whole) // 2])
        match step:
            case Stall():
                await asyncio.sleep(3600)
            case Disconnect():
                await _until_read(request)
                return _cut(request, step)
            case BrokenFraming():
                await _until_read(request)
                assert request.transport is not None
                request.transport.write(b"nonsense\r\n")
                request.transport.close()
                return response
            case CorruptChunk():
                await response.write(dialect.corrupt_frame() if sent.stream else b'", , "')
            case ErrorEvent():
                assert sent.stream, f"{step!r} needs a streamed request"
                await response.write(dialect.error_frame(step))
            case EndEarly():
                pass
            case _:
                raise AssertionError(f"not a way to break off an answer: {step!r}")
        await response.write_eof()
        return response

    def _next_step(self, received: Received) -> Step | None:
        if self._steps:
            return self._steps.popleft()
        if self._responder is not None:
            return self._responder(received.sent)
        self.unscripted.append(received)
        return None


async def _open_stream(
    dialect: Dialect, request: web.Request, headers: Mapping[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": dialect.content_type, **headers})
    await response.prepare(request)
    return response


async def _until_read(request: web.Request) -> None:
    """Wait until the client has taken what was sent, so that it does not meet both at once."""
    assert request.transport is not None
    client = f":{request.transport.get_extra_info('peername')[1]:04X}"
    connections = Path("/proc/net/tcp")
    if not connections.exists():  # not Linux
        await asyncio.sleep(0.1)
        return
    async with asyncio.timeout(5):
        while True:
            lines = map(str.split, connections.read_text().splitlines()[1:])
            queues = [line[4] for line in lines if line[1].endswith(client)]
            if all(queue.endswith(":00000000") for queue in queues):
                return
            await asyncio.sleep(0.002)


def _cut(request: web.Request, how: Disconnect) -> web.StreamResponse:
    assert request.transport is not None
    if how.reset:  # what has no time to linger is reset
        linger = struct.pack("ii", 1, 0)
        request.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )
    request.transport.abort()
    return web.Response()
