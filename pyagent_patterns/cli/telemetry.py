"""Where a command's runs are seen: a file, and wherever OpenTelemetry's own variables say."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pyagent_exporters.errors import ExporterError
from pyagent_exporters.settings import read_otlp

from .screen import Screen


@contextmanager
def seen(screen: Screen, trace: Path | None = None) -> Generator[None]:
    """Send what runs do, within the block, to the file `trace` and where the environment says.

    Raises typer.BadParameter for a file that cannot be written. What else is amiss is said, and
    the command goes on without.
    """
    if trace is None and read_otlp(None) is None:
        yield
        return
    from pyagent_exporters import configure  # loads the OpenTelemetry SDK

    try:
        handle = configure(file=trace)
    except ExporterError as error:
        screen.error(f"nothing is sent: {error}")
        yield
        return
    with handle:
        yield
