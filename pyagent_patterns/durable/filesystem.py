"""What disk a journal is on: SQLite's locks cannot be relied on across a network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pyagent_patterns.errors import JournalError

_MOUNTS: Final = Path("/proc/self/mountinfo")
_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb", "smb3", "smbfs", "afs", "ceph", "lustre", "gpfs", "beegfs",
     "glusterfs", "fuse.glusterfs", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone",
     "ncpfs", "9p", "davfs", "fuse.davfs2"}
)  # fmt: skip


def refuse_network(path: Path) -> None:
    """Raise JournalError if `path` is on a network file system.

    What is mounted where can be read on Linux only; elsewhere nothing is refused.
    """
    try:
        mounts = _MOUNTS.read_text(errors="surrogateescape")
    except OSError:
        return
    kind = file_system(Path(os.path.realpath(path)), mounts)
    if kind in _NETWORK:
        raise JournalError(
            f"the journal {str(path)!r} is on a network file system ({kind}), where locks and "
            "syncs cannot be relied on; put it on a local disk, or use PostgreSQL for many machines"
        )


def file_system(path: Path, mounts: str) -> str | None:
    """The type of file system that an absolute path is on, by the text of a `mountinfo` file."""
    best, kind = -1, None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = Path(fields[4].encode().decode("unicode_escape"))  # \040 is a space
        # Of several mounts on one another, the last counts.
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split(" ")[0]
    return kind
