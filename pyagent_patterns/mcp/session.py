"""One connection to a server, opened and closed by a task of its own, whoever calls it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final, cast

import mcp
from mcp import types

from pyagent_patterns.tools import ToolError
from pyagent_providers.hostile import shown
from pyagent_providers.types import JSONObject

from .errors import MCPServerError
from .transport import REFUSALS, Connection, Stderr


class SessionGone(Exception):
    """The server does not know the session any more: it has not run the call."""


class Session:
    """A connection that begins when it is made.

    The SDK's cancel scopes must be left by the task that entered them, so one task, the owner,
    does nothing else. Any task may call the tools: a call is a message on the SDK's queue to the
    connection, and one that is cancelled is cancelled at the server too.

    `lost` when no call can be made any more.
    """

    def __init__(self, name: str, connection: Connection, *, start_timeout: float) -> None:
        self.lost = False
        self._name = name
        self._connection = connection
        self._start_timeout = start_timeout
        self._stderr = Stderr()
        self._client: mcp.Client | None = None
        self._tools: Sequence[types.Tool] = ()
        self._started = asyncio.Event()  # or failed to
        self._failure: Exception | None = None
        self._refusals: list[int] = []
        self._stop = asyncio.Event()
        self.owner = asyncio.create_task(self._own(), name=f"mcp {name}")

    async def tools(self) -> Sequence[types.Tool]:
        """What the server lists. Raises `MCPServerError` if it could not be started."""
        await self._connected()
        return self._tools

    async def call(self, tool: str, arguments: JSONObject) -> types.CallToolResult:
        """Have the server run a tool.

        Raises `MCPServerError` when no answer can come, `SessionGone` when it was not run and a
        new session may run it, `ToolError` with what the server says against it.
        """
        client = await self._connected()
        refusals: list[int] = []
        token = REFUSALS.set(refusals)
        try:
            return await client.call_tool(tool, dict(arguments))
        except mcp.MCPError as error:
            status = refusals[-1] if refusals else 200
            if status == 404:
                self._end()
                raise SessionGone from error
            if status in (401, 403) or status >= 500:
                raise MCPServerError(
                    self._name, f"refused the call of {tool!r}: {_refusal(status)}"
                ) from error
            if self.lost or _is_closed(error):
                self._end()
                await asyncio.wait([self.owner])
                raise MCPServerError(
                    self._name,
                    f"was lost during the call of {tool!r}, which it may or may not have run: "
                    f"{await self._why()}",
                ) from error
            # What remains is the server's own word on this call.
            raise ToolError(shown(self._connection.hide(error.message))) from error
        except (RuntimeError, ValueError) as error:  # pydantic's ValidationError is a ValueError
            raise MCPServerError(
                self._name,
                f"ran {tool!r}, and its answer is not valid: {self._connection.hide(str(error))}",
            ) from error
        finally:
            REFUSALS.reset(token)

    def close(self) -> None:
        """Have the owner close it, or stop starting it; once `owner` is done, nothing is left."""
        self._end()
        if not self._started.is_set():
            self.owner.cancel()

    async def _connected(self) -> mcp.Client:
        await self._started.wait()
        if self._client is None:
            raise MCPServerError(
                self._name, f"({self._connection.place}) could not be started: {await self._why()}"
            ) from self._failure
        return self._client

    async def _own(self) -> None:
        REFUSALS.set(self._refusals)
        now = asyncio.get_running_loop().time
        try:
            async with (
                asyncio.timeout(self._start_timeout + _CLOSING_SECONDS) as whole,
                AsyncExitStack() as stack,
            ):
                async with asyncio.timeout(self._start_timeout):
                    client = await stack.enter_async_context(
                        self._connection.connect(self._stderr, self._end)
                    )
                    self._tools = await _listed(client)
                self._client = client
                self._started.set()
                whole.reschedule(None)
                try:
                    await self._stop.wait()
                finally:
                    whole.reschedule(now() + _CLOSING_SECONDS)
        except Exception as error:
            self._failure = _first(error)
        finally:
            self.lost = True
            self._started.set()

    def _end(self) -> None:
        self.lost = True
        self._stop.set()

    async def _why(self) -> str:
        """Why there is no connection, with the last that the server wrote to its error output."""
        if self._refusals and isinstance(self._failure, mcp.MCPError):
            why = _refusal(self._refusals[-1])
        else:
            why = _reason(self._failure, self._start_timeout)
        if said := await self._stderr.tail():
            why += f"\nIts error output ended with:\n{said}"
        return self._connection.hide(why)


_CLOSING_SECONDS: Final = 10.0  # the SDK takes up to 6.5 s to end a process that will not


async def _listed(client: mcp.Client) -> list[types.Tool]:
    """Every page of the list of tools."""
    tools: list[types.Tool] = []
    cursor: str | None = None
    for _ in range(_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            return tools
    raise ValueError(f"its list of tools goes on after {_PAGES} pages")


_PAGES: Final = 100


def _is_closed(error: mcp.MCPError) -> bool:
    """Whether it is the SDK's own, for a connection that is no more: servers use the code too."""
    return error.code == types.CONNECTION_CLOSED and error.message == "Connection closed"


def _refusal(status: int) -> str:
    match status:
        case 401 | 403:
            return f"it answered HTTP {status}: what it wants to be shown goes in headers="
        case 404 | 405:
            return f"it answered HTTP {status}: it speaks no MCP at this URL"
        case _:
            return f"it answered HTTP {status}"


def _first(error: Exception) -> Exception:
    """The error that a task group of the SDK failed with."""
    if not isinstance(error, ExceptionGroup):
        return error
    return _first(cast("ExceptionGroup[Exception]", error).exceptions[0])


def _reason(error: Exception | None, start_timeout: float) -> str:
    match error:
        case None:
            return "the connection ended"
        case TimeoutError():
            return f"it did not answer within {start_timeout:g} s"
        case FileNotFoundError():
            return f"there is no {error.filename!r}"
        case mcp.MCPError() if _is_closed(error):
            return "it ended without an answer"
        case mcp.MCPError():
            return f"it answers as no MCP server does: {error.message}"
        case _:
            return str(error) or type(error).__name__
