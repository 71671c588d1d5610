"""What goes wrong between us and an MCP server, as opposed to inside one of its tools."""

from __future__ import annotations

from pyagent_patterns.tools import ToolError
from pyagent_providers.hostile import shown


class MCPServerError(ToolError):
    """The server could not be started or reached, offers something else, or was lost.

    `server` is its name. Raised by `open()`; raised by a call, it is told to the model, like every
    `ToolError`: it can go on without the tool.
    """

    def __init__(self, server: str, message: str) -> None:
        super().__init__(shown(f"MCP server {server!r} {message}"))
        self.server = server
