"""Keeps a viewer's store up to date with the runs of a journal, or of a cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from pyagent_exporters.viewer.store import SpanStore
from pyagent_patterns.durable import RunDetail, RunView
from pyagent_patterns.errors import UnknownRunError
from pyagent_patterns.journal import FINISHED, Status

from .recorded import spans_of

logger = logging.getLogger("pyagent")

_NEWEST: Final = 50  # runs that are looked at first, or for what is new
_REST: Final = 3  # times as long as a look took
_PATIENCE: Final = 15.0  # seconds after which a file is read that seems not to have changed


class Kept(Protocol):
    """What is asked of a journal's `Runs`, or of a `Cluster`."""

    async def get(self, run_id: str) -> RunDetail: ...

    async def list(
        self, *, status: Status | None = None, limit: int | None = None
    ) -> Sequence[RunView]: ...


class Following:
    """Copies runs into a store as they change.

    `journal` is the file that they are in, if they are in one: while it does not change it is not
    read.
    """

    def __init__(self, kept: Kept, store: SpanStore, *, journal: Path | None = None) -> None:
        self._kept = kept
        self._store = store
        self._journal = journal
        self._known: dict[str, RunView] = {}
        self._open: set[str] = set()  # the runs that may still change
        self._failed: set[str] = set()  # of which it was said that they cannot be shown
        self._stamp: object = None
        self._looked = float("-inf")

    async def follow(self, *, every: float = 1.0) -> None:
        """Go on until cancelled, looking `every` so many seconds, less often where that takes long.

        What fails is tried again.
        """
        loop, is_told = asyncio.get_running_loop(), False
        while True:
            began = loop.time()
            try:
                await self.look()
                is_told = False
            except Exception as error:
                if not is_told:
                    logger.warning("the runs cannot be read just now: %s", error)
                is_told = True
            await asyncio.sleep(max(every, _REST * (loop.time() - began)))

    async def look(self) -> int:
        """Copy what has changed since the last look, the newest first; how many runs it were."""
        now, stamp = asyncio.get_running_loop().time(), self._read_stamp()
        if stamp is not None and stamp == self._stamp and now - self._looked < _PATIENCE:
            return 0
        found = await self._changed()
        copied = 0
        for run in found:
            try:
                copied += await self._copy(run.run_id)
            except Exception as error:  # of one run: the others are there to be seen
                if run.run_id not in self._failed:
                    logger.warning("run %r cannot be shown: %s", run.run_id, error)
                self._failed.add(run.run_id)
        self._stamp, self._looked = stamp, now
        return copied

    async def _copy(self, run_id: str) -> bool:
        try:
            detail = await self._kept.get(run_id)
        except UnknownRunError:  # cleared away since
            self._open.discard(run_id)
            return False
        await asyncio.to_thread(lambda: self._store.put(run_id, spans_of(detail)))
        self._known[run_id] = detail.run
        if detail.run.status in FINISHED:
            self._open.discard(run_id)
        else:
            self._open.add(run_id)
        return True

    async def _changed(self) -> Sequence[RunView]:
        """The runs that are new, that go on, or that have just ended."""
        newest = await self._kept.list(limit=_NEWEST)
        if len(newest) == _NEWEST and not any(run.run_id in self._known for run in newest):
            newest = await self._kept.list()
        found = {run.run_id: run for run in newest}
        if self._open - found.keys():
            for status in ("running", "suspended"):
                found |= {run.run_id: run for run in await self._kept.list(status=status)}
        gone = [self._known[run_id] for run_id in self._open - found.keys()]  # ended since
        return [*(run for run in found.values() if self._is_news(run)), *gone]

    def _is_news(self, run: RunView) -> bool:
        """Of a run that goes on it is not seen here whether a tool call has ended."""
        return run.status == "running" or self._known.get(run.run_id) != run

    def _read_stamp(self) -> object:
        """Changes when the journal's file does, or what lies beside it; None where that is not
        known."""
        if self._journal is None:
            return None
        return tuple(_stamp(f"{self._journal}{end}") for end in ("", "-wal", "-journal"))


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size
