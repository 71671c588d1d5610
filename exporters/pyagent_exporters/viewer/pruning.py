"""Takes runs that ended long ago out of the store, with everything that came with them."""

from __future__ import annotations

import json
import sqlite3
from typing import Final


def prune(db: sqlite3.Connection, *, before: int, most: int) -> int:
    """Delete at most so many of the runs that ended before that moment; how many it were.

    A run that nothing has come of since then counts as ended, a suspended one never does.
    """
    gone = db.execute(_OVER, (before, most)).fetchall()
    numbers, ids = (json.dumps([row[key] for row in gone]) for key in ("n", "id"))
    traces = json.dumps([trace for (trace,) in db.execute(_TRACES, (ids,))])
    db.execute(_DELETE_CALLS, (numbers,))
    db.execute(_DELETE_RUNS, (numbers,))
    db.execute(_DELETE_SPANS, (ids,))
    db.execute(_DELETE_AROUND, (traces,))
    return len(gone)


_OVER: Final = """
SELECT n, id FROM run
WHERE CASE WHEN status = 'running' THEN quiet_since ELSE ended END < ?
    AND status != 'suspended' AND NOT stale
LIMIT ?
"""
_TRACES: Final = "SELECT DISTINCT trace FROM span WHERE run IN (SELECT value FROM json_each(?))"
_DELETE_CALLS: Final = "DELETE FROM call WHERE run IN (SELECT value FROM json_each(?))"
_DELETE_RUNS: Final = "DELETE FROM run WHERE n IN (SELECT value FROM json_each(?))"
_DELETE_SPANS: Final = "DELETE FROM span WHERE run IN (SELECT value FROM json_each(?))"
# What lies around runs is in none that is listed: it goes with the last run of its trace.
_DELETE_AROUND: Final = """
DELETE FROM span WHERE trace IN (
    SELECT value FROM json_each(?) WHERE NOT EXISTS (
        SELECT 1 FROM span AS kept JOIN run ON run.id = kept.run WHERE kept.trace = value
    )
)
"""
