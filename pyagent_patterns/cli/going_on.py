"""Do a command's work, and turn how it ended into what is said and the exit status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, Protocol, TypeVar

import typer

from pyagent_patterns import ledger
from pyagent_patterns.durable import RunDetail, Runs
from pyagent_patterns.durable.teams import Team
from pyagent_patterns.errors import InputChanged, PyAgentError, RunSuspended
from pyagent_patterns.event_json import Ending, ending_of
from pyagent_patterns.ledger import CallRecord
from pyagent_patterns.people import Wanted
from pyagent_patterns.result import Result
from pyagent_providers.errors import ProviderError
from pyagent_providers.types import JSONValue

from . import arguments
from .screen import Screen
from .stores import Place, Store
from .telemetry import seen
from .words import counted, names, short, total

FAILED: Final = 1
SUSPENDED: Final = 3
NO_BUDGET: Final = 4
DECLINED: Final = 5
STOPPED: Final = 130  # as a shell says for Ctrl-C
T = TypeVar("T")
_STATUS: Final[Mapping[Ending, int]] = {
    "failed": FAILED,
    "suspended": SUSPENDED,
    "budget": NO_BUDGET,
    "declined": DECLINED,
}


def carry_out_runs(
    screen: Screen,
    work: Coroutine[object, object, T],
    trace: Path | None = None,
    *,
    tenants: Sequence[str] = (),
) -> T:
    """`carry_out`, of work in which runs go on: they are seen in the file `trace`, and wherever
    OpenTelemetry's variables say. Metrics tell the `tenants` apart."""
    with seen(screen, trace, tenants):
        return carry_out(screen, work)


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
        raise typer.Exit(_STATUS[ending_of(error)]) from None


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
    async with explained(screen, place, store, run_id, team_name=team_name):
        with screen.watch() as progress:
            result = await store.resume(run_id, team, on_event=progress)
    screen.answer(result.output)
    account(screen, result)


async def team_of(store: Store, run_id: str, name: str | None, *, needed: bool) -> Team | None:
    """The team that was named, else the one on record; not looked for unless `needed`."""
    found = arguments.team(name)
    return await store.team_of(run_id) if found is None and needed else found


async def send(
    screen: Screen,
    place: Place,
    store: Store,
    run_id: str,
    name: str,
    value: JSONValue,
    *,
    team_name: str | None,
    only_send: bool,
) -> None:
    """Send a run what it waits for, and go on with it; of a cluster, workers do."""
    only_send = only_send or place.url is not None
    team = await team_of(store, run_id, team_name, needed=not only_send)  # before it is sent
    await store.signal(run_id, name, value)
    screen.note(f"sent {name!r} to run {short(run_id)}")
    if only_send:
        return
    if (await store.get(run_id)).run.is_owned:
        screen.note("the run is going on in another process, which takes it there")
        return
    await go_on(screen, place, store, run_id, team, team_name=team_name)


@asynccontextmanager
async def explained(
    screen: Screen, place: Place, store: Looking, run_id: str, *, team_name: str | None
) -> AsyncGenerator[None]:
    """What runs in it is a kept run: if it stops, the user is told how to go on."""
    rest = ["--team", team_name] if team_name else []
    try:
        with accounted(screen):
            yield
    except asyncio.CancelledError:
        screen.note(f"stopped; to go on: {place.command('resume', short(run_id), *rest)}", "yellow")
        raise
    except InputChanged as changed:
        changed.add_note(f"to fork it: {place.command('fork', short(run_id), *rest)}")
        raise
    except RunSuspended as waits:
        wanted = {one.key: one for one in (await store.get(run_id)).wanted}
        for name in waits.waiting_for:
            if name in wanted:
                for note in how_to_decide(place, wanted[name], rest, only=len(wanted) == 1):
                    waits.add_note(note)
            else:
                send = place.command("signal", short(run_id), name, "VALUE", *rest)
                waits.add_note(f"to send it: {send}")
        raise


@contextmanager
def accounted(screen: Screen) -> Generator[None]:
    """A run that fails in it is said to have cost what it has."""
    try:
        yield
    except (RunSuspended, InputChanged):
        raise
    except PyAgentError as error:
        if error.result is not None:
            account(screen, error.result)
        raise


class Looking(Protocol):
    """What is asked of a store to say what a run waits for."""

    async def get(self, run_id: str) -> RunDetail: ...


def how_to_decide(
    place: Place, wanted: Wanted, rest: Sequence[str] = (), *, only: bool = True
) -> Iterator[str]:
    """What a person is to decide, and what to type."""
    yield f"\n{wanted.text}\n"
    about = [short(wanted.run_id), *([] if only else ["--what", wanted.key])]
    if wanted.kind == "question":
        yield f"to answer: {place.command('answer', *about, 'TEXT', *rest)}"
        return
    yield f"to approve it: {place.command('approve', *about, *rest)}"
    yield f"to reject it: {place.command('reject', *about, '--reason', 'WHY', *rest)}"


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


def account(screen: Screen, result: Result) -> None:
    """What the run cost, what of it was paid now, and what may have been paid twice."""
    screen.note("")
    for outcome in result.outcomes:
        if outcome.status != "completed":
            screen.note(f"{outcome.id} ({outcome.worker}) {outcome.status}: {outcome.error}", "red")
    now, before = _paid(result)
    screen.note(f"{result.status:<10} {total(result.cost_estimate, result.unpriced)}", "bold")
    if result.resumed is None:
        return
    screen.note(f"paid now   {now}")
    screen.note(f"on record  {before}")
    if doubtful := result.resumed.doubtful:
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
