"""The real servers: an app under way, Prometheus and Alertmanager, each a process on loopback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "exporters" / "prometheus"
GRAFANA = ROOT / "exporters" / "grafana"
RULES = (PROMETHEUS / "rules.yml", PROMETHEUS / "alerts.yml")
PATIENCE = 60.0  # seconds until a test gives up; nothing takes as long, even on a busy machine

T = TypeVar("T")
Costs = dict[str, dict[str, Decimal]]  # US dollars, in all and by each key of a result's ledger


def executable(*names: str) -> str | None:
    """The first of these programs that is on this machine."""
    return next((found for name in names if (found := shutil.which(name))), None)


PROMETHEUS_SERVER = executable("prometheus")
ALERTMANAGER = executable("alertmanager", "prometheus-alertmanager")
BUILT = Path(__file__).parents[2] / ".gobin" / "prometheus"  # by the Makefile
PROMETHEUS_3 = (
    os.environ.get("PYAGENT_PROMETHEUS3")
    or executable("prometheus3")
    or (str(BUILT) if BUILT.exists() else None)
)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def eventually(what: str, attempt: Callable[[], T | None]) -> T:
    """What `attempt` gives, as soon as it gives something."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if (given := attempt()) is not None:
                return given
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(0.05)
    raise AssertionError(f"in {PATIENCE:g} s there was no sign of {what}")


@contextmanager
def process(*command: str, log: Path, **options: Any) -> Generator[subprocess.Popen[str]]:
    """A process for as long as the block; what it says is in `log`."""
    with log.open("w") as said:
        running = subprocess.Popen(command, stderr=said, text=True, **options)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
        for pipe in (running.stdin, running.stdout):
            if pipe is not None:
                pipe.close()


@dataclass(frozen=True)
class App:
    """The process that runs the scenes."""

    url: str  # of its metrics
    running: subprocess.Popen[str]

    def round(self) -> Costs:
        """Run everything once; gives what it cost."""
        return self._told("round")

    def stick(self) -> None:
        """Begin a run that never ends."""
        self._told("stuck")

    def _told(self, command: str) -> Costs:
        assert self.running.stdin is not None
        assert self.running.stdout is not None
        self.running.stdin.write(command + "\n")
        self.running.stdin.flush()
        told = json.loads(self.running.stdout.readline())
        return {key: {k: Decimal(usd) for k, usd in by.items()} for key, by in told.items()}


@contextmanager
def app(directory: Path, **variables: str) -> Generator[App]:
    """The app; `variables` are those of its environment, beside ours but for OTEL_*."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")} | variables
    with process(
        sys.executable, "-m", "tests.dashboards.app",
        log=directory / "app.log", cwd=ROOT, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        url = running.stdout.readline().strip()
        assert url, (directory / "app.log").read_text()
        yield App(url, running)


@dataclass(frozen=True)
class Server:
    """A Prometheus, over its HTTP API. `at` is the Unix time that queries are about; None: now."""

    url: str
    at: float | None = None

    def get(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}{path}?{query}", timeout=20) as answer:
            return json.load(answer)

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The instant vector; each row has `metric`, its labels, and `value`, [time, text]."""
        try:
            at = {} if self.at is None else {"time": str(self.at)}
            return self.get("/api/v1/query", query=promql, **at)["data"]["result"]
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 503:  # not ready yet
                    raise
                raise AssertionError(f"{promql}\n{error.read().decode()}") from error

    def by(self, label: str, promql: str) -> dict[str, float]:
        return {row["metric"].get(label, ""): float(row["value"][1]) for row in self.query(promql)}


@contextmanager
def prometheus(
    directory: Path, config: Mapping[str, object], *, program: str,
    flags: Sequence[str] = (),
) -> Generator[Server]:  # fmt: skip
    directory.mkdir(exist_ok=True)
    file, url = directory / "prometheus.yml", f"127.0.0.1:{free_port()}"
    file.write_text(yaml.safe_dump(dict(config)))
    with process(
        program, f"--config.file={file}", f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={url}", *flags, log=directory / "prometheus.log",
        stdout=subprocess.DEVNULL,
    ):  # fmt: skip
        server = Server(f"http://{url}")
        eventually("Prometheus", lambda: server.query("vector(1)"))
        yield server


def scraping(url: str, *, rules: Sequence[Path] = (), **more: object) -> dict[str, object]:
    """A configuration that reads this page, and evaluates rules, every second."""
    target = urllib.parse.urlsplit(url).netloc
    return {
        "global": {
            "scrape_interval": "1s",
            "scrape_timeout": "1s",
            "evaluation_interval": "1s",
        },
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [{"job_name": "pyagent", "static_configs": [{"targets": [target]}]}],
        **more,
    }
