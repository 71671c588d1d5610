"""A server made with the SDK, on stdio or with a port on HTTP; its tools misbehave on demand."""

import asyncio
import os
import sys
from pathlib import Path

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    EmbeddedResource,
    ImageContent,
    InputRequiredResult,
    ResourceLink,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)
from pydantic import BaseModel

server = MCPServer("workbench")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def pid() -> str:
    """The process that runs this server."""
    return str(os.getpid())


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
def put(path: str, text: str) -> str:
    """Writes a file."""
    Path(path).write_text(text)
    return "written"


@server.tool()
def environment() -> str:
    """The names of the environment variables."""
    return " ".join(sorted(os.environ))


@server.tool()
async def together(path: str, count: int) -> str:
    """Returns when so many calls are in it at once."""
    with Path(path).open("a") as file:
        file.write(".")
    while len(Path(path).read_text()) < count:
        await asyncio.sleep(0.01)
    return str(os.getpid())


@server.tool()
async def slow(path: str) -> str:
    """Goes on until it is cancelled, and writes in the file how far it is."""
    Path(path).write_text("begun")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        Path(path).write_text("cancelled")
        raise
    return "slept"


@server.tool(structured_output=False)
def everything() -> CallToolResult:
    """One of each kind of content."""
    return CallToolResult(
        content=[
            TextContent(type="text", text="some text"),
            ImageContent(type="image", data="aGVsbG8=", mime_type="image/png"),
            AudioContent(type="audio", data="aGVsbG8h", mime_type="audio/wav"),
            ResourceLink(type="resource_link", name="log", uri="file:///var/log/x"),
            EmbeddedResource(
                type="resource",
                resource=TextResourceContents(uri="file:///a.txt", text="what a.txt says"),
            ),
            EmbeddedResource(
                type="resource",
                resource=BlobResourceContents(uri="file:///b", blob="aGVsbG8=", mime_type="x/y"),
            ),
        ]
    )


class Weather(BaseModel):
    """What the weather is."""

    town: str
    degrees: int


@server.tool()
def weather() -> Weather:
    """Structured content, which the SDK gives as text too."""
    return Weather(town="Ulm", degrees=7)


@server.tool(structured_output=False)
def data_only() -> CallToolResult:
    """Structured content and no text."""
    return CallToolResult(content=[], structured_content={"town": "Ulm", "degrees": 7})


@server.tool()
def long(characters: int) -> str:
    """A long text."""
    return "x" * characters


@server.tool()
def refuse(why: str) -> str:
    """Fails."""
    raise ToolError(why)


@server.tool()
def trace(context: Context) -> str:
    """The trace context of the call."""
    return str((context.request_context.meta or {}).get("traceparent"))


@server.tool(structured_output=False)
async def ask() -> InputRequiredResult:
    """Asks the person at the client something."""
    question = ElicitRequestFormParams(
        message="Your password?", requested_schema=Weather.model_json_schema()
    )
    return InputRequiredResult(input_requests={"password": ElicitRequest(params=question)})


@server.tool(name="files.list/all")
def dotted() -> str:
    """Has a name that no model provider accepts."""
    return "listed"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run()
