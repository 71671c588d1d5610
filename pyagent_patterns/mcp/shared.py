"""One session for all who use a server at once in an event loop, begun anew when it is lost."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from mcp import types

from pyagent_providers.types import JSONObject

from .errors import MCPServerError
from .session import Session, SessionGone
from .transport import Connection


class Shared:
    """The session while somebody uses the server; none otherwise."""

    def __init__(self, name: str, connection: Connection, *, start_timeout: float) -> None:
        self._name = name
        self._connection = connection
        self._start_timeout = start_timeout
        self._users = 0
        self._session: Session | None = None
        self._owners: set[asyncio.Task[None]] = set()  # of it, and of lost ones not yet closed
        self._starts: deque[float] = deque(maxlen=_STARTS)  # their times, of those after a loss

    @asynccontextmanager
    async def used(self) -> AsyncGenerator[None]:
        """Count among the users, the last of whom ends the session; in whatever task."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users and self._session is not None:
                self._session.close()
                self._session = None
                if self._owners:
                    await asyncio.wait(self._owners)

    async def tools(self) -> Sequence[types.Tool]:
        """What the server lists."""
        return await self._live().tools()

    async def call(self, tool: str, arguments: JSONObject) -> types.CallToolResult:
        """Have the server run a tool; with a new session if the last was lost."""
        try:
            return await self._live().call(tool, arguments)
        except SessionGone:  # it was not run, so it can be asked for again
            pass
        try:
            return await self._live().call(tool, arguments)
        except SessionGone as error:
            raise MCPServerError(
                self._name, f"does not run {tool!r}, also in a new session: it answered HTTP 404"
            ) from error

    def _live(self) -> Session:
        """The session, or a new one in place of one that was lost. All who ask get the same."""
        if not self._users:
            raise MCPServerError(self._name, "is not open: its tools can be called while it is")
        if self._session is None or self._session.lost:
            if self._session is not None:
                self._note_start()
            self._session = Session(self._name, self._connection, start_timeout=self._start_timeout)
            self._owners.add(self._session.owner)
            self._session.owner.add_done_callback(self._owners.discard)
        return self._session

    def _note_start(self) -> None:
        now = asyncio.get_running_loop().time()
        if len(self._starts) == _STARTS and now - self._starts[0] < _WITHIN_SECONDS:
            raise MCPServerError(
                self._name,
                f"was lost {_STARTS + 1} times within {_WITHIN_SECONDS:g} s; it is not started "
                "again before they are over",
            )
        self._starts.append(now)


_STARTS: Final = 3
_WITHIN_SECONDS: Final = 60.0
