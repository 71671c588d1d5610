"""The commands on a cluster's runs, as on a journal's; and workers that are told to stop."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

pytest.importorskip("dbos")

from tests.durable.postgres import LocalPostgres, missing
from tests.exporters.backends import http_receiver

from .commands import edited, pyagent, start, table

if lacking := missing():
    pytest.skip(lacking, allow_module_level=True)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostgres]:
    with LocalPostgres(sync=False) as server:
        yield server


@pytest.fixture(autouse=True)
def url(server: LocalPostgres, newsroom: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The database that every command is to use."""
    url: str = server.new_database(password="s3cret")
    monkeypatch.setenv("PYAGENT_DATABASE_URL", url)
    return url


def submitted(newsroom: Path, name: str = "team") -> str:
    return pyagent("submit", f"{newsroom}:{name}", "Why?", "--no-wait").stdout.strip()


@contextmanager
def worker(*options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that takes runs; killed at the end, unless it has ended."""
    with start("worker", *options) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"this worker takes runs; Ctrl-C ends it\n"
        yield process
        process.kill()


def state(run_id: str) -> str:
    return str(json.loads(pyagent("show", run_id, "--json").stdout)["status"])


def test_runs_and_show_tell_of_a_database_what_they_tell_of_a_journal(newsroom: Path) -> None:
    run_id = submitted(newsroom)
    assert table(pyagent("runs").stdout)[1][:2] == [run_id[:8], "new"]
    assert len(table(pyagent("runs", "--status", "new").stdout)) == 2
    assert "no interrupted run" in pyagent("runs", "--status", "interrupted").stderr
    assert pyagent("resume", run_id[:8]).exit_code == 0
    [_, row] = table(pyagent("runs", "--status", "completed").stdout)
    assert row[:5] == [run_id[:8], "completed", "orchestrator_workers", "Why?", "4"]
    page = pyagent("show", run_id[:8]).stdout
    assert re.search(r"status +completed +\n", page)
    assert re.search(r"cost +\$0\.000800, 440 tokens", page)
    assert re.search(r"work/t2/ask:0 +teacher +teacher-model +done +1 +110 +\$0\.000200", page)
    assert "Explain it." in pyagent("show", run_id[:8], "--full").stdout
    found = json.loads(pyagent("show", run_id[:8], "--json").stdout)
    assert (found["cost"], len(found["calls"]), found["doubtful"]) == ("0.0008", 4, [])


def test_no_run_and_an_unknown_one_are_told_with_the_database_and_without_its_password() -> None:
    for command in (["runs"], ["show", "nope"], ["prune", "--older-than", "1h"]):
        said = pyagent(*command).stderr
        assert "postgresql://pyagent@127.0.0.1:" in said
        assert "s3cret" not in said


def test_a_run_is_gone_on_with_before_the_user_s_eyes(newsroom: Path) -> None:
    run_id = submitted(newsroom)
    first = pyagent("resume", run_id)
    assert first.stderr.count("110 tokens, $0.000200") == 4
    again = pyagent("resume", run_id)
    assert again.stdout == first.stdout
    assert again.stderr.count("on record, not asked again") == 4
    assert "paid now   nothing" in again.stderr


def test_a_worker_goes_on_with_what_is_sent_a_signal(newsroom: Path) -> None:
    run_id = submitted(newsroom, "approval")
    waits = pyagent("resume", run_id)
    assert waits.exit_code == 3
    assert f"to send it: pyagent signal {run_id[:8]} approval VALUE\n" in waits.stderr
    assert table(pyagent("runs").stdout)[1][1] == "waits for approval"
    with worker():
        sent = pyagent("signal", run_id, "approval", "good")
        assert (sent.exit_code, sent.stdout) == (0, "")
        assert f"sent 'approval' to run {run_id[:8]}" in sent.stderr
        while state(run_id) != "completed":
            assert state(run_id) in ("suspended", "running", "completed")
    assert 'Like soup. "good"' in pyagent("show", run_id).stdout


def test_a_cancelled_run_takes_nothing_any_more(newsroom: Path) -> None:
    run_id = submitted(newsroom)
    assert pyagent("cancel", run_id[:8]).exit_code == 0
    for command in (["resume", run_id], ["signal", run_id, "approval"], ["cancel", run_id]):
        result = pyagent(*command)
        assert result.exit_code == 1
        assert "cancelled" in result.stderr


def test_an_edited_prompt_is_refused_and_a_fork_pays_for_it_alone(newsroom: Path) -> None:
    run_id = submitted(newsroom)
    pyagent("resume", run_id)
    team = edited(newsroom, "You teach.", "You teach well.")
    refused = pyagent("resume", run_id, "--team", team)
    assert refused.exit_code == 1
    assert f"to fork it: pyagent fork {run_id[:8]} --team {team}\n" in refused.stderr
    forked = pyagent("fork", run_id, "--team", team)
    assert forked.exit_code == 0
    assert "paid now   $0.000400 (2 calls)" in forked.stderr  # the planner knows of the roles
    assert "on record  $0.000400 (2 calls)" in forked.stderr

    made = pyagent("fork", run_id, "--from", "plan/ask:0", "--no-resume").stdout.strip()
    page = pyagent("show", made).stdout
    assert f"run {run_id[:8]}, which paid $0.000600 of it (3 calls)" in " ".join(page.split())


def test_what_ended_long_ago_is_cleared_away(newsroom: Path) -> None:
    run_id, waiting = submitted(newsroom), submitted(newsroom, "approval")
    pyagent("resume", run_id)
    pyagent("resume", waiting)
    kept = pyagent("prune", "--older-than", "0s", input="n\n")
    assert "Delete 1 run that ended more than 0 s ago from postgresql://pyagent@" in kept.stderr
    assert len(table(pyagent("runs").stdout)) == 3
    assert "deleted 1 run" in pyagent("prune", "--older-than", "0s", "--yes").stderr
    assert [row[0] for row in table(pyagent("runs").stdout)[1:]] == [waiting[:8]]


def test_a_command_line_names_one_place_and_goes_before_the_environment(
    newsroom: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted(newsroom)
    both = pyagent("runs", "--db", "runs.db", "--database-url", url)
    assert both.exit_code == 2
    assert "no journal 'runs.db'" in pyagent("runs", "--db", "runs.db").stderr
    monkeypatch.setenv("PYAGENT_DB", "runs.db")
    unclear = pyagent("runs")
    assert unclear.exit_code == 2
    assert "PYAGENT_DB" in unclear.stderr
    assert len(table(pyagent("runs", "--database-url", url).stdout)) == 2
    monkeypatch.delenv("PYAGENT_DB")
    monkeypatch.delenv("PYAGENT_DATABASE_URL")
    waits = pyagent("resume", submitted_at(url, newsroom), "--database-url", url)
    assert " --database-url postgresql://pyagent@127.0.0.1" in waits.stderr
    assert "s3cret" not in waits.stderr


def submitted_at(url: str, newsroom: Path) -> str:
    command = ["submit", f"{newsroom}:approval", "Why?", "--no-wait", "--database-url", url]
    return pyagent(*command).stdout.strip()


def test_to_go_on_with_all_is_for_workers() -> None:
    result = pyagent("resume", "--all")
    assert result.exit_code == 2
    assert "pyagent worker" in result.stderr


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_worker_that_hands_its_runs_over_ends_with_success(
    by: signal.Signals, newsroom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLEEP_AT", "teacher")
    run_id = submitted(newsroom)
    with worker() as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"asked\n"
        process.send_signal(by)
        rest = process.stderr.read().decode()
        assert process.wait(timeout=30) == 0
    assert "handing over" in rest
    assert "Traceback" not in rest
    monkeypatch.delenv("SLEEP_AT")
    resumed = pyagent("resume", run_id)
    assert "on record  $0.000600 (3 calls)" in resumed.stderr  # also what it was waiting for
    assert "paid twice" not in resumed.stderr


def test_a_worker_that_is_told_twice_is_cut_off_and_its_status_says_so(
    newsroom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLOCK_AT", "teacher")
    submitted(newsroom)
    with worker() as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"blocked\n"
        process.send_signal(signal.SIGTERM)
        assert b"handing over" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == -signal.SIGTERM  # a shell says 143


def test_a_run_is_submitted_with_its_inputs_a_budget_and_whom_it_is_for(newsroom: Path) -> None:
    how = ("--input", "sea=North", "--budget", "0.50", "--tenant", "acme", "--user", "u-42")
    handed = pyagent("submit", f"{newsroom}:team", "Why?", *how, "--no-wait")
    assert handed.exit_code == 0, handed.stderr
    found = json.loads(pyagent("show", handed.stdout.strip(), "--json").stdout)
    assert found["task"] == 'Why?\n\n<inputs>\n{\n  "sea": "North"\n}\n</inputs>'
    kept = {call["activity"]: call["value"] for call in found["calls"]}
    assert kept["attribution"] == {"tenant": "acme", "user": "u-42", "conversation": None}
    assert kept["budget"]["max_cost_usd"] == "0.50"


@pytest.mark.parametrize(
    "given",
    [
        ("ordered", "--input", "count=two"),
        ("ordered",),
        ("team", "--tenant", " "),
        ("team", "--budget", "much"),
        ("team", "--input", "salt"),
    ],
)
def test_what_a_run_cannot_be_submitted_with_is_a_mistake_on_the_command_line(
    newsroom: Path, given: tuple[str, ...]
) -> None:
    name, *options = given
    result = pyagent("submit", f"{newsroom}:{name}", "Why?", *options, "--no-wait")
    assert result.exit_code == 2
    assert "no run" in pyagent("runs").stderr


def test_a_worker_tells_whom_a_submitted_run_is_for(
    newsroom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http_receiver() as receiver:
        monkeypatch.setenv(
            "OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{receiver.server_port}"
        )
        with worker("--tenant", "acme") as process:
            for tenant in ("acme", "globex"):
                pyagent("submit", f"{newsroom}:team", "Why?", "--tenant", tenant, "--user", "u-42")
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
        kept = receiver.kept
    runs = [s for s in kept.spans if s.name == "pyagent.pattern.orchestrator_workers"]
    assert [its(span.attributes, "pyagent.tenant") for span in runs] == ["acme", "globex"]
    assert {its(span.attributes, "user.id") for span in runs} == {"u-42"}
    counted = kept.metrics["pyagent.runs"].sum.data_points
    assert {its(point.attributes, "pyagent.tenant") for point in counted} == {"acme", "other"}


def its(attributes: Iterable[KeyValue], name: str) -> str | None:
    return next((each.value.string_value for each in attributes if each.key == name), None)
