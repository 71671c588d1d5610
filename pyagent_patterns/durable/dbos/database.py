"""The connections to PostgreSQL, and the cluster's own tables beside those of DBOS.

Errors of the database come out as `JournalError`s that say which database it is and what is wrong
with it, and never its password.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, LiteralString, TypeAlias
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg.rows import dict_row
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from pyagent_patterns.errors import JournalError

Row: TypeAlias = dict[str, Any]
Connection: TypeAlias = psycopg.AsyncConnection[Row]
Parameters: TypeAlias = Sequence[object] | Mapping[str, object]

FORMAT: Final = 1  # the major version of what is stored
_CONNECTIONS: Final = 6  # at most, at a time, beside those of DBOS
_SCHEMA_LOCK: Final = 0x7079_6167  # so that two processes do not create the tables at once

_SCHEMA: Final = """
CREATE SCHEMA IF NOT EXISTS pyagent;
CREATE TABLE pyagent.format (version integer NOT NULL);
INSERT INTO pyagent.format VALUES (1);
CREATE FUNCTION pyagent.now() RETURNS float8 STABLE LANGUAGE sql AS
    'SELECT extract(epoch FROM statement_timestamp())::float8';  -- Unix time
CREATE FUNCTION pyagent.lock_of(worker text) RETURNS bigint IMMUTABLE LANGUAGE sql AS
    $$ SELECT hashtextextended('pyagent worker ' || worker, 0) $$;
CREATE TABLE pyagent.run (
    id text PRIMARY KEY,
    team text,                      -- where to import it from: package.module:object
    pattern text,
    task text NOT NULL,             -- as JSON, like every text that is the user's
    status text NOT NULL,
    result text,
    error text,
    cost text,                      -- US dollars, when the execution ended
    unpriced integer,
    tokens bigint,
    calls integer,
    execution integer NOT NULL DEFAULT 0,
    owner text,                     -- the worker that executes it
    due float8,                     -- from when on a worker may take it; NULL: none may
    wake_at float8,
    waiting_for text NOT NULL DEFAULT '[]',
    traceparent text,
    forked_from text,
    created float8 NOT NULL,
    updated float8 NOT NULL,
    name text                       -- the pattern's own; databases had no such column once
);
CREATE INDEX run_due ON pyagent.run (due) WHERE due IS NOT NULL;
CREATE INDEX run_owner ON pyagent.run (owner) WHERE owner IS NOT NULL;
CREATE INDEX run_created ON pyagent.run (created);
CREATE TABLE pyagent.call (         -- other than questions: DBOS has these, but for copied ones
    run text NOT NULL REFERENCES pyagent.run (id) ON DELETE CASCADE,
    key text NOT NULL,
    activity text NOT NULL,
    input_hash text NOT NULL,
    input text NOT NULL,
    begun integer NOT NULL,
    copied boolean NOT NULL DEFAULT false,  -- from the run that this one was forked from
    value text,
    t0 float8 NOT NULL,
    t1 float8,
    PRIMARY KEY (run, key)
);
CREATE TABLE pyagent.doubt (        -- questions that were begun and left no answer
    run text NOT NULL REFERENCES pyagent.run (id) ON DELETE CASCADE,
    key text NOT NULL,
    times integer NOT NULL,
    PRIMARY KEY (run, key)
);
CREATE TABLE pyagent.signal (
    id bigserial PRIMARY KEY,
    run text NOT NULL REFERENCES pyagent.run (id) ON DELETE CASCADE,
    name text NOT NULL,
    value text NOT NULL,
    sent float8 NOT NULL,
    taken_by text                   -- the key of the wait that took it
);
CREATE INDEX signal_run ON pyagent.signal (run);
CREATE TABLE pyagent.worker (
    id text PRIMARY KEY,
    backend integer NOT NULL,       -- the server's process that holds the worker's lock
    seen float8 NOT NULL
);
"""
_HAS_NAMES: Final = """
    SELECT 1 FROM pg_attribute WHERE attrelid = 'pyagent.run'::regclass AND attname = 'name'"""


class DatabaseUnusable(JournalError):
    """The database cannot be used now; it may be later."""


class Address:
    """A database URL. As text it is without its password."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _BAD_URL from None  # its text may be the password
        if parts.scheme not in ("postgresql", "postgres") or not parts.path.strip("/"):
            raise _BAD_URL
        self.url = "postgresql" + url[len(parts.scheme) :]
        self._secrets = {parts.password or "", unquote(parts.password or "")} - {""}
        user = f"{parts.username}@" if parts.username else ""
        host = f"{parts.hostname or ''}{f':{port}' if port else ''}"
        self._shown = f"postgresql://{user}{host}{parts.path}"

    def __str__(self) -> str:
        return self._shown

    def explained(self, error: psycopg.Error | SQLAlchemyError) -> JournalError:
        """The error to raise for one of the database, with that as its cause."""
        if isinstance(error, DBAPIError) and isinstance(error.orig, psycopg.Error):
            error = error.orig  # without the statement and what was in it
        text = str(error).strip()
        tells = any(secret in text for secret in self._secrets)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        passing = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        kind = DatabaseUnusable if passing else JournalError
        explained = kind(f"the database {self} cannot be used: {text}")
        explained.__cause__ = None if tells else error
        return explained


_BAD_URL: Final = ValueError(
    "a database URL reads postgresql://user:password@host:5432/database; percent-encode what is "
    "special in the password"
)


class Database:
    """A few connections to one database, opened when they are wanted."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._idle: list[Connection] = []
        self._places = asyncio.Semaphore(_CONNECTIONS)
        self._closed = False

    async def prepare(self) -> None:
        """Create the tables, if they are not there. Raises JournalError."""
        async with self.transaction() as db:
            await db.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
            found = await db.execute("SELECT to_regclass('pyagent.format') AS table")
            if (await found.fetchone() or {}).get("table") is None:
                await db.execute(_SCHEMA)
            if await (await db.execute(_HAS_NAMES)).fetchone() is None:
                await db.execute("ALTER TABLE pyagent.run ADD COLUMN name text")
            found = await db.execute("SELECT version FROM pyagent.format")
            [version] = [row["version"] for row in await found.fetchall()]
        if version != FORMAT:
            raise JournalError(
                f"the database {self.address} has format {version}; this version of pyagent-sdk"
                f" knows format {FORMAT}: use the version that the other workers have"
            )

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Connection]:
        """A connection within a transaction, committed at the end. Raises JournalError."""
        async with self.connection() as db, db.transaction():
            yield db

    async def rows(self, statement: LiteralString, values: Parameters = ()) -> list[Row]:
        """What one statement gives, committed. Raises JournalError."""
        async with self.connection() as db:
            done = await db.execute(statement, values)
            return [] if done.description is None else await done.fetchall()

    async def row(self, statement: LiteralString, values: Parameters = ()) -> Row | None:
        """The same, of a statement that gives one row at most."""
        return next(iter(await self.rows(statement, values)), None)

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """A connection, which is closed when the block is left by an error. Raises JournalError."""
        async with self._places:
            with self.explaining():
                db = await self._next()
                try:
                    yield db
                except BaseException:
                    await db.close()
                    raise
                if self._closed:  # meanwhile, while a run was still being given up
                    await db.close()
                else:
                    self._idle.append(db)

    async def connect(self) -> Connection:
        """A connection for the caller alone. Raises psycopg.Error."""
        connect = psycopg.AsyncConnection[Row].connect
        return await connect(
            self.address.url,
            autocommit=True,
            connect_timeout=10,
            application_name="pyagent",
            row_factory=dict_row,
        )

    @contextmanager
    def explaining(self) -> Generator[None]:
        """The block in which errors of the database become JournalErrors."""
        try:
            yield
            return
        except (psycopg.Error, SQLAlchemyError) as error:
            explained = self.address.explained(error)
        raise explained

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            await self._idle.pop().close()

    async def _next(self) -> Connection:
        while self._idle:
            db = self._idle.pop()
            if _is_quiet(db):
                return db
            await db.close()
        return await self.connect()


def _is_quiet(db: Connection) -> bool:
    """Whether an idle connection can be used: one that the server has ended has its end to read."""
    if db.closed:
        return False
    poll = select.poll()
    poll.register(db.fileno(), select.POLLIN)
    return not poll.poll(0)
