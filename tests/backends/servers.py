"""Starts the real backends, each in a process of its own, on loopback and on free ports."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_START: Final = 240.0  # seconds; Phoenix takes 15 on a machine with nothing else to do
_PROJECT: Final = Path(__file__).parents[2]


@dataclass(frozen=True)
class Backend:
    """Where a started backend is reached."""

    web: str
    otlp_http: str
    otlp_grpc: str


def phoenix_python() -> str | None:
    """The Python of an environment that Phoenix is installed in; None if there is none."""
    named = os.environ.get("PYAGENT_PHOENIX") or str(_PROJECT / ".venv-phoenix/bin/python")
    return shutil.which(named)


@contextmanager
def phoenix(directory: Path) -> Generator[Backend]:
    """Phoenix as it is after `pip install arize-phoenix`, with what it keeps in `directory`."""
    python = phoenix_python()
    assert python is not None, "see phoenix_python()"
    web, grpc = free_ports(2)
    environment = {
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(web),
        "PHOENIX_GRPC_PORT": str(grpc),
        "PHOENIX_WORKING_DIR": str(directory),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    }
    at = f"http://127.0.0.1:{web}"
    command = [python, str(Path(__file__).with_name("phoenix_on_loopback.py"))]
    with _running(command, directory, environment, ready=f"{at}/healthz"):
        yield Backend(web=at, otlp_http=at, otlp_grpc=f"http://127.0.0.1:{grpc}")


def jaeger_program() -> str | None:
    """The `jaeger` program; None if it is nowhere."""
    return (
        shutil.which(os.environ.get("PYAGENT_JAEGER", ""))
        or shutil.which("jaeger", path=str(_PROJECT / ".gobin"))
        or shutil.which("jaeger")
    )


@contextmanager
def jaeger(directory: Path) -> Generator[Backend]:
    """Jaeger's one program, with spans kept in memory."""
    program = jaeger_program()
    assert program is not None, "see jaeger_program()"
    web, query, http, grpc = free_ports(4)

    def at(port: int) -> dict[str, str]:
        return {"endpoint": f"127.0.0.1:{port}"}

    file = directory / "jaeger.json"  # JSON is YAML
    file.write_text(
        json.dumps(
            {
                "service": {
                    "extensions": ["jaeger_storage", "jaeger_query"],
                    "pipelines": {
                        "traces": {
                            "receivers": ["otlp"],
                            "exporters": ["jaeger_storage_exporter"],
                        }
                    },
                    "telemetry": {"metrics": {"level": "none"}},
                },
                "extensions": {
                    "jaeger_query": {
                        "storage": {"traces": "memory"},
                        "enable_tracing": False,  # its own traces, to whoever is at port 4317
                        "http": at(web),
                        "grpc": at(query),
                    },
                    "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": 1000}}}},
                },
                "receivers": {"otlp": {"protocols": {"http": at(http), "grpc": at(grpc)}}},
                "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
            }
        )
    )
    url = f"http://127.0.0.1:{web}"
    with _running([program, "--config", str(file)], directory, {}, ready=url):
        yield Backend(url, f"http://127.0.0.1:{http}", f"http://127.0.0.1:{grpc}")


def free_ports(count: int) -> list[int]:
    """As many ports that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@contextmanager
def _running(
    command: Sequence[str], directory: Path, environment: Mapping[str, str], *, ready: str
) -> Generator[None]:
    """The program runs as long as the block does, which begins when `ready` answers."""
    log = directory / "server.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, cwd=directory, env={**os.environ, **environment}, stdout=out, stderr=out
        )
    try:
        _wait_for(ready, server, log)
        yield
    finally:
        server.kill()  # what it keeps is thrown away, and Jaeger takes ten seconds to say goodbye
        server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START
    while time.monotonic() < until:
        assert server.poll() is None, f"it ended at once:\n{log.read_text()[-3000:]}"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(f"{url} did not answer in {_START:.0f} s:\n{log.read_text()[-3000:]}")
