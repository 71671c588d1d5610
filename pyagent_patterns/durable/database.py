"""One SQLite file, one connection, one thread that owns it: whatever waits is committed together.

SQLite's own errors come out as `JournalError`s that say what is wrong with the file and what to do.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from pyagent_patterns.errors import JournalError

from .filesystem import refuse_network

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

FORMAT: Final = 1  # the journal format's major version: `PRAGMA user_version`
_APPLICATION: Final = 0x50_79_41_67  # "PyAg": `PRAGMA application_id`
_BUSY_SECONDS: Final = 10.0  # to wait for another process that writes
_BATCH: Final = 512  # operations in one commit
# Before 3.51.3 resetting a write-ahead log could corrupt the file.
_WAL_IS_SAFE: Final = sqlite3.sqlite_version_info >= (3, 51, 3)

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS run (
    id TEXT PRIMARY KEY,
    pattern TEXT NOT NULL,
    team TEXT,                      -- where to import it from: package.module:object
    task TEXT NOT NULL,             -- JSON text, or a blob's name
    status TEXT NOT NULL,
    result TEXT,                    -- JSON object, or a blob's name
    error TEXT,
    cost TEXT,                      -- US dollars, when the execution ended
    unpriced INTEGER,
    tokens INTEGER,
    execution INTEGER NOT NULL,     -- how often it was begun or gone on with
    owner TEXT,                     -- the execution that may write; NULL when none does
    lease REAL,                     -- Unix time at which the owner's claim ends
    traceparent TEXT,
    wake_at REAL,
    waiting_for TEXT,               -- JSON list of signal names
    forked_from TEXT,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    name TEXT                       -- the pattern's own; files had no such column once
);
CREATE INDEX IF NOT EXISTS run_by_status ON run (status, created);
CREATE TABLE IF NOT EXISTS call (
    run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    activity TEXT NOT NULL,
    input_hash TEXT NOT NULL,
    input TEXT NOT NULL,            -- JSON object, or a blob's name
    state TEXT NOT NULL,            -- begun, done
    begun INTEGER NOT NULL,         -- how often: more than once may have been paid more than once
    copied INTEGER NOT NULL,        -- from the run this one was forked from
    value TEXT,                     -- JSON object, or a blob's name
    t0 REAL NOT NULL,
    t1 REAL,
    PRIMARY KEY (run, key)
);
CREATE TABLE IF NOT EXISTS signal (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    sent REAL NOT NULL,
    taken_by TEXT                   -- the key of the wait that took it
);
CREATE INDEX IF NOT EXISTS signal_by_run ON signal (run, name);
"""


class Heartbeat(Protocol):
    """What the database's thread does by itself, about every `seconds`, while it is `wanted`."""

    @property
    def seconds(self) -> float: ...
    def wanted(self) -> bool: ...
    def operation(self, connection: sqlite3.Connection) -> None: ...
    def done(self, error: Exception | None) -> None: ...


class Database:
    """The file, opened on the first operation. Safe to use from any thread and event loop."""

    def __init__(self, path: Path, heartbeat: Heartbeat | None = None) -> None:
        self.path = path
        self._heartbeat = heartbeat
        self._next_beat = 0.0
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._process: int | None = None
        self._closed = False

    async def do(self, operation: Operation[T], *, write: bool = True) -> T:
        """Run `operation` on the connection; returns when what it wrote is on disk.

        It sees the database alone. It may raise only before it has written anything. Raises
        JournalError when the database cannot be used; nothing of the operation is then stored.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        job = _Job(operation, write, loop, future)
        with self._lock:
            if self._closed:
                raise JournalError(f"the journal {str(self.path)!r} is closed")
            if self._thread is None:
                self._process = os.getpid()
                self._thread = threading.Thread(target=self._work, name="pyagent-journal")
                self._thread.daemon = True  # a commit that is cut off is rolled back
                self._thread.start()
            elif self._process != os.getpid():
                raise JournalError(
                    f"the journal {str(self.path)!r} was opened before this process was forked "
                    "off; open it again here"
                )
            self._queue.put(job)
        return await future

    def close(self) -> None:
        """Finish what waits, and close the file."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._queue.put(None)
            thread.join()

    def _work(self) -> None:
        while (jobs := self._next_jobs()) is not None:
            if jobs:
                self._commit(jobs)
            _resolve(jobs)
            self._beat()
        if self._connection is not None:
            self._connection.close()

    def _next_jobs(self) -> list[_Job] | None:
        """What waits, at least one, none when it is time for a heartbeat; None at the end."""
        beating = self._heartbeat is not None and self._heartbeat.wanted()
        timeout = max(0.0, self._next_beat - time.monotonic()) if beating else None
        try:
            job = self._queue.get(timeout=timeout)
        except queue.Empty:
            return []
        jobs: list[_Job] = []
        while job is not None:
            jobs.append(job)
            if len(jobs) == _BATCH or self._queue.empty():
                return jobs
            job = self._queue.get_nowait()
        if jobs:
            self._queue.put(None)  # the end, after these
        return jobs or None

    def _beat(self) -> None:
        heartbeat, now = self._heartbeat, time.monotonic()
        if heartbeat is None or now < self._next_beat or not heartbeat.wanted():
            return
        self._next_beat = now + heartbeat.seconds
        job = _Job(heartbeat.operation, True, None, None)
        self._commit([job])
        heartbeat.done(job.error)

    def _commit(self, jobs: Sequence[_Job]) -> None:
        connection: sqlite3.Connection | None = None
        try:
            if self._connection is None:
                self._connection = _open(self.path)
            connection = self._connection
            write = any(job.write for job in jobs)
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            for job in jobs:
                job.run(connection)
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError, JournalError) as error:
            if connection is not None and connection.in_transaction:
                connection.execute("ROLLBACK")
            for job in jobs:
                job.error = _explained(self.path, error)


class _Job:
    """An operation that waits, or has its outcome."""

    __slots__ = ("error", "future", "loop", "operation", "value", "write")

    def __init__(
        self,
        operation: Operation[Any],
        write: bool,
        loop: asyncio.AbstractEventLoop | None,
        future: asyncio.Future[Any] | None,
    ) -> None:
        self.operation = operation
        self.write = write
        self.loop = loop
        self.future = future
        self.value: object = None
        self.error: Exception | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        try:
            self.value = self.operation(connection)
        except sqlite3.Error:
            raise
        except Exception as error:
            self.error = error


def _resolve(jobs: Sequence[_Job]) -> None:
    """Tell each event loop of all its jobs at once: waking it costs more than a job does."""
    loops: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        if job.loop is not None:
            loops.setdefault(job.loop, []).append(job)
    for loop, its in loops.items():
        with suppress(RuntimeError):  # closed: nobody waits any more
            loop.call_soon_threadsafe(_hand_over, its)


def _hand_over(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        if job.future is None or job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.value)


def _open(path: Path) -> sqlite3.Connection:
    refuse_network(path)
    if not path.parent.is_dir():
        raise JournalError(f"the journal {str(path)!r} has no folder to be in; make it first")
    new = not path.exists()
    if new:  # before SQLite does it: prompts and answers are the user's own
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    connection.row_factory = sqlite3.Row
    try:
        _check_format(connection, path)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        if os.access(path, os.W_OK):
            connection.execute(f"PRAGMA journal_mode = {'WAL' if _WAL_IS_SAFE else 'PERSIST'}")
            _create(connection)
        if new:
            _sync_directory(path.parent)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    [application] = connection.execute("PRAGMA application_id").fetchone()
    [version] = connection.execute("PRAGMA user_version").fetchone()
    [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != _APPLICATION:
        raise JournalError(
            f"{str(path)!r} is a SQLite database of something else; name another file"
        )
    if version > FORMAT:
        raise JournalError(
            f"the journal {str(path)!r} has format {version}; this version of pyagent-sdk knows "
            f"format {FORMAT}: upgrade it"
        )


def _create(connection: sqlite3.Connection) -> None:
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version == FORMAT and _has_names(connection):
        return
    connection.execute("BEGIN IMMEDIATE")  # two processes may do this at once
    for statement in _SCHEMA.split(";\n"):
        connection.execute(statement)
    if not _has_names(connection):  # to older versions of this package it is nothing
        connection.execute("ALTER TABLE run ADD COLUMN name TEXT")
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.execute("COMMIT")


def _has_names(connection: sqlite3.Connection) -> bool:
    found = connection.execute("SELECT 1 FROM pragma_table_info('run') WHERE name = 'name'")
    return found.fetchone() is not None


def _sync_directory(directory: Path) -> None:
    """So that a new file's name survives a power cut too."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_READ_ONLY: Final = "it is read-only; make it and its folder writable, or name another file"
_REMEDIES: Final = (
    # What SQLite says, and what its reader wants to know.
    ("locked", f"another process has kept it locked for {_BUSY_SECONDS:.0f} s; end that one"),
    ("full", "the disk is full; free some space, then resume the run"),
    ("readonly", _READ_ONLY),
    ("no column named name", _READ_ONLY),  # which could not be added
    ("malformed", "it is corrupted; restore it from a copy, or name another file"),
    ("not a database", "it is corrupted or not a journal; restore it, or name another file"),
    ("unable to open", "it cannot be opened; the folder must exist and be writable"),
    ("disk I/O error", "the disk refused a read or a write; see the system's log"),
)


def _explained(path: Path, error: Exception) -> JournalError:
    if isinstance(error, JournalError):
        return error
    said = str(error)
    remedy = next((text for sign, text in _REMEDIES if sign in said), "see the cause")
    explained = JournalError(f"the journal {str(path)!r} cannot be used: {remedy} ({said})")
    explained.__cause__ = error
    return explained
