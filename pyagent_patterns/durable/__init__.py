"""Runs that are kept: a journal on disk, and going on after a crash."""

from .runs import Runs
from .views import CallView, Replay, RunDetail, RunView

__all__ = ["CallView", "Replay", "RunDetail", "RunView", "Runs"]
