"""A file of OTLP/JSON lines is read into a store, also while it grows."""

from __future__ import annotations

import json
import logging
import threading
import time
from pathlib import Path

import pytest

from pyagent_exporters.viewer import lines as lines_module
from pyagent_exporters.viewer.lines import Lines
from pyagent_exporters.viewer.store import SpanStore


def line(number: int, **fields: object) -> str:
    """An export request of one span, which is a run of its own."""
    span = {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": f"span {number}",
        "startTimeUnixNano": str(10**18 + number),
        "endTimeUnixNano": str(10**18 + number + 1),
        **fields,
    }
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})


def runs(store: SpanStore) -> list[str]:
    return sorted(run.name for run in store.runs().runs)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.jsonl"


def test_every_line_is_read_and_bad_ones_are_counted(path: Path, store: SpanStore) -> None:
    path.write_text(
        "\n".join([line(1), "", "no json", line(2, traceId="bad"), '{"metrics": []}', line(3), ""])
    )
    with Lines(path, store) as lines:
        assert lines.read() == 2
        assert lines.skipped == 2
        assert lines.read() == 0
    assert runs(store) == ["span 1", "span 3"]


def test_a_line_that_is_being_written_is_waited_for(path: Path, store: SpanStore) -> None:
    whole = line(1) + "\n" + line(2) + "\n"
    with Lines(path, store) as lines:
        for n in range(0, len(whole) + 7, 7):
            path.write_text(whole[:n])
            lines.read()
        assert lines.skipped == 0
    assert runs(store) == ["span 1", "span 2"]


def test_a_last_line_without_an_end_is_read_when_it_is_whole(path: Path, store: SpanStore) -> None:
    path.write_text(line(1) + "\n" + line(2))
    with Lines(path, store) as lines:
        assert lines.read() == 2
        with path.open("a") as file:
            file.write("\n" + line(3) + "\n")
        lines.read()
        assert lines.skipped == 0
    assert runs(store) == ["span 1", "span 2", "span 3"]


def test_a_file_that_is_not_there_yet_is_waited_for(path: Path, store: SpanStore) -> None:
    with Lines(path, store) as lines:
        assert lines.read() == 0
        path.write_text(line(1) + "\n")
        assert lines.read() == 1


def test_a_file_that_is_moved_away_is_read_to_its_end_and_then_the_new_one(
    path: Path, store: SpanStore
) -> None:
    path.write_text(line(1) + "\n")
    with Lines(path, store) as lines:
        lines.read()
        with path.open("a") as file:
            file.write(line(2) + "\n")
        path.rename(path.with_suffix(".1"))
        path.write_text(line(3) + "\n")
        assert lines.read() == 2
    assert runs(store) == ["span 1", "span 2", "span 3"]


def test_a_file_that_is_cut_short_is_read_from_its_beginning(path: Path, store: SpanStore) -> None:
    path.write_text(line(1) + "\n" + line(2) + "\n" + line(3))
    with Lines(path, store) as lines:
        lines.read()
        path.write_text(line(4) + "\n")
        assert lines.read() == 1
        assert lines.skipped == 0
    assert runs(store) == ["span 1", "span 2", "span 3", "span 4"]


def test_a_line_without_end_is_not_kept_in_memory(
    path: Path, store: SpanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "_LONGEST", 1000)
    monkeypatch.setattr(lines_module, "_PIECE", 100)
    path.write_text(line(1) + "\n" + "x" * 5000 + "\n" + line(2) + "\n")
    with Lines(path, store) as lines:
        assert lines.read() == 2
        assert lines.skipped == 1
    assert runs(store) == ["span 1", "span 2"]


def test_many_spans_are_read(path: Path, store: SpanStore) -> None:
    path.write_text("".join(line(n) + "\n" for n in range(1, 2502)))
    with Lines(path, store) as lines:
        assert lines.read() == 2501
    assert store.runs().total == 2501


def test_a_file_is_followed_until_it_is_enough(
    path: Path, store: SpanStore, caplog: pytest.LogCaptureFixture
) -> None:
    path.mkdir()  # which cannot be read
    stop = threading.Event()
    with Lines(path, store) as lines, caplog.at_level(logging.WARNING):
        thread = threading.Thread(target=lines.follow, args=(stop,), kwargs={"every": 0.01})
        thread.start()
        wait_for(lambda: bool(caplog.messages))
        path.rmdir()
        path.write_text(line(1) + "\n")
        wait_for(lambda: runs(store) == ["span 1"])
        with path.open("a") as file:
            file.write(line(2) + "\n")
        wait_for(lambda: runs(store) == ["span 1", "span 2"])
        stop.set()
        thread.join(5)
        assert not thread.is_alive()
    assert len(caplog.messages) == 1
    assert "cannot be read just now" in caplog.messages[0]


def wait_for(condition: object, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not condition():  # pyright: ignore
        assert time.monotonic() < until
        time.sleep(0.01)
