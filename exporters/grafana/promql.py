"""The PromQL that the dashboards' queries are put together from."""

from __future__ import annotations

from typing import Final

# What a dashboard's variables choose. "All" of them is `.*`, so that a missing label is in it.
JOB: Final = 'job=~"$job"'
RUNS: Final = f'{JOB}, pyagent_pattern=~"$pattern", pyagent_tenant=~"$tenant"'
COSTS: Final = f'{RUNS}, gen_ai_request_model=~"$model"'
CALLS: Final = f'{JOB}, gen_ai_request_model=~"$model"'

# Who cancels a call or a run has no error.
ERRORS: Final = 'error_type!~"|.*CancelledError"'
NOT_CANCELLED: Final = 'error_type!~".*CancelledError"'


def gained(counter: str, chosen: str, window: str, *, by: str = "") -> str:
    """By how much a counter grew within the window, all of its series or those of each `by`.

    In this order: series whose process was restarted within it; those known before it; new ones.
    `increase` alone would miss what a series has when it is first seen, such as the first cost
    of a tenant, and it extrapolates, so that dollars would not add up to the cent.
    """
    now, before = f"{counter}{{{chosen}}}[{window}]", f"{counter}{{{chosen}}}[1h] offset {window}"
    return (
        f"sum{_by(by)} (increase({now}) and resets({now}) > 0"
        f" or last_over_time({now}) - last_over_time({before}) >= 0"
        f" or last_over_time({now}))"
    )


def quantile(share: float, histogram: str, chosen: str, *, by: str = "") -> str:
    """The value that this share of what was lately measured is below, in the histogram's unit."""
    lately = f"rate({histogram}_bucket{{{chosen}}}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by ({_and('le', by)}) ({lately}))"


def share(part: str, whole: str) -> str:
    """A part of a whole, as a number from 0 to 1; nothing where the whole is nothing."""
    return f"{part} / ({whole} > 0)"


def or_zero(query: str) -> str:
    """One number, also where nothing has been counted yet."""
    return f"{query} or vector(0)"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


def _and(label: str, labels: str) -> str:
    return f"{label}, {labels}" if labels else label
