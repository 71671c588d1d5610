"""MCP servers as toolsets: what they offer, and one session that outlives what is done to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from pyagent_patterns.mcp import MCPServer, MCPServerError
from pyagent_patterns.tools import ToolArgumentsError, ToolError, Toolset

from .helpers import SERVERS, call, children, named, raw, runs, settle, timed_out, until, workbench


def test_the_sdk_is_loaded_only_when_a_server_is_opened() -> None:
    code = (
        "import sys; from pyagent_patterns.mcp import MCPServer; MCPServer.stdio('server'); "
        "sys.exit('mcp' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pyagent-sdk\[mcp\]"):
        raw()


async def test_a_server_is_a_toolset_whose_tools_can_be_called() -> None:
    server = workbench()
    assert isinstance(server, Toolset)
    async with server.open() as tools:
        put = named(tools, "put")
        assert put.description == "Writes a file."
        assert put.parameters["required"] == ["path", "text"]
        assert await call(tools, "long", characters=3) == "xxx"


async def test_the_arguments_need_only_be_an_object_since_the_server_checks_them() -> None:
    async with workbench().open() as tools:
        long = named(tools, "long")
        with pytest.raises(ToolArgumentsError, match="JSON object"):
            long.check("[1]")
        assert long.check('{"characters": "many"}') == {"characters": "many"}
        with pytest.raises(ToolError, match="characters"):
            await call(tools, "long", characters="many")


async def test_only_the_tools_that_are_allowed_are_offered_under_names_with_the_prefix() -> None:
    async with raw(allow=["pid", "four"], prefix="b_").open() as tools:
        assert [tool.name for tool in tools] == ["b_four", "b_pid"]
        assert int(await call(tools, "b_pid")) in children()


@pytest.mark.parametrize("option", ["allow", "approve", "effects"])
async def test_a_tool_that_is_named_and_that_the_server_has_not_is_an_error(option: str) -> None:
    value = {"pdi": "read"} if option == "effects" else ["pdi"]
    with pytest.raises(MCPServerError, match=rf"'raw' has no tool 'pdi', named in {option}.*'pid'"):
        async with raw(**{option: value}).open():
            pass


def test_approval_or_an_effect_for_a_tool_that_is_not_allowed_is_an_error() -> None:
    with pytest.raises(ValueError, match="approve names 'put', which allow leaves out"):
        raw(allow=["pid"], approve=["put"])


def test_one_name_where_several_are_meant_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"approve=\['put'\]"):
        workbench(approve="put")
    with pytest.raises(TypeError, match="one by one"):
        MCPServer.stdio("server", "--verbose")


async def test_effects_are_the_callers_then_the_servers_and_unsafe_where_nobody_says() -> None:
    async with workbench(effects={"long": "read", "pid": "idempotent"}).open() as tools:
        effects = {tool.name: tool.effect for tool in tools}
    assert effects["long"] == "read"
    assert effects["pid"] == "idempotent"  # although it says that it only reads
    assert effects["put"] == "idempotent"
    assert effects["slow"] == "unsafe"


async def test_annotations_are_not_believed_where_they_are_not_trusted() -> None:
    async with workbench(trust_annotations=False).open() as tools:
        assert {tool.effect for tool in tools} == {"unsafe"}


async def test_approval_and_the_timeout_are_on_the_tools() -> None:
    async with workbench(approve=["put"], timeout=7).open() as tools:
        assert [tool.name for tool in tools if tool.approve] == ["put"]
        assert {tool.timeout for tool in tools} == {7}


async def test_a_name_that_providers_would_refuse_is_spelt_with_underscores() -> None:
    async with workbench(allow=["files.list/all"]).open() as tools:
        assert await call(tools, "files_list_all") == "listed"


async def test_a_name_that_is_too_long_is_refused_and_the_remedy_told() -> None:
    with pytest.raises(MCPServerError, match="use a shorter prefix, or allow="):
        async with raw(prefix="p" * 60).open():
            pass


async def test_two_tools_that_a_model_would_know_by_one_name_are_refused() -> None:
    with pytest.raises(MCPServerError, match=r"'a\.b' and 'a_b'.*leave one out with allow="):
        async with raw("a.b", "a_b").open():
            pass
    async with raw("a.b", "a_b", allow=["a.b"]).open() as tools:
        assert await call(tools, "a_b") == "a.b was called"


async def test_text_is_given_as_it_is_and_other_content_is_described() -> None:
    async with workbench().open() as tools:
        text = await call(tools, "everything")
    assert text.splitlines() == [
        "some text",
        "[image: image/png, 5 bytes, not shown]",
        "[audio: audio/wav, 6 bytes, not shown]",
        "[link to a resource: log, file:///var/log/x]",
        "[resource: file:///a.txt]",
        "what a.txt says",
        "[resource: file:///b, x/y, 5 bytes, not shown]",
    ]


async def test_structured_content_is_given_where_there_is_no_text_for_it() -> None:
    async with workbench().open() as tools:
        assert await call(tools, "data_only") == '{"town": "Ulm", "degrees": 7}'
        assert (await call(tools, "weather")).count("Ulm") == 1


async def test_a_long_result_is_cut_and_says_so() -> None:
    async with workbench(max_result_chars=10).open() as tools:
        text = await call(tools, "long", characters=5000)
        assert text == "xxxxxxxxxx\n[cut here: 10 of 5,000 characters]"
        assert await call(tools, "long", characters=10) == "x" * 10


async def test_a_tool_that_fails_tells_the_model_why() -> None:
    async with workbench().open() as tools:
        with pytest.raises(ToolError, match="the disk is full") as failed:
            await call(tools, "refuse", why="the disk is full")
        assert not isinstance(failed.value, MCPServerError)


async def test_a_server_may_ask_nothing_of_us() -> None:
    async with workbench().open() as tools:
        with pytest.raises(ToolError, match="Elicitation not supported"):
            await call(tools, "ask")
    async with raw().open() as tools:  # an older protocol, in which the server sends requests
        assert "Sampling not supported" in await call(tools, "two")


async def test_every_page_of_the_list_of_tools_is_read() -> None:
    async with raw().open() as tools:
        names = [tool.name for tool in tools]
    assert names == ["one", "two", "three", "four", "pid", "long", "die", "hang_up"]


async def test_a_list_of_tools_that_never_ends_is_an_error() -> None:
    with pytest.raises(MCPServerError, match="its list of tools goes on after 100 pages"):
        async with raw("endless").open():
            pass


async def test_an_error_of_the_protocol_is_told_to_the_model_and_the_session_goes_on() -> None:
    # -32000 is what the SDK uses for its own "connection closed".
    async with raw(env={"KEY": "k-123456"}).open() as tools:
        before = children()
        with pytest.raises(ToolError, match=r"the database is locked \*\*\*$") as failed:
            await call(tools, "three")
        assert not isinstance(failed.value, MCPServerError)
        assert await call(tools, "one") == "one was called"
        assert children() == before


async def test_a_server_of_ours_is_given_a_minimal_environment_and_what_we_add(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    async with workbench(env={"TOKEN": "abc"}).open() as tools:
        names = (await call(tools, "environment")).split()
    assert {"PATH", "TOKEN"} <= set(names)
    assert "OPENAI_API_KEY" not in names


async def test_the_server_is_given_the_trace_context_of_the_call() -> None:
    async with workbench().open() as tools:
        span = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1))
        with trace.use_span(NonRecordingSpan(span)):
            told = await call(tools, "trace")
    assert told.split("-")[1] == f"{0xABC:032x}"


async def test_twenty_workers_at_once_share_one_process(tmp_path: Path) -> None:
    server = workbench()
    before = children()

    async def worker() -> str:
        async with server.open() as tools:
            return await call(tools, "together", path=str(tmp_path / "here"), count=20)

    answers = await asyncio.gather(*(worker() for _ in range(20)))
    assert len(set(answers)) == 1
    assert children() == before


async def test_a_server_runs_while_anybody_has_it_open() -> None:
    server = raw()
    async with server.open() as first:
        pid = await call(first, "pid")
        async with server.open() as second:
            assert await call(second, "pid") == pid
        assert await call(first, "pid") == pid
    assert not runs(int(pid))
    async with server.open() as again:
        assert await call(again, "pid") != pid


async def test_opened_in_one_task_it_can_be_closed_in_another() -> None:
    server = raw()
    stack = AsyncExitStack()
    tools = await asyncio.create_task(stack.enter_async_context(server.open()))
    pid = await asyncio.create_task(call(tools, "pid"))
    await asyncio.create_task(stack.aclose())
    assert not runs(int(pid))


async def test_the_cancelled_task_that_opened_it_takes_it_from_nobody_else() -> None:
    server = raw()
    opened = asyncio.Event()

    async def opener() -> None:
        async with server.open():
            opened.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(opener())
    await opened.wait()
    async with server.open() as tools:
        pid = await call(tools, "pid")
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert await call(tools, "pid") == pid
    assert not runs(int(pid))


async def test_cancelled_while_it_opens_it_leaves_nothing_behind(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    script = f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(60)"
    server = MCPServer.stdio(sys.executable, ["-c", script], start_timeout=600)
    before = children()
    opening = asyncio.create_task(server.open().__aenter__())
    await until(begun.exists)
    assert children() > before
    opening.cancel()
    await asyncio.wait([opening], timeout=30)
    assert opening.cancelled()
    assert children() == before


async def test_one_who_gives_up_opening_it_does_not_stop_the_start_for_others() -> None:
    server = raw()
    impatient = asyncio.create_task(server.open().__aenter__())
    stack = AsyncExitStack()
    patient = asyncio.create_task(stack.enter_async_context(server.open()))
    await asyncio.sleep(0)
    impatient.cancel()
    async with stack:
        assert int(await call(await patient, "pid")) in children()
    with pytest.raises(asyncio.CancelledError):
        await impatient


async def test_tools_work_only_while_the_server_is_open() -> None:
    async with raw().open() as tools:
        pass
    with pytest.raises(MCPServerError, match="'raw' is not open"):
        await call(tools, "pid")


async def test_two_event_loops_do_not_share_a_session() -> None:
    server = raw()

    def elsewhere() -> str:
        async def main() -> str:
            async with server.open() as tools:
                return await call(tools, "pid")

        return asyncio.run(main())

    async with server.open() as tools:
        pid = await call(tools, "pid")
        assert await asyncio.to_thread(elsewhere) != pid
        assert await call(tools, "pid") == pid


async def test_an_event_loop_that_is_stopped_takes_the_process_with_it() -> None:
    server = raw()
    pids: list[int] = []

    async def main() -> None:
        opened = server.open()
        tools = await opened.__aenter__()
        pids.append(int(await call(tools, "pid")))
        raise KeyError("a crash, and nobody closes the server")

    def crash() -> None:
        with pytest.raises(KeyError):
            asyncio.run(main())

    await asyncio.to_thread(crash)
    assert not runs(pids[0])


async def test_calls_in_flight_fail_when_the_server_is_killed_and_the_next_starts_it_anew(
    tmp_path: Path,
) -> None:
    async with workbench().open() as tools:
        pid = int(await call(tools, "pid"))
        files = [tmp_path / str(n) for n in range(3)]
        calls = [asyncio.create_task(call(tools, "slow", path=str(file))) for file in files]
        await until(lambda: all(file.exists() for file in files))
        os.kill(pid, signal.SIGKILL)
        for failed in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(failed, MCPServerError)
            assert "'bench' was lost during the call of 'slow'" in str(failed)
            assert "may or may not have run" in str(failed)
        pids = await asyncio.gather(*(call(tools, "pid") for _ in range(5)))
        assert len(set(pids)) == 1
        assert int(pids[0]) != pid


async def test_a_server_that_dies_unnoticed_is_started_anew_by_a_call_or_an_open() -> None:
    server = raw()
    async with server.open() as tools:
        first = int(await call(tools, "pid"))
        os.kill(first, signal.SIGKILL)
        await until(lambda: not runs(first))
        await settle()
        second = int(await call(tools, "pid"))
        os.kill(second, signal.SIGKILL)
        await until(lambda: not runs(second))
        await settle()
        async with server.open() as others:
            third = await call(others, "pid")
            assert await call(tools, "pid") == third
    assert len({first, second, int(third)}) == 3


async def test_a_lost_server_that_still_runs_is_gone_when_the_last_user_is() -> None:
    before = children()
    async with raw().open() as tools:
        pid = await call(tools, "pid")
        await call(tools, "hang_up")
        await until(lambda: not Path(f"/proc/{pid}/fd/1").exists())
        await settle()
        assert await call(tools, "pid") != pid
        assert runs(int(pid))
    assert children() == before


async def test_what_a_dead_server_said_last_is_told_without_its_secrets() -> None:
    async with raw(env={"API_KEY": "k-123456"}).open() as tools:
        with pytest.raises(MCPServerError) as failed:
            await call(tools, "die", last_words="\x1b[31mrefused k-123456\x1b[0m")
    assert str(failed.value).endswith("refused ***")


async def test_a_server_that_dies_at_every_call_is_not_started_for_ever() -> None:
    async with raw().open() as tools:
        for _ in range(4):
            with pytest.raises(MCPServerError, match="was lost during"):
                await call(tools, "die", last_words="")
        with pytest.raises(MCPServerError, match="lost 4 times within 60 s"):
            await call(tools, "pid")


async def test_a_call_that_times_out_is_cancelled_at_the_server_and_the_session_goes_on(
    tmp_path: Path,
) -> None:
    file = tmp_path / "state"
    async with workbench().open() as tools:
        pid = await call(tools, "pid")
        with pytest.raises(TimeoutError):
            await timed_out(call(tools, "slow", path=str(file)), when=file.exists)
        await until(lambda: file.read_text() == "cancelled")
        assert await call(tools, "pid") == pid


async def test_a_cancelled_call_is_cancelled_at_the_server_and_its_siblings_are_not(
    tmp_path: Path,
) -> None:
    file = tmp_path / "state"
    async with workbench().open() as tools:
        task = asyncio.create_task(call(tools, "slow", path=str(file)))
        others = str(tmp_path / "others")
        sibling = asyncio.create_task(call(tools, "together", path=others, count=2))
        await until(file.exists)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: file.read_text() == "cancelled")
        assert await call(tools, "together", path=others, count=2) == await sibling


@pytest.mark.parametrize(
    ("command", "args", "why"),
    [
        ("no-such-command", [], "there is no 'no-such-command'"),
        ("/", [], "Permission denied"),
        ("false", [], "it ended without an answer"),
        ("cat", [], "it answers as no MCP server does"),
        ("sh", ["-c", "echo no database >&2; exit 1"], "output ended with:\nno database"),
        ("sh", ["-c", "echo $KEY >&2; exit 1"], "output ended with:\n[*]{3}$"),
        ("sh", ["-c", "printf '\\033[2Jwiped' >&2; exit 1"], "output ended with:\nwiped"),
        ("sleep", ["60"], "it did not answer within 0.3 s"),
    ],
)
async def test_a_start_that_fails_is_one_clear_error(
    command: str, args: list[str], why: str
) -> None:
    server = MCPServer.stdio(
        command,
        args,
        name="it",
        env={"KEY": "k-123456"},
        start_timeout=0.3 if why.endswith("0.3 s") else 30,
    )
    with pytest.raises(MCPServerError, match=f"^MCP server 'it' (?s:.*){why}") as failed:
        async with server.open():
            pass
    assert failed.value.server == "it"
    assert "k-123456" not in str(failed.value)


async def test_a_server_that_could_not_be_started_can_be_opened_again(tmp_path: Path) -> None:
    server = MCPServer.stdio(str(tmp_path / "server"))
    for _ in range(6):
        with pytest.raises(MCPServerError, match="there is no"):
            async with server.open():
                pass
    (tmp_path / "server").write_text(f"#!/bin/sh\nexec {sys.executable} {SERVERS / 'raw.py'}\n")
    (tmp_path / "server").chmod(0o755)
    async with server.open() as tools:
        assert await call(tools, "one") == "one was called"


async def test_all_who_wait_for_a_start_that_fails_are_told() -> None:
    server = MCPServer.stdio("false")

    async def opened() -> None:
        async with server.open():
            pass

    for failed in await asyncio.gather(*(opened() for _ in range(3)), return_exceptions=True):
        assert isinstance(failed, MCPServerError)


def test_secrets_are_in_no_repr() -> None:
    stdio = MCPServer.stdio("server", ["--key", "k-123456"], env={"KEY": "k-123456"})
    http = MCPServer.http("https://me:k-123456@host/mcp?key=k-123456", headers={"X": "k-123456"})
    for shown in (repr(stdio), repr(stdio.connection), repr(http), repr(http.connection)):
        assert "k-123456" not in shown
    assert repr(http) == "MCPServer('host', https://host/mcp)"
