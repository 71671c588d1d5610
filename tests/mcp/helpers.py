"""What the tests of MCP servers share: servers to start, and what runs of them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from pyagent_patterns.mcp import MCPServer
from pyagent_patterns.tools import Tool

SERVERS = Path(__file__).parent / "servers"


def workbench(**options) -> MCPServer:
    return MCPServer.stdio(sys.executable, [str(SERVERS / "workbench.py")], name="bench", **options)


def raw(*args: str, **options) -> MCPServer:
    return MCPServer.stdio(sys.executable, [str(SERVERS / "raw.py"), *args], name="raw", **options)


def named(tools: Sequence[Tool], name: str) -> Tool:
    (found,) = (tool for tool in tools if tool.name == name)
    return found


async def call(tools: Sequence[Tool], name: str, **arguments) -> str:
    return await named(tools, name).call(arguments)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def settle() -> None:
    """Let the event loop go round until it has seen what has already happened."""
    for _ in range(30):
        await asyncio.sleep(0.003)


async def timed_out(call: Awaitable[object], when: Callable[[], bool]) -> None:
    """Let the call time out when the condition holds; raises TimeoutError then."""

    async def expire() -> None:
        await until(when)
        limit.reschedule(asyncio.get_running_loop().time())

    async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as group:
        group.create_task(expire())
        await call


def children() -> set[int]:
    """The processes that this one has started and that still run."""
    return {
        int(path.name)
        for path in Path("/proc").glob("[0-9]*")
        if (stat := _stat(path)) and stat[0] != "Z" and int(stat[1]) == os.getpid()
    }


def runs(pid: int) -> bool:
    stat = _stat(Path(f"/proc/{pid}"))
    return bool(stat) and stat[0] != "Z"


def _stat(process: Path) -> list[str]:
    """The state of a process, its parent and so on; nothing if there is none."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
