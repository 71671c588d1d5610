"""Where what the SDK sees is sent: OTLP, Prometheus, the console. The application asks for it.

    from pyagent_exporters import configure

    with configure(otlp=True, prometheus=9464, console=True, service_name="my-team"):
        team.run_sync("...")

Importing this loads no OpenTelemetry SDK; `configure` does.
"""

from __future__ import annotations

from .configure import configure
from .errors import ExporterError, MissingExtraError
from .handle import Handle
from .json_logs import JsonFormatter
from .settings import Otlp, Prometheus
from .tree import render

__all__ = [
    "configure",
    "Handle",
    "JsonFormatter",
    "Otlp",
    "Prometheus",
    "render",
    "ExporterError",
    "MissingExtraError",
]
