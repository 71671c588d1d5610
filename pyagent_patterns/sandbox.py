"""A place to run code that a model wrote: the port, and bubblewrap as the adapter for Linux."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from asyncio import StreamReader, StreamReaderProtocol, StreamWriter
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol, cast

from pyagent_providers.hostile import shown

from .tools import Effect, Tool, tool

_INSTALL: Final = "install it (on Debian and Ubuntu: apt-get install bubblewrap util-linux)"
_PYTHON: Final = "python3"
_NOBODY: Final = 65534
_SHARED_MEMORY: Final = 64_000_000  # bytes of /dev/shm, which semaphores are kept in
_OPEN_FILES: Final = 256
_CHUNK: Final = 65_536


class SandboxError(RuntimeError):
    """Nothing could be run: the sandbox cannot be set up on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxResult:
    """What a program did. `exit_code` is None if it was stopped: for its time or its output.

    `stdout` and `stderr` are what it printed until then, at most as much as the sandbox takes.
    """

    stdout: str
    stderr: str
    exit_code: int | None
    timed_out: bool = False
    truncated: bool = False

    @property
    def text(self) -> str:
        """All of it, for a model."""
        parts = [self.stdout]
        if self.stderr:
            parts.append(f"[stderr]\n{self.stderr}")
        if self.timed_out:
            parts.append("[stopped: it ran too long]")
        if self.truncated:
            parts.append("[stopped: it printed too much; this is the beginning]")
        if self.exit_code:
            parts.append(f"[exit code {self.exit_code}]")
        return "\n".join(part.rstrip("\n") for part in parts if part) or "[it printed nothing]"


class Sandbox(Protocol):
    """A place to run programs that nobody trusts."""

    async def run(self, argv: Sequence[str], *, stdin: str = "") -> SandboxResult:
        """Run a program to its end, or to the sandbox's limits.

        Nothing of it is left running then, nor when the caller is cancelled. Raises `SandboxError`
        if there is no running anything here.
        """
        ...


def python_tool(
    sandbox: Sandbox,
    *,
    python: str = _PYTHON,
    effect: Effect = "unsafe",
    approve: bool = False,
) -> Tool:
    """`run_python`, which runs a Python program in the sandbox, with its interpreter `python`.

    Where nothing outlives a run, as in a sandbox without a workspace, `effect` may be "read".
    """

    async def run_python(code: str) -> str:
        """Run a Python program, and read what it prints.

        Each call is a program of its own: print what you want to see, and keep what you need
        later in files in the current folder.
        """
        # Over standard input: on the command line there is a limit to its length.
        return (await sandbox.run((python, "-"), stdin=code)).text

    made = tool(effect=effect, approve=approve)(run_python)
    return replace(made, made_of=sandbox) if python == _PYTHON else made


def shell_tool(sandbox: Sandbox, *, effect: Effect = "unsafe", approve: bool = False) -> Tool:
    """`run_shell`, which runs a shell script in the sandbox; otherwise as `python_tool`."""

    async def run_shell(script: str) -> str:
        """Run a POSIX shell script, and read what it prints. Each call is a shell of its own."""
        # All of it is read before it runs, or its first program that reads would get the rest.
        return (await sandbox.run(("sh", "-c", 'eval "$(cat)"'), stdin=script)).text

    return replace(tool(effect=effect, approve=approve)(run_shell), made_of=sandbox)


class Bubblewrap:
    """Runs programs in Linux namespaces, through bubblewrap (`bwrap`, 0.8 or later).

    A program sees the system's `/usr`, read-only, and an empty `/tmp` of its own with its home in
    it, which is gone afterwards; no network, no other processes, none of the environment. The
    folder `workspace`, if given, is `/workspace`, which it may write to and starts in. `visible`
    are more folders that it may read, at the places they have, such as a virtual environment's.

    Limits: `max_seconds` of a run, `max_memory` bytes of address space of each process (and as
    much again for `/tmp`, and for any one file), `max_processes` at once, and `max_output` bytes
    each of stdout and stderr. A program that passes the first or the last is stopped, with all it
    started. Should the machine run out of memory, it is what the kernel ends first.

    As root, code runs as the owner of `workspace`, or as nobody, since limits on processes do not
    hold for root. The kernel is shared with the host: for code of strangers, write a `Sandbox`
    over a virtual machine.

    Raises `SandboxError` if a program that it needs is not installed, and NotADirectoryError,
    PermissionError or ValueError for folders and limits that cannot be used.
    """

    def __init__(
        self,
        *,
        workspace: str | os.PathLike[str] | None = None,
        visible: Sequence[str | os.PathLike[str]] = (),
        max_seconds: float = 30.0,
        max_memory: int = 1_000_000_000,
        max_processes: int = 64,
        max_output: int = 50_000,
    ) -> None:
        limits = {
            "max_seconds": max_seconds,
            "max_memory": max_memory,
            "max_processes": max_processes,
            "max_output": max_output,
        }
        for name, limit in limits.items():
            if not limit > 0:
                raise ValueError(f"{name} must be more than 0; got {limit!r}")
        self.workspace = None if workspace is None else _existing(workspace)
        self.visible = [_existing(folder) for folder in visible]
        self.limits = limits
        self._user = _unprivileged(self.workspace)
        self._max_seconds = max_seconds
        self._max_output = max_output
        self._program = [
            *(_installed("bwrap"), *_NAMESPACES, *_system(), *_private(max_memory)),
            *self._folders(),
            *("--remount-ro", "/", "--"),
            # The kernel's first choice should memory run out; then the limits.
            *(_installed("choom"), "-n", "1000", "--"),
            *(_installed("prlimit"), f"--as={max_memory}", f"--fsize={max_memory}"),
            *(f"--nproc={max_processes}", f"--nofile={_OPEN_FILES}", "--core=0", "--"),
            _installed("setsid"),  # so that a program that signals its own group hits itself alone
        ]

    def _folders(self) -> list[str]:
        options: list[str] = []
        for folder in self.visible:
            options += ["--ro-bind", str(folder), str(folder)]
        if self.workspace is None:
            return [*options, "--chdir", _HOME]
        return [*options, "--bind", str(self.workspace), "/workspace", "--chdir", "/workspace"]

    async def run(self, argv: Sequence[str], *, stdin: str = "") -> SandboxResult:
        """Run a program to its end, or to the limits. Raises `SandboxError`; see `Sandbox`."""
        stdout, stderr = _Output(self._max_output), _Output(self._max_output)
        status, status_end = os.pipe()
        os.set_blocking(status, False)
        ends = [status_end]
        try:
            try:
                for output in (stdout, stderr):
                    ends.append(await output.open(self._user))
                process = await self._start(argv, *ends)
            finally:
                for end in ends:
                    os.close(end)
            return await self._finish(process, stdin, stdout, stderr, status)
        finally:
            os.close(status)
            stdout.close()
            stderr.close()

    async def _start(self, argv: Sequence[str], status: int, stdout: int, stderr: int) -> Process:
        bwrap, *options = self._program
        user = self._user
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *(bwrap, "--json-status-fd", str(status), *options, *argv),
                stdin=PIPE,
                stdout=stdout,
                stderr=stderr,
                cwd="/",
                env={},  # a program can read that of its first process, which is bwrap
                pass_fds=(status,),
                start_new_session=True,  # no terminal, and a group to kill: see `_kill`
                user=user and user.uid,
                group=user and user.gid,
                extra_groups=None if user is None else (),
            )
        )
        try:
            return await asyncio.shield(starting)
        except OSError as error:
            raise SandboxError(f"bwrap could not be started: {error}") from error
        except asyncio.CancelledError:
            process = await starting
            _kill(process)
            await process.wait()
            raise

    async def _finish(
        self, process: Process, stdin: str, stdout: _Output, stderr: _Output, status: int
    ) -> SandboxResult:
        timed_out = False

        def time_out() -> None:
            nonlocal timed_out
            timed_out = process.returncode is None
            _kill(process)

        timer = asyncio.get_running_loop().call_later(self._max_seconds, time_out)
        try:
            await _ended(process, stdin, stdout, stderr)
        except BaseException:
            _kill(process)
            await _ended(process, "", stdout, stderr)
            raise
        finally:
            timer.cancel()
        truncated = stdout.full or stderr.full
        exit_code = _exit_code(status)
        if exit_code is None and not timed_out and not truncated:
            raise SandboxError(
                f"bwrap could not run anything: {shown(stderr.text).strip()}. It needs bubblewrap "
                "0.8 or later, and user namespaces: check `sysctl user.max_user_namespaces`, "
                "AppArmor's restriction of them (Ubuntu), or the container's seccomp profile"
            )
        return SandboxResult(
            stdout=stdout.text,
            stderr=stderr.text,
            exit_code=None if timed_out or truncated else exit_code,
            timed_out=timed_out,
            truncated=truncated,
        )


class _Output:
    """What a program prints, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._stream = StreamReader()
        self._transport: asyncio.ReadTransport | None = None
        self._left = limit
        self._kept = bytearray()
        self.full = False

    @property
    def text(self) -> str:
        return self._kept.decode(errors="replace")

    async def open(self, user: _User | None) -> int:
        """Where the program is to write to."""
        here, there = os.pipe()
        try:
            if user is not None:  # it may open its output anew, by the name of /dev/stdout
                os.fchown(there, user.uid, user.gid)
            self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: StreamReaderProtocol(self._stream), os.fdopen(here, "rb", 0)
            )
        except BaseException:
            os.close(there)
            raise
        return there

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def read(self, process: Process) -> None:
        """Read to the end, and stop the process once it printed too much."""
        while chunk := await self._stream.read(_CHUNK):
            self._kept += chunk[: self._left]
            if len(chunk) > self._left:
                self.full = True
                _kill(process)
            self._left -= min(len(chunk), self._left)


async def _ended(process: Process, stdin: str, stdout: _Output, stderr: _Output) -> None:
    await asyncio.gather(
        _feed(cast(StreamWriter, process.stdin), stdin),
        stdout.read(process),
        stderr.read(process),
        process.wait(),
    )


async def _feed(stream: StreamWriter, text: str) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it need not read what it is given
        stream.write(text.encode(errors="replace"))
        await stream.drain()
    stream.close()


def _kill(process: Process) -> None:
    # bwrap and the first process of its namespace, which is bwrap as well, stay in the group from
    # the fork on; with that first process the kernel ends all others. --new-session takes it out
    # of the group, and --die-with-parent comes later: in between, it would outlive the group.
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _exit_code(status: int) -> int | None:
    """The program's exit code, which bwrap reports apart from its own."""
    try:
        reported = os.read(status, 4096)
    except BlockingIOError:
        return None
    for line in reported.splitlines():
        if (code := json.loads(line).get("exit-code")) is not None:
            return code
    return None


_HOME: Final = "/tmp/home"  # noqa: S108 - within the sandbox
_NAMESPACES: Final = (
    *("--unshare-all", "--unshare-user", "--disable-userns", "--uid", "1000", "--gid", "1000"),
    *("--hostname", "sandbox", "--die-with-parent", "--clearenv"),
    *("--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin", "--setenv", "HOME", _HOME),
    *("--setenv", "LANG", "C.UTF-8"),
)


def _system() -> list[str]:
    """What programs need of the system, read-only: no more of /etc than it takes to find them."""
    options = ["--ro-bind", "/usr", "/usr"]
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
        if os.path.islink(name):
            options += ["--symlink", os.readlink(name), name]
        else:
            options += ["--ro-bind-try", name, name]
    for name in ("/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime"):
        options += ["--ro-bind-try", name, name]
    return options


def _private(size: int) -> list[str]:
    """Folders of its own, none of them without a limit: their files are in memory."""
    return [
        *("--proc", "/proc", "--dev", "/dev"),
        *("--size", str(_SHARED_MEMORY), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"),  # noqa: S108
        *("--size", str(size), "--tmpfs", "/tmp", "--dir", _HOME),  # noqa: S108
    ]


def _installed(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise SandboxError(
            f"{name!r} is needed to run code in a sandbox, and is not here; {_INSTALL}"
        )
    return found


def _existing(folder: str | os.PathLike[str]) -> Path:
    path = Path(folder).resolve()
    if not path.is_dir():
        raise NotADirectoryError(f"a sandbox needs folders that exist; got {str(folder)!r}")
    return path


@dataclass(frozen=True, slots=True)
class _User:
    """Whom a program runs as."""

    uid: int
    gid: int


def _unprivileged(workspace: Path | None) -> _User | None:
    """Whom to run as instead of root; None for who we are."""
    if os.geteuid() != 0:
        return None
    if workspace is None:
        return _User(_NOBODY, _NOBODY)
    owner = workspace.stat()
    if owner.st_uid == 0:
        raise PermissionError(
            f"root owns {str(workspace)!r}, and code in a sandbox does not run as root: give the "
            "folder to another user (chown), or do not run as root"
        )
    return _User(owner.st_uid, owner.st_gid)
