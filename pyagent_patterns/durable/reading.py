"""What stands in a journal file, read into plain values."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, cast

from pyagent_patterns import ledger
from pyagent_patterns.errors import UnknownRunError
from pyagent_patterns.journal import FINISHED, Status
from pyagent_providers.types import JSONObject

from .owner import Owner
from .values import Values
from .views import CallView, RunDetail, RunView, waiting

_DUE: Final = """(status = 'suspended' AND (
    (wake_at IS NOT NULL AND wake_at <= :now)
    OR EXISTS (SELECT 1 FROM signal s WHERE s.run = run.id AND s.taken_by IS NULL
               AND s.name IN (SELECT value FROM json_each(run.waiting_for)))))"""
_SELECT: Final = (
    f"SELECT run.*, {_DUE} AS due, (SELECT count(*) FROM call WHERE call.run = run.id) AS calls"
    " FROM run"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A run that has not ended. `next_look`: when it may be time to look again, without a ring."""

    run_id: str
    can_go_on: bool
    next_look: float | None


class Reader:
    """Reads runs off a connection. `store` names the store in errors."""

    def __init__(self, values: Values, store: str) -> None:
        self._values = values
        self._store = store

    def runs(
        self, db: sqlite3.Connection, status: Status | None, limit: int | None
    ) -> Sequence[RunView]:
        """The runs, the newest first."""
        rows = db.execute(
            f"{_SELECT} WHERE (:status IS NULL OR status = :status)"
            " ORDER BY created DESC, id LIMIT :limit",
            {"now": time.time(), "status": status, "limit": -1 if limit is None else limit},
        )
        return [self._view(db, row) for row in rows.fetchall()]

    def run(self, db: sqlite3.Connection, run_id: str) -> RunView:
        """Raises UnknownRunError."""
        return self._view(db, self._row(db, run_id))

    def detail(self, db: sqlite3.Connection, run_id: str) -> RunDetail:
        """Raises UnknownRunError."""
        row = self._row(db, run_id)
        return RunDetail(
            run=self._view(db, row),
            calls=self._calls(db, run_id),
            result=row["result"] and cast(JSONObject, self._values.get(row["result"])),
        )

    def status(self, db: sqlite3.Connection, run_id: str) -> str:
        """Raises UnknownRunError."""
        return self._row(db, run_id)["status"]

    def ids(self, db: sqlite3.Connection, prefix: str) -> Sequence[str]:
        """The ids that begin with `prefix`."""
        rows = db.execute("SELECT id FROM run WHERE substr(id, 1, ?) = ?", (len(prefix), prefix))
        return [row["id"] for row in rows]

    def unfinished(
        self, db: sqlite3.Connection, pattern: str | None, team: str | None
    ) -> Sequence[Unfinished]:
        """The runs that have not ended, of one pattern and perhaps of one team."""
        rows = db.execute(
            f"SELECT id, status, owner, lease, wake_at, {_DUE} AS due FROM run"
            " WHERE status IN ('running', 'suspended') AND (:pattern IS NULL OR pattern = :pattern)"
            " AND (:team IS NULL OR team IS NULL OR team = :team) ORDER BY created, id",
            {"now": time.time(), "pattern": pattern, "team": team},
        )
        found: list[Unfinished] = []
        for row in rows:
            owned = _is_owned(row["owner"], row["lease"])
            found.append(
                Unfinished(
                    run_id=row["id"],
                    can_go_on=not owned and (row["status"] == "running" or bool(row["due"])),
                    next_look=row["lease"] if owned else row["wake_at"],
                )
            )
        return found

    def _row(self, db: sqlite3.Connection, run_id: str) -> sqlite3.Row:
        row = db.execute(f"{_SELECT} WHERE id = :id", {"now": time.time(), "id": run_id}).fetchone()
        if row is None:
            raise UnknownRunError(run_id, self._store)
        return row

    def _view(self, db: sqlite3.Connection, row: sqlite3.Row) -> RunView:
        cost, unpriced, tokens = row["cost"], row["unpriced"], row["tokens"]
        if row["status"] not in FINISHED or cost is None:  # what is on record so far
            attempts = [a for call in self._calls(db, row["id"]) for a in call.attempts]
            cost, unpriced = ledger.total_cost(attempts), ledger.unpriced(attempts)
            tokens = ledger.total_usage(attempts).total_tokens
        return RunView(
            run_id=row["id"],
            pattern=row["pattern"],
            name=dict(row).get("name") or row["pattern"],  # once without that column
            team=row["team"],
            task=cast(str, self._values.get(row["task"])),
            status=row["status"],
            is_owned=_is_owned(row["owner"], row["lease"]),
            due=bool(row["due"]),
            execution=row["execution"],
            error=row["error"],
            cost=Decimal(cost),
            unpriced=unpriced or 0,
            tokens=tokens or 0,
            calls=row["calls"],
            waiting_for=waiting(json.loads(row["waiting_for"] or "[]")),
            wake_at=row["wake_at"],
            forked_from=row["forked_from"],
            created_at=row["created"],
            updated_at=row["updated"],
        )

    def _calls(self, db: sqlite3.Connection, run_id: str) -> tuple[CallView, ...]:
        rows = db.execute("SELECT * FROM call WHERE run = ? ORDER BY t0, rowid", (run_id,))
        return tuple(
            CallView(
                key=row["key"],
                activity=row["activity"],
                input=cast(JSONObject, self._values.get(row["input"])),
                state=row["state"],
                begun=row["begun"],
                copied=bool(row["copied"]),
                value=row["value"] and cast(JSONObject, self._values.get(row["value"])),
                started_at=row["t0"],
                ended_at=row["t1"],
            )
            for row in rows
        )


def until_next(runs: Iterable[Unfinished]) -> float | None:
    """Seconds until a claim or a sleep ends; None when only a ring can change anything."""
    times = [run.next_look for run in runs if run.next_look is not None and not run.can_go_on]
    return max(0.0, min(times) - time.time()) if times else None


def _is_owned(owner: str | None, lease: float | None) -> bool:
    if owner is None or lease is None:
        return False
    return lease > time.time() and not Owner.parse(owner).is_gone()
