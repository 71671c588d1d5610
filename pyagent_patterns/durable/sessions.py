"""Conversations in a file, next to nothing else: stdlib SQLite."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from pyagent_patterns.session import Summary, Turn
from pyagent_providers.redaction import redacted


class FileSession:
    """The conversation `session_id` in a file that can hold many. A `Session`.

    The file has what users and models wrote, without secrets, and is readable by its owner alone
    (mode 0600). Several processes may use it at once. Raises sqlite3.Error when it cannot be read
    or written.
    """

    def __init__(self, path: str | os.PathLike[str], session_id: str) -> None:
        self.path = Path(path)
        self.session_id = session_id

    async def turns(self) -> Sequence[Turn]:
        return await asyncio.to_thread(self._read)

    async def add(self, run_id: str, turn: Turn) -> None:
        await asyncio.to_thread(self._write, run_id, turn)

    async def summary(self) -> Summary | None:
        return await asyncio.to_thread(self._read_summary)

    async def keep(self, summary: Summary) -> None:
        await asyncio.to_thread(self._write_summary, summary)

    def _read(self) -> list[Turn]:
        with closing(self._connect()) as connection:
            rows = connection.execute(
                "SELECT task, answer FROM turn WHERE session = ? ORDER BY n", (self.session_id,)
            )
            return [Turn(task, answer) for task, answer in rows]

    def _write(self, run_id: str, turn: Turn) -> None:
        with closing(self._connect()) as connection, connection:
            connection.execute(
                "INSERT INTO turn (session, run, task, answer) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (self.session_id, run_id, _storable(turn.task), _storable(turn.answer)),
            )

    def _read_summary(self) -> Summary | None:
        with closing(self._connect()) as connection:
            row = connection.execute(
                "SELECT turns, text FROM summary WHERE session = ?", (self.session_id,)
            ).fetchone()
            return None if row is None else Summary(*row)

    def _write_summary(self, summary: Summary) -> None:
        with closing(self._connect()) as connection, connection:
            connection.execute(
                "INSERT INTO summary (session, turns, text) VALUES (?, ?, ?)"
                " ON CONFLICT (session) DO UPDATE SET turns = excluded.turns, text = excluded.text"
                " WHERE excluded.turns >= turns",
                (self.session_id, summary.turns, _storable(summary.text)),
            )

    def _connect(self) -> sqlite3.Connection:
        self.path.touch(mode=0o600)
        connection = sqlite3.connect(self.path, timeout=_WAIT)
        connection.execute(
            "CREATE TABLE IF NOT EXISTS turn (n INTEGER PRIMARY KEY, session TEXT NOT NULL,"
            " run TEXT NOT NULL, task TEXT NOT NULL, answer TEXT NOT NULL, UNIQUE (session, run))"
        )
        connection.execute(
            "CREATE TABLE IF NOT EXISTS summary (session TEXT PRIMARY KEY, turns INTEGER NOT NULL,"
            " text TEXT NOT NULL)"
        )
        return connection


_WAIT = 30.0  # seconds for another process to finish writing


def _storable(text: str) -> str:
    """Without secrets, and without half characters, which UTF-8 has no bytes for."""
    return redacted(text).encode(errors="replace").decode()
