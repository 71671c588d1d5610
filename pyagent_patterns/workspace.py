"""Files in one folder as tools: whatever a model writes for a path, nothing outside is touched."""

from __future__ import annotations

import codecs
import errno
import os
import secrets
import stat
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeAlias

from .tools import Tool, ToolError, tool

_LISTED: Final = 500  # entries in a listing
_SEARCHED: Final = 5_000  # entries looked at by a search
_SEARCHED_BYTES: Final = 50_000_000
_FOUND: Final = 100  # lines that a search gives
_LINE: Final = 200  # characters of such a line
_LARGEST: Final = 5_000_000  # bytes of a file that is written, edited or searched
_DEEPEST: Final = 32  # folders, one in another
_LONGEST_PATH: Final = 1_000  # characters
_LEAST_READ: Final = 1_000  # bytes


def _flags(*names: str) -> int:
    # Each is a bit of its own. Some are absent on Windows, where there is no Workspace.
    return sum(getattr(os, f"O_{name}", 0) for name in names)


_FOLDER: Final = _flags("RDONLY", "DIRECTORY", "NOFOLLOW", "CLOEXEC")
_READ: Final = _flags("RDONLY", "NOFOLLOW", "NONBLOCK", "NOCTTY", "CLOEXEC")
_NEW: Final = _flags("WRONLY", "CREAT", "EXCL", "NOFOLLOW", "CLOEXEC")


class Workspace:
    """A folder that agents may work in, and the tools for it. The methods are the tools.

    Paths are relative to `root`. Absolute ones, `..`, links, and what is neither a folder nor a
    text file (UTF-8) are refused. Every folder on the way is opened from the one above it, never
    through a link, so a link that is put there between a check and its use leads nowhere. Names
    with characters that do not print are refused, too.

    `max_read` is how many bytes of a file are given at once. A listing has 500 entries at most; a
    file to write, edit or search has 5 MB. What is left out is said.

    A file is replaced as a whole: readers find the old one or the new one, also after a crash.
    Changes made through one Workspace wait for each other, so agents that share files share it.

    Raises NotADirectoryError if `root` is no folder, NotImplementedError on Windows, where files
    cannot be opened this way.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, writable: bool = True, max_read: int = 50_000
    ) -> None:
        if os.open not in os.supports_dir_fd:
            raise NotImplementedError("a Workspace holds on Linux and macOS only")
        self.root = Path(root).resolve()
        if not self.root.is_dir():
            raise NotADirectoryError(f"a workspace needs a folder that exists; got {str(root)!r}")
        if max_read < _LEAST_READ:
            raise ValueError(f"max_read must be {_LEAST_READ} bytes or more; got {max_read!r}")
        self.writable = writable
        self.max_read = max_read
        self._changing = threading.Lock()

    def __repr__(self) -> str:
        return f"Workspace({str(self.root)!r}, writable={self.writable})"

    def tools(self) -> Sequence[Tool]:
        """`list_files`, `read_file` and `search_files`; if writable, `write_file`, `edit_file`."""
        reading = (self.list_files, self.read_file, self.search_files)
        changing = (self.write_file, self.edit_file) if self.writable else ()
        return [
            *(tool(effect="read")(method) for method in reading),
            *(tool(effect="idempotent")(method) for method in changing),
        ]

    def list_files(self, path: str = ".") -> str:
        """List the files and folders in a folder of the workspace, and in those below it.

        "." is the workspace itself. Folders end with "/".
        """
        with _telling(path):
            entries = list(islice(self._walk(_parts(path)), _LISTED + 1))
        lines = sorted(entry.line for entry in entries[:_LISTED])
        if len(entries) > _LISTED:
            lines.append(f"[{_LISTED} are listed, and there are more: list one folder at a time]")
        return "\n".join(lines) or "[the folder is empty]"

    def read_file(self, path: str, offset: int = 0) -> str:
        """Read a text file of the workspace; of a long one, the part from `offset` (in bytes)."""
        start = max(offset, 0)
        with _telling(path), self._file(_parts(path)) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(min(start, size))
            data = file.read(self.max_read)
        if not data:
            return f"[the end: it has {size} bytes]" if start else "[the file is empty]"
        last = start + len(data) >= size
        if start:  # it may be within a character
            skipped = next((n for n, byte in enumerate(data[:4]) if byte & 0xC0 != 0x80), 0)
            start, data = start + skipped, data[skipped:]
        text, used = _decoded(path, data, whole=last)
        if last and not start:
            return text
        more = "this is the end" if last else f"go on with offset={start + used}"
        return f"{text}\n[bytes {start} to {start + used} of {size}; {more}]"

    def search_files(self, text: str, path: str = ".") -> str:
        """Find the lines with exactly this text, in the text files of a folder and below it."""
        if not text:
            raise ToolError("give a text to search for")
        with _telling(path):
            found = list(islice(self._matches(text, _parts(path)), _FOUND + 1))
        if len(found) > _FOUND:
            found[_FOUND:] = ["[there are more: search one folder, or for a longer text]"]
        return "\n".join(found) or f"[no line has {text!r}]"

    def write_file(self, path: str, content: str) -> str:
        """Write a whole text file in the workspace, in place of one that is there.

        Folders on the way are made.
        """
        self._check_writable()
        with self._changing:
            return self._replace(path, content)

    def edit_file(self, path: str, old: str, new: str) -> str:
        """Replace a part of a text file in the workspace.

        `old` must be in the file exactly once, so give enough of what is around it.
        """
        self._check_writable()
        parts = _parts(path)
        with self._changing:
            with _telling(path), self._file(parts) as file:
                data = file.read(_LARGEST + 1)
            if len(data) > _LARGEST:
                raise ToolError(f"{path!r}: it is larger than {_LARGEST} bytes")
            text, _ = _decoded(path, data, whole=True)
            edited = _edited(path, text, old, new)
            if edited == text:
                return f"{path!r} reads so already; nothing was changed"
            if not _settled(path, edited, old, new):
                raise ToolError(
                    f"{path!r}: this would change its own result once more, if made again; give "
                    "more of what is around it"
                )
            return self._replace(path, edited)

    def _check_writable(self) -> None:
        if not self.writable:
            raise ToolError("this workspace is read-only")

    def _replace(self, path: str, content: str) -> str:
        data = content.encode()
        if len(data) > _LARGEST:
            raise ToolError(f"{path!r}: that is {len(data)} bytes, of at most {_LARGEST}")
        *folders, name = _parts(path) or (".",)
        with _telling(path), self._folder(folders, make=True) as folder:
            mode = _mode_to_keep(name, folder)
            # A name that no file has, so that nothing is opened that somebody else put there.
            new = f".{secrets.token_hex(8)}.tmp"
            file = os.fdopen(os.open(new, _NEW, 0o666, dir_fd=folder), "wb")
            try:
                with file:
                    file.write(data)
                    if mode is not None:
                        os.fchmod(file.fileno(), mode)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(new, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                os.unlink(new, dir_fd=folder)
                raise
        return f"{path!r} has {len(data)} bytes now"

    def _matches(self, text: str, top: _Parts) -> Iterator[str]:
        left = _SEARCHED_BYTES
        for count, entry in enumerate(self._walk(top)):
            if count == _SEARCHED or left < 0:
                yield "[the search ended here, there is more: search one folder at a time]"
                return
            if entry.kind != "file" or entry.size > _LARGEST:
                continue
            path = "/".join(entry.parts)
            # Gone meanwhile, not permitted, or no text: a search is of what can be read.
            with suppress(ToolError, OSError), self._file(entry.parts) as file:
                data = file.read(_LARGEST)
                left -= len(data)
                for number, line in enumerate(_decoded(path, data, whole=True)[0].split("\n"), 1):
                    if text in line:
                        yield f"{path}:{number}: {line.strip()[:_LINE]}"

    def _walk(self, top: _Parts) -> Iterator[_Entry]:
        """What is in a folder and below it, the nearest first. No link is followed."""
        folders = deque([top])
        while folders:
            parts = folders.popleft()
            try:
                entries = self._entries(parts)
            except OSError:
                if parts == top:
                    raise
                continue  # gone meanwhile, or not permitted
            yield from entries
            if len(parts) < _DEEPEST:
                folders += [e.parts for e in entries if e.kind == "folder" and e.usable]

    def _entries(self, parts: _Parts) -> list[_Entry]:
        entries: list[_Entry] = []
        with self._folder(parts) as folder, os.scandir(folder) as found:
            # A folder may have millions: no more are read than can be used.
            for entry in islice(found, _SEARCHED + 1):
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    entries.append(_Entry((*parts, entry.name), _kind(status), status.st_size))
        return sorted(entries, key=lambda entry: entry.parts)

    @contextmanager
    def _file(self, parts: _Parts) -> Generator[BinaryIO]:
        """A file opened for reading."""
        *folders, name = parts or (".",)
        with self._folder(folders) as folder:
            # Without O_NONBLOCK, to open a pipe would be to wait for somebody who writes to it.
            file = os.open(name, _READ, dir_fd=folder)
        with os.fdopen(file, "rb") as opened:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise ToolError(f"{'/'.join(parts)!r}: it is not a file")
            yield opened

    @contextmanager
    def _folder(self, parts: Sequence[str], *, make: bool = False) -> Generator[int]:
        """A folder opened one step at a time, so that no step can lead out."""
        folder = os.open(self.root, _FOLDER)
        try:
            for part in parts:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=folder)
                above, folder = folder, os.open(part, _FOLDER, dir_fd=folder)
                os.close(above)
            yield folder
        finally:
            os.close(folder)


_Parts: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    """Something in a folder."""

    parts: _Parts
    kind: Literal["file", "folder", "link", "other"]
    size: int

    @property
    def usable(self) -> bool:
        """Whether a model could name it."""
        return self.parts[-1].isprintable()

    @property
    def line(self) -> str:
        path = "/".join(self.parts)
        if not self.usable:
            return f"{path!a} [cannot be opened: characters that do not print]"
        match self.kind:
            case "folder":
                return f"{path}/"
            case "file":
                return f"{path} ({self.size} bytes)"
            case "link":
                return f"{path} [a link, not followed]"
            case "other":
                return f"{path} [not a file]"


def _kind(status: os.stat_result) -> Literal["file", "folder", "link", "other"]:
    if stat.S_ISDIR(status.st_mode):
        return "folder"
    if stat.S_ISLNK(status.st_mode):
        return "link"
    return "file" if stat.S_ISREG(status.st_mode) else "other"


def _mode_to_keep(name: str, folder: int) -> int | None:
    """The permissions of the file that is to be replaced, if there is one."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "")
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "")
    if not stat.S_ISREG(status.st_mode):
        raise ToolError(f"{name!r}: it is not a file")
    return stat.S_IMODE(status.st_mode)


def _parts(path: str) -> _Parts:
    """The names on the way to a file, or a `ToolError` for a path that is not to be tried."""
    if len(path) > _LONGEST_PATH:
        raise ToolError(f"a path has at most {_LONGEST_PATH} characters; this one has {len(path)}")
    if not path.isprintable():
        raise ToolError(f"{path!r}: a path has no characters that do not print")
    if path.startswith("/"):
        raise ToolError(f"{path!r}: paths are relative to the workspace, without a leading '/'")
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ToolError(f"{path!r}: a path cannot leave the workspace, nor have '..' in it")
    if len(parts) > _DEEPEST:
        raise ToolError(f"{path!r}: a path has at most {_DEEPEST} parts")
    return parts


def _decoded(path: str, data: bytes, *, whole: bool) -> tuple[str, int]:
    """The text, and how many bytes it is; unless `whole`, the last character may be cut."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(data, whole)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ToolError(f"{path!r}: it is not a text file (UTF-8)")
    return text, len(data) - len(decoder.getstate()[0])


def _edited(path: str, text: str, old: str, new: str) -> str:
    """The text after the edit, or as it is if the edit was made already."""
    if not old:
        raise ToolError("`old` is empty; to write a whole file, use write_file")
    at = text.find(old)
    if at < 0:
        if new and new in text:
            return text
        raise ToolError(f"{path!r}: `old` is not in it; read it again")
    if text.find(old, at + 1) >= 0:
        raise ToolError(f"{path!r}: `old` is in it more than once; give more of what is around it")
    end = at + len(old)
    if text.find(new, max(0, end - len(new)), at + len(new)) >= 0:  # `old` stands within `new`
        return text
    return text[:at] + new + text[end:]


def _settled(path: str, text: str, old: str, new: str) -> bool:
    """Whether the edit leaves its own result alone: after a crash, a call may be made again."""
    try:
        return _edited(path, text, old, new) == text
    except ToolError:
        return True


_WHY: Final = {
    errno.ENOENT: "there is no such file or folder",
    errno.ENOTDIR: "a part of it is not a folder, or is a link, and links are not followed",
    errno.ELOOP: "it is a link, and links are not followed",
    errno.EISDIR: "it is a folder",
    errno.ENXIO: "it is not a file",
    errno.EACCES: "that is not permitted",
    errno.ENAMETOOLONG: "a name in it is too long",
    errno.ENOSPC: "there is no space left",
}


@contextmanager
def _telling(path: str) -> Generator[None]:
    """Tell the model what went wrong, without the place of the workspace on this machine."""
    try:
        yield
    except OSError as error:
        why = _WHY.get(error.errno or 0) or error.strerror or type(error).__name__
        raise ToolError(f"{path!r}: {why}") from error
