"""What several commands can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyagent_patterns.budget import Budget

from . import arguments
from .stores import DB_VARIABLE, DEFAULT_DB, URL_VARIABLE

JournalDb = Annotated[
    Path, typer.Option("--db", envvar=DB_VARIABLE, metavar="PATH", help="The journal file.")
]
Db = Annotated[
    Path | None,
    typer.Option(
        "--db", metavar="PATH", help=f"The journal file; else {DB_VARIABLE}, or {DEFAULT_DB}."
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--database-url", metavar="URL", help=f"A cluster's database instead; else {URL_VARIABLE}."
    ),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or how it begins.")]
Team = Annotated[
    str | None,
    typer.Option(metavar="MODULE:OBJECT", help="The team, if the run does not say where it is."),
]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
NoResume = Annotated[bool, typer.Option("--no-resume", help="Only send it.")]

# How a run is to go
InputsGiven = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="KEY=VALUE", help="JSON; anything else is text. Repeat it."),
]
InputsFile = Annotated[
    Path | None, typer.Option("--inputs", metavar="FILE", help="All inputs, as JSON.")
]
Dollars = Annotated[
    Budget | None,
    typer.Option(
        "--budget", parser=arguments.budget, metavar="USD", help="What it may cost, such as 0.50."
    ),
]
Tenant = Annotated[
    str | None, typer.Option(metavar="NAME", help="Whom it is done for, in its trace.")
]
User = Annotated[str | None, typer.Option(metavar="NAME", help="Which user, in its trace.")]
