"""The reference servers, as people install them: files from npm, web pages from PyPI."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pyagent_patterns.mcp import MCPServer
from pyagent_patterns.tools import ToolError

from .helpers import call, named

ROOT = Path(__file__).parents[2]

# `npm install` puts it there; one on the PATH will do.
FILESYSTEM = shutil.which(
    "mcp-server-filesystem",
    path=os.pathsep.join([str(ROOT / "node_modules" / ".bin"), os.environ.get("PATH", "")]),
)

filesystem = pytest.mark.skipif(
    FILESYSTEM is None,
    reason="no mcp-server-filesystem: npm install @modelcontextprotocol/server-filesystem",
)
fetch = pytest.mark.skipif(
    importlib.util.find_spec("mcp_server_fetch") is None, reason="mcp-server-fetch is not installed"
)


@pytest.fixture
def page() -> Iterator[str]:
    """The URL of a web page of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = (
                b"<html><body><article><h1>Tides</h1><p>High at noon.</p></article></body></html>"
            )
            self.send_response(200 if self.path == "/tides" else 404)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/tides"
        server.shutdown()


@filesystem
async def test_the_filesystem_server_reads_and_writes_in_its_folder_and_not_outside(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "outside.txt").write_text("secret")
    server = MCPServer.stdio(
        str(FILESYSTEM),
        [str(folder)],
        name="files",
        prefix="fs_",
        allow=["read_text_file", "write_file", "edit_file", "list_directory"],
        approve=["write_file"],
    )
    async with server.open() as tools:
        write = named(tools, "fs_write_file")
        assert write.approve
        assert named(tools, "fs_read_text_file").effect == "read"
        assert named(tools, "fs_edit_file").effect == "unsafe"
        given = write.check(f'{{"path": "{folder}/note.txt", "content": "Buy milk."}}')
        assert "note.txt" in await write.call(given)
        assert (folder / "note.txt").read_text() == "Buy milk."
        read = await call(tools, "fs_read_text_file", path=str(folder / "note.txt"))
        assert read == "Buy milk."
        assert "[FILE] note.txt" in await call(tools, "fs_list_directory", path=str(folder))
        with pytest.raises(ToolError, match=r"(?i)access denied"):
            await call(tools, "fs_read_text_file", path=str(tmp_path / "outside.txt"))


@filesystem
async def test_twenty_workers_share_one_filesystem_server(tmp_path: Path) -> None:
    server = MCPServer.stdio(str(FILESYSTEM), [str(tmp_path)])

    async def worker(n: int) -> str:
        async with server.open() as tools:
            path = str(tmp_path / f"{n}.txt")
            await call(tools, "write_file", path=path, content=f"worker {n}")
            return await call(tools, "read_text_file", path=path)

    texts = await asyncio.gather(*(worker(n) for n in range(20)))
    assert texts == [f"worker {n}" for n in range(20)]


@fetch
async def test_the_fetch_server_reads_a_page_and_says_what_it_cannot_read(page: str) -> None:
    server = MCPServer.stdio(
        sys.executable, ["-m", "mcp_server_fetch", "--allow-private-ips"], name="web"
    )
    async with server.open() as tools:
        assert [tool.name for tool in tools] == ["fetch"]
        assert "High at noon." in await call(tools, "fetch", url=page, raw=True)
        with pytest.raises(ToolError, match="404"):
            await call(tools, "fetch", url=f"{page}/none")
        with pytest.raises(ToolError, match="url"):
            await call(tools, "fetch", link=page)
