"""What calls cost, as the costs page shows it: shares, a chart's figures, and files to download."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import accumulate
from typing import Final

from pyagent_providers.hostile import shown

from .asked import Asked
from .runs import Bucket, CostRow, Dimension
from .templates import iso, label, utc

_BARS: Final = 12  # of a chart; the rest is one more
_SERIES: Final = 7  # of a chart over time; likewise
_MOST_MOMENTS: Final = 400  # of a chart whose empty hours are filled in
_LENGTHS: Final[Mapping[Bucket, int]] = {"hour": 3600 * 10**9, "day": 86400 * 10**9}
_LONGEST: Final = 28  # characters of a name in a chart
_YEAR: Final = 5  # characters of a date that every label would have in common
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")

Chart = Mapping[str, str | Sequence[str] | Sequence[Mapping[str, str | Sequence[float]]]]


def chart(rows: Sequence[CostRow], by: Dimension, bucket: Bucket | None) -> Chart:
    """The figures that a chart draws, in dollars: bars, or stacked ones over time."""
    if bucket is None:
        return _bars(rows, by)
    return _over_time(rows, by, bucket)


def as_json(rows: Sequence[CostRow], asked: Asked) -> str:
    """The rows for a program; dollars are strings, so that no digit is lost."""
    return json.dumps(
        {
            "by": asked.by,
            "bucket": asked.bucket,
            "currency": "USD",
            "rows": [
                {
                    asked.by: row.key,
                    **({} if row.bucket is None else {"from": iso(row.bucket)}),
                    "cost_usd": f"{row.cost:f}",
                    "unpriced_calls": row.unpriced,
                    "calls": row.calls,
                    "input_tokens": row.input_tokens,
                    "output_tokens": row.output_tokens,
                }
                for row in rows
            ],
        },
        indent=1,
    )


def as_csv(rows: Sequence[CostRow], asked: Asked) -> str:
    """The rows for a spreadsheet, which must take no name for a formula."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    when = ["from"] if asked.bucket else []
    figures = ["cost_usd", "unpriced_calls", "calls", "input_tokens", "output_tokens"]
    writer.writerow([*when, asked.by, *figures])
    for row in rows:
        moment = [] if row.bucket is None else [iso(row.bucket)]
        numbers = [row.unpriced, row.calls, row.input_tokens, row.output_tokens]
        writer.writerow([*moment, _cell(row.key), f"{row.cost:f}", *numbers])
    return text.getvalue()


def _cell(text: str) -> str:
    """Text that a spreadsheet shows and does not calculate."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _bars(rows: Sequence[CostRow], by: Dimension) -> Chart:
    priced = [row for row in rows if row.cost]
    first, rest = priced[:_BARS], priced[_BARS:]
    bars = [(_name(row.key), row.cost) for row in first]
    if rest:
        bars.append((f"{len(rest)} more", sum((row.cost for row in rest), Decimal(0))))
    values = [float(cost) for _, cost in bars]
    return {
        "kind": "bars",
        "labels": [name for name, _ in bars],
        "series": [{"name": f"cost by {by}", "values": values}],
    }


def _over_time(rows: Sequence[CostRow], by: Dimension, bucket: Bucket) -> Chart:
    spent: dict[str, Decimal] = {}
    for row in rows:
        if row.cost:
            spent[row.key] = spent.get(row.key, Decimal(0)) + row.cost
    dearest = sorted(spent, key=lambda key: (-spent[key], key))
    first, rest = dearest[:_SERIES], set(dearest[_SERIES:])
    moments = _moments(sorted({row.bucket for row in rows if row.bucket is not None}), bucket)
    at = {moment: index for index, moment in enumerate(moments)}
    values = {key: [0.0] * len(moments) for key in (*first, None) if key is not None or rest}
    for row in rows:
        if row.cost and row.bucket is not None:
            line = values[None if row.key in rest else row.key]
            line[at[row.bucket]] += float(row.cost)
    return {
        "kind": "stacked",
        "labels": [utc(moment, bucket)[_YEAR:] for moment in moments],
        "series": [
            {"name": f"{len(rest)} more" if key is None else _name(key), "values": line}
            for key, line in values.items()
        ],
    }


def _name(key: str) -> str:
    """What a chart, which is one picture, has room for; the table has the whole of it."""
    name = shown(label(key))
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _moments(buckets: Sequence[int], bucket: Bucket) -> Sequence[int]:
    """The buckets with the empty ones between them, if they are not too many."""
    length = _LENGTHS[bucket]
    if not buckets or (buckets[-1] - buckets[0]) // length >= _MOST_MOMENTS:
        return buckets
    count = (buckets[-1] - buckets[0]) // length
    return list(accumulate([length] * count, initial=buckets[0]))
