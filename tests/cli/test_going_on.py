"""`resume`, `signal` and `cancel`: a run goes on, waits, is stopped, and says what it cost."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from .commands import (
    killed,
    load,
    pyagent,
    pyagent_process,
    ran,
    start,
    table,
)
from .newsroom import HOSTILE


def test_a_killed_run_goes_on_and_only_its_answer_is_on_stdout(newsroom: Path) -> None:
    killed(newsroom, "one", at="teacher")
    status, out, err = pyagent_process("resume", "one")
    assert status == 0
    assert out == HOSTILE.encode(errors="surrogatepass")
    steps = [row[1:] for row in table(err)[:4]]
    assert [step[:2] for step in steps] == [
        ["plan", "editor"],
        ["t1", "scientist"],
        ["t2", "teacher"],
        ["synthesis", "editor"],
    ]
    assert ["on record, not asked again" in step[-1] for step in steps] == [
        True,
        True,
        False,
        False,
    ]
    assert "completed  $0.000800\npaid now   $0.000400 (2 calls)\non record  $0.000400" in err
    assert "1 call had been sent before" in err
    assert "paid twice: work/t2/ask:0" in err


def test_a_run_of_a_team_that_is_not_on_record_goes_on_with_the_one_that_is_named(
    newsroom: Path,
) -> None:
    team = load(newsroom)
    copy = type(team)(orchestrator=team.agents[0], workers=team.agents[1:-1])
    copy.run_sync("Why?", durable="runs.db", run_id="one")
    result = pyagent("resume", "one")
    assert result.exit_code == 1
    assert "does not say where its team is" in result.stderr
    assert pyagent("resume", "one", "--team", f"{newsroom}:team").exit_code == 0


@pytest.mark.parametrize(
    ("team", "said"),
    [
        ("newsroom", "package.module:object"),
        ("nowhere:team", "No module named 'nowhere'"),
        ("newsroom.py:nothing", "has no 'nothing'"),
        ("newsroom.py:ONCE", "is a RetryPolicy, not a team"),
    ],
)
def test_a_team_that_cannot_be_found_is_an_error_on_a_line(
    team: str, said: str, newsroom: Path
) -> None:
    ran(newsroom, "one")
    result = pyagent("resume", "one", "--team", team)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_run_that_fails_says_why_and_what_was_paid(
    newsroom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(newsroom, "one", at="scientist")
    monkeypatch.setenv("FAIL_AT", "scientist")
    result = pyagent("resume", "one")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "pyagent: no assignment completed" in result.stderr
    assert "on record  $0.000200 (1 call)" in result.stderr


def test_resume_all_goes_on_with_whatever_can(newsroom: Path) -> None:
    for run_id in ("one", "two"):
        killed(newsroom, run_id, at="teacher")
    ran(newsroom, "three")
    result = pyagent("resume", "--all")
    assert result.exit_code == 0
    assert sorted(row.split()[:2] for row in result.stdout.splitlines()) == [
        ["one", "completed,"],
        ["two", "completed,"],
    ]
    assert "no run can go on" in pyagent("resume", "--all").stderr


def test_resume_wants_a_run_or_all_of_them() -> None:
    assert pyagent("resume").exit_code == 2
    assert pyagent("resume", "one", "--all").exit_code == 2


@pytest.mark.parametrize(
    ("value", "received"),
    [
        (['{"by": "me"}'], '{"by": "me"}'),
        (["3"], "3"),
        (["yes, do"], '"yes, do"'),
        ([], "null"),
    ],
    ids=["json", "number", "text", "nothing"],
)
def test_a_suspended_run_says_what_it_waits_for_and_takes_it(
    value: list[str], received: str, newsroom: Path
) -> None:
    ran(newsroom, "one", "approval")
    waiting = pyagent("resume", "one")
    assert (waiting.exit_code, waiting.stdout) == (3, "")
    assert "suspended until the signal 'approval'" in waiting.stderr
    assert "pyagent signal one approval VALUE" in waiting.stderr
    done = pyagent("signal", "one", "approval", *value)
    assert (done.exit_code, done.stdout) == (0, f"Like soup. {received}")


def test_a_signal_can_be_sent_without_going_on(newsroom: Path) -> None:
    ran(newsroom, "one", "approval")
    assert pyagent("signal", "one", "approval", "--no-resume").exit_code == 0
    assert table(pyagent("runs").stdout)[1][1] == "due"
    assert "one  completed" in pyagent("resume", "--all").stdout.replace(
        "one completed", "one  completed"
    )


def test_a_signal_to_a_run_whose_team_is_gone_is_not_sent(newsroom: Path) -> None:
    ran(newsroom, "one", "approval")
    assert pyagent("signal", "one", "approval", "--team", "nowhere:team").exit_code == 1
    assert table(pyagent("runs").stdout)[1][1] == "waits for approval"


def test_a_cancelled_run_takes_nothing_any_more(newsroom: Path) -> None:
    ran(newsroom, "one", "approval")
    assert pyagent("cancel", "one").exit_code == 0
    assert table(pyagent("runs").stdout)[1][1] == "cancelled"
    for command in (["resume", "one"], ["signal", "one", "approval"], ["cancel", "one"]):
        result = pyagent(*command)
        assert result.exit_code == 1
        assert "cancelled" in result.stderr


def test_ctrl_c_leaves_a_run_that_can_go_on_and_says_how(
    newsroom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(newsroom, "one", at="teacher")
    newsroom.with_name("runs.db").rename(newsroom.with_name("other.db"))
    monkeypatch.setenv("BLOCK_AT", "teacher")
    with start("resume", "one", "--db", "other.db") as process:
        assert process.stderr is not None
        said = b""
        while b"blocked" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read().decode()
        assert process.wait(timeout=30) == 130
    assert "stopped; to go on: pyagent resume one --db other.db" in rest
    assert "Traceback" not in rest
    monkeypatch.delenv("BLOCK_AT")
    assert table(pyagent("runs", "--db", "other.db").stdout)[1][1] == "interrupted"
    assert pyagent("resume", "one", "--db", "other.db").exit_code == 0


def test_a_served_journal_goes_on_with_what_a_signal_wakes_until_it_is_stopped(
    newsroom: Path,
) -> None:
    ran(newsroom, "haiku", "approval")
    with start("serve") as serving:
        assert serving.stdout is not None
        assert serving.stderr is not None
        assert serving.stderr.readline() == b"serving 'runs.db'; Ctrl-C ends it\n"
        assert pyagent("signal", "haiku", "approval", "good", "--no-resume").exit_code == 0
        assert serving.stdout.readline() == b"haiku completed, paid now nothing\n"
        serving.send_signal(signal.SIGINT)
        assert serving.wait(timeout=10) == 130
