"""`approve`, `reject`, `answer`: what a person decides of a run that waits for them."""

from __future__ import annotations

from typing import Annotated

import typer

from pyagent_patterns.people import Decision, Wanted

from .going_on import carry_out_runs, how_to_decide, send
from .options import Db, NoResume, Run, Team, Url
from .screen import Screen
from .stores import Place, kept_in
from .words import line, short

What = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="Which, where the run waits for several decisions."),
]


def approve(
    run: Run,
    reason: Annotated[str, typer.Option(help="Why; it is on record.")] = "",
    what: What = None,
    no_resume: NoResume = False,
    team: Team = None,
    db: Db = None,
    database_url: Url = None,
) -> None:
    """Approve the plan, tool call or answer that a run waits with, and go on with it."""
    decision = Decision(approved=True, reason=reason)
    _decide(run, decision, what, no_resume, team, Place.of(db, database_url), is_answer=False)


def reject(
    run: Run,
    reason: Annotated[str, typer.Option(help="Why; who asked is told.")] = "",
    what: What = None,
    no_resume: NoResume = False,
    team: Team = None,
    db: Db = None,
    database_url: Url = None,
) -> None:
    """Reject what a run waits with, and go on with it."""
    decision = Decision(approved=False, reason=reason)
    _decide(run, decision, what, no_resume, team, Place.of(db, database_url), is_answer=False)


def answer(
    run: Run,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What the agent is told.")],
    what: What = None,
    no_resume: NoResume = False,
    team: Team = None,
    db: Db = None,
    database_url: Url = None,
) -> None:
    """Answer the question that an agent of a run has, and go on with it."""
    decision = Decision(approved=True, value=text)
    _decide(run, decision, what, no_resume, team, Place.of(db, database_url), is_answer=True)


def _decide(
    run: str,
    decision: Decision,
    what: str | None,
    only_send: bool,
    team_name: str | None,
    place: Place,
    *,
    is_answer: bool,
) -> None:
    screen = Screen()

    async def work() -> None:
        async with kept_in(screen, place) as store:
            detail = await store.get(await store.find(run))
            wanted = _which(screen, place, detail.run.run_id, detail.wanted, what)
            if is_answer != (wanted.kind == "question"):
                for note in how_to_decide(place, wanted):
                    screen.note(note)
                raise typer.BadParameter(
                    "the run waits for an answer" if not is_answer else "nobody asks a question"
                )
            screen.note(f"{wanted.text}\n")
            await send(
                screen,
                place,
                store,
                wanted.run_id,
                wanted.key,
                decision.to_dict(),
                team_name=team_name,
                only_send=only_send,
            )

    carry_out_runs(screen, work())


def _which(
    screen: Screen, place: Place, run_id: str, wanted: tuple[Wanted, ...], key: str | None
) -> Wanted:
    """The one that is meant. Raises LookupError for none, typer.BadParameter for several."""
    meant = [one for one in wanted if key is None or one.key == key]
    if not meant:
        waits = f"; it waits for {', '.join(line(one.key) for one in wanted)}" if wanted else ""
        which = "no decision" if key is None else f"no decision {key!r}"
        raise LookupError(f"run {short(run_id)} waits for {which}{waits}")
    if len(meant) > 1:
        for one in meant:
            for note in how_to_decide(place, one, only=False):
                screen.note(note)
        raise typer.BadParameter("the run waits for several decisions; say which with --what KEY")
    return meant[0]
