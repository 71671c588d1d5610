"""Which run each span is shown in, while spans come in any order.

It is the run that the span, or the nearest around it, bears the id of. What has no such span
around it is shown as its trace: a run of its own, whose id is the trace's. A span whose parent has
not come is taken for one of the only run that its trace has, if that is so.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from .tally import Fact, Key


def place(db: sqlite3.Connection, facts: Mapping[Key, Fact]) -> tuple[dict[Key, str], set[str]]:
    """The run of each of these spans, not yet in the table, and which runs are touched.

    What is in the table already and is now known to belong elsewhere is moved there.
    """
    placing = _Placing(db, facts)
    runs = {key: placing.run_of(key) for key in facts}
    touched = set(runs.values())
    touched |= _move(db, [(key, run) for key, run in runs.items()], facts)
    for trace in placing.newly_with_runs():
        touched.add(trace)  # as which it was shown before
        run = placing.only_run(trace)
        if run is not None:
            orphans = [(key, run) for key in _orphans(db, trace) if key not in facts]
            _assign(db, orphans)
            touched |= _move(db, orphans, facts)
    return runs, touched


class _Placing:
    """What is known of the traces of a batch."""

    def __init__(self, db: sqlite3.Connection, facts: Mapping[Key, Fact]) -> None:
        self._db = db
        self._facts = facts
        self._known: dict[Key, str] = {}
        self._runs: dict[str, set[str]] = {}  # at most two of each trace are looked at
        self._new: set[str] = set()
        for trace in {trace for trace, _ in facts}:
            rows = db.execute(
                "SELECT DISTINCT own_run FROM span WHERE trace = ? AND own_run IS NOT NULL LIMIT 2",
                (trace,),
            )
            self._runs[trace] = {own_run for (own_run,) in rows}
        for (trace, _), fact in facts.items():
            if fact.own_run is not None:
                if not self._runs[trace]:
                    self._new.add(trace)
                self._runs[trace].add(fact.own_run)

    def newly_with_runs(self) -> Iterable[str]:
        """The traces of which no run was known before."""
        return self._new

    def only_run(self, trace: str) -> str | None:
        runs = self._runs[trace]
        return next(iter(runs)) if len(runs) == 1 else None

    def run_of(self, key: Key) -> str:
        """Up the chain, which may be a ring, to the first that is known."""
        chain: dict[Key, None] = {}
        at = key
        while at not in self._known:
            fact = self._facts.get(at)
            if fact is None:
                self._known[at] = self._stored(at)
                break
            chain[at] = None
            if fact.own_run is not None:
                self._known[at] = fact.own_run
            elif fact.above is None:
                self._known[at] = fact.trace
            elif fact.above in chain:
                self._known[at] = self._of_orphan(fact.trace)
            else:
                at = fact.above
        run = self._known[at]
        for each in chain:
            self._known[each] = run
        return run

    def _stored(self, key: Key) -> str:
        row = self._db.execute("SELECT run FROM span WHERE trace = ? AND id = ?", key).fetchone()
        return row["run"] if row is not None else self._of_orphan(key[0])

    def _of_orphan(self, trace: str) -> str:
        return self.only_run(trace) or trace


def _move(
    db: sqlite3.Connection, frontier: Sequence[tuple[Key, str]], facts: Mapping[Key, Fact]
) -> set[str]:
    """Take along what is in the table under these spans, to any depth; the runs it was in."""
    left: set[str] = set()
    seen: set[Key] = set()
    while frontier:
        below: list[tuple[Key, str]] = []
        for (trace, span_id), run in frontier:
            rows = db.execute(
                "SELECT id, run FROM span"
                " WHERE trace = ? AND parent = ? AND own_run IS NULL AND run IS NOT ?",
                (trace, span_id, run),
            )
            for row in rows:
                key = (trace, row["id"])
                if key not in seen and key not in facts:
                    seen.add(key)
                    left.add(row["run"])
                    below.append((key, run))
        _assign(db, below)
        frontier = below
    return left


def _assign(db: sqlite3.Connection, placed: Sequence[tuple[Key, str]]) -> None:
    db.executemany(
        "UPDATE span SET run = ? WHERE trace = ? AND id = ?",
        [(run, trace, span_id) for (trace, span_id), run in placed],
    )


def _orphans(db: sqlite3.Connection, trace: str) -> list[Key]:
    """The spans shown as their trace whose parent has not come."""
    rows = db.execute(
        "SELECT id FROM span WHERE run = ? AND trace = ? AND parent IS NOT NULL AND NOT EXISTS"
        " (SELECT 1 FROM span up WHERE up.trace = span.trace AND up.id = span.parent)",
        (trace, trace),
    )
    return [(trace, row["id"]) for row in rows]
