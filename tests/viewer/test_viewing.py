"""`pyagent ui` and `pyagent report`, as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pyagent_exporters import configure
from pyagent_exporters.viewer.store import SpanStore
from pyagent_patterns import Agent, Pipeline
from pyagent_patterns.result import Result
from pyagent_providers.telemetry import Telemetry, using
from pyagent_providers.testing import ScriptedLLM
from tests.cli.commands import pyagent_process, start

from .test_app import a_call


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, and where temporary files are; no browser is there to be opened."""
    for name in ("PYAGENT_DB", "PYAGENT_DATABASE_URL", "DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    root = Path(__file__).parent.parent.parent
    monkeypatch.setenv("PYTHONPATH", f"{root}{os.pathsep}{root / 'exporters'}")
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def viewing(*arguments: str, end: int = signal.SIGINT) -> Generator[str]:
    """A viewer as a process, by its address; ended by a signal, after which it must end."""
    with start("ui", *arguments) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().decode().strip()
        finally:
            process.send_signal(end)
            process.wait(20)


def page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


def comes(url: str, words: str) -> None:
    """Wait until the page has these words."""
    _wait(url, lambda text: words in text)


def goes(url: str, words: str) -> None:
    """Wait until it does not have them."""
    _wait(url, lambda text: words not in text)


def _wait(url: str, is_so: Callable[[str], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so(page(url)):
        assert time.monotonic() < deadline, page(url)
        time.sleep(0.1)


def a_run(**how: str) -> Result:
    team = Pipeline([Agent("writer", ScriptedLLM(["it is done"]))], name="poems")
    return team.run_sync("write", **how)  # pyright: ignore[reportArgumentType]


def traced(path: Path) -> Result:
    with (
        configure(file=path, set_global=False) as handle,
        using(Telemetry(tracer_provider=handle.tracer_provider)),
    ):
        return a_run()


def test_a_journal_is_shown_and_followed() -> None:
    first = a_run(durable="runs.db")
    with viewing("runs.db", "--port", "0") as url:
        assert url.startswith("http://127.0.0.1:")
        comes(url, first.run_id)
        second = a_run(durable="runs.db")
        comes(url, second.run_id)
        assert "it is done" in page(f"{url}compare?a={first.run_id}&b={second.run_id}")


def test_a_file_of_traces_is_shown_and_followed(folder: Path) -> None:
    with viewing("trace.jsonl", "--port", "0") as url:
        comes(url, "No run yet")
        result = traced(folder / "trace.jsonl")
        comes(url, result.run_id)


def test_a_viewers_own_file_keeps_what_is_sent(folder: Path) -> None:
    for _ in range(2):
        with viewing("kept.db", "--port", "0") as url:
            body = json.dumps({"resourceSpans": []}).encode()
            request = urllib.request.Request(
                f"{url}v1/traces", body, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request) as answer:
                assert answer.status == 200
    with SpanStore(folder / "kept.db") as store:
        store.add(a_call(1))
    with viewing("kept.db", "--port", "0") as url:
        assert "run-1" in page(url)
    assert (folder / "kept.db").stat().st_mode & 0o077 == 0


def test_runs_that_are_older_than_they_are_to_be_kept_go_at_the_start_and_later(
    folder: Path,
) -> None:
    now = time.time_ns()
    with SpanStore(folder / "kept.db") as store:
        store.add(a_call(1))  # of 1970
        store.add(replace(span, start=now, end=now) for span in a_call(2))
    with viewing("kept.db", "--port", "0", "--keep", "1h") as url:
        goes(url, "run-1")
        assert "run-2" in page(url)
    with viewing("kept.db", "--port", "0", "--keep", "1s") as url:
        comes(url, "No run yet")
        with SpanStore(folder / "kept.db") as store:
            store.add(a_call(3))
        comes(url, "No run yet")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_without_a_file_what_was_sent_is_gone_at_the_end(folder: Path, end: int) -> None:
    with viewing("--port", "0", end=end) as url:
        comes(url, "No run yet")
        assert list((folder / "tmp").glob("pyagent-viewer-*"))
    assert not list((folder / "tmp").glob("pyagent-viewer-*"))


def test_beyond_loopback_the_address_has_a_token(folder: Path) -> None:
    with viewing("--port", "0", "--host", "0.0.0.0") as url:
        parts = urlsplit(url)
        assert parts.query.startswith("token=")
        here = f"http://127.0.0.1:{parts.port}/"
        with pytest.raises(urllib.error.HTTPError) as refused:
            page(here)
        with refused.value as answer:
            assert answer.code == 401


def test_a_token_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYAGENT_UI_TOKEN", "from-the-environment")
    with viewing("--port", "0") as url:
        assert url.endswith("/?token=from-the-environment")


def test_a_port_that_is_taken_is_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, _, said = pyagent_process("ui", "--port", port)
    assert status == 2
    assert "the port is in use" in said


def test_it_opens_a_browser_unless_told_not_to(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = folder / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {folder}/opened\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    with viewing("--port", "0", "--no-open"):
        pass
    with viewing("--port", "0") as url:
        deadline = time.monotonic() + 20
        while not (folder / "opened").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    time.sleep(0.1)
    assert (folder / "opened").read_text().split() == [url]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ui", "runs.db"), "there is no journal 'runs.db'"),
        (("ui", "a.db", "--database-url", "postgresql://x"), "not both"),
        (("ui", "--token", "two words"), "token"),
        (("ui", "folder"), "cannot be read"),
        (("ui", "--keep", "long"), "'long' is not a duration such as 12h, 30d or 4w"),
        (("ui", "--keep", "0d"), "would keep nothing"),
        (("ui", "some.jsonl", "--keep", "30d"), "'some.jsonl' is kept by others"),
        (("ui", "runs.db", "--keep", "30d"), "`pyagent prune` deletes from a journal"),
        (("report", "x"), "there is no journal 'runs.db'"),
        (("report", "x", "--db", "none.jsonl"), "there is no file 'none.jsonl'"),
        (("report", "x", "--db", "some.jsonl"), "no run"),
    ],
)
def test_what_is_amiss_is_told_in_a_line(
    folder: Path, arguments: tuple[str, ...], words: str
) -> None:
    (folder / "folder").mkdir()
    traced(folder / "some.jsonl")
    status, out, said = pyagent_process(*arguments)
    assert status != 0
    assert words in " ".join(said.replace("│", " ").split())
    assert "Traceback" not in said
    assert not out


def test_a_report_is_one_file_whatever_the_run_is_kept_in(folder: Path) -> None:
    kept = a_run(durable="runs.db")
    sent = traced(folder / "trace.jsonl")
    with SpanStore(folder / "viewer.db") as store:
        store.add(a_call(1))
    for run_id, source, words in (
        (kept.run_id, (), "it is done"),
        (kept.run_id, ("--db", "runs.db"), "it is done"),
        (sent.run_id, ("--db", "trace.jsonl"), "poems"),
        ("run-1", ("--db", "viewer.db"), "writer"),
    ):
        status, out, said = pyagent_process("report", run_id[:12], *source, "-o", "a.html")
        assert (status, out.decode().strip()) == (0, "a.html"), said
        text = (folder / "a.html").read_text()
        assert words in text
        assert "<script" not in text
        assert (folder / "a.html").stat().st_mode & 0o077 == 0
    status, out, _ = pyagent_process("report", kept.run_id, "-o", "-")
    assert status == 0
    assert out.startswith(b"<!doctype html>")
    status, out, _ = pyagent_process("report", kept.run_id)
    assert out.decode().strip() == f"run-{kept.run_id[:8]}.html"


def test_several_runs_that_begin_alike_are_named(folder: Path) -> None:
    with SpanStore(folder / "viewer.db") as store:
        store.add([*a_call(1), *a_call(2)])
    status, _, said = pyagent_process("report", "run-", "--db", "viewer.db")
    assert status != 0
    assert "run-1" in said
    assert "run-2" in said


def test_a_missing_package_is_named_with_its_extra() -> None:
    program = (
        "import sys; sys.modules['starlette'] = None\n"
        "import importlib.util as util; find = util.find_spec\n"
        "util.find_spec = lambda name, *a: None if name == 'starlette' else find(name, *a)\n"
        "from pyagent_patterns.cli import main; sys.argv[1:] = ['ui']; main()"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 2
    assert 'pip install "pyagent-sdk[ui]"' in ended.stderr
