"""Spans out of a file that has an OTLP/JSON export request on each line, also while it grows.

The collector's file exporter writes such files, and `configure(file=...)` does.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from . import otlp_json
from .otlp_values import NotARequest
from .spans import Span
from .store import SpanStore

_LOGGER: Final = logging.getLogger("pyagent_exporters.viewer")
_LONGEST: Final = 32 * 1024 * 1024  # bytes of a line
_PIECE: Final = 1024 * 1024
_AT_ONCE: Final = 2000  # spans that are stored together


class Lines:
    """Reads a file into a store. A line that is no export request is skipped: see `skipped`.

    A file that is not there yet is waited for; one that is moved away is read to its end before the
    new one at its place, and one that is cut short is read from its beginning.
    """

    def __init__(self, path: Path, store: SpanStore) -> None:
        self._path = path
        self._store = store
        self._file: FileIO | None = None
        self._rest = b""  # of a line whose end has not come
        self._is_too_long = False  # the rest of the line is not kept
        self.skipped = 0  # lines, and spans within others

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self, stop: threading.Event | None = None) -> int:
        """Store what has come since the last time, or until `stop` is set; how many spans it was.

        Raises OSError if the file cannot be read.
        """
        stop = stop or threading.Event()
        count = self._read_on(stop)
        if self._is_another_file() and not stop.is_set():
            self.close()
            count += self._read_on(stop)
        return count

    def follow(self, stop: threading.Event, *, every: float = 0.5) -> None:
        """Go on reading, looking `every` so many seconds, until `stop` is set."""
        is_told = False
        while not stop.is_set():
            try:
                self.read(stop)
                is_told = False
            except (OSError, sqlite3.Error) as error:
                if not is_told:
                    _LOGGER.warning("%r cannot be read just now: %s", str(self._path), error)
                is_told = True
            stop.wait(every)

    def _read_on(self, stop: threading.Event) -> int:
        if self._file is None:
            try:
                self._file = FileIO(self._path)
            except FileNotFoundError:
                return 0
            self._rest, self._is_too_long = b"", False
        elif os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)
            self._rest, self._is_too_long = b"", False
        count = 0
        spans: list[Span] = []
        for line in self._lines(self._file):
            spans += self._spans(line)
            if len(spans) >= _AT_ONCE:
                self._store.add(spans)
                count, spans = count + len(spans), []
            if stop.is_set():
                break
        if spans:
            self._store.add(spans)
        return count + len(spans)

    def _is_another_file(self) -> bool:
        if self._file is None:
            return False
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        here = os.fstat(self._file.fileno())
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)

    def _lines(self, file: FileIO) -> Iterator[bytes]:
        """The whole lines; and the last one before its end has come, for that may be all of it."""
        has_come = False
        while piece := file.read(_PIECE):
            has_come = True
            *whole, rest = piece.split(b"\n")
            if whole:
                whole[0] = self._rest + whole[0]
                if self._is_too_long:
                    del whole[0]
                self._rest, self._is_too_long = b"", False
                yield from whole
            self._keep(rest)
        if has_come and self._rest:
            yield self._rest

    def _keep(self, rest: bytes) -> None:
        if not self._is_too_long:
            self._rest += rest
        if len(self._rest) > _LONGEST:
            self._rest, self._is_too_long = b"", True
            self.skipped += 1

    def _spans(self, line: bytes) -> tuple[Span, ...]:
        if not line.strip():
            return ()
        try:
            received = otlp_json.decode(line)
        except NotARequest:
            if line is not self._rest:  # which may be half of one
                self.skipped += 1
            return ()
        if line is not self._rest:
            self.skipped += received.rejected
        return received.spans
