"""Code in the real bubblewrap: what it cannot see, reach, use up or leave behind."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from pyagent_patterns.sandbox import (
    Bubblewrap,
    SandboxError,
    SandboxResult,
    python_tool,
    shell_tool,
)
from pyagent_patterns.tools import Tool, ToolError
from pyagent_patterns.workspace import Workspace


def why_not() -> str:
    """Why bubblewrap cannot run anything on this machine; nothing if it can."""
    bare = ["bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true"]
    try:
        tried = subprocess.run(bare, capture_output=True, text=True)
    except FileNotFoundError:
        return "bubblewrap is not installed"
    return tried.stderr


WHY_NOT = why_not()
here = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for a workspace. Where tests run as root, it is nobody's: see `Bubblewrap`."""
    path = Path(tempfile.mkdtemp(prefix="sandbox-"))
    path.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    yield path
    shutil.rmtree(path)


async def python(code: str, sandbox: Bubblewrap | None = None) -> SandboxResult:
    return await (sandbox or Bubblewrap()).run(["python3", "-"], stdin=code)


async def printed(code: str, sandbox: Bubblewrap | None = None) -> str:
    result = await python(code, sandbox)
    assert result.exit_code == 0, result
    return result.stdout.strip()


# What a program does


@here
async def test_a_program_is_given_input_and_gives_output_errors_and_an_exit_code() -> None:
    result = await Bubblewrap().run(["sh", "-c", "cat; echo wrong >&2; exit 3"], stdin="hé\n")
    assert result == SandboxResult(stdout="hé\n", stderr="wrong\n", exit_code=3)
    assert result.text == "hé\n[stderr]\nwrong\n[exit code 3]"


@here
async def test_a_program_need_not_read_its_input() -> None:
    result = await Bubblewrap().run(["true"], stdin="x" * 10_000_000)
    assert result == SandboxResult(stdout="", stderr="", exit_code=0)
    assert result.text == "[it printed nothing]"


@here
async def test_a_program_that_is_not_there_is_the_models_mistake() -> None:
    result = await Bubblewrap().run(["no-such-program"])
    assert result.exit_code == 127
    assert "no-such-program" in result.stderr


@here
async def test_a_program_may_end_its_own_group() -> None:
    result = await Bubblewrap().run(["sh", "-c", "echo before; kill 0; sleep 600"])
    assert (result.stdout, result.exit_code) == ("before\n", 128 + 15)


@here
async def test_output_that_is_no_text_is_shown_as_far_as_it_goes() -> None:
    result = await Bubblewrap().run(["printf", r"a\377b"])
    assert result.stdout == "a\ufffdb"


@here
async def test_a_program_can_write_to_its_output_by_name() -> None:
    result = await Bubblewrap().run(["sh", "-c", "echo a >/dev/stdout; echo b >/dev/stderr"])
    assert result == SandboxResult(stdout="a\n", stderr="b\n", exit_code=0)


@here
async def test_programs_at_once_do_not_see_each_other() -> None:
    sandbox = Bubblewrap()
    codes = [
        f"import os, time; open('/tmp/mine-{n}', 'w'); time.sleep(0.1);"
        "print([name for name in os.listdir('/tmp') if name.startswith('mine')])"
        for n in range(8)
    ]
    results = await asyncio.gather(*(printed(code, sandbox) for code in codes))
    assert results == [f"['mine-{n}']" for n in range(8)]


# What it cannot see


@here
async def test_the_environment_is_not_seen_by_any_of_its_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    everything = await printed("""
import glob, os
print(dict(os.environ))
for path in glob.glob('/proc/[0-9]*/environ') + glob.glob('/proc/[0-9]*/cmdline'):
    print(path, open(path, 'rb').read())
""")
    assert "/proc/1/environ" in everything
    assert "sk-very-secret" not in everything
    assert "OPENAI" not in everything
    assert "'HOME': '/tmp/home'" in everything


@here
async def test_of_the_files_only_the_system_is_seen() -> None:
    home = os.path.expanduser("~")
    hidden = [home, "/root", "/home", "/etc/passwd", "/etc/shadow", "/var", "/sys", "/run", "/boot"]
    hidden.append(__file__)
    seen = await printed(f"import os; print([p for p in {hidden!r} if os.path.exists(p)])")
    assert seen == "[]"
    assert await printed("import os; print(os.listdir('/tmp'), os.listdir(), os.getcwd())") == (
        "['home'] [] /tmp/home"
    )


@here
async def test_other_processes_are_not_seen() -> None:
    seen = await printed("import os; print([p for p in os.listdir('/proc') if p.isdigit()])")
    assert str(os.getpid()) not in json.loads(seen.replace("'", '"'))
    assert len(json.loads(seen.replace("'", '"'))) <= 4


@here
async def test_there_is_no_network_not_even_the_hosts_own() -> None:
    name = f"\0{uuid.uuid4()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(name)
        local.listen()
        said = await printed(f"""
import socket
for family, address in [
    (socket.AF_INET, {server.getsockname()!r}),
    (socket.AF_INET, ('192.0.2.1', 80)),
    (socket.AF_UNIX, {name!r}),
]:
    try:
        with socket.socket(family) as s:
            s.settimeout(5)
            s.connect(address)
        print('reached', address)
    except OSError as error:
        print(error.strerror)
""")
    refused, unreachable = "Connection refused", "Network is unreachable"
    assert said.splitlines() == [refused, unreachable, refused]


# What it cannot change


@here
async def test_nothing_of_the_system_can_be_written() -> None:
    said = await printed("""
import os
for folder in ('/', '/usr', '/usr/bin', '/usr/lib', '/etc', '/dev', '/proc', '/proc/sys/kernel'):
    try:
        open(folder + '/new', 'w')
        print('wrote', folder)
    except OSError: pass
for path in ('/usr/bin/env', '/proc/sys/kernel/hostname', '/proc/sysrq-trigger'):
    try:
        open(path, 'a').write('x')
        print('wrote', path)
    except OSError: pass
print('done')
""")
    assert said == "done"


@here
async def test_it_has_no_privileges_and_can_gain_none() -> None:
    status = await printed("print(open('/proc/self/status').read())")
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {name: int(facts[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {
        "CapEff": 0,
        "CapPrm": 0,
        "CapBnd": 0,
    }
    assert facts["NoNewPrivs"] == "1"
    assert set(facts["Uid"].split()) == {"1000"}
    nested = await Bubblewrap().run(["unshare", "--user", "--map-root-user", "true"])
    assert nested.exit_code != 0


@here
async def test_nothing_is_kept_from_one_run_to_the_next() -> None:
    sandbox = Bubblewrap()
    await printed(
        "import os; [open(p, 'w') for p in ('/tmp/kept', 'kept', '/dev/shm/kept')]", sandbox
    )
    look = (
        "import os; print([p for p in ('/tmp/kept', 'kept', '/dev/shm/kept') if os.path.exists(p)])"
    )
    assert await printed(look, sandbox) == "[]"


# The workspace


@here
async def test_what_it_writes_in_the_workspace_stays(folder: Path) -> None:
    sandbox = Bubblewrap(workspace=folder)
    (folder / "data.txt").write_text("3 4")
    await printed("a, b = open('data.txt').read().split(); open('sum', 'w').write(a + b)", sandbox)
    assert (folder / "sum").read_text() == "34"
    assert await printed("import os; print(os.getcwd(), sorted(os.listdir()))", sandbox) == (
        "/workspace ['data.txt', 'sum']"
    )


@here
async def test_a_link_that_code_leaves_behind_does_not_lead_the_workspaces_tools_out(
    folder: Path,
) -> None:
    sandbox = Bubblewrap(workspace=folder)
    await printed(
        "import os; os.symlink('/etc/passwd', 'a'); os.symlink('/etc', 'b'); os.mkfifo('c');"
        "open('d', 'w').write('x')",
        sandbox,
    )
    workspace = Workspace(folder)
    for path in ("a", "b/passwd", "c"):
        with pytest.raises(ToolError, match=r"links are not followed|it is not a file"):
            workspace.read_file(path)
    assert workspace.read_file("d") == "x"


@here
async def test_a_folder_can_be_made_visible_and_no_more(folder: Path) -> None:
    (folder / "library.py").write_text("name = 'seen'")
    sandbox = Bubblewrap(visible=[folder])
    code = f"import sys; sys.path.append({str(folder)!r}); import library; print(library.name)"
    assert await printed(code, sandbox) == "seen"
    denied = await python(f"open({str(folder / 'new')!r}, 'w')", sandbox)
    assert "Read-only file system" in denied.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is not to be what code runs as")
@here
async def test_code_does_not_run_as_root(folder: Path) -> None:
    await printed("open('new', 'w')", Bubblewrap(workspace=folder))
    assert (folder / "new").stat().st_uid == 65534
    os.chown(folder, 0, 0)
    with pytest.raises(PermissionError, match=r"root owns '.*'.*give the folder to another user"):
        Bubblewrap(workspace=folder)


# What it cannot use up


@here
async def test_memory_is_limited_however_it_is_asked_for() -> None:
    sandbox = Bubblewrap(max_memory=200_000_000)
    said = await printed(
        """
import mmap, os
def mine(): return bytearray(300_000_000)
def shared(): return mmap.mmap(-1, 300_000_000)
def in_files(name):
    def fill():
        for number in range(300):
            with open(name + str(number), 'wb') as file: file.write(b'x' * 1_000_000)
    return fill
def in_memory():
    with open(os.memfd_create('m'), 'wb') as file:
        for _ in range(300): file.write(b'x' * 1_000_000)
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for ask in (mine, shared, in_files('/tmp/a'), in_files('/dev/shm/a'), in_memory):
    try: ask(); print('given')
    except (MemoryError, OSError) as error: print(type(error).__name__)
""",
        sandbox,
    )
    assert said.split() == ["MemoryError", "OSError", "OSError", "OSError", "OSError"]


@here
async def test_the_kernel_ends_it_first_when_memory_runs_out() -> None:
    assert await printed("print(open('/proc/self/oom_score_adj').read())") == "1000"


@here
async def test_processes_are_limited() -> None:
    sandbox = Bubblewrap(max_processes=20)
    said = await printed(
        """
import os, time
n = 0
try:
    while n < 100:
        if not os.fork(): time.sleep(60)
        n += 1
except OSError as error:
    print(n, error.strerror)
""",
        sandbox,
    )
    count, why = said.split(" ", 1)
    assert 0 < int(count) < 20
    assert why == "Resource temporarily unavailable"


@here
async def test_a_fork_bomb_ends_with_its_time_and_leaves_nothing() -> None:
    token = str(uuid.uuid4())
    sandbox = Bubblewrap(max_seconds=0.3, max_processes=30)
    bomb = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"
    result = await sandbox.run(["python3", "-c", bomb, token])
    assert (result.timed_out, result.exit_code) == (True, None)
    await nothing_left(token)


@here
async def test_time_is_limited_and_what_was_printed_is_kept() -> None:
    token = str(uuid.uuid4())
    result = await Bubblewrap(max_seconds=0.3).run(
        ["sh", "-c", "echo begun; (setsid sleep 60 &) ; while :; do sleep 60; done", token]
    )
    assert result == SandboxResult(stdout="begun\n", stderr="", exit_code=None, timed_out=True)
    assert result.text == "begun\n[stopped: it ran too long]"
    await nothing_left(token)


@here
@pytest.mark.parametrize(("stream", "to"), [("stdout", ">&1"), ("stderr", ">&2")])
async def test_endless_output_is_cut_and_ends_the_program(stream: str, to: str) -> None:
    token = str(uuid.uuid4())
    sandbox = Bubblewrap(max_output=1000, max_seconds=60)
    result = await sandbox.run(["sh", "-c", f"yes {to}", token])
    assert getattr(result, stream) == "y\n" * 500
    assert (result.truncated, result.timed_out, result.exit_code) == (True, False, None)
    assert result.text.endswith("[stopped: it printed too much; this is the beginning]")
    await nothing_left(token)


@here
async def test_output_that_comes_little_by_little_is_cut_too() -> None:
    sandbox = Bubblewrap(max_output=1000)
    script = "for i in $(seq 15); do printf %100s; sleep 0.01; done"
    result = await sandbox.run(["sh", "-c", script])
    assert (len(result.stdout), result.truncated, result.exit_code) == (1000, True, None)


@here
async def test_output_that_just_fits_is_not_cut() -> None:
    sandbox = Bubblewrap(max_output=1000)
    result = await sandbox.run(["printf", "%1000s"])
    assert (len(result.stdout), result.truncated, result.exit_code) == (1000, False, 0)


@here
@pytest.mark.parametrize(
    "how", ["sleep 600 &", "sleep 600 >/dev/null 2>&1 &", "setsid sleep 600 &"]
)
async def test_what_a_program_leaves_running_ends_with_it(how: str) -> None:
    token = str(uuid.uuid4())
    result = await Bubblewrap().run(["sh", "-c", f"sh -c '{how}' {token}; echo over", token])
    assert (result.stdout, result.exit_code) == ("over\n", 0)
    await nothing_left(token)


# Cancelling


@here
async def test_a_cancelled_run_leaves_nothing_whenever_it_is_cancelled() -> None:
    token = str(uuid.uuid4())
    sandbox = Bubblewrap()
    chance = random.Random(5)
    before = open_files()

    async def cancelled() -> None:
        script = "yes & sleep 600 & setsid sleep 600 & while :; do sleep 600; done"
        running = asyncio.create_task(sandbox.run(["sh", "-c", script, token]))
        await asyncio.sleep(chance.choice([0, chance.uniform(0, 0.03)]))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    async with asyncio.timeout(60):
        for _ in range(25):
            await asyncio.gather(*(cancelled() for _ in range(4)))
    await nothing_left(token)
    await asyncio.sleep(0.05)  # what is closed in the event loop is closed a turn later
    assert not [name for name in open_files() if "pipe" in name and name not in before]


def open_files() -> list[str]:
    names: list[str] = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            names.append(os.readlink(f"/proc/self/fd/{number}"))
    return names


async def nothing_left(token: str) -> None:
    """Nobody on this machine has the token in its command line: not bwrap, not what it ran."""
    deadline = asyncio.get_running_loop().time() + 10
    while left := with_token(token):
        assert asyncio.get_running_loop().time() < deadline, left
        await asyncio.sleep(0.02)


def with_token(token: str) -> list[str]:
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if token.encode() in command:
            found.append(f"{path}: {command!r}")
    return found


# As tools


async def call(made: Tool, **arguments: object) -> str:
    return await made.call(made.check(json.dumps(arguments)))


@here
async def test_a_model_runs_python() -> None:
    made = python_tool(Bubblewrap(), effect="read", approve=True)
    assert (made.name, made.effect, made.approve) == ("run_python", "read", True)
    assert await call(made, code="print(6 * 7)") == "42"
    failed = await call(made, code="print(1)\nprint(1 / 0)")
    assert failed.startswith("1\n[stderr]\nTraceback")
    assert failed.endswith("ZeroDivisionError: division by zero\n[exit code 1]")
    assert "EOFError" in await call(made, code="input()")  # and not the rest of the program


@here
async def test_a_model_runs_shell_scripts_that_are_theirs_to_the_end() -> None:
    made = shell_tool(Bubblewrap())
    assert (made.name, made.effect, made.approve) == ("run_shell", "unsafe", False)
    rest = f"# {'x' * 20_000}\necho over; x=3\nexit $x"  # more than a shell reads ahead
    assert await call(made, script=f"cat\n{rest}") == "over\n[exit code 3]"


@here
async def test_python_can_be_another_interpreter(folder: Path) -> None:
    (folder / "python").symlink_to("/usr/bin/echo")
    sandbox = Bubblewrap(visible=[folder])
    made = python_tool(sandbox, python=str(folder / "python"))
    assert await call(made, code="print(1)") == "-"


async def test_the_tools_take_any_sandbox() -> None:
    class Elsewhere:
        async def run(self, argv: Sequence[str], *, stdin: str = "") -> SandboxResult:
            return SandboxResult(stdout=f"{argv[0]} {stdin}", stderr="", exit_code=0)

    assert await call(python_tool(Elsewhere()), code="pass") == "python3 pass"


# What is missing


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxError, match=r"'bwrap' is needed .* apt-get install bubblewrap"):
        Bubblewrap()


@here
async def test_a_machine_that_does_not_allow_it_is_said_to_be_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = folder / "bwrap"
    refusing.write_text(
        "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"
    )
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    with pytest.raises(SandboxError, match=r"No permissions to create new namespace.*AppArmor"):
        await Bubblewrap().run(["true"])


@here
async def test_a_workspace_that_is_gone_is_no_failure_of_the_program(folder: Path) -> None:
    gone = folder / "gone"
    gone.mkdir()
    if os.geteuid() == 0:
        os.chown(gone, 65534, 65534)
    sandbox = Bubblewrap(workspace=gone)
    gone.rmdir()
    with pytest.raises(SandboxError, match="bwrap could not run anything"):
        await sandbox.run(["true"])


@here
def test_folders_and_limits_that_cannot_be_used_are_refused(folder: Path) -> None:
    with pytest.raises(NotADirectoryError, match="a sandbox needs folders that exist"):
        Bubblewrap(workspace=folder / "nothing")
    with pytest.raises(NotADirectoryError, match="a sandbox needs folders that exist"):
        Bubblewrap(visible=[folder / "nothing"])
    for name in ("max_seconds", "max_memory", "max_processes", "max_output"):
        with pytest.raises(ValueError, match=f"{name} must be more than 0"):
            Bubblewrap(**{name: 0})  # type: ignore[arg-type]
