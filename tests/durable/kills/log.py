"""What happened in every process of a test: one file, to which all append, a line at a time.

A line is written by one write() on a descriptor opened with O_APPEND, so that it is whole and in
its place, or not there, whenever the process is killed. One that reaches into another page of the
file can be cut off there: so each begins a line of its own, and what has no end is not there.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

What = Literal[
    "START",  # the provider has got a call, `call` of `run`
    "DONE",  # the provider has answered it
    "ACK",  # the pattern has seen the answer for the first time
    "REPLAY",  # the pattern has seen an answer from the record
    "COST",  # the cost metric was added to
    "EFFECT",  # the tool call `call` has done what it does
    "TOLD",  # the model is told what came of the tool call
    "OPENED",  # a toolset is open
    "WANTED",  # a person is asked, under the key `call`
]

OF_CALLS: Final = ("START", "DONE", "ACK", "REPLAY")  # what is said of model calls


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event. `answer` is the answer's response id, `usd` the amount, as a decimal text.

    `at` is in seconds, comparable between processes.
    """

    what: What
    pid: int
    at: float
    run: str = ""
    call: str = ""
    answer: str = ""
    usd: str = ""


class Log:
    """The file as a process writes it; `also` is told of each entry once it is written."""

    def __init__(self, path: Path, also: Callable[[Entry], None] = lambda entry: None) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._also = also

    def write(
        self, what: What, *, run: str = "", call: str = "", answer: str = "", usd: str = ""
    ) -> None:
        pid, at = os.getpid(), time.monotonic()
        entry = Entry(what=what, pid=pid, at=at, run=run, call=call, answer=answer, usd=usd)
        os.write(self._file, b"\n" + json.dumps(asdict(entry)).encode() + b"\n")
        self._also(entry)


class LogReader:
    """The file as the test sees it, while processes write it or not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._entries: list[Entry] = []
        self._of: dict[str, list[Entry]] = {}

    def all(self) -> Sequence[Entry]:
        """All entries, in the order they were written."""
        self._read()
        return self._entries

    def of(self, run_id: str) -> Sequence[Entry]:
        """Those of one run."""
        self._read()
        return self._of.get(run_id, [])

    def _read(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            if not line.endswith(b"}"):
                continue
            entry = Entry(**json.loads(line))
            self._entries.append(entry)
            self._of.setdefault(entry.run, []).append(entry)
