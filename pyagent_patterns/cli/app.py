"""The commands: each reads its arguments, does one thing, and shows what came of it."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated, Final, cast

import typer

from pyagent_patterns.durable import RunView
from pyagent_patterns.durable.submission import HowSubmitted
from pyagent_patterns.journal import FINISHED, Status
from pyagent_providers import LLM

from . import arguments, cluster, deciding, definitions, pages, prices, records, running, viewing
from .arguments import ProviderLimit
from .going_on import (
    FAILED,
    carry_out,
    carry_out_runs,
    go_on,
    go_on_with_all,
    say_end,
    send,
    team_of,
)
from .options import (
    Db,
    Dollars,
    InputsFile,
    InputsGiven,
    JournalDb,
    Json,
    NoResume,
    Run,
    Team,
    Tenant,
    Url,
    User,
)
from .screen import Screen
from .stores import DEFAULT_DB, URL_VARIABLE, Place, Store, journal_at, kept_in
from .words import counted, dollars, run_state, short, span

app = typer.Typer(
    help="Run teams of agents; look at runs that are kept, go on with them, ask a worker again.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for command in (
    running.run,
    definitions.validate,
    definitions.graph,
    definitions.schema,
    definitions.init,
    deciding.approve,
    deciding.reject,
    deciding.answer,
    prices.models,
    viewing.ui,
    viewing.report,
):
    app.command()(command)


class State(StrEnum):
    """A run's state, as it is shown.

    `interrupted` is one that no process goes on with, `new` one that none has begun.
    """

    NEW = "new"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


_OPEN: Final = frozenset((State.NEW, State.RUNNING, State.INTERRUPTED))  # on record: running

DatabaseUrl = Annotated[
    str,
    typer.Option(envvar=URL_VARIABLE, metavar="URL", help="postgresql://..."),
]


@app.command()
def runs(
    status: Annotated[State | None, typer.Option(help="Only runs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    json: Json = False,
    db: Db = None,
    database_url: Url = None,
) -> None:
    """List the runs, the newest first."""
    screen, place = Screen(), Place.of(db, database_url)

    async def work() -> None:
        async with kept_in(screen, place) as store:
            found = await _listed(store, status, limit)
        if json:
            screen.json([records.run_record(run) for run in found])
        elif found:
            screen.show(pages.runs_table(found, screen.width))
        else:
            which = "run" if status is None else f"{status} run"
            screen.note(f"{place} has no {which}")

    carry_out(screen, work())


@app.command()
def show(
    run: Run,
    full: Annotated[bool, typer.Option("--full", help="With every prompt and answer.")] = False,
    json: Json = False,
    db: Db = None,
    database_url: Url = None,
) -> None:
    """Show a run: its calls, what they cost, what may have been paid twice, its answer."""
    screen, place = Screen(), Place.of(db, database_url)

    async def work() -> None:
        async with kept_in(screen, place) as store:
            detail = await store.get(await store.find(run))
        if json:
            screen.json(records.detail_record(detail))
        else:
            screen.show(pages.run_page(detail, full=full))

    carry_out(screen, work())


@app.command()
def resume(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run's id, or how it begins.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every run that was interrupted or is due.")
    ] = False,
    team: Team = None,
    db: Db = None,
    database_url: Url = None,
) -> None:
    """Go on with a run; what is on record is not asked, and not paid, again."""
    if (run is None) is not everything:
        raise typer.BadParameter("give one RUN, or --all")
    screen, place = Screen(), Place.of(db, database_url)

    if run is None and place.url is not None:
        raise typer.BadParameter("workers go on with every run of a database: pyagent worker")

    async def work() -> None:
        if run is None:
            with journal_at(place.file) as journal:
                await go_on_with_all(screen, place, journal, arguments.team(team))
            return
        async with kept_in(screen, place) as store:
            run_id = await store.find(run)
            await go_on(screen, place, store, run_id, arguments.team(team), team_name=team)

    carry_out_runs(screen, work())


@app.command()
def serve(team: Team = None, db: JournalDb = DEFAULT_DB) -> None:
    """Go on with every run that can, as soon as it can, until Ctrl-C."""
    screen = Screen()

    async def work() -> None:
        with journal_at(db) as store:
            loaded = arguments.team(team)
            screen.note(f"serving {str(db)!r}; Ctrl-C ends it")
            await store.serve(loaded, on_end=lambda run_id, end: say_end(screen, run_id, end))

    carry_out_runs(screen, work())


@app.command()
def signal(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the run waits for.")],
    value: Annotated[
        str | None, typer.Argument(metavar="VALUE", help="JSON; anything else is text.")
    ] = None,
    no_resume: NoResume = False,
    team: Team = None,
    db: Db = None,
    database_url: Url = None,
) -> None:
    """Send a run what it waits for, and go on with it; a worker does, of a database."""
    screen, place = Screen(), Place.of(db, database_url)

    async def work() -> None:
        async with kept_in(screen, place) as store:
            run_id = await store.find(run)
            sent = arguments.signal_value(value)
            await send(
                screen, place, store, run_id, name, sent, team_name=team, only_send=no_resume
            )

    carry_out_runs(screen, work())


@app.command()
def cancel(run: Run, db: Db = None, database_url: Url = None) -> None:
    """End a run for good."""
    screen, place = Screen(), Place.of(db, database_url)

    async def work() -> None:
        async with kept_in(screen, place) as store:
            run_id = await store.find(run)
            await store.cancel(run_id)
            screen.note(f"run {short(run_id)} is cancelled")

    carry_out(screen, work())


@app.command()
def fork(
    run: Run,
    from_key: Annotated[
        str | None,
        typer.Option("--from", metavar="KEY", help="A call to make again in any case."),
    ] = None,
    no_resume: Annotated[bool, typer.Option("--no-resume", help="Only make the new run.")] = False,
    team: Team = None,
    db: Db = None,
    database_url: Url = None,
) -> None:
    """Begin a new run with this one's answers; only what has changed since is paid again."""
    screen, place = Screen(), Place.of(db, database_url)

    async def work() -> None:
        async with kept_in(screen, place) as store:
            run_id = await store.find(run)
            loaded = await team_of(store, run_id, team, needed=not no_resume)
            new = await store.fork(run_id, from_key=from_key)
            if no_resume:
                screen.line(new)
                return
            screen.note(f"run {short(run_id)} is forked as {new}")
            await go_on(screen, place, store, new, loaded, team_name=team)

    carry_out_runs(screen, work())


@app.command()
def replay(
    run: Run,
    task: Annotated[str, typer.Option(metavar="TASK", help="An assignment's id, or a call's key.")],
    model: Annotated[
        LLM | None,
        typer.Option(
            parser=arguments.model, metavar="PROVIDER/MODEL", help="Ask this model instead."
        ),
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Ask this instead.")] = None,
    system_prompt: Annotated[str | None, typer.Option(help="Under this role instead.")] = None,
    team: Team = None,
    db: JournalDb = DEFAULT_DB,
) -> None:
    """Ask one worker again, with the inputs on record. Without changes no call is made."""
    screen = Screen()

    async def work() -> None:
        with journal_at(db) as store:
            found = await store.replay(
                await store.find(run),
                task,
                arguments.team(team),
                llm=model,
                prompt=prompt,
                system_prompt=system_prompt,
            )
        if found.again is not None:
            screen.show(pages.comparison(found, found.again))
            if found.again.text is None:
                raise typer.Exit(FAILED)
            return
        if found.recorded.text is None:
            raise LookupError(f"call {found.call.key!r} failed: {found.recorded.error}")
        screen.answer(found.recorded.text)
        screen.note(
            f"\n{found.call.key} as recorded, {dollars(found.cost)}; no call was made", "bold"
        )

    carry_out_runs(screen, work())


@app.command()
def prune(
    older_than: Annotated[
        float,
        typer.Option(parser=arguments.duration, metavar="AGE", help="Such as 12h, 30d or 4w."),
    ],
    status: Annotated[
        list[State] | None,
        typer.Option(help="Only runs in this state (default: all that have ended)."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    db: Db = None,
    database_url: Url = None,
) -> None:
    """Delete runs that ended long ago."""
    wanted: tuple[Status, ...] = tuple(cast(Status, state.value) for state in status or ())
    if not _OPEN.isdisjoint(status or ()):
        raise typer.BadParameter("a run that goes on, or can, is not deleted; cancel it first")
    wanted = wanted or FINISHED
    screen, place = Screen(), Place.of(db, database_url)

    async def work() -> None:
        async with kept_in(screen, place) as store:
            before = time.time() - older_than
            old = [
                run
                for run in await store.list()
                if run.status in wanted and run.updated_at < before
            ]
            what = f"{counted(len(old), 'run')} that ended more than {span(older_than)} ago"
            if not old:
                screen.note(f"{place} has no run that ended so long ago")
            elif yes or typer.confirm(f"Delete {what} from {place.shown}?", err=True):
                gone = await store.prune(older_than=older_than, status=wanted)
                screen.note(f"deleted {counted(gone, 'run')}")

    carry_out(screen, work())


@app.command()
def worker(
    database_url: DatabaseUrl,
    limit: Annotated[
        list[ProviderLimit] | None,
        typer.Option(
            parser=arguments.limit,
            metavar="LIMIT",
            help="Such as openai:concurrency=8,per_minute=500, over all workers; repeat it.",
        ),
    ] = None,
    tenant: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Metrics tell it from other tenants; repeat it."),
    ] = None,
) -> None:
    """Do the work of submitted runs on this machine, beside other workers."""
    screen = Screen()
    work = cluster.work(screen, database_url, limit or ())
    carry_out_runs(screen, work, tenants=tenant or ())


@app.command()
def submit(
    team: Annotated[str, typer.Argument(metavar="MODULE:OBJECT", help="The team.")],
    task: Annotated[str, typer.Argument(metavar="TASK", help="What to do.")],
    database_url: DatabaseUrl,
    inputs_given: InputsGiven = None,
    inputs_file: InputsFile = None,
    budget: Dollars = None,
    tenant: Tenant = None,
    user: User = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only print the run's id.")] = False,
) -> None:
    """Hand in a run for the workers, and wait for its answer."""
    screen = Screen()
    inputs = arguments.inputs(inputs_file, inputs_given)
    how = HowSubmitted(inputs=inputs, budget=budget, tenant=tenant, user=user)
    carry_out(screen, cluster.submit(screen, team, task, how, database_url, wait=not no_wait))


async def _listed(store: Store, status: State | None, limit: int) -> list[RunView]:
    if status is None:
        return list(await store.list(limit=limit))
    is_open = status in _OPEN
    recorded = cast(Status, "running" if is_open else status.value)
    found = await store.list(status=recorded, limit=None if is_open else limit)
    return [run for run in found if run_state(run) == status][:limit]
