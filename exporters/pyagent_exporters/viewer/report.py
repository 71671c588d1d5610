"""One run as one HTML file that needs nothing else: no script, no server, no network."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from markupsafe import Markup

from pyagent_exporters.errors import ExporterError
from pyagent_providers.version import __version__

from . import run_page
from .details import details
from .lines import Lines
from .runs import RunTrace
from .store import SpanStore
from .templates import render, static_file

MADE_BY: Final = f"PyAgent SDK {__version__}"


def html(trace: RunTrace) -> str:
    """The run's page as a file of its own; prompts and answers are in it if they were captured.

    Whatever a model wrote in it is text. Needs the extra `ui`.
    """
    style = b"\n".join(map(static_file, ("viewer.css", "run.css"))).decode()
    return render(
        "report.html",
        page=run_page.view(trace, whole=True),
        details_of=details,
        css=Markup(style),  # noqa: S704 - ours
        made_by=MADE_BY,
        made=time.time_ns(),
    )


def of_file(path: str | os.PathLike[str], run_id: str) -> str:
    """The report of a run whose spans are in a file that `configure(file=...)` wrote.

    Raises ExporterError if the file has no such run.
    """
    with SpanStore() as store, Lines(Path(path), store) as lines:
        lines.read()
        trace = store.run(run_id)
    if trace is None:
        raise ExporterError(f"there is no run {run_id!r} in {os.fspath(path)!r}")
    return html(trace)
