"""Figures in words: money, ages, states. What others wrote comes out harmless and on one line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from pyagent_patterns.durable import CallView, RunView
from pyagent_providers.hostile import shown

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_ID_LENGTH: Final = 8  # of 32 random digits; what a user chose is shown whole


def line(text: str) -> str:
    """Text that others wrote, on one line."""
    return " ".join(shown(text).split())


def short(run_id: str) -> str:
    is_random = len(run_id) == 32 and all(digit in "0123456789abcdef" for digit in run_id)
    return run_id[:_ID_LENGTH] if is_random else line(run_id)


def dollars(usd: Decimal | None) -> str:
    """An amount in US dollars; small ones with more digits."""
    if usd is None:
        return "unpriced"
    if 0 < usd < Decimal("0.0000005"):
        return "<$0.000001"
    return f"${usd:.4f}" if usd >= Decimal("0.01") else f"${usd:.6f}"


def total(usd: Decimal, unpriced: int) -> str:
    """An amount, and how many calls are not in it for want of a price."""
    if not unpriced:
        return dollars(usd)
    return f"{dollars(usd)} + {unpriced} unpriced" if usd else f"{unpriced} unpriced"


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def span(seconds: float) -> str:
    """A length of time, in its largest unit."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "0 s"


def age(since: float) -> str:
    return span(time.time() - since)


def moment(unix: float) -> str:
    """A time on the user's clock."""
    return datetime.fromtimestamp(unix).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def iso(unix: float | None) -> str | None:
    return None if unix is None else datetime.fromtimestamp(unix, UTC).isoformat()


def names(keys: Sequence[str]) -> str:
    return ", ".join(line(key) for key in keys)


def run_state(run: RunView) -> str:
    """The run's status; a running one that no process goes on with is interrupted, or yet new."""
    if run.status != "running" or run.is_owned:
        return run.status
    return "interrupted" if run.execution else "new"


def waits(run: RunView) -> str:
    """What a suspended run waits for, signals or a time; `due` once that has come."""
    if run.due:
        return "due"
    what = [line(name) for name in run.waiting_for]
    if run.wake_at is not None:
        what.append(moment(run.wake_at))
    return f"waits for {' or '.join(what)}"


def call_state(call: CallView) -> str:
    """`begun`: sent, and no answer on record; `copied`: paid for by the run it was forked from."""
    if call.copied:
        return "copied"
    reply = call.reply
    return "failed" if reply is not None and reply.text is None else call.state
