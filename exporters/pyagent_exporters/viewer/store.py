"""`SpanStore`: the spans of all runs in one SQLite file, and what pages want to know of them."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pyagent_exporters.errors import ExporterError

from . import queries
from .bodies import from_bytes, storable
from .placing import place
from .pruning import prune
from .runs import Bucket, Choices, CostRow, Dimension, RunPage, RunQuery, RunTrace, Sums
from .schema import open_for_reading, open_for_writing
from .spans import Span
from .tally import Fact, Key, PaidCall, Totals, tally

_BATCH: Final = 2000  # spans in one transaction
_LARGE: Final = 2000  # spans; a larger run is worked out when it is read, not whenever it grows
_FOUND: Final = 20  # ids
_PRUNED: Final = 50  # runs that are deleted in one transaction
_EVERY_RUN: Final = RunQuery()


class SpanStore:
    """Spans in a SQLite file. Safe to use from any thread; one process writes at a time.

    Without a path the file is a temporary one, gone on `close`. Raises ExporterError for a file
    that is not a viewer's, or cannot be used.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._folder = None if path else tempfile.TemporaryDirectory(prefix="pyagent-viewer-")
        self.path = path or Path(self._folder.name if self._folder else "") / "spans.db"
        self._writer = open_for_writing(self.path)
        self._writing = threading.Lock()
        self._readers: list[sqlite3.Connection] = []
        self._idle = threading.Lock()
        self._closed = False
        [[version, stale]] = self._writer.execute("SELECT max(version), max(stale) FROM run")
        self._version: int = version or 0
        self._is_stale = bool(stale)

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
        with self._writing, self._idle:
            if self._closed:
                return
            self._closed = True
            for db in (*self._readers, self._writer):
                db.close()
            if self._folder is not None:
                self._folder.cleanup()

    # Writing

    def add(self, spans: Iterable[Span]) -> None:
        """Keep these spans. One that is there already is replaced, but one that has ended never
        by one that goes on."""
        rest = iter(spans)
        while batch := list(islice(rest, _BATCH)):
            newest: dict[Key, Span] = {}
            for span in batch:
                key = (span.trace_id, span.span_id)
                if key not in newest or newest[key].end is None or span.end is not None:
                    newest[key] = span
            with self._transaction() as db:
                self._add(db, newest)

    def put(self, run_id: str, spans: Sequence[Span]) -> None:
        """Keep just these spans of a run, which are all that is known of it; only what differs
        from what is there is written."""
        wanted = {(span.trace_id, span.span_id): span for span in spans}
        with self._transaction() as db:
            rows = db.execute("SELECT trace, id, body FROM span WHERE run = ?", (run_id,))
            there: dict[Key, bytes] = {(row["trace"], row["id"]): row["body"] for row in rows}
            gone = {
                key
                for key, body in there.items()
                if key not in wanted or storable(wanted[key])[1] != body
            }
            db.executemany("DELETE FROM span WHERE trace = ? AND id = ?", gone)
            new = {key: span for key, span in wanted.items() if key not in there or key in gone}
            if new or gone:
                self._add(db, new, touched={run_id})

    def prune(self, *, older_than: float) -> int:
        """Delete the runs that ended more than `older_than` seconds ago; how many it were.

        Runs that are under way or suspended stay; one that nothing has come of for so long counts
        as ended. Their place in the file is used anew.
        """
        self._freshen()
        before = max(0, time.time_ns() - round(older_than * 1e9))
        count = 0
        while True:  # what comes meanwhile is stored in between
            with self._transaction() as db:
                gone = prune(db, before=before, most=_PRUNED)
            if not gone:
                return count
            count += gone
            self._version += 1

    def _add(
        self, db: sqlite3.Connection, newest: dict[Key, Span], touched: Iterable[str] = ()
    ) -> None:
        touched = set(touched)
        for key, span in list(newest.items()):
            known = db.execute(
                "SELECT run, ended FROM span WHERE trace = ? AND id = ?", key
            ).fetchone()
            if known is not None:
                touched.add(known["run"])
                if known["ended"] is not None and span.end is None:
                    del newest[key]
        kept = {key: storable(span) for key, span in newest.items()}
        facts = {key: Fact.of(span) for key, (span, _) in kept.items()}
        runs, moved = place(db, facts)
        db.executemany(
            _INSERT_SPAN, [(*fact, runs[key], kept[key][1]) for key, fact in facts.items()]
        )
        self._version += 1
        for run_id in sorted(touched | moved):
            self._changed(db, run_id)

    def _changed(self, db: sqlite3.Connection, run_id: str) -> None:
        row = db.execute("SELECT spans FROM run WHERE id = ?", (run_id,)).fetchone()
        if row is not None and row["spans"] >= _LARGE:
            db.execute(
                "UPDATE run SET stale = 1, version = ? WHERE id = ?", (self._version, run_id)
            )
            self._is_stale = True
        else:
            _work_out(db, run_id, self._version)

    def _freshen(self) -> None:
        """Work out the large runs that have changed."""
        if not self._is_stale:
            return
        with self._transaction() as db:
            rows = db.execute("SELECT id, version FROM run WHERE stale").fetchall()
            for row in rows:
                _work_out(db, row["id"], row["version"])
            self._is_stale = False

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        with self._writing:
            if self._closed:
                raise ExporterError(f"the viewer's store {str(self.path)!r} is closed")
            db = self._writer
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    # Reading

    def version(self, run_id: str | None = None) -> int:
        """Grows when something changes, or something of that run. 0 for an unknown run."""
        if run_id is None:
            return self._version
        with self._reading() as db:
            row = db.execute("SELECT version FROM run WHERE id = ?", (run_id,)).fetchone()
        return 0 if row is None else row["version"]

    def runs(self, query: RunQuery = _EVERY_RUN) -> RunPage:
        """Some of the runs that the query means, in its order."""
        self._freshen()
        with self._reading() as db:
            return queries.page(db, query)

    def run(self, run_id: str) -> RunTrace | None:
        """A run by its id, or by the id of a trace that has only that run; None if unknown."""
        self._freshen()
        with self._reading() as db:
            summary = queries.summary(db, run_id)
            if summary is None:
                return None
            rows = db.execute(
                "SELECT body FROM span WHERE run = ? ORDER BY begun", (summary.run_id,)
            ).fetchall()
        return RunTrace(summary, _parents_first([from_bytes(row["body"]) for row in rows]))

    def find(self, prefix: str) -> list[str]:
        """Ids of runs that begin with `prefix`, the newest first; at most 20."""
        with self._reading() as db:
            return queries.beginning_with(db, prefix, limit=_FOUND)

    def costs(
        self, by: Dimension, *, bucket: Bucket | None = None, query: RunQuery = _EVERY_RUN
    ) -> tuple[CostRow, ...]:
        """What the runs' calls cost, dearest first; with `bucket` by time, then by cost.

        The rows add up to the same total by any dimension. `query.model` means calls to that
        model; its order and limit mean nothing here.
        """
        self._freshen()
        with self._reading() as db:
            return queries.costs(db, by, bucket, query)

    def totals(self, query: RunQuery = _EVERY_RUN) -> Sums:
        """What `costs` adds up to, by any dimension."""
        self._freshen()
        with self._reading() as db:
            return queries.totals(db, query)

    def choices(self) -> Choices:
        """What there is to filter by."""
        self._freshen()
        with self._reading() as db:
            return queries.choices(db)

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        """A connection that nobody else reads on at the moment, and one state of the file."""
        with self._idle:
            if self._closed:
                raise ExporterError(f"the viewer's store {str(self.path)!r} is closed")
            db = self._readers.pop() if self._readers else open_for_reading(self.path)
        try:
            db.execute("BEGIN")
            try:
                yield db
            finally:
                db.execute("COMMIT")
        finally:
            with self._idle:
                if self._closed:
                    db.close()
                else:
                    self._readers.append(db)


def _work_out(db: sqlite3.Connection, run_id: str, version: int) -> None:
    """Write what the run's spans come to now."""
    rows = db.execute(_SELECT_FACTS, (run_id,)).fetchall()
    facts = [Fact(*row) for row in rows]
    if not facts or _is_beside_the_point(db, run_id, facts):
        db.execute("DELETE FROM call WHERE run = (SELECT n FROM run WHERE id = ?)", (run_id,))
        db.execute("DELETE FROM run WHERE id = ?", (run_id,))
        return
    totals, calls = tally(run_id, facts)
    [[n]] = db.execute(_UPSERT_RUN, (run_id, *totals, version))
    db.execute("DELETE FROM call WHERE run = ?", (n,))
    db.executemany(_INSERT_CALL, [(n, *call) for call in calls])


def _is_beside_the_point(db: sqlite3.Connection, run_id: str, facts: Sequence[Fact]) -> bool:
    """Of a trace that has runs, what is around and beside them; unless it called a model."""
    if any(fact.own_run is not None or fact.role == "chat" for fact in facts):
        return False
    has_runs = "SELECT 1 FROM span WHERE trace = ? AND own_run IS NOT NULL LIMIT 1"
    return db.execute(has_runs, (run_id,)).fetchone() is not None


def _parents_first(spans: Sequence[Span]) -> tuple[Span, ...]:
    """By start; where that is the same, what is around another comes first."""
    above: Mapping[Key, Key | None] = {
        (span.trace_id, span.span_id): (span.trace_id, span.parent_id) if span.parent_id else None
        for span in spans
    }
    depths: dict[Key, int] = {}
    for key in above:
        chain: list[Key] = []
        at: Key | None = key
        while at is not None and at in above and at not in depths and len(chain) <= len(above):
            chain.append(at)
            at = above[at]
        depth = depths.get(at, 0) if at is not None else 0
        for each in reversed(chain):
            depth += 1
            depths[each] = depth
    order = sorted(spans, key=lambda span: (span.start, depths[span.trace_id, span.span_id]))
    return tuple(order)


def _marks(count: int) -> str:
    return ", ".join("?" * count)


_FACTS: Final = ", ".join(Fact._fields)
_INSERT_SPAN: Final = (
    f"INSERT OR REPLACE INTO span ({_FACTS}, run, body) VALUES ({_marks(len(Fact._fields) + 2)})"
)
_SELECT_FACTS: Final = f"SELECT {_FACTS} FROM span WHERE run = ?"
_UPSERT_RUN: Final = (
    f"INSERT INTO run (id, {', '.join(Totals._fields)}, version, stale)"
    f" VALUES ({_marks(len(Totals._fields) + 2)}, 0) ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in (*Totals._fields, "version", "stale"))
    + " RETURNING n"
)
_INSERT_CALL: Final = (
    f"INSERT INTO call (run, {', '.join(PaidCall._fields)})"
    f" VALUES ({_marks(len(PaidCall._fields) + 1)})"
)
