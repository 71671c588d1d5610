"""How values are stored: as JSON text in the row, or, where they are large, as a file beside it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from pyagent_patterns.errors import JournalError
from pyagent_providers.types import JSONValue

INLINE_LIMIT: Final = 256 * 1024  # bytes of JSON text kept in the row itself
LIMIT: Final = 32 * 1024 * 1024
_MARK: Final = "@"  # no JSON text begins with it


_encode: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class Values:
    """Values of one journal. A large one is stored under the hash of its content, so only once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, what: str, value: JSONValue) -> str:
        """The text to store for `value`; a large one is in its file, for good, on return.

        Raises JournalError, naming `what`, for a value that is too large or not JSON.
        """
        try:
            text = _encode(value)
        except (TypeError, ValueError) as error:
            raise JournalError(f"the value of {what} cannot be stored as JSON: {error}") from error
        if len(text) <= INLINE_LIMIT:  # ASCII: as many bytes
            return text
        if len(text) > LIMIT:
            raise JournalError(
                f"the value of {what} is {len(text) / 2**20:.1f} MB of JSON; the journal takes at "
                f"most {LIMIT // 2**20} MB: keep large data elsewhere and pass a reference to it"
            )
        name = hashlib.sha256(text.encode()).hexdigest()
        try:
            self._write(name, text)
        except OSError as error:
            raise JournalError(
                f"the value of {what} cannot be written to {str(self._directory)!r}: {error}"
            ) from error
        return _MARK + name

    def get(self, stored: str) -> JSONValue:
        """The value that `put` stored. Raises JournalError if its file is gone or changed."""
        return json.loads(self.text(stored))

    def text(self, stored: str) -> str:
        if not stored.startswith(_MARK):
            return stored
        name = stored.removeprefix(_MARK)
        path = self._directory / name
        try:
            text = path.read_text()
        except OSError as error:
            raise JournalError(f"a value of the journal cannot be read: {error}") from error
        if hashlib.sha256(text.encode()).hexdigest() != name:
            raise JournalError(f"the value in {str(path)!r} is corrupted: not what was stored")
        return text

    def keep_only(self, stored: set[str], *, written_before: float) -> None:
        """Delete the files that none of `stored` refers to, but none written since that time."""
        names = {text.removeprefix(_MARK) for text in stored if text.startswith(_MARK)}
        if not self._directory.is_dir():
            return
        for path in self._directory.iterdir():
            if path.name not in names and path.stat().st_mtime < written_before:
                path.unlink(missing_ok=True)

    def _write(self, name: str, text: str) -> None:
        """Whole or not at all: under its name it appears only when it is on disk."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        path = self._directory / name
        if path.exists():
            os.utime(path)  # so that it is not taken for an old one that nobody needs
            return
        descriptor, temporary = tempfile.mkstemp(dir=self._directory)  # mode 0600
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
