"""A server written by hand in the protocol of 2025, for what the SDK cannot be made to do.

It lists its tools on several pages, forgets its sessions, hangs up; on stdio, or as `RawHTTP`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGES: dict[str | None, tuple[list[str], str | None]] = {
    None: (["one", "two"], "b"),
    "b": (["three"], "c"),
    "c": (["four", "pid", "long", "die", "hang_up"], None),
}


def answer(message: dict, ask: Callable[[dict], dict] | None = None) -> dict | None:
    """The answer to a message; `ask` sends a request of ours and returns its answer."""
    if "id" not in message:
        return None
    params = message.get("params", {})
    match message["method"]:
        case "initialize":
            result = {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "raw", "version": "1"},
            }
        case "tools/list":
            names, cursor = PAGES[params.get("cursor")]
            tools = [{"name": name, "inputSchema": {"type": "object"}} for name in names]
            result = {"tools": tools, **({"nextCursor": cursor} if cursor else {})}
        case "tools/call" if params["name"] == "two" and ask is not None:
            theirs = ask({"method": "sampling/createMessage", "params": SAMPLING})
            result = {"content": [{"type": "text", "text": json.dumps(theirs)}]}
        case "tools/call" if params["name"] == "three":
            error = {"code": -32000, "message": f"the database is locked {os.environ.get('KEY')}"}
            return {"jsonrpc": "2.0", "id": message["id"], "error": error}
        case "tools/call" if params["name"] == "pid":
            result = {"content": [{"type": "text", "text": str(os.getpid())}]}
        case "tools/call" if params["name"] == "long":
            text = "x" * params["arguments"]["characters"]
            result = {"content": [{"type": "text", "text": text}]}
        case "tools/call" if params["name"] == "die":
            print(params["arguments"]["last_words"], file=sys.stderr, flush=True)
            os._exit(3)
        case "tools/call":
            result = {"content": [{"type": "text", "text": f"{params['name']} was called"}]}
        case other:
            error = {"code": -32601, "message": f"no method {other}"}
            return {"jsonrpc": "2.0", "id": message["id"], "error": error}
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


SAMPLING = {
    "messages": [{"role": "user", "content": {"type": "text", "text": "Hello"}}],
    "maxTokens": 10,
}


class RawHTTP:
    """The server on HTTP. `status` is answered to every message when it is set."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.content_type = "application/json"
        self.headers: list[dict[str, str]] = []
        self.sessions: set[str] = set()
        self.calls = 0
        self.closes = threading.Event()  # no session is ended before it is set
        self.closes.set()

    def __enter__(self) -> RawHTTP:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/mcp"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        raw = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["content-length"])))
                raw.headers.append({name.lower(): value for name, value in self.headers.items()})
                session = self.headers.get("mcp-session-id")
                if raw.status is not None:
                    return self.reply(raw.status, b"<html>")
                if session is not None and session not in raw.sessions:
                    return self.reply(404, b"no such session")
                extra = {}
                if message["method"] == "initialize":
                    extra["mcp-session-id"] = f"session-{len(raw.sessions)}"
                    raw.sessions.add(extra["mcp-session-id"])
                raw.calls += message["method"] == "tools/call"
                said = answer(message)
                if said is None:
                    return self.reply(202, b"")
                status = 400 if "error" in said else 200
                body = json.dumps(said)
                if raw.content_type == "text/event-stream":
                    body = f"event: message\ndata: {body}\n\n"
                return self.reply(status, body.encode(), extra)

            def do_GET(self) -> None:
                self.reply(405, b"")

            def do_DELETE(self) -> None:
                raw.closes.wait()
                raw.sessions.discard(self.headers.get("mcp-session-id", ""))
                self.reply(204, b"")

            def reply(self, status: int, body: bytes, extra: dict[str, str] = {}) -> None:  # noqa: B006
                self.send_response(status)
                self.send_header("content-type", raw.content_type)
                self.send_header("content-length", str(len(body)))
                for name, value in extra.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def main(*names: str) -> None:
    """Serve on stdio, with tools of these names instead; or an "endless" list of them."""
    if names == ("endless",):
        PAGES["c"] = (["four"], "c")
    elif names:
        PAGES[None] = (list(names), None)

    def ask(request: dict) -> dict:
        print(json.dumps({"jsonrpc": "2.0", "id": "theirs", **request}), flush=True)
        return json.loads(sys.stdin.readline())

    for line in sys.stdin:
        message = json.loads(line)
        said = answer(message, ask)
        if said is not None:
            print(json.dumps(said), flush=True)
        if message.get("params", {}).get("name") == "hang_up":
            os.close(1)
            time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
