"""Do a command's work, and turn how it ended into what is said and the exit status."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Final, TypeVar

import typer

from pyagent_patterns import ledger
from pyagent_patterns.durable import Runs
from pyagent_patterns.durable.teams import Team
from pyagent_patterns.errors import InputChanged, PyAgentError, RunSuspended
from pyagent_patterns.ledger import CallRecord
from pyagent_patterns.result import Result
from pyagent_providers.errors import ProviderError

from .screen import Screen
from .stores import Place, Store
from .words import counted, names, short, total

FAILED: Final = 1
SUSPENDED: Final = 3
STOPPED: Final = 130  # as a shell says for Ctrl-C
T = TypeVar("T")


def carry_out(screen: Screen, work: Coroutine[object, object, T]) -> T:
    """The work's value. What is wrong with a run is told in its own words, without a traceback.

    Raises typer.Exit, with the exit status.
    """
    try:
        return asyncio.run(work)
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(STOPPED) from None
    except (PyAgentError, ProviderError, LookupError) as error:
        if isinstance(error, KeyError | IndexError):  # a fault in code, ours or the user's
            raise
        suspended = isinstance(error, RunSuspended)
        if suspended:
            screen.note(str(error))
        else:
            screen.error(str(error))
        for note in getattr(error, "__notes__", ()):
            screen.note(note, "yellow")
        raise typer.Exit(SUSPENDED if suspended else FAILED) from None


async def go_on(
    screen: Screen,
    place: Place,
    store: Store,
    run_id: str,
    team: Team | None,
    *,
    team_name: str | None,
) -> None:
    """Go on with a run under the user's eyes: its steps, its answer, what it cost."""
    again = ["resume", short(run_id), *(("--team", team_name) if team_name else ())]
    try:
        result = await store.resume(run_id, team, on_event=screen.progress)
    except asyncio.CancelledError:
        screen.note(f"stopped; to go on: {place.command(*again)}", "yellow")
        raise
    except InputChanged as changed:
        changed.add_note(f"to fork it: {place.command('fork', *again[1:])}")
        raise
    except RunSuspended as waits:
        for name in waits.waiting_for:
            send = place.command("signal", short(run_id), name, "VALUE", *again[2:])
            waits.add_note(f"to send it: {send}")
        raise
    except PyAgentError as error:
        if error.result is not None:
            _account(screen, error.result)
        raise
    screen.answer(result.output)
    _account(screen, result)


async def go_on_with_all(screen: Screen, place: Place, runs: Runs, team: Team | None) -> None:
    """Go on with every run that can, and say what became of each.

    Raises typer.Exit when one of them failed.
    """
    try:
        outcomes = await runs.resume_all(team)
    except asyncio.CancelledError:
        screen.note(f"stopped; to go on: {place.command('resume', '--all')}", "yellow")
        raise
    if not outcomes:
        screen.note("no run can go on: none was interrupted, and none is due")
    for run_id, outcome in outcomes.items():
        say_end(screen, run_id, outcome)
    if any(isinstance(o, Exception) and not isinstance(o, RunSuspended) for o in outcomes.values()):
        raise typer.Exit(FAILED)


def say_end(screen: Screen, run_id: str, outcome: Result | Exception) -> None:
    """One line on what became of a run."""
    if isinstance(outcome, Result):
        screen.line(f"{short(run_id)} {outcome.status}, paid now {_paid(outcome)[0]}")
    else:
        screen.line(f"{short(run_id)} {outcome}")


def _account(screen: Screen, result: Result) -> None:
    """What the run cost, what of it was paid now, and what may have been paid twice."""
    screen.note("")
    for outcome in result.outcomes:
        if outcome.status != "completed":
            screen.note(f"{outcome.id} ({outcome.worker}) {outcome.status}: {outcome.error}", "red")
    now, before = _paid(result)
    screen.note(f"{result.status:<10} {total(result.cost_estimate, result.unpriced)}", "bold")
    screen.note(f"paid now   {now}")
    screen.note(f"on record  {before}")
    if result.resumed is not None and result.resumed.doubtful:
        doubtful = result.resumed.doubtful
        screen.note(
            f"{counted(len(doubtful), 'call')} had been sent before and left no answer on record, "
            f"so may have been paid twice: {names(doubtful)}",
            "yellow",
        )


def _paid(result: Result) -> tuple[str, str]:
    """What was paid by this execution, and what had been paid before."""
    now = [call for call in result.calls if not call.replayed]
    before = [call for call in result.calls if call.replayed]
    return _sum(now), _sum(before)


def _sum(calls: Sequence[CallRecord]) -> str:
    if not calls:
        return "nothing"
    cost = total(ledger.total_cost(calls), ledger.unpriced(calls))
    return f"{cost} ({counted(len(calls), 'call')})"
