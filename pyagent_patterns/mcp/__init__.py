"""MCP servers as toolsets: `MCPServer`, through the official `mcp` SDK.

It needs `pip install "pyagent-sdk[mcp]"`; the SDK is loaded when a server is first opened.
"""

from .errors import MCPServerError
from .server import MCPServer

__all__ = ["MCPServer", "MCPServerError"]
