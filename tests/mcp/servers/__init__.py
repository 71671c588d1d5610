"""MCP servers to test against."""
