"""The store's SQLite file: its tables, and how it is opened."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from pyagent_exporters.errors import ExporterError

FORMAT: Final = 1  # `PRAGMA user_version`
APPLICATION: Final = 0x50_79_41_56  # "PyAV": `PRAGMA application_id`
_BUSY_SECONDS: Final = 10.0
_CACHE: Final = "PRAGMA cache_size = -65536"  # KiB

# Money is whole numbers of 1e-12 US dollars. `run` and `call` are worked out from `span`.
_SCHEMA: Final = """
CREATE TABLE span (
    trace TEXT NOT NULL,
    id TEXT NOT NULL,
    parent TEXT,
    begun INTEGER NOT NULL,         -- Unix nanoseconds
    ended INTEGER,
    role TEXT NOT NULL,
    own_run TEXT,                   -- the run id that it bears itself
    name TEXT NOT NULL,
    service TEXT,
    pattern TEXT,
    agent TEXT,
    phase TEXT,
    path TEXT,
    model TEXT,
    provider TEXT,
    tenant TEXT,
    user TEXT,
    session TEXT,
    failed INTEGER NOT NULL,
    error TEXT,
    run_status TEXT,
    replayed INTEGER NOT NULL,
    cost INTEGER,
    unpriced INTEGER NOT NULL,
    input INTEGER,
    output INTEGER,
    run TEXT NOT NULL,              -- the run that it is shown in
    body BLOB NOT NULL              -- the whole span, as JSON
);
CREATE UNIQUE INDEX span_by_id ON span (trace, id);
CREATE INDEX span_by_parent ON span (trace, parent);
CREATE INDEX span_by_own_run ON span (trace, own_run) WHERE own_run IS NOT NULL;
CREATE INDEX span_by_run ON span (run, begun);
CREATE TABLE run (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    trace TEXT NOT NULL,
    pattern TEXT NOT NULL,
    name TEXT NOT NULL,
    service TEXT,
    tenant TEXT,
    user TEXT,
    session TEXT,
    status TEXT NOT NULL,
    quiet_since INTEGER,            -- of a run that has not ended, the last that is known of it
    begun INTEGER NOT NULL,
    ended INTEGER,
    duration INTEGER,               -- nanoseconds
    cost INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    input INTEGER NOT NULL,
    output INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    spans INTEGER NOT NULL,
    words TEXT NOT NULL,            -- what a search looks in, in lower case
    stale INTEGER NOT NULL,         -- to be worked out anew before it is read
    version INTEGER NOT NULL
);
CREATE INDEX run_by_begun ON run (begun);
CREATE INDEX run_by_cost ON run (cost);
CREATE INDEX run_by_duration ON run (duration);
CREATE INDEX run_by_tokens ON run (tokens);
CREATE INDEX run_by_trace ON run (trace);
CREATE TABLE call (
    run INTEGER NOT NULL REFERENCES run (n),
    begun INTEGER NOT NULL,
    agent TEXT NOT NULL,
    phase TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    path TEXT NOT NULL,
    tenant TEXT NOT NULL,
    pattern TEXT NOT NULL,
    cost INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    input INTEGER NOT NULL,
    output INTEGER NOT NULL
);
CREATE INDEX call_by_run ON call (run, model);
CREATE INDEX call_by_model ON call (model)
"""


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open the file, made with mode 0600 if there is none.

    Raises ExporterError for a file that is not a viewer's, or cannot be used.
    """
    try:
        if not path.exists():  # before SQLite does it: prompts and answers are the user's own
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        db = _connect(path)
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, error) from error
    try:
        _check(db, path)
        db.execute(_CACHE)
        # What is lost in a power cut can be had again: it is a copy of what was sent.
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        _create(db)
    except sqlite3.Error as error:
        db.close()
        raise _unusable(path, error) from error
    except ExporterError:
        db.close()
        raise
    return db


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Another connection to a file that is open for writing."""
    db = _connect(path)
    db.execute(_CACHE)
    db.execute("PRAGMA query_only = ON")
    return db


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    return db


def _check(db: sqlite3.Connection, path: Path) -> None:
    [application] = db.execute("PRAGMA application_id").fetchone()
    [version] = db.execute("PRAGMA user_version").fetchone()
    [tables] = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != APPLICATION:
        raise ExporterError(
            f"{str(path)!r} is a SQLite database of something else; name another file"
        )
    if version > FORMAT:
        raise ExporterError(
            f"the viewer's store {str(path)!r} has format {version}; this version of pyagent-sdk "
            f"knows format {FORMAT}: upgrade it, or name another file"
        )


def _create(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")  # two processes may do this at once
    [version] = db.execute("PRAGMA user_version").fetchone()
    if version == 0:
        for statement in _SCHEMA.split(";\n"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {FORMAT}")
    db.execute("COMMIT")


def _unusable(path: Path, error: Exception) -> ExporterError:
    return ExporterError(
        f"the viewer's store {str(path)!r} cannot be used ({error}); its folder must exist and be "
        "writable, and the file not be another program's"
    )
