"""Definitions on the command line: check one, draw one, begin one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from pyagent_patterns.graph import mermaid

from . import arguments
from .going_on import FAILED, carry_out
from .screen import Screen
from .starter import starter_files
from .words import counted


def validate(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="YAML definitions.")],
) -> None:
    """Check definitions; every fault is told with its line."""
    screen = Screen()
    good = [_is_valid(screen, file) for file in files]
    if not all(good):
        raise typer.Exit(FAILED)


def graph(
    team: Annotated[
        str, typer.Argument(metavar="FILE|MODULE:OBJECT", help="A YAML definition, or a team.")
    ],
) -> None:
    """Draw a team, as a Mermaid flowchart."""
    screen = Screen()

    async def work() -> None:
        found = arguments.team(team)
        assert found is not None  # noqa: S101 - None is of no name
        screen.answer(mermaid(found))

    carry_out(screen, work())


def schema() -> None:
    """Print the JSON Schema of definitions, for editors."""
    from pyagent_patterns.spec import json_schema

    Screen().json(json_schema())


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")] = Path(
        "."
    ),
) -> None:
    """Write a starter project, which runs as it is, without a key."""
    screen = Screen()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if there := sorted(path.name for path in folder.iterdir() if path.name != ".git"):
            screen.error(
                f"{str(folder)!r} is not empty: it has {there[0]!r}; name a new directory. "
                "Nothing was written"
            )
            raise typer.Exit(FAILED)
        for name, text in starter_files().items():
            with open(folder / name, "x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        screen.error(f"{str(folder)!r} cannot be written to: {error.strerror}")
        raise typer.Exit(FAILED) from None
    team = folder / "team.yaml"
    screen.note(f"wrote {str(team)!r} and what belongs to it; to try it:")
    screen.line(f"pyagent run {shlex.quote(str(team))} --input topic=tides")


def _is_valid(screen: Screen, file: str) -> bool:
    try:
        team = arguments.definition(file).team
    except LookupError as error:
        screen.note(str(error), "red")
        return False
    agents = counted(len({agent.name for agent in team.agents}), "agent")
    screen.note(f"{file}: {team.name!r} ({team.kind}), {agents}")
    return True
