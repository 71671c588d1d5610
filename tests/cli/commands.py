"""The command in this process, as a process and in a terminal; and runs for it to work on."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE

from typer.testing import CliRunner, Result

from pyagent_patterns.base import Pattern
from pyagent_patterns.cli.app import app
from pyagent_patterns.durable import teams
from pyagent_patterns.errors import PyAgentError


def pyagent(*arguments: str, input: str | None = None) -> Result:
    """The command in this process. What it raised, other than to exit, is raised here."""
    result = CliRunner().invoke(app, arguments, input=input)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def start(*arguments: str, out: int = PIPE, err: int = PIPE) -> subprocess.Popen[bytes]:
    """The command as a process of its own; a terminal that it has shows no colours."""
    command = [sys.executable, "-m", "pyagent_patterns.cli", *arguments]
    return subprocess.Popen(
        command,
        stdout=out,
        stderr=err,
        env={**os.environ, "TERM": "dumb"},
        preexec_fn=_hear_ctrl_c,
    )


def _hear_ctrl_c() -> None:
    """A shell has what it runs in the background ignore it, and that is inherited."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pyagent_process(*arguments: str) -> tuple[int, bytes, str]:
    """The status of the command as a process, the bytes of its answer, and what it said of it."""
    with start(*arguments) as process:
        out, err = process.communicate(timeout=30)
    return process.returncode, out, err.decode()


def in_terminal(*arguments: str) -> str:
    """What a terminal is sent by the command."""
    ours, theirs = pty.openpty()
    with start(*arguments, out=theirs, err=theirs) as process:
        os.close(theirs)
        sent = b""
        try:
            while piece := os.read(ours, 65536):
                sent += piece
        except OSError:  # how Linux says that the other end is closed
            pass
        process.wait(timeout=30)
    os.close(ours)
    return sent.decode()


def load(newsroom: Path, name: str = "team") -> Pattern:
    found = teams.load(f"{newsroom}:{name}")
    assert isinstance(found, Pattern)
    return found


def ran(newsroom: Path, run_id: str, name: str = "team", task: str = "Why?") -> None:
    """Have a run on record, whatever came of it."""
    with suppress(PyAgentError):
        load(newsroom, name).run_sync(task, durable="runs.db", run_id=run_id)


def killed(newsroom: Path, run_id: str, at: str) -> None:
    """Have a run on record whose process died in a call."""
    command = [sys.executable, str(newsroom), "Why?", run_id]
    assert subprocess.run(command, env={**os.environ, "DIE_AT": at}, check=False).returncode == 9


def edited(newsroom: Path, old: str, new: str) -> str:
    """The name of the same team after an edit of its file."""
    path = newsroom.with_name("edited.py")
    path.write_text(newsroom.read_text().replace(old, new))
    return f"{path}:team"


def table(stdout: str) -> list[Sequence[str]]:
    return [re.split(r"\s{2,}", row.strip()) for row in stdout.splitlines() if row.strip()]


def files(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Everything in the directory that matters to a journal."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in directory.iterdir()
        if path.is_file()
    }
