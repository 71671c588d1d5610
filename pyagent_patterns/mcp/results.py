"""What an MCP tool gave back, as the text a model reads."""

from __future__ import annotations

import json

from mcp import types as mcp

from pyagent_patterns.tools import ToolError
from pyagent_providers.hostile import shown


def text_of(tool: str, result: mcp.CallToolResult, *, limit: int) -> str:
    """The result's text, cut at `limit` characters; what is no text is described.

    Structured content is taken where there is no text. Raises `ToolError` with the text for a
    result that the server marked as an error.
    """
    parts = [_text(block) for block in result.content]
    says = any(isinstance(block, mcp.TextContent) for block in result.content)
    if not says and result.structured_content is not None:
        parts.append(json.dumps(result.structured_content, ensure_ascii=False))
    text = "\n".join(parts)
    if len(text) > limit:
        text = f"{text[:limit]}\n[cut here: {limit:,} of {len(text):,} characters]"
    if result.is_error:
        raise ToolError(shown(text) or f"the tool {tool!r} failed and did not say why")
    return text or "done"


def _text(block: mcp.ContentBlock) -> str:
    match block:
        case mcp.TextContent():
            return block.text
        case mcp.ImageContent() | mcp.AudioContent():
            return f"[{block.type}: {block.mime_type}, {_bytes(block.data)}, not shown]"
        case mcp.ResourceLink():
            kind = f", {block.mime_type}" if block.mime_type else ""
            return f"[link to a resource: {block.name}, {block.uri}{kind}]"
        case mcp.EmbeddedResource(resource=resource):
            if isinstance(resource, mcp.TextResourceContents):
                return f"[resource: {resource.uri}]\n{resource.text}"
            kind = resource.mime_type or "unknown type"
            return f"[resource: {resource.uri}, {kind}, {_bytes(resource.blob)}, not shown]"


def _bytes(base64: str) -> str:
    return f"{len(base64.rstrip('=')) * 3 // 4:,} bytes"
