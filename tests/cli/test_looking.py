"""`runs` and `show`: what is on record, harmless, and nothing written."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from pyagent_patterns.durable import Runs

from .commands import (
    files,
    in_terminal,
    killed,
    pyagent,
    ran,
    table,
)
from .newsroom import HOSTILE


def test_runs_lists_the_runs_newest_first_with_what_they_cost(newsroom: Path) -> None:
    ran(newsroom, "a-first", task="Why is the\nsea salty?")
    ran(newsroom, "b-second", "unpriced")
    ran(newsroom, "c-third", "approval")
    killed(newsroom, "d-fourth", at="teacher")
    result = pyagent("runs")
    assert result.exit_code == 0
    header, *rows = table(result.stdout)
    assert header == ["run", "status", "pattern", "task", "calls", "tokens", "cost", "age"]
    assert [row[:-1] for row in rows if len(row) > 2] == [
        ["d-fourth", "interrupted", "orchestrator_workers", "Why?", "3", "220", "$0.000400"],
        ["c-third", "waits for approval", "approval", "Why?", "1", "110", "$0.000200"],
        ["b-second", "completed", "orchestrator_workers", "Why?", "4", "440", "$0.000600 +"],
        [
            *("a-first", "completed", "orchestrator_workers", "Why is the sea salty?"),
            *("4", "440", "$0.000800"),
        ],
    ]
    assert "1 unpriced" in result.stdout


def test_a_run_is_shown_by_the_name_of_its_pattern_and_its_kind(newsroom: Path) -> None:
    ran(newsroom, "r", "desk")
    [_, row] = table(pyagent("runs").stdout)
    assert row[2] == "science desk"
    assert "pattern  science desk, orchestrator_workers " in pyagent("show", "r").stdout
    found = json.loads(pyagent("show", "r", "--json").stdout)
    assert (found["name"], found["pattern"]) == ("science\x1b[31m desk", "orchestrator_workers")


def test_runs_narrows_down_by_state_and_number(newsroom: Path) -> None:
    for number in range(3):
        ran(newsroom, f"done-{number}")
    killed(newsroom, "dead", at="teacher")

    def ids(*options: str) -> list[str]:
        return [run["run_id"] for run in json.loads(pyagent("runs", "--json", *options).stdout)]

    assert ids("--limit", "2") == ["dead", "done-2"]
    assert ids("--status", "completed", "--limit", "2") == ["done-2", "done-1"]
    assert ids("--status", "interrupted") == ["dead"]
    assert ids("--status", "running") == []


def test_the_json_of_a_run_has_its_money_as_text_and_its_times_in_iso_format(
    newsroom: Path,
) -> None:
    ran(newsroom, "one")
    [run] = json.loads(pyagent("runs", "--json").stdout)
    assert (run["cost"], run["unpriced"], run["tokens"], run["calls"]) == ("0.0008", 0, 440, 4)
    assert run["created_at"].endswith("+00:00")
    shown = json.loads(pyagent("show", "one", "--json").stdout)
    assert shown["result"]["output"] == HOSTILE
    assert [call["key"] for call in shown["calls"]] == [
        *("plan/ask:0", "work/t1/ask:0", "work/t2/ask:0", "synthesis/ask:0"),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs"],
        ["show", "x"],
        ["resume", "x"],
        ["resume", "--all"],
        ["signal", "x", "name"],
        ["cancel", "x"],
        ["fork", "x"],
        ["replay", "x", "--task", "t1"],
        ["prune", "--older-than", "1d", "--yes"],
    ],
    ids=" ".join,
)
def test_no_command_makes_a_journal_that_is_not_there(
    arguments: Sequence[str], tmp_path: Path
) -> None:
    before = files(tmp_path)
    result = pyagent(*arguments, "--db", "nowhere.db")
    assert result.exit_code == 1
    assert "there is no journal 'nowhere.db'" in result.stderr
    assert files(tmp_path) == before


def test_an_empty_journal_is_said_to_be_empty(newsroom: Path) -> None:
    ran(newsroom, "one")
    with Runs("runs.db") as runs:
        asyncio.run(runs.prune(older_than=-1))
    result = pyagent("runs")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "the journal 'runs.db' has no run" in result.stderr


def test_looking_writes_nothing(newsroom: Path, tmp_path: Path) -> None:
    ran(newsroom, "one")
    killed(newsroom, "two", at="teacher")
    before = files(tmp_path)
    for command in (
        ["runs"],
        ["runs", "--json"],
        ["show", "two", "--full"],
        ["show", "one", "--json"],
        ["replay", "one", "--task", "t1"],
    ):
        assert pyagent(*command).exit_code == 0
    assert files(tmp_path) == before


@pytest.mark.parametrize("content", ["text", "sqlite"])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(content: str, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    if content == "text":
        path.write_text("Dear diary, " * 100)
    else:
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE run (id)")
        other.close()
    before = files(tmp_path)
    for command in (["runs"], ["show", "x"], ["prune", "--older-than", "1d", "--yes"]):
        result = pyagent(*command, "--db", "other.db")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("pyagent: ")
        assert "other.db" in result.stderr
        assert "Traceback" not in result.stderr
    assert files(tmp_path) == before


def test_a_run_is_known_by_how_its_id_begins_if_no_other_does(newsroom: Path) -> None:
    for run_id in ("order-1", "order-10", "order-2"):
        ran(newsroom, run_id)
    assert "order-10" in pyagent("show", "order-10").stdout
    assert json.loads(pyagent("show", "order-1", "--json").stdout)["run_id"] == "order-1"
    several = pyagent("show", "order")
    assert (several.exit_code, several.stdout) == (1, "")
    assert "3 runs begin with 'order'" in several.stderr
    none = pyagent("cancel", "odd")
    assert none.exit_code == 1
    assert "no run 'odd'" in none.stderr


def test_show_has_the_facts_the_calls_and_the_answer(newsroom: Path) -> None:
    ran(newsroom, "one")
    shown = pyagent("show", "one").stdout
    rows = table(shown)
    assert ["team", f"{newsroom}:team"] in rows
    assert ["cost", "$0.000800, 440 tokens"] in rows
    [call] = [row for row in rows if row[0] == "work/t1/ask:0"]
    assert call[:-1] == [*call[:1], "scientist", "scientist-model", "done", "1", "110", "$0.000200"]
    assert "You do research." not in shown
    assert "You do research." in pyagent("show", "one", "--full").stdout


def test_show_marks_and_explains_what_may_have_been_paid_twice(newsroom: Path) -> None:
    killed(newsroom, "one", at="teacher")
    dead = pyagent("show", "one").stdout
    assert "Sent, perhaps paid, and no answer on record: work/t2/ask:0." in dead
    assert pyagent("resume", "one").exit_code == 0
    [call] = [row for row in table(pyagent("show", "one").stdout) if row[0] == "work/t2/ask:0"]
    assert "done !" in call
    shown = " ".join(pyagent("show", "one").stdout.split())
    assert "! sent more than once" in shown
    assert "may have been paid as often: work/t2/ask:0 (twice)" in shown


def test_show_says_what_failed(newsroom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL_AT", "scientist")
    ran(newsroom, "one")
    shown = pyagent("show", "one").stdout
    assert "work/t1/ask:0 failed: ValueError: the stub failed[/red]" in shown
    assert "no assignment completed" in shown
    assert "\x1b" not in shown


def test_what_a_model_wrote_cannot_colour_move_or_retitle_the_terminal(newsroom: Path) -> None:
    ran(newsroom, "one", task=HOSTILE)
    for command in (["runs"], ["show", "one"], ["show", "one", "--full"], ["resume", "one"]):
        sent = in_terminal(*command)
        assert "loud" in sent, command
        assert "[bold]" in sent, command  # as it was written, not as markup
        assert not set(sent) & set("\x1b\x07\u202e"), command
    for command in (["runs"], ["show", "one", "--full"], ["show", "one", "--json"]):
        assert not set(pyagent(*command).stdout) & set("\x1b\x07\u202e"), command


def test_a_table_fits_into_eighty_columns(newsroom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran(newsroom, "0" * 32, task="Why is the sea salty? " * 10)
    ran(newsroom, "waits", "approval")
    monkeypatch.setenv("COLUMNS", "80")
    listed, shown = pyagent("runs").stdout, pyagent("show", "000").stdout
    assert max(len(row) for row in (listed + shown).splitlines()) <= 80
    assert "00000000  completed" in listed
    assert "…" in listed
