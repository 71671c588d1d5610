"""Who is executing a run: a name that says whether its process is still there."""

from __future__ import annotations

import json
import os
import platform
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Owner:
    """One execution of a run in one process.

    `place` is the same only for processes that can see one another: the machine as it was
    started, and the space its process numbers are in.
    """

    place: str
    pid: int
    started: str | None
    execution: str

    @classmethod
    def new(cls) -> Owner:
        """This process, for one more execution."""
        pid = os.getpid()
        return cls(_place(), pid, _own_start(pid), uuid.uuid4().hex)

    @classmethod
    def parse(cls, text: str) -> Owner:
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    @property
    def shown(self) -> str:
        return f"process {self.pid}"

    def is_gone(self) -> bool:
        """Whether the process is known to be dead; False where that cannot be seen from here."""
        return self.place == _place() and _started(self.pid) != self.started


@cache
def _place() -> str:
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)


@cache
def _own_start(pid: int) -> str | None:
    """Of the process itself; by its number, as a process may fork."""
    return _started(pid)


def _started(pid: int) -> str | None:
    """When a process was started; None if there is none, or it has ended and is not yet reaped.

    Where the system does not tell, only that it is there.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "?"
