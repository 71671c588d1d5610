"""Tests of MCP servers as toolsets."""
