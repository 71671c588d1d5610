"""A fake Chat Completions server, and OTLP sink, cheap enough to share a small machine with.

`python -m benchmarks.fake_server` prints its port and serves until its standard input closes.
The client's base URL says what it plays: `http://127.0.0.1:PORT/ASSIGNMENTS/WORKERS/MS/v1`
answers every call after MS milliseconds, and a call that asks for a JSON schema with a plan of
ASSIGNMENTS assignments dealt out to the workers `w1` to `wWORKERS`. Any path that is not a chat
completion gets an empty 200, which is all an OTLP exporter wants.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
import resource
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass

MODEL = "gpt-4o-mini"
ANSWER = (
    "The client keeps one pool of connections per host, retries what is safe to retry, and "
    "reports each attempt; the limits and the timeouts are explicit and have a test each."
)
_PATH = re.compile(rb"POST /(\d+)/(\d+)/(\d+)/v1/chat/completions ")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_EMPTY = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class FakeServer:
    port: int

    def base_url(self, *, assignments: int, workers: int, latency: float) -> str:
        """The base URL at which it plays this part; `latency` in seconds, per call."""
        return f"http://127.0.0.1:{self.port}/{assignments}/{workers}/{round(latency * 1000)}/v1"

    @property
    def otlp_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def running() -> Generator[FakeServer]:
    """A server in a process of its own, so that its CPU time is not counted with ours."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.fake_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield FakeServer(int(process.stdout.readline()))
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()


def allow_many_connections() -> None:
    """Raise the soft limit on open files as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 16_384 if hard == resource.RLIM_INFINITY else min(16_384, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Connection(asyncio.Protocol):
    """One keep-alive connection: requests one after the other, framed by content-length."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        length = _LENGTH.search(self._buffer, 0, head_end)
        end = head_end + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) < end:
            return
        request, self._buffer = self._buffer[:end], self._buffer[end:]
        part = _PATH.match(request)
        if part is None:
            self._send(_EMPTY)
            return
        assignments, workers, milliseconds = map(int, part.groups())
        wants_plan = request.find(b'"json_schema"', head_end) >= 0
        response = _plan_response(assignments, workers) if wants_plan else _ANSWER_RESPONSE
        if milliseconds:
            self._loop.call_later(milliseconds / 1000, self._send, response)
        else:
            self._send(response)

    def _send(self, response: bytes) -> None:
        if self._transport is not None:
            self._transport.write(response)


def _response(content: str, output_tokens: int) -> bytes:
    body = json.dumps(
        {
            "id": "chatcmpl-Bx1dYV0Jq2s6k3TtYc9mWq7rZ8aLe",
            "object": "chat.completion",
            "created": 1_760_000_000,
            "model": f"{MODEL}-2024-07-18",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": content,
                        "refusal": None,
                        "annotations": [],
                    },
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": 412,
                "completion_tokens": output_tokens,
                "total_tokens": 412 + output_tokens,
                "prompt_tokens_details": {"cached_tokens": 128, "audio_tokens": 0},
                "completion_tokens_details": {
                    "reasoning_tokens": 0,
                    "audio_tokens": 0,
                    "accepted_prediction_tokens": 0,
                    "rejected_prediction_tokens": 0,
                },
            },
            "service_tier": "default",
            "system_fingerprint": "fp_560af6e559",
        },
        separators=(",", ":"),
    ).encode()
    head = (
        "HTTP/1.1 200 OK\r\n"
        "content-type: application/json\r\n"
        "x-request-id: req_5f1d0c3b7a9e4c58a1c2d3e4f5a6b7c8\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


_ANSWER_RESPONSE = _response(ANSWER, 38)


def plan_json(assignments: int, workers: int) -> str:
    """A valid plan, without dependencies, for the workers `w1` to `w<workers>`."""
    return json.dumps(
        {
            "assignments": [
                {
                    "id": f"t{n + 1}",
                    "worker": f"w{n % workers + 1}",
                    "subtask": f"Work out part {n + 1} of the client and say what you decided.",
                    "depends_on": [],
                }
                for n in range(assignments)
            ]
        }
    )


@functools.cache
def _plan_response(assignments: int, workers: int) -> bytes:
    return _response(plan_json(assignments, workers), 30 * assignments)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(loop), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    allow_many_connections()
    asyncio.run(_serve())
