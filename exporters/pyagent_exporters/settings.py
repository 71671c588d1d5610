"""Where telemetry goes: the OTLP endpoint and the Prometheus page, checked when they are made."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import urlsplit

from .errors import ExporterError

OtlpProtocol = Literal["http", "grpc"]
Signal = Literal["traces", "metrics", "logs"]

SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics", "logs")
PROMETHEUS_PORT: Final = 9464  # what OpenTelemetry's specification gives as the default

_PROTOCOLS: Final[Mapping[str, OtlpProtocol]] = {
    "grpc": "grpc",
    "http": "http",
    "http/protobuf": "http",
}
_GRPC_PORT: Final = 4317
_PATHS: Final = tuple(f"/v1/{signal}" for signal in SIGNALS)


@dataclass(frozen=True, slots=True)
class Otlp:
    """An OTLP receiver; what is left out comes from the OTEL_EXPORTER_OTLP_* variables.

    `endpoint` is the base URL, such as "http://localhost:4318"; over http, "/v1/traces",
    "/v1/metrics" and "/v1/logs" are added to it. Without a `protocol`,
    OTEL_EXPORTER_OTLP_PROTOCOL decides, else port 4317 means grpc and anything else http
    (protobuf).
    """

    protocol: OtlpProtocol | None = None
    endpoint: str | None = None
    headers: Mapping[str, str] | None = field(default=None, repr=False)  # they hold API keys

    def __post_init__(self) -> None:
        if self.protocol is not None and self.protocol not in ("http", "grpc"):
            raise ExporterError(
                f"OTLP protocol {self.protocol!r} is not known: use 'http' or 'grpc'"
            )
        if self.endpoint is None:
            return
        if not _is_url(self.endpoint):
            raise ExporterError(
                f"OTLP endpoint {self.endpoint!r} is not a URL: write it as 'http://localhost:4318'"
            )
        if self.endpoint.rstrip("/").endswith(_PATHS):
            raise ExporterError(
                f"OTLP endpoint {self.endpoint!r} names one signal: give the base URL, "
                "/v1/traces and the others are added to it"
            )

    def protocol_for(self, signal: Signal) -> OtlpProtocol:
        """The protocol one signal goes by. Raises ExporterError if the variables' is unknown."""
        if self.protocol is not None:
            return self.protocol
        for variable in (
            f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        ):
            if asked := os.environ.get(variable, "").strip():
                if asked not in _PROTOCOLS:
                    raise ExporterError(
                        f"{variable}={asked!r} is not supported: use 'grpc' or 'http/protobuf'"
                    )
                return _PROTOCOLS[asked]
        endpoint = self.endpoint or _endpoint_variable(signal)
        return "grpc" if endpoint and urlsplit(endpoint).port == _GRPC_PORT else "http"


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A page at /metrics for Prometheus to scrape; port 0 takes any free one.

    On any `host` but loopback a bearer `token` is demanded of the reader; on loopback only if one
    is given.
    """

    port: int = PROMETHEUS_PORT
    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ExporterError(f"Prometheus port {self.port} is not between 0 and 65535")
        if self.token is not None and not self.token.strip():
            raise ExporterError("the Prometheus token is empty: give one, or leave it out")
        if self.token is None and not is_loopback(self.host):
            raise ExporterError(
                f"Prometheus on {self.host!r} can be reached from other machines and shows models "
                f"and costs: give Prometheus({self.port}, host={self.host!r}, token=...), "
                "or stay on '127.0.0.1'"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than localhost is not trusted."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_otlp(asked: bool | str | Otlp | None) -> Otlp | None:
    """What `configure(otlp=...)` was given, as settings; None if there is nothing to send."""
    if isinstance(asked, Otlp):
        return asked
    if isinstance(asked, str):
        if asked in _PROTOCOLS:
            return Otlp(_PROTOCOLS[asked])
        if "://" in asked:
            return Otlp(endpoint=asked)
        raise ExporterError(
            f"otlp={asked!r} is neither a protocol ('http', 'grpc') nor a URL such as "
            "'http://localhost:4318'"
        )
    return Otlp() if asked or (asked is None and any(map(_named, SIGNALS))) else None


def otlp_signals(
    asked: bool | str | Otlp | None, *, logs: bool | None = None
) -> tuple[Signal, ...]:
    """Which signals go out by OTLP: if asked in code traces and metrics, else what variables name.

    Logs go if `logs` says so, else if a variable of their own does. OTEL_TRACES_EXPORTER=none,
    OTEL_METRICS_EXPORTER=none and OTEL_LOGS_EXPORTER=none leave theirs out in any case.
    """

    def wanted(signal: Signal) -> bool:
        if signal == "logs" and logs is not None:
            return logs
        return _named(signal) or (asked is not None and signal != "logs")

    return tuple(s for s in SIGNALS if wanted(s) and "none" not in _exporters(s))


def read_prometheus(asked: bool | int | Prometheus) -> Prometheus | None:
    """What `configure(prometheus=...)` was given, as settings; 0 is a port, False is "no"."""
    if isinstance(asked, Prometheus):
        return asked
    if isinstance(asked, bool):
        return Prometheus() if asked else None
    return Prometheus(asked)


def _named(signal: Signal) -> bool:
    """Whether a variable turns the signal on; the common endpoint does not turn on logs."""
    endpoint = _own_endpoint(signal) if signal == "logs" else _endpoint_variable(signal)
    return endpoint is not None or "otlp" in _exporters(signal)


def _endpoint_variable(signal: Signal) -> str | None:
    return _own_endpoint(signal) or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or None


def _own_endpoint(signal: Signal) -> str | None:
    return os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT") or None


def _exporters(signal: Signal) -> list[str]:
    names = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "")
    return [name.strip().lower() for name in names.split(",")]


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # a port out of range
        return False
