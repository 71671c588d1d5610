"""Room for what waits to be exported: what there is none for is dropped, counted, and said once.

The SDK's own queue writes a log line for each span that it drops, and counts none.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final

from .errors import ExporterError
from .watch import Watch

_SIZE: Final = 2048  # what OpenTelemetry's specification gives as the default


class Room:
    """How many of one signal wait for one destination, and how many may."""

    def __init__(self, variable: str, signal: str, watch: Watch) -> None:
        self.size = _whole_number(variable, _SIZE)
        self._signal = signal
        self._watch = watch
        self._empty()
        empty = weakref.WeakMethod(self._empty)
        os.register_at_fork(after_in_child=lambda: (again := empty()) and again())

    def enter(self) -> bool:
        """Whether there is room for one more, which is then taken."""
        with self._lock:
            if self._waiting < self.size:
                self._waiting += 1
                return True
        self._watch.dropped(self._signal, self.size)
        return False

    def leave(self, count: int) -> None:
        """So many are being exported."""
        with self._lock:
            self._waiting -= count

    def _empty(self) -> None:
        """At the start; and in a forked process, where what waits is its parent's to send."""
        self._lock = threading.RLock()  # reentrant: a finalizer may end a span anywhere
        self._waiting = 0


def _whole_number(variable: str, default: int) -> int:
    """An environment variable's value. Raises ExporterError if it is no number above 0."""
    given = os.environ.get(variable, "").strip()
    if not given:
        return default
    if given.isdecimal() and int(given) > 0:
        return int(given)
    raise ExporterError(f"{variable}={given!r} is not a whole number above 0")
