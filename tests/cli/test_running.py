"""`run`: a team does a task. The answer is on stdout, all else on stderr, the status says how."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .commands import pyagent, pyagent_process
from .newsroom import HOSTILE

DEFINITION = """
objective: Why is the {{ sea }} salty?
agents:
  writer:
    llm: {provider: custom, model: "studio.py:says"}
team:
  pattern: pipeline
  stages: [writer]
  inputs: {type: object, properties: {sea: {type: string}}, required: [sea]}
"""


@pytest.fixture(autouse=True)
def studio(newsroom: Path) -> Path:
    return Path(shutil.copy(Path(__file__).with_name("studio.py"), newsroom.parent))


def test_only_the_answer_is_on_stdout_and_what_happened_on_stderr(newsroom: Path) -> None:
    status, out, err = pyagent_process("run", "newsroom.py:team", "Why?")
    assert status == 0
    assert out == HOSTILE.encode(errors="surrogatepass")
    steps = [line.split()[2:4] for line in err.splitlines()[:4]]
    assert steps == [
        ["plan", "editor"],
        ["t1", "scientist"],
        ["t2", "teacher"],
        ["synthesis", "editor"],
    ]
    assert "completed  $0.000800" in err
    assert not Path("runs.db").exists()


def test_quiet_says_nothing_but_the_answer() -> None:
    result = pyagent("run", "studio.py:solo", "Why?", "--quiet")
    assert (result.stdout, result.stderr) == ("Salt comes from rock.", "")


def test_json_is_the_whole_result() -> None:
    result = json.loads(pyagent("run", "studio.py:solo", "Why?", "--json").stdout)
    assert result["output"] == "Salt comes from rock."
    assert result["status"] == "completed"
    assert result["cost_estimate"] == "0.0002"


def test_stream_writes_the_answer_as_it_comes_and_once() -> None:
    result = pyagent("run", "studio.py:solo", "Why?", "--stream")
    assert result.stdout == "Salt comes from rock."
    assert "completed" in result.stderr


def test_an_answer_that_no_model_wrote_is_streamed_too() -> None:
    plain = pyagent("run", "studio.py:together", "Why?")
    assert pyagent("run", "studio.py:together", "Why?", "--stream").stdout == plain.stdout
    assert "So it does." in plain.stdout


def test_a_streamed_answer_that_is_not_taken_begins_anew() -> None:
    result = pyagent("run", "studio.py:twice", "Why?", "--stream")
    assert result.stdout == "Salt comes from rock.\nSalt comes from rock."
    assert result.stderr.count("the answer begins anew") == 1


def test_an_answer_that_is_not_what_was_written_is_given_after_it() -> None:
    result = pyagent("run", "studio.py:shouts", "Why?", "--stream")
    assert result.stdout == "Salt comes from rock.\nSALT COMES FROM ROCK."


def test_stream_with_json_is_a_line_for_each_event() -> None:
    result = pyagent("run", "studio.py:solo", "Why?", "--stream", "--json", "--budget", "1")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["type"] for event in events] == [
        "run_started",
        "plan_accepted",
        "assignment_started",
        "step_started",
        "text_delta",
        "text_delta",
        "call_settled",
        "budget_spent",
        "step_ended",
        "outcome_settled",
        "run_done",
    ]
    assert events[-1]["result"]["output"] == "Salt comes from rock."


@pytest.mark.parametrize("how", [("--json",), ("--json", "--stream")])
def test_a_run_that_fails_has_its_error_and_what_was_done_as_json(
    how: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL_AT", "editor")
    result = pyagent("run", "newsroom.py:team", "Why?", *how)
    assert result.exit_code == 1
    text = result.stdout.splitlines()[-1] if "--stream" in how else result.stdout
    failed = json.loads(text)
    assert (failed["type"], failed["status"]) == ("run_stopped", "failed")
    assert "the stub failed[/red]" in failed["error"]
    assert len(failed["result"]["calls"]) == 1


def test_a_budget_that_has_no_room_has_a_status_of_its_own() -> None:
    result = pyagent("run", "newsroom.py:team", "Why?", "--budget", "0.000001")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "max_cost_usd does not allow it" in result.stderr


def test_a_budget_that_cannot_hold_is_refused_before_anything_is_spent() -> None:
    result = pyagent("run", "newsroom.py:unpriced", "Why?", "--budget", "1")
    assert result.exit_code == 4
    assert "no price is known" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "studio.py:solo"],
        ["run", "studio.py:solo", "  "],
        ["run", "studio.py:solo", "Why?", "--budget", "cheap"],
        ["run", "studio.py:solo", "Why?", "--budget", "-1"],
        ["run", "studio.py:solo", "Why?", "--input", "sea"],
        ["run", "studio.py:solo", "Why?", "--inputs", "nowhere.json"],
        ["run", "studio.py:about", "Why?"],
        ["run", "studio.py:about", "Why?", "--input", "depth=3"],
        ["run", "studio.py:about", "Why?", "--input", "sea=North", "--input", "depth=deep"],
    ],
    ids=lambda arguments: " ".join(arguments[2:]) or "nothing",
)
def test_what_cannot_be_run_is_bad_usage(arguments: list[str]) -> None:
    result = pyagent(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr


def test_a_team_that_is_not_there_is_an_error_on_a_line() -> None:
    for team in ("studio.py:nothing", "nowhere:team", "studio.py:writer", "nowhere.yaml"):
        result = pyagent("run", team, "Why?")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "Traceback" not in result.stderr


def test_inputs_come_from_a_file_and_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "inputs.json").write_text('{"sea": "North", "depth": 1}')
    how = ("--inputs", "inputs.json", "--input", "depth=3", "--json", "--stream")
    result = pyagent("run", "studio.py:about", "Why?", *how)
    events = [json.loads(line) for line in result.stdout.splitlines()]
    prompt = next(event["prompt"] for event in events if event["type"] == "step_started")
    assert '"sea": "North"' in prompt
    assert '"depth": 3' in prompt


def test_a_run_that_is_kept_can_be_gone_on_with_by_its_id() -> None:
    first = pyagent("run", "studio.py:solo", "Why?", "--db", "kept.db", "--run-id", "one")
    again = pyagent("run", "studio.py:solo", "Why?", "--db", "kept.db", "--run-id", "one")
    assert first.exit_code == again.exit_code == 0
    assert first.stdout == again.stdout
    assert "paid now   nothing" in again.stderr
    assert "completed" in pyagent("runs", "--db", "kept.db").stdout


def test_a_run_that_is_given_an_id_is_kept_in_the_usual_journal() -> None:
    pyagent("run", "studio.py:solo", "Why?", "--run-id", "one")
    assert json.loads(pyagent("show", "one", "--json").stdout)["status"] == "completed"


def test_a_gate_without_anybody_to_ask_is_an_error_before_anything_is_spent() -> None:
    result = pyagent("run", "studio.py:gated", "Why?")
    assert result.exit_code == 1
    assert "nobody to ask" in result.stderr
    assert "with --run-id ID the run is kept" in result.stderr


def test_a_file_defines_a_team_and_may_say_the_task(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    pytest.importorskip("jinja2")
    (tmp_path / "team.yaml").write_text(DEFINITION)
    result = pyagent("run", "team.yaml", "--input", "sea=North", "--json", "--stream")
    assert result.exit_code == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events[0]["task"].startswith("Why is the North salty?")
    told = pyagent("run", "team.yaml", "Tell me.", "--input", "sea=Red", "--stream", "--json")
    assert json.loads(told.stdout.splitlines()[0])["task"].startswith("Tell me.")
    assert pyagent("run", "team.yaml").exit_code == 2  # the objective needs the sea


def test_whom_a_run_is_for_is_kept_with_it() -> None:
    result = pyagent("run", "newsroom.py:team", "Why?", "--db", "runs.db", "--tenant", "acme",
                     "--user", "u-42")  # fmt: skip
    assert result.exit_code == 0
    kept = json.loads(pyagent("show", "", "--json", "--db", "runs.db").stdout)
    (whom,) = (call for call in kept["calls"] if call["activity"] == "attribution")
    assert whom["value"] == {"tenant": "acme", "user": "u-42", "conversation": None}


def test_a_runs_trace_is_added_to_a_file() -> None:
    for _ in range(2):
        how = ("--trace", "trace.jsonl", "--quiet")
        status, _, said = pyagent_process("run", "newsroom.py:team", "Why?", *how)
        assert (status, said) == (0, "")
    report = pyagent("report", "", "--db", "trace.jsonl", "-o", "run.html")
    assert report.exit_code == 1, "two runs, and neither is named"
    assert "several runs in" in report.stderr


def test_a_trace_that_cannot_be_written_is_said_and_the_run_goes_on() -> None:
    how = ("--trace", "nowhere/trace.jsonl", "--quiet")
    status, answer, said = pyagent_process("run", "newsroom.py:team", "Why?", *how)
    assert status == 0
    assert answer
    assert "nowhere/trace.jsonl" in said


@pytest.mark.parametrize(("command", "traces"), [("runs", False), ("run", True)])
def test_only_a_command_that_runs_a_team_sets_up_telemetry(command: str, traces: bool) -> None:
    pyagent("run", "newsroom.py:team", "Why?", "--db", "runs.db", "--quiet")
    given = ["newsroom.py:team", "Why?", "--quiet"] if command == "run" else ["--db", "runs.db"]
    program = (
        "import sys\nfrom pyagent_patterns.cli.app import app\n"
        f"app({[command, *given]!r}, standalone_mode=False)\n"
        "print('opentelemetry.sdk' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        errors="replace",  # the answer is a hostile one
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == str(traces)
