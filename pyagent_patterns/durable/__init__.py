"""Runs that are kept: a journal on disk, and going on after a crash."""

from .runs import Runs
from .sessions import FileSession
from .views import CallView, Replay, RunDetail, RunView

__all__ = ["CallView", "FileSession", "Replay", "RunDetail", "RunView", "Runs"]
