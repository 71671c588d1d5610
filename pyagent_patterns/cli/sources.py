"""What a viewer shows: a journal's runs, a file of traces, or what a viewer has kept."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from pyagent_exporters.viewer.lines import Lines
from pyagent_exporters.viewer.runs import RunTrace
from pyagent_exporters.viewer.schema import APPLICATION
from pyagent_exporters.viewer.store import SpanStore

from .following import Following
from .recorded import spans_of
from .screen import Screen
from .stores import DEFAULT_DB, Place, kept_in

logger = logging.getLogger("pyagent")

Kind = Literal["journal", "traces", "store"]

_SQLITE: Final = b"SQLite format 3\x00"
_TOLD: Final = 5  # ids that a message names
_HOUR: Final = 3600.0  # seconds


def kind_of(file: Path) -> Kind:
    """What a file is, by what is in it; one that is not there yet, by its name.

    Raises LookupError if it cannot be read.
    """
    if not file.exists():
        if file.name == DEFAULT_DB.name:
            return "journal"
        return "store" if file.suffix == ".db" else "traces"
    try:
        with file.open("rb") as opened:
            start = opened.read(len(_SQLITE))
        if start != _SQLITE:
            return "traces" if start or file.suffix != ".db" else "store"
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as db:
            [application] = db.execute("PRAGMA application_id").fetchone()
    except (OSError, sqlite3.Error) as error:
        raise LookupError(f"{str(file)!r} cannot be read: {error}") from error
    return "store" if application == APPLICATION else "journal"


@asynccontextmanager
async def store_of(
    screen: Screen, source: Path | Place | None, *, keep: float | None = None
) -> AsyncGenerator[SpanStore]:
    """A store with all that is in the source; what comes to be in it later is added.

    Without a source it is empty. It is gone afterwards, unless it is a viewer's own file. With
    `keep`, runs that ended so many seconds ago are deleted from it. Raises LookupError for a
    journal that is not there, and for `keep` with what others keep; ExporterError for a file that
    cannot be used.
    """
    kind = kind_of(source) if isinstance(source, Path) else None
    if keep is not None and source is not None and kind != "store":
        raise LookupError(
            f"--keep is about what programs send here, and {str(source)!r} is kept by others; "
            "`pyagent prune` deletes from a journal or a cluster"
        )
    async with AsyncExitStack() as stack:
        file = source if isinstance(source, Path) and kind == "store" else None
        store = stack.enter_context(SpanStore(file))
        if isinstance(source, Path) and kind == "traces":
            stack.enter_context(_reading_along(source, store))
        elif isinstance(source, Path) and kind == "journal":
            source = Place(source)
        if isinstance(source, Place):
            kept = await stack.enter_async_context(kept_in(screen, source))
            journal = source.file if source.url is None else None
            following = asyncio.create_task(Following(kept, store, journal=journal).follow())
            stack.push_async_callback(_end, following)
        if keep is not None:
            pruning = asyncio.create_task(_pruning(store, older_than=keep))
            stack.push_async_callback(_end, pruning)
        yield store


async def trace_of(screen: Screen, source: Path | Place, prefix: str) -> RunTrace:
    """The only run there whose id begins with `prefix`.

    Raises LookupError when there is none, or there are several.
    """
    if isinstance(source, Path) and kind_of(source) == "journal":
        source = Place(source)
    if isinstance(source, Place):
        async with kept_in(screen, source) as kept:
            run = await kept.get(await kept.find(prefix))
        with SpanStore() as store:
            store.put(run.run.run_id, spans_of(run))
            return _only(store, prefix, str(source))
    if not source.exists():
        raise LookupError(f"there is no file {str(source)!r}")
    if kind_of(source) == "store":
        with SpanStore(source) as store:
            return _only(store, prefix, str(source))
    with SpanStore() as store, Lines(source, store) as lines:
        lines.read()
        return _only(store, prefix, str(source))


def _only(store: SpanStore, prefix: str, where: str) -> RunTrace:
    found = store.find(prefix)
    if len(found) > 1:
        begin = ", ".join(found[:_TOLD])
        raise LookupError(
            f"several runs in {where} begin with {prefix!r}: {begin}; give more of it"
        )
    trace = store.run(found[0]) if found else None
    if trace is None:
        raise LookupError(f"there is no run in {where} whose id begins with {prefix!r}")
    return trace


@contextmanager
def _reading_along(file: Path, store: SpanStore) -> Generator[None]:
    """Within the block, a thread reads the file into the store, and whatever comes to it."""
    ended = threading.Event()

    def work() -> None:
        with Lines(file, store) as lines:
            lines.follow(ended)

    thread = threading.Thread(target=work, name="pyagent-traces", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


async def _pruning(store: SpanStore, *, older_than: float) -> None:
    """Delete old runs now, and now and then, until cancelled. What fails is tried again."""
    while True:
        try:
            await asyncio.to_thread(store.prune, older_than=older_than)
        except sqlite3.Error as error:
            logger.warning("old runs cannot be deleted just now: %s", error)
        await asyncio.sleep(min(_HOUR, max(1.0, older_than / 10)))


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
