"""The example with an MCP server runs over real HTTP, with the reference fetch server."""

from __future__ import annotations

import importlib.util
import json
import runpy
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pyagent_patterns import Pattern
from pyagent_providers import ToolCall
from tests.wire import CHAT, Reply, Sent, WireServer
from tests.wire.team import USAGE

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "web_reader.py"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mcp_server_fetch") is None, reason="mcp-server-fetch is not installed"
)


@pytest.fixture
def page() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = b"High water is at noon."
            self.send_response(200 if self.path == "/tides" else 404)
            self.send_header("content-type", "text/plain")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/tides"
        server.shutdown()


async def test_both_readers_read_the_page_by_one_server(
    page: str, wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("OPENAI_BASE_URL", wire.base_url(CHAT))

    def model(sent: Sent) -> Reply:
        told = [message.content for message in sent.messages if message.role == "tool"]
        if not sent.tools:
            return Reply("the comparison", usage=USAGE)
        if told:
            return Reply(f"noted: {told[0]}", usage=USAGE)
        [fetch] = sent.tools
        call = ToolCall("call_1", fetch.name, json.dumps({"url": page, "raw": True}))
        return Reply("", usage=USAGE, finish_reason="tool_calls", tool_calls=(call,))

    wire.respond(model)
    module: Any = runpy.run_path(str(EXAMPLE))
    team: Pattern = module["readers"]("--allow-private-ips")
    result = await team.run(f"Compare these pages: {page}")
    assert result.status == "completed", str(result)
    assert result.output == "the comparison"
    notes = [outcome.output or "" for outcome in result.outcomes]
    assert all("High water is at noon." in note for note in notes)
    assert set(result.cost_by("path")) == {"facts", "tone", "editor"}
