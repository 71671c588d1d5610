"""`validate`, `graph`, `schema` and `init`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyagent_patterns.spec import json_schema, load

from .commands import pyagent


def test_a_starter_project_is_valid_and_runs_without_a_key(tmp_path: Path) -> None:
    begun = pyagent("init", "my team")
    assert begun.exit_code == 0
    assert begun.stdout == "pyagent run 'my team/team.yaml' --input topic=tides\n"
    assert pyagent("validate", "my team/team.yaml").exit_code == 0
    result = pyagent("run", "my team/team.yaml", "--input", "topic=tides")
    assert result.exit_code == 0
    assert "Write a short briefing on tides" in result.stdout
    assert json.loads(Path("my team/team.schema.json").read_text()) == json_schema()


@pytest.mark.parametrize("there", ["notes.txt", ".env", "folder"])
def test_a_starter_project_overwrites_nothing(tmp_path: Path, there: str) -> None:
    folder = tmp_path / "old"
    (folder / ".git").mkdir(parents=True)
    if there == "folder":
        (folder / there).mkdir()
    else:
        (folder / there).write_text("mine")
    result = pyagent("init", "old")
    assert result.exit_code == 1
    assert f"'old' is not empty: it has {there!r}; name a new directory" in result.stderr
    assert {path.name for path in folder.iterdir()} == {".git", there}


def test_a_starter_project_goes_into_an_empty_directory_but_not_into_a_file(tmp_path: Path) -> None:
    (tmp_path / "empty" / ".git").mkdir(parents=True)
    assert pyagent("init", "empty").exit_code == 0
    assert load("empty/team.yaml").team.kind == "pipeline"
    (tmp_path / "file").touch()
    result = pyagent("init", "file")
    assert (result.exit_code, "'file' cannot be written to" in result.stderr) == (1, True)


def test_validate_tells_every_fault_of_every_file(tmp_path: Path) -> None:
    pyagent("init", "good")
    (tmp_path / "bad.yaml").write_text("agents:\n  a: {llm: x, tols: []}\nteam: b\n")
    result = pyagent("validate", "bad.yaml", "good/team.yaml", "none.yaml")
    assert result.exit_code == 1
    assert [line.split(": ")[0] for line in result.stderr.splitlines()[:3]] == [
        "bad.yaml:2:7",
        "bad.yaml:2:15",
        "bad.yaml:3:1",
    ]
    assert "good/team.yaml: 'pipeline' (pipeline), 2 agents" in result.stderr
    assert "No such file or directory: 'none.yaml'" in result.stderr


def test_graph_draws_a_definition_or_a_team_in_a_module(newsroom: Path) -> None:
    pyagent("init", "new")
    drawn = pyagent("graph", "new/team.yaml")
    assert drawn.stdout.startswith("flowchart TD\n")
    assert '"researcher<br/>answer"' in drawn.stdout
    assert '"editor<br/>' in pyagent("graph", f"{newsroom}:team").stdout
    missing = pyagent("graph", f"{newsroom}:nobody")
    assert (missing.exit_code, "has no 'nobody'" in missing.stderr) == (1, True)


def test_schema_prints_the_json_schema() -> None:
    assert json.loads(pyagent("schema").stdout) == json_schema()
