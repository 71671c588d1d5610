"""What adapters share about SDK clients: loading the SDK, and one client per event loop.

A client belongs to the event loop that it first sent from. Adapter objects with the same endpoint,
key and timeout share one per loop, so they share its connections too; it is closed when the loop
ends in good order (as `asyncio.run` ends it).
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable
from contextlib import AsyncExitStack
from functools import cache, partial
from types import ModuleType
from typing import Final, Protocol, TypeVar, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from .errors import MissingDependencyError
from .wire_errors import AnswerTooLong

Client = TypeVar("Client")

KEEPALIVE_SECONDS: Final = 15.0

# In bytes. The longest answers of today's models, streamed in pieces of one token each, stay below.
LONGEST_ANSWER: Final = 64 * 1024**2


@cache
def max_connections() -> int:
    """Per client. A call beyond that waits for a connection, untimed; `max_parallel` is the cap.

    Seven of eight files that the process may open, so that a wide fan-out waits rather than
    fails with "too many open files"; at most 4,096.
    """
    try:
        import resource
    except ImportError:  # not a Unix
        return 1000
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(4096, files - files // 8) if files > 0 else 4096


async def shared_client(
    key: Hashable, make: Callable[[], Client], close: Callable[[Client], Awaitable[object]]
) -> Client:
    """The running loop's client for `key`: made on first use, closed when the loop ends.

    `key` must tell apart everything that `make` depends on, the adapter's class included.
    """
    await _hear_of_closed_connections()
    loop = asyncio.get_running_loop()
    clients = _by_loop.get(loop) or await _open(loop)
    client = clients.by_key.get(key)
    if client is None:
        client = clients.by_key[key] = make()
        clients.closing.push_async_callback(close, client)
    return cast(Client, client)


def load_sdk(module: str, *, extra: str, provider: str, model: str) -> ModuleType:
    """Import a provider's SDK. Raises MissingDependencyError with the install command."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f'the {module!r} package cannot be imported: pip install "pyagent-sdk[{extra}]"',
            provider=provider,
            model=model,
        ) from error


def new_http_client(sdk: ModuleType, http: ModuleType, *, timeout: float) -> object:
    """An HTTP client for an SDK that offers httpx clients on aiohttp, as openai and anthropic do.

    `http` is the SDK's own HTTP library, httpx or httpx2. `timeout`, in seconds, bounds each wait
    on the network, to connect and between two pieces of an answer, but not the wait for a free
    connection. Without aiohttp it is the SDK's default transport.

    Reading raises AnswerTooLong beyond LONGEST_ANSWER.
    """
    options = {
        "timeout": http.Timeout(timeout, pool=None),
        "limits": http.Limits(
            max_connections=max_connections(),
            max_keepalive_connections=max_connections(),
            keepalive_expiry=KEEPALIVE_SECONDS,
        ),
        "verify": ssl_context(http.create_ssl_context),
        "event_hooks": {"response": [partial(_guard, timeout)]},
    }
    try:
        return sdk.DefaultAioHttpClient(**options)
    except RuntimeError:  # how these SDKs say that aiohttp is not installed
        return sdk.DefaultAsyncHttpxClient(**options)


async def bounded(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The pieces of an answer, up to LONGEST_ANSWER; then AnswerTooLong."""
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > LONGEST_ANSWER:
            raise AnswerTooLong(f"the answer is longer than {LONGEST_ANSWER:,} bytes")
        yield piece


class _Response(Protocol):
    """What is used of the responses of httpx and httpx2."""

    def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]: ...


async def _guard(patience: float, response: _Response) -> None:
    """See to it that reading the body ends, whatever the server sends; `patience` is in seconds.

    The timeout is the transport's to keep, but aiohttp (3.14) stops its clock when the framing of
    a body breaks, and goes on waiting.
    """
    read = response.aiter_bytes

    async def guarded(chunk_size: int | None = None) -> AsyncGenerator[bytes]:
        pieces = bounded(read(chunk_size))
        while True:
            async with asyncio.timeout(patience):
                piece = await anext(pieces, None)
            if piece is None:
                return
            yield piece

    response.aiter_bytes = guarded


@cache
def ssl_context(create: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """What `create`, an HTTP library's own `create_ssl_context`, makes; once per process.

    Reading the certificate authorities takes 30 ms, too long for every client.
    """
    return create()


def address_of(url: str) -> tuple[str, int]:
    """The host and port a base URL leads to. Raises ValueError if it is not an HTTP URL."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"base_url must be an http:// or https:// URL; got {url!r}")
    return parts.hostname, parts.port or _PORTS[parts.scheme]


def account_of(base_url: str | None, secret: str | None) -> Hashable:
    """What tells apart whom a provider's limits are for. The key is not in it, only its digest."""
    return base_url, hashlib.sha256((secret or "").encode()).hexdigest()[:16]


_PORTS: Final = {"http": 80, "https": 443}


class _LoopClients:
    """The clients of one event loop."""

    def __init__(self) -> None:
        self.by_key: dict[Hashable, object] = {}
        self.closing = AsyncExitStack()
        self.keeper: AsyncGenerator[None] | None = None


_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopClients] = WeakKeyDictionary()


async def _hear_of_closed_connections() -> None:
    """Let the loop take closed connections out of the pools before one is picked.

    Some servers close a connection that they said would stay open, and any does after a while.
    aiohttp hands such a one out, and fails, as long as the loop has not heard of it: it hears in
    the one turn, and acts on it in the next.
    """
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def _open(loop: asyncio.AbstractEventLoop) -> _LoopClients:
    # A client refers to its loop, so a loop that was closed without a shutdown must be let go here.
    for reference in _by_loop.keyrefs():
        other = reference()
        if other is not None and other.is_closed():
            _by_loop.pop(other, None)
    clients = _by_loop[loop] = _LoopClients()
    # A loop ends by closing the async generators that were started in it: the one hook it has.
    clients.keeper = _close_with_loop(loop, clients.closing)
    await anext(clients.keeper)
    return clients


async def _close_with_loop(
    loop: asyncio.AbstractEventLoop, closing: AsyncExitStack
) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        _by_loop.pop(loop, None)
        await closing.aclose()
