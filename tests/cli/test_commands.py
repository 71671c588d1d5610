"""`prune`, the commands for many machines, and the command without its extra."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .commands import (
    pyagent,
    ran,
)


def test_prune_says_how_many_and_asks_first(newsroom: Path) -> None:
    ran(newsroom, "old")
    ran(newsroom, "waits", "approval")
    with sqlite3.connect("runs.db") as db:
        db.execute("UPDATE run SET updated = ?", (time.time() - 40 * 86400,))
    db.close()
    ran(newsroom, "new")

    def left() -> set[str]:
        return {run["run_id"] for run in json.loads(pyagent("runs", "--json").stdout)}

    assert "no run that ended so long ago" in pyagent("prune", "--older-than", "50d").stderr
    asked = pyagent("prune", "--older-than", "30d", input="n\n")
    assert "Delete 1 run that ended more than 30 d ago" in asked.stderr
    assert left() == {"old", "waits", "new"}
    assert "deleted 1 run" in pyagent("prune", "--older-than", "4w", "--yes").stderr
    assert left() == {"waits", "new"}
    pyagent("prune", "--older-than", "30d", "--status", "suspended", input="y\n")
    assert left() == {"new"}


def test_prune_takes_a_duration_with_a_unit_and_no_run_that_goes_on(newsroom: Path) -> None:
    assert pyagent("prune", "--older-than", "30").exit_code == 2
    assert pyagent("prune", "--older-than", "1d", "--status", "running").exit_code == 2
    assert pyagent("prune", "--older-than", "1d", "--status", "interrupted").exit_code == 2


def test_the_commands_for_many_machines_want_a_database(newsroom: Path) -> None:
    assert pyagent("worker").exit_code == 2
    assert pyagent("submit", f"{newsroom}:team", "Why?").exit_code == 2


@pytest.mark.parametrize("limit", ["openai", "openai:", ":concurrency=8", "openai:burst=3", "x:"])
def test_a_limit_that_is_not_one_is_refused(limit: str) -> None:
    result = pyagent("worker", "--database-url", "postgresql://x", "--limit", limit)
    assert result.exit_code == 2
    assert "openai:concurrency=8,per_minute=500" in result.stderr


@pytest.mark.parametrize(
    ("team", "task", "url", "status", "said"),
    [
        ("newsroom", "Why?", "postgresql://u@127.0.0.1:1/x", 1, "127.0.0.1:1/x cannot be used"),
        ("newsroom:team", "Why?", "mysql://u@127.0.0.1:1/x", 2, "postgresql://user:password@"),
    ],
    ids=["no server", "no such database"],
)
def test_a_database_that_cannot_be_used_is_an_error_on_a_line(
    team: str, task: str, url: str, status: int, said: str
) -> None:
    result = pyagent("submit", team, task, "--database-url", url)
    assert (result.exit_code, result.stdout) == (status, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_the_commands_for_many_machines_name_the_extra_they_need(
    newsroom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dbos", None)
    monkeypatch.setenv("PYAGENT_DATABASE_URL", "postgresql://x")
    for command in (
        ["worker", "--limit", "openai:concurrency=8,per_minute=500"],
        ["submit", f"{newsroom}:team", "Why?"],
    ):
        result = pyagent(*command)
        assert result.exit_code == 2
        assert 'pip install "pyagent-sdk[dbos]"' in result.stderr


def test_without_typer_the_command_says_how_to_get_it() -> None:
    program = (
        "import sys; sys.modules['typer'] = None; from pyagent_patterns.cli import main; main()"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr == 'pyagent needs Typer and rich: pip install "pyagent-sdk[cli]"\n'


def test_importing_the_library_loads_neither_typer_nor_rich() -> None:
    program = (
        "import sys, pyagent_patterns, pyagent_patterns.durable, pyagent_patterns.cli\n"
        "print([name for name in ('typer', 'rich', 'click') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "[]\n"
