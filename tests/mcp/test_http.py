"""MCP servers at a URL: what is sent to them, how they fail, and how they come back."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from pyagent_patterns.mcp import MCPServer, MCPServerError
from pyagent_patterns.tools import ToolError

from .helpers import SERVERS, call, timed_out, until
from .servers.raw import RawHTTP


@pytest.fixture
def raw_http() -> Iterator[RawHTTP]:
    with RawHTTP() as server:
        yield server


@asynccontextmanager
async def workbench(port: int) -> AsyncIterator[int]:
    """The workbench on a port of this machine; gives its process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SERVERS / "workbench.py"),
        str(port),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await until(lambda: listens(port))
        yield process.pid
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def at(port: int) -> MCPServer:
    return MCPServer.http(f"http://127.0.0.1:{port}/mcp", name="bench")


async def test_headers_go_with_every_request(raw_http: RawHTTP) -> None:
    headers = {"Authorization": "Bearer k-123456"}
    async with MCPServer.http(raw_http.url, headers=headers).open() as tools:
        assert await call(tools, "one") == "one was called"
    assert len(raw_http.headers) > 3
    assert {sent.get("authorization") for sent in raw_http.headers} == {"Bearer k-123456"}


async def test_a_session_is_ended_at_the_server_when_it_is_closed(raw_http: RawHTTP) -> None:
    async with MCPServer.http(raw_http.url).open():
        assert len(raw_http.sessions) == 1
    assert not raw_http.sessions


async def test_a_server_that_will_not_end_its_session_is_not_waited_for(
    raw_http: RawHTTP, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyagent_patterns.mcp.session._CLOSING_SECONDS", 0.2)
    raw_http.closes.clear()
    async with asyncio.timeout(30):
        async with MCPServer.http(raw_http.url).open() as tools:
            assert await call(tools, "one") == "one was called"
    raw_http.closes.set()


async def test_a_result_of_megabytes_is_read_and_cut(raw_http: RawHTTP) -> None:
    raw_http.content_type = "text/event-stream"
    async with MCPServer.http(raw_http.url).open() as tools:
        text = await call(tools, "long", characters=3_000_000)
    assert text.endswith("[cut here: 100,000 of 3,000,000 characters]")


async def test_what_somebody_elses_server_says_of_its_effects_is_not_believed_unasked() -> None:
    port = free_port()
    async with workbench(port):
        async with at(port).open() as tools:
            assert {tool.effect for tool in tools} == {"unsafe"}
        trusted = MCPServer.http(f"http://127.0.0.1:{port}/mcp", trust_annotations=True)
        async with trusted.open() as tools:
            assert {tool.effect for tool in tools} == {"unsafe", "read", "idempotent"}


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (401, "it answered HTTP 401: what it wants to be shown goes in headers="),
        (403, "it answered HTTP 403: what it wants to be shown goes in headers="),
        (404, "it answered HTTP 404: it speaks no MCP at this URL"),
        (500, "it answered HTTP 500"),
    ],
)
async def test_a_server_that_refuses_us_is_one_clear_error(
    raw_http: RawHTTP, status: int, why: str
) -> None:
    raw_http.status = status
    url = raw_http.url.replace("://", "://me:k-123456@") + "?key=k-123456"
    with pytest.raises(MCPServerError) as failed:
        async with MCPServer.http(url, headers={"X-Key": "k-123456"}).open():
            pass
    told = f"MCP server '127.0.0.1' ({raw_http.url}) could not be started: {why}"
    assert str(failed.value) == told


async def test_a_page_that_is_no_mcp_server_is_one_clear_error(raw_http: RawHTTP) -> None:
    raw_http.status, raw_http.content_type = 200, "text/html"
    with pytest.raises(MCPServerError, match=r"it answers as no MCP server does: .*text/html"):
        async with MCPServer.http(raw_http.url).open():
            pass


async def test_a_url_where_nobody_listens_is_one_clear_error() -> None:
    with pytest.raises(MCPServerError, match=r"could not be started: .*connection"):
        async with at(free_port()).open():
            pass


@pytest.mark.parametrize("url", ["host/mcp", "ftp://host/mcp", "http:///mcp"])
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="http:// or https://"):
        MCPServer.http(url)


def test_a_header_that_http_does_not_allow_is_refused_without_its_value() -> None:
    with pytest.raises(ValueError, match="'Authorization'") as refused:
        MCPServer.http("http://host/mcp", headers={"Authorization": "Bearer k-123456\n"})
    assert "k-123456" not in str(refused.value)


async def test_a_server_that_does_not_answer_can_be_given_up(raw_http: RawHTTP) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/mcp"
        with pytest.raises(MCPServerError, match=r"did not answer within 0\.2 s"):
            async with asyncio.timeout(8), MCPServer.http(url, start_timeout=0.2).open():
                pass
        opening = asyncio.create_task(MCPServer.http(url).open().__aenter__())
        await asyncio.sleep(0.1)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening


async def test_a_session_the_server_has_forgotten_is_begun_anew_and_the_call_made_once(
    raw_http: RawHTTP,
) -> None:
    async with MCPServer.http(raw_http.url).open() as tools:
        assert await call(tools, "one") == "one was called"
        raw_http.sessions.clear()  # as after a restart
        both = await asyncio.gather(call(tools, "one"), call(tools, "four"))
        assert both == ["one was called", "four was called"]
        assert raw_http.calls == 3
        assert len(raw_http.sessions) == 1


async def test_a_refusal_in_the_middle_is_told_and_the_session_goes_on(raw_http: RawHTTP) -> None:
    async with MCPServer.http(raw_http.url, name="it").open() as tools:
        raw_http.status = 401
        with pytest.raises(MCPServerError, match=r"'it' refused the call of 'one': .*HTTP 401"):
            await call(tools, "one")
        raw_http.status = None
        assert await call(tools, "one") == "one was called"


async def test_an_error_of_the_protocol_is_told_to_the_model(raw_http: RawHTTP) -> None:
    async with MCPServer.http(raw_http.url).open() as tools:
        with pytest.raises(ToolError, match=r"^the database is locked"):  # and HTTP 400
            await call(tools, "three")


async def test_one_session_is_opened_used_and_closed_by_several_tasks() -> None:
    port = free_port()
    async with workbench(port):
        stack = AsyncExitStack()
        tools = await asyncio.create_task(stack.enter_async_context(at(port).open()))
        await asyncio.gather(*(call(tools, "pid") for _ in range(20)))
        await asyncio.create_task(stack.aclose())


async def test_a_call_that_times_out_is_cancelled_at_the_server_and_others_go_on(
    tmp_path: Path,
) -> None:
    file, port = tmp_path / "state", free_port()
    async with workbench(port), at(port).open() as tools:
        sibling = asyncio.create_task(call(tools, "together", path=str(tmp_path / "x"), count=2))
        with pytest.raises(TimeoutError):
            await timed_out(call(tools, "slow", path=str(file)), when=file.exists)
        await until(lambda: file.read_text() == "cancelled")
        assert await call(tools, "together", path=str(tmp_path / "x"), count=2) == await sibling


async def test_a_server_killed_during_calls_fails_them_and_is_used_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(workbench(port))
        tools = await stack.enter_async_context(at(port).open())
        files = [tmp_path / str(n) for n in range(3)]
        calls = [asyncio.create_task(call(tools, "slow", path=str(file))) for file in files]
        await until(lambda: all(file.exists() for file in files))
        os.kill(first, signal.SIGKILL)
        for failed in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(failed, MCPServerError), failed
            assert "'bench'" in str(failed)
        with pytest.raises(MCPServerError, match="'bench'"):  # while it is down
            await call(tools, "pid")
        await stack.enter_async_context(workbench(port))
        assert int(await call(tools, "pid")) != first
