"""The command line `pyagent`: look at kept runs, go on with them, ask one worker again."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """The `pyagent` command; ends the process with its exit status."""
    if find_spec("typer") is None or find_spec("rich") is None:
        sys.exit(_needs_extra())
    from .app import app

    app(prog_name="pyagent")


def _needs_extra() -> int:
    print(  # noqa: T201
        'pyagent needs Typer and rich: pip install "pyagent-sdk[cli]"', file=sys.stderr
    )
    return 2
