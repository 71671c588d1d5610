"""Where a command's runs are seen: a file, and wherever OpenTelemetry's own variables say."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyagent_exporters.errors import ExporterError
from pyagent_exporters.settings import read_otlp

from .screen import Screen


@contextmanager
def seen(screen: Screen, trace: Path | None, tenants: Sequence[str]) -> Generator[None]:
    """Send what runs do within the block to the file `trace`, and where the environment says.

    Metrics tell the `tenants` apart. What cannot be set up is said, and the runs go on unseen.
    """
    if trace is None and read_otlp(None) is None:
        yield
        return
    from pyagent_exporters import configure  # loads the OpenTelemetry SDK

    try:
        handle = configure(file=trace, tenants=tenants)
    except ExporterError as error:
        screen.note(f"runs are not traced: {error}", "yellow")
        yield
        return
    with handle:
        yield
