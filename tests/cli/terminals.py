"""The command in a terminal, with somebody who types."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Sequence

CTRL_C = "\x03"
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def in_terminal(
    *arguments: str, typed: Sequence[tuple[str, str]] = (), term: str = "xterm", out: str = ""
) -> tuple[int, str]:
    """The command's status, and all that its terminal was sent, without colours.

    Of `typed` are what to wait for and what is typed then, one after another. With `out` stdout
    goes to that file instead.
    """
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pyagent_patterns.cli", *arguments]
    stdout = os.open(out, os.O_WRONLY | os.O_CREAT) if out else theirs
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=stdout,
        stderr=theirs,
        env={**os.environ, "TERM": term},
        preexec_fn=_take_terminal,
    )
    os.close(theirs)
    if out:
        os.close(stdout)
    sent, waiting, seen = "", list(typed), 0
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if select.select([ours], [], [], 0.05)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            sent += _ESCAPE.sub("", piece.decode(errors="replace"))
        if waiting and waiting[0][0] in sent[seen:]:
            seen = len(sent)
            os.write(ours, waiting.pop(0)[1].encode())
    else:
        process.kill()
    os.close(ours)
    return process.wait(timeout=30), sent.replace("\r", "")


def _take_terminal() -> None:
    """So that what is typed there, Ctrl-C too, reaches the process."""
    import fcntl
    import signal
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
