"""`approve`, `reject` and `answer`: a run that waits for a person says how, and goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .commands import pyagent


@pytest.fixture(autouse=True)
def studio(newsroom: Path) -> Path:
    return Path(shutil.copy(Path(__file__).with_name("studio.py"), newsroom.parent))


def waiting(team: str) -> str:
    """What is said of a run that waits for a person."""
    result = pyagent("run", f"studio.py:{team}", "Why?", "--run-id", "one")
    assert (result.exit_code, result.stdout) == (3, "")
    return result.stderr


def status() -> str:
    return json.loads(pyagent("show", "one", "--json").stdout)["status"]


def test_a_run_that_waits_says_what_for_and_how_to_decide() -> None:
    said = waiting("gated")
    assert "The answer of gated:\n\nSalt comes from rock." in said
    assert "to approve it: pyagent approve one\n" in said
    assert "to reject it: pyagent reject one --reason WHY\n" in said
    assert pyagent("resume", "one").stderr.count("pyagent approve one") == 1


def test_what_is_approved_goes_on_and_nothing_is_paid_again() -> None:
    waiting("gated")
    result = pyagent("approve", "one", "--reason", "good")
    assert (result.exit_code, result.stdout) == (0, "Salt comes from rock.")
    assert "paid now   nothing" in result.stderr


def test_what_is_rejected_ends_the_run_with_a_status_of_its_own() -> None:
    waiting("gated")
    result = pyagent("reject", "one", "--reason", "too short")
    assert (result.exit_code, result.stdout) == (5, "")
    assert "declined the answer of 'gated': too short" in result.stderr
    assert status() == "failed"


def test_a_tool_call_that_is_rejected_is_told_to_the_model_with_the_reason() -> None:
    assert "publish" in waiting("careful")
    result = pyagent("reject", "one", "--reason", "not today")
    assert result.exit_code == 0
    assert "I was told:" in result.stdout
    assert "not today" in result.stdout
    assert "published" not in result.stdout


def test_a_tool_call_that_is_approved_is_made() -> None:
    waiting("careful")
    assert pyagent("approve", "one").stdout == "I was told: published this"


def test_a_question_is_answered() -> None:
    said = waiting("curious")
    assert "Which sea?" in said
    assert "to answer: pyagent answer one TEXT" in said
    assert pyagent("answer", "one", "the Dead Sea").stdout == "I was told: the Dead Sea"


def test_a_question_is_not_approved_and_a_gate_not_answered() -> None:
    waiting("curious")
    result = pyagent("approve", "one")
    assert result.exit_code == 2
    assert "pyagent answer one TEXT" in result.stderr
    assert status() == "suspended"


def test_of_several_decisions_it_must_be_said_which() -> None:
    said = waiting("both")
    keys = [line.split("--what ")[1].split()[0] for line in said.splitlines() if "--what" in line]
    (tool,) = {key for key in keys if "publish" in key}
    (question,) = {key for key in keys if "ask_human" in key}
    result = pyagent("approve", "one")
    assert result.exit_code == 2
    assert tool in result.stderr
    one = pyagent("approve", "one", "--what", tool)
    assert one.exit_code == 3
    assert "pyagent answer one TEXT" in one.stderr
    done = pyagent("answer", "one", "the Dead Sea", "--what", question)
    assert done.exit_code == 0
    assert "published this" in done.stdout
    assert "the Dead Sea" in done.stdout


def test_a_decision_can_be_sent_without_going_on() -> None:
    waiting("gated")
    assert pyagent("approve", "one", "--no-resume").exit_code == 0
    assert status() == "suspended"
    assert "due" in pyagent("runs").stdout
    assert pyagent("resume", "one").stdout == "Salt comes from rock."


def test_a_run_that_waits_for_nobody_is_an_error_on_a_line() -> None:
    pyagent("run", "studio.py:solo", "Why?", "--run-id", "one")
    for command in (["approve", "one"], ["reject", "one"], ["answer", "one", "yes"]):
        result = pyagent(*command)
        assert result.exit_code == 1
        assert "run one waits for no decision" in result.stderr
    assert pyagent("approve", "two").exit_code == 1


def test_a_team_from_a_file_is_named_in_what_to_type(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "team.yaml").write_text(
        "agents:\n  writer: {llm: {provider: custom, model: 'studio.py:says'}}\n"
        "team: {pattern: pipeline, stages: [writer], approve: [answer]}\n"
    )
    result = pyagent("run", "team.yaml", "Why?", "--run-id", "one")
    assert result.exit_code == 3
    assert "to approve it: pyagent approve one --team team.yaml" in result.stderr
    done = pyagent("approve", "one", "--team", "team.yaml")
    assert (done.exit_code, done.stdout) == (0, "Salt comes from rock.")
