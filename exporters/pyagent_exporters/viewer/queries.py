"""What pages ask of the store, as SQL over what was worked out of the spans."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .runs import (
    DIMENSIONS,
    STATUSES,
    Bucket,
    Choices,
    CostRow,
    Dimension,
    RunPage,
    RunQuery,
    RunSummary,
    Sort,
    Sums,
)
from .tally import dollars

QUIET: Final = 15 * 60  # seconds without news after which nobody knows how a run stands

_STATUS: Final = "CASE WHEN run.quiet_since < :quiet THEN 'unknown' ELSE run.status END"
_SORTS: Final[Mapping[Sort, str]] = {
    "start": "begun",
    "cost": "cost",
    "duration": "duration",
    "tokens": "tokens",
}
_SECONDS: Final[Mapping[Bucket, int]] = {"hour": 3600, "day": 86400}
_MILLION: Final = 10**6


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL put together from constants, with its values."""

    sql: str
    values: Mapping[str, str | int]

    def rows(self, db: sqlite3.Connection) -> list[sqlite3.Row]:
        return db.execute(self.sql, self.values).fetchall()


def page(db: sqlite3.Connection, query: RunQuery) -> RunPage:
    [[total]] = counting(query).rows(db)
    return RunPage(tuple(_summary(row) for row in listing(query).rows(db)), total)


def listing(query: RunQuery) -> Statement:
    """The runs of one page."""
    where, values = _filters(query, calls_too=True)
    way = "DESC" if query.descending else "ASC"
    order = f"run.{_SORTS[query.sort]} {way}, run.n {way}"
    return Statement(
        f"SELECT run.*, {_STATUS} AS stands FROM run WHERE {where}"
        f" ORDER BY {order} LIMIT :limit OFFSET :offset",
        {**values, "limit": query.limit, "offset": query.offset},
    )


def counting(query: RunQuery) -> Statement:
    where, values = _filters(query, calls_too=True)
    return Statement(f"SELECT count(*) FROM run WHERE {where}", values)


def summary(db: sqlite3.Connection, run_id: str) -> RunSummary | None:
    """Of the run with this id, or else of the only one in the trace with this id."""
    for column in ("id", "trace"):
        rows = Statement(
            f"SELECT run.*, {_STATUS} AS stands FROM run WHERE {column} = :id LIMIT 2",
            {"quiet": _quiet(), "id": run_id},
        ).rows(db)
        if len(rows) == 1:
            return _summary(rows[0])
    return None


def beginning_with(db: sqlite3.Connection, prefix: str, *, limit: int) -> list[str]:
    rows = db.execute(
        "SELECT id FROM run WHERE id >= ? AND id < ? ORDER BY begun DESC LIMIT ?",
        (prefix, prefix + chr(0x10FFFF), limit),
    )
    return [row["id"] for row in rows]


def costs(
    db: sqlite3.Connection, by: Dimension, bucket: Bucket | None, query: RunQuery
) -> tuple[CostRow, ...]:
    return tuple(
        CostRow(
            key=row["key"],
            bucket=row["bucket"],
            cost=dollars(row["whole"] * _MILLION + row["rest"]),
            unpriced=row["unpriced"],
            calls=row["calls"],
            input_tokens=row["input"],
            output_tokens=row["output"],
        )
        for row in costing(by, bucket, query).rows(db)
    )


def totals(db: sqlite3.Connection, query: RunQuery) -> Sums:
    if query.model is not None:  # of a run, then, only the calls to that model
        return Sums.of(costs(db, "pattern", None, query))
    [row] = totalling(query).rows(db)
    return Sums(
        cost=dollars(row["whole"] * _MILLION + row["rest"]),
        unpriced=row["unpriced"],
        calls=row["calls"],
        input_tokens=row["input"],
        output_tokens=row["output"],
    )


def totalling(query: RunQuery) -> Statement:
    """The sum of the runs' own figures, of which there are fewer than of calls."""
    where, values = _filters(query, calls_too=False)
    return Statement(
        f"SELECT coalesce(sum(cost / {_MILLION}), 0) AS whole,"
        f" coalesce(sum(cost % {_MILLION}), 0) AS rest,"
        " coalesce(sum(unpriced), 0) AS unpriced, coalesce(sum(calls), 0) AS calls,"
        " coalesce(sum(input), 0) AS input, coalesce(sum(output), 0) AS output"
        f" FROM run WHERE {where}",
        values,
    )


def costing(by: Dimension, bucket: Bucket | None, query: RunQuery) -> Statement:
    """The sum is made in two parts, so that no number of dear calls is too much for SQLite."""
    if by not in DIMENSIONS:  # it becomes part of the statement, and may have come from outside
        raise ValueError(f"costs are told by one of {', '.join(DIMENSIONS)}; got {by!r}")
    where, values = _filters(query, calls_too=False)
    if where != _ALL:
        source = f"run CROSS JOIN call ON call.run = run.n WHERE {where}"
        if query.model is not None:
            source += " AND call.model = :model"
    elif query.model is not None:
        source = "call WHERE call.model = :model"
    else:
        source = "call"
    if query.model is not None:
        values["model"] = query.model
    time_of, order = "NULL", ""
    if bucket is not None:
        length = _SECONDS[bucket] * 10**9
        time_of, order = f"call.begun / {length} * {length}", "bucket, "
    return Statement(
        f"SELECT call.{by} AS key, {time_of} AS bucket,"
        f" sum(call.cost / {_MILLION}) AS whole, sum(call.cost % {_MILLION}) AS rest,"
        " sum(call.unpriced) AS unpriced, count(*) AS calls,"
        " sum(call.input) AS input, sum(call.output) AS output"
        f" FROM {source} GROUP BY key, bucket ORDER BY {order}whole DESC, rest DESC, key",
        values,
    )


def choices(db: sqlite3.Connection) -> Choices:
    def distinct(sql: str) -> tuple[str, ...]:
        return tuple(value for (value,) in db.execute(sql, {"quiet": _quiet()}) if value)

    known = set(distinct(f"SELECT DISTINCT {_STATUS} FROM run"))
    return Choices(
        patterns=distinct("SELECT DISTINCT pattern FROM run ORDER BY pattern"),
        models=distinct("SELECT DISTINCT model FROM call ORDER BY model"),
        tenants=distinct("SELECT DISTINCT tenant FROM run ORDER BY tenant"),
        statuses=tuple(status for status in STATUSES if status in known),
    )


_ALL: Final = "1"


def _filters(query: RunQuery, *, calls_too: bool) -> tuple[str, dict[str, str | int]]:
    """The condition that a run meets; with `calls_too` also that of a call in it."""
    tests: list[str] = []
    values: dict[str, str | int] = {"quiet": _quiet()}

    def test(condition: str, name: str, value: str | int | None) -> None:
        if value is not None:
            tests.append(condition)
            values[name] = value

    test("instr(run.words, :text)", "text", query.text.strip().lower() or None)
    test(f"{_STATUS} = :status", "status", query.status)
    test("run.pattern = :pattern", "pattern", query.pattern)
    test("run.tenant = :tenant", "tenant", query.tenant)
    test("run.begun >= :since", "since", query.since)
    test("run.begun < :until", "until", query.until)
    if calls_too:
        has_call = "EXISTS (SELECT 1 FROM call WHERE call.run = run.n AND call.model = :model)"
        test(has_call, "model", query.model)
    return " AND ".join(tests) or _ALL, values


def _quiet() -> int:
    return time.time_ns() - QUIET * 10**9


def _summary(row: sqlite3.Row) -> RunSummary:
    nanoseconds = row["duration"]
    return RunSummary(
        run_id=row["id"],
        trace_id=row["trace"],
        pattern=row["pattern"],
        name=row["name"],
        service=row["service"],
        tenant=row["tenant"],
        user=row["user"],
        session=row["session"],
        status=row["stands"],
        start=row["begun"],
        end=row["ended"],
        duration_seconds=None if nanoseconds is None else nanoseconds / 1e9,
        cost=dollars(row["cost"]),
        unpriced=row["unpriced"],
        calls=row["calls"],
        input_tokens=row["input"],
        output_tokens=row["output"],
        errors=row["errors"],
        spans=row["spans"],
    )
