"""An MCP server as a toolset: `MCPServer`."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import threading
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, final
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from pyagent_patterns.tools import Effect, Tool
from pyagent_providers.types import JSONObject

from .terms import Terms
from .transport import HTTP, Connection, Stdio

if TYPE_CHECKING:
    from .shared import Shared


@final
class MCPServer:
    """A toolset of the tools of one MCP server. Make it with `stdio` or `http`.

    While it is open, all who have it open in one event loop share one session. A session that is
    lost is begun anew with the next call. Each tool's schema is the server's own, and the server
    checks the arguments; it may ask nothing of us in return (sampling, questions, roots).

    These options are common to `stdio` and `http`; tools go by the names the server gives them.

    `name` is for errors and for the record. `allow` lists the tools to offer, None is all of them;
    `prefix` goes before each of their names, in which "_" stands for what model providers do not
    accept. `effects` says what running a tool twice does; where it says nothing and with
    `trust_annotations`, the server's own `readOnlyHint` and `idempotentHint` say it; all other
    tools are "unsafe". `approve` lists those for which a person is asked before each call.

    `timeout` is in seconds, for each call, `start_timeout` for the server's start and its list of
    tools. A result is cut at `max_result_chars` characters.

    Raises ImportError without the `mcp` extra, ValueError or TypeError for options that are none.
    """

    def __init__(
        self,
        connection: Connection,
        terms: Terms,
        *,
        name: str,
        start_timeout: float,
        max_result_chars: int,
    ) -> None:
        if importlib.util.find_spec("mcp_types") is None:  # which came with the SDK's version 2
            raise ImportError('MCP servers need the mcp SDK: pip install "pyagent-sdk[mcp]"')
        for option, value in (
            ("start_timeout", start_timeout),
            ("max_result_chars", max_result_chars),
        ):
            if not value > 0:
                raise ValueError(f"{option} must be more than 0; got {value!r}")
        self.name = name
        self.connection = connection
        self.terms = terms
        self.start_timeout = start_timeout
        self.max_result_chars = max_result_chars
        self._shared: WeakKeyDictionary[asyncio.AbstractEventLoop, Shared] = WeakKeyDictionary()
        self._lock = threading.Lock()  # event loops of several threads may use one server

    @classmethod
    def stdio(
        cls,
        command: str,
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        name: str | None = None,
        allow: Collection[str] | None = None,
        prefix: str = "",
        effects: Mapping[str, Effect] | None = None,
        approve: Collection[str] = (),
        trust_annotations: bool = True,
        timeout: float | None = 30.0,
        start_timeout: float = 30.0,
        max_result_chars: int = 100_000,
    ) -> MCPServer:
        """A server that is a command: a process of ours while it is open, in the folder `cwd`.

        Of our environment it is given only what a program needs to run (PATH, HOME, USER and the
        like), and `env`. Its annotations are trusted, as it is: it runs with our rights. Its name
        is the command's, unless given.
        """
        if isinstance(args, str):
            raise TypeError("args takes the arguments one by one: ['-m', 'my_server']")
        return cls(
            Stdio(
                command=command,
                args=tuple(args),
                env=dict(env or {}),
                cwd=None if cwd is None else Path(cwd),
            ),
            Terms(
                allow=allow,
                prefix=prefix,
                effects=dict(effects or {}),
                approve=approve,
                trust_annotations=trust_annotations,
                timeout=timeout,
            ),
            name=Path(command).stem if name is None else name,
            start_timeout=start_timeout,
            max_result_chars=max_result_chars,
        )

    @classmethod
    def http(
        cls,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        name: str | None = None,
        allow: Collection[str] | None = None,
        prefix: str = "",
        effects: Mapping[str, Effect] | None = None,
        approve: Collection[str] = (),
        trust_annotations: bool = False,
        timeout: float | None = 30.0,
        start_timeout: float = 30.0,
        max_result_chars: int = 100_000,
    ) -> MCPServer:
        """A server at a URL, by streamable HTTP; `headers` are sent with every request.

        Its annotations are not trusted unless you say so: they are what somebody else's server
        says of itself. Its name is the URL's host, unless given.
        """
        if not urlsplit(url).hostname or urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("the url of an MCP server begins with http:// or https:// and a host")
        for header, value in (headers or {}).items():
            if not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", header, re.ASCII):
                raise ValueError(f"{header!r} is no name of a header")
            if not (value.isascii() and value.isprintable()) or value != value.strip():
                raise ValueError(  # without the value, which is likely a secret
                    f"the header {header!r} must be printable ASCII without spaces around it; is "
                    "there a line break at its end?"
                )
        return cls(
            HTTP(url=url, headers=dict(headers or {})),
            Terms(
                allow=allow,
                prefix=prefix,
                effects=dict(effects or {}),
                approve=approve,
                trust_annotations=trust_annotations,
                timeout=timeout,
            ),
            name=str(urlsplit(url).hostname) if name is None else name,
            start_timeout=start_timeout,
            max_result_chars=max_result_chars,
        )

    def __repr__(self) -> str:
        return f"MCPServer({self.name!r}, {self.connection.place})"

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Sequence[Tool]]:
        """The server's tools, which can be called until it is closed here.

        Any task may close it, another than opened it too. The last to close it ends the session,
        and the process if there is one. Raises `MCPServerError` if it cannot be started, or has
        not the tools that were named.
        """
        shared = self._here()
        async with shared.used():
            yield self.terms.tools(self.name, await shared.tools(), self._call)

    async def _call(self, tool: str, arguments: JSONObject) -> str:
        from .results import text_of

        result = await self._here().call(tool, arguments)
        return text_of(tool, result, limit=self.max_result_chars)

    def _here(self) -> Shared:
        """What those in this event loop share."""
        from .shared import Shared

        with self._lock:
            return self._shared.setdefault(
                asyncio.get_running_loop(),
                Shared(self.name, self.connection, start_timeout=self.start_timeout),
            )
