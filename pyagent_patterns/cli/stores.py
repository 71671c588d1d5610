"""Which runs a command works on: those of a journal file, or those of a cluster's database."""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import typer

from pyagent_patterns.durable import RunDetail, Runs, RunView
from pyagent_patterns.durable.teams import Team
from pyagent_patterns.events import Observer
from pyagent_patterns.journal import Status
from pyagent_patterns.result import Result
from pyagent_providers.types import JSONValue

from .arguments import ProviderLimit
from .screen import Screen

if TYPE_CHECKING:
    from pyagent_patterns.durable.dbos import Cluster

DEFAULT_DB: Final = Path("runs.db")
DB_VARIABLE: Final = "PYAGENT_DB"
URL_VARIABLE: Final = "PYAGENT_DATABASE_URL"
_NO_EXTRA: Final = 2  # the exit status


class Store(Protocol):
    """What the commands ask of `Runs` and of a `Cluster` alike."""

    async def find(self, prefix: str) -> str: ...

    async def get(self, run_id: str) -> RunDetail: ...

    async def list(
        self, *, status: Status | None = None, limit: int | None = None
    ) -> Sequence[RunView]: ...

    async def team_of(self, run_id: str) -> Team: ...

    async def resume(
        self, run_id: str, team: Team | None = None, *, on_event: Observer | None = None
    ) -> Result: ...

    async def signal(self, run_id: str, name: str, value: JSONValue = None) -> None: ...

    async def cancel(self, run_id: str) -> None: ...

    async def fork(self, run_id: str, *, from_key: str | None = None) -> str: ...

    async def prune(self, *, older_than: float, status: Sequence[Status]) -> int: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where runs are kept: by a journal `file`, or in the database at a `url`."""

    file: Path
    url: str | None = None

    @classmethod
    def of(cls, db: Path | None, database_url: str | None) -> Place:
        """What the command line names, or else the environment.

        Raises typer.BadParameter when that is two places.
        """
        named = "--db and --database-url"
        if db is None and database_url is None:
            named = f"{DB_VARIABLE} and {URL_VARIABLE}"
            db = Path(os.environ[DB_VARIABLE]) if os.environ.get(DB_VARIABLE) else None
            database_url = os.environ.get(URL_VARIABLE) or None
        if db is not None and database_url is not None:
            raise typer.BadParameter(f"{named} name two places; give --db or --database-url")
        return cls(db or DEFAULT_DB, database_url)

    @property
    def shown(self) -> str:
        if self.url is None:
            return repr(str(self.file))
        from pyagent_patterns.durable.dbos.database import Address

        return str(Address(self.url))

    def __str__(self) -> str:
        return f"the {'journal' if self.url is None else 'database'} {self.shown}"

    def command(self, *words: str) -> str:
        """What to type for the next step, in the same place; a password is in no such line."""
        if self.url is not None:
            is_known = os.environ.get(URL_VARIABLE) == self.url
            options = () if is_known else ("--database-url", self.shown)
        else:
            is_known = os.environ.get(DB_VARIABLE, str(DEFAULT_DB)) == str(self.file)
            options = () if is_known else ("--db", str(self.file))
        return shlex.join(("pyagent", *words, *options))


@asynccontextmanager
async def kept_in(screen: Screen, place: Place) -> AsyncGenerator[Store]:
    """The runs that are kept there.

    Raises LookupError for a journal that is not there: none is made by looking for one.
    """
    if place.url is not None:
        async with cluster_at(screen, place.url) as cluster:
            yield cluster
    else:
        with journal_at(place.file) as runs:
            yield runs


def journal_at(db: Path) -> Runs:
    """The runs of a journal that is there. Raises LookupError when it is not."""
    if not db.exists():
        raise LookupError(
            f"there is no journal {str(db)!r}; --db or {DB_VARIABLE} names one, and "
            f"team.run(task, durable={str(db)!r}) begins it"
        )
    return Runs(db)


def cluster_at(screen: Screen, database_url: str, limits: Sequence[ProviderLimit] = ()) -> Cluster:
    """The cluster of a database. Raises typer.Exit without DBOS, typer.BadParameter for no URL."""
    if find_spec("dbos") is None:
        screen.error('runs on many machines need DBOS: pip install "pyagent-sdk[dbos]"')
        raise typer.Exit(_NO_EXTRA)
    from pyagent_patterns.durable.dbos import Cluster, Limit

    try:
        return Cluster(
            database_url,
            limits=[
                Limit(
                    provider=limit.provider,
                    concurrency=limit.concurrency,
                    per_minute=limit.per_minute,
                )
                for limit in limits
            ],
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
