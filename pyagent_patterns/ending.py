"""How an execution of a run ends, other than well: what is recorded of it, and what is raised."""

from __future__ import annotations

import asyncio

from .errors import InputChanged, JournalError, RunSuspended
from .journal import Journal, RunEnd, Suspend
from .record import RunRecord


async def stop(error: BaseException, journal: Journal, record: RunRecord) -> BaseException:
    """Tell the journal how an execution ended; what is to be raised for it."""
    try:
        await journal.end(_end(error, record))
    except JournalError as unrecorded:
        if isinstance(error, Suspend):  # nobody would wake it
            return journal.lost or unrecorded
    except asyncio.CancelledError:
        if journal.lost is None:
            raise
    if journal.lost is not None:  # then this task was cancelled, whatever that hit first
        _uncancel()
        return error if isinstance(error, JournalError) else journal.lost
    if isinstance(error, Suspend):
        return RunSuspended(record.run_id, waiting_for=error.signals, wake_at=error.until)
    return error  # it says more than what may have become of recording it


def _uncancel() -> None:
    """The cancellation was the journal's and goes no further."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        task.uncancel()


def _end(error: BaseException, record: RunRecord) -> RunEnd:
    """What ended by itself has failed; what was cut off, or cannot be recorded, can go on."""
    if isinstance(error, Suspend):
        return RunEnd(status="suspended", wake_at=error.until, waiting_for=error.signals)
    if isinstance(error, Exception) and not isinstance(error, JournalError | InputChanged):
        return RunEnd(status="failed", shows=record.result(None), error=str(error))
    return RunEnd(status="running")
