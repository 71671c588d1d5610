"""The collector's tail sampling that we provide keeps what it says, whole: on a real collector."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyagent_exporters import configure
from pyagent_providers import semconv
from pyagent_providers.telemetry import Telemetry

from .backends import Kept, free_port, http_receiver
from .spans import Made, agent, emit, pattern

CONFIG = Path(__file__).parents[2] / "exporters" / "collector" / "tail-sampling.yaml"
NAMES = ("otelcol-contrib", "otelcol", "jaeger")  # Jaeger 2 is a collector, too


def collector() -> str | None:
    """A collector on PATH that can do tail sampling."""
    for name in NAMES:
        if path := shutil.which(name):
            listed = subprocess.run([path, "components"], capture_output=True, text=True)
            if "name: tail_sampling" in listed.stdout:
                return path
    return None


BINARY = collector()
pytestmark = pytest.mark.skipif(
    BINARY is None, reason="no OpenTelemetry collector with tail_sampling on PATH"
)


@pytest.fixture
def sampling(tmp_path: Path) -> Iterator[tuple[str, Kept]]:
    """A running collector's endpoint, and what it lets through; it decides after a second."""
    assert BINARY is not None
    port = free_port()
    with http_receiver() as backend:
        variables = {
            "LISTEN_HTTP": f"127.0.0.1:{port}",
            "LISTEN_GRPC": f"127.0.0.1:{free_port()}",
            "BACKEND": f"http://127.0.0.1:{backend.server_port}",
        }
        soon = ("processors::tail_sampling::decision_wait: 1s", "processors::batch::timeout: 50ms")
        silent = "service::telemetry::metrics::level: none"  # it would listen on a fixed port
        overrides = [f"--config=yaml:{override}" for override in (*soon, silent)]
        log = tmp_path / "collector.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [BINARY, f"--config={CONFIG}", *overrides],
                env=os.environ | variables,
                stdout=output,
                stderr=output,
            )
        try:
            until(lambda: "Everything is ready" in log.read_text(), log)
            yield f"http://127.0.0.1:{port}", backend.kept
        finally:
            process.terminate()
            process.wait(10)


def until(true, log: Path) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def run(run_id: str, *, seconds: float = 2, error: str | None = None, **totals: object) -> Made:
    made = pattern(
        "orchestrator_workers",
        0,
        seconds,
        agent("planner", "plan", 0, 1, "gpt-4o"),
        agent("researcher", "worker", 1, 2, error=error),
        **totals,  # type: ignore[arg-type]
    )
    made.attributes = {**made.attributes, semconv.RUN_ID: run_id}
    return made


CHEAP = 200


def test_errors_expensive_and_slow_runs_are_kept_and_a_share_of_the_rest(
    sampling: tuple[str, Kept], tmp_path: Path
) -> None:
    endpoint, kept = sampling
    wanted = {
        "failed": run("failed", error="RateLimitError"),
        "partial": run("partial", status="partial"),
        "expensive": run("expensive", cost=0.51),
        "slow": run("slow", seconds=61),
    }
    with configure(otlp=endpoint, set_global=False) as handle:
        telemetry = Telemetry(
            tracer_provider=handle.tracer_provider, meter_provider=handle.meter_provider
        )
        for made in (*wanted.values(), *(run(f"cheap-{n}", cost=0.49) for n in range(CHEAP))):
            emit(telemetry.tracer, made)
            telemetry.cost.add(0.49)
        assert handle.flush(10)

    def runs() -> dict[str, bytes]:
        return {
            attribute.value.string_value: span.trace_id
            for span in list(kept.spans)
            for attribute in span.attributes
            if attribute.key == semconv.RUN_ID
        }

    log = tmp_path / "collector.log"
    until(lambda: wanted.keys() <= runs().keys() and len(runs()) > len(wanted), log)
    traces = [span.trace_id for span in kept.spans]
    assert {traces.count(trace) for trace in runs().values()} == {5}  # all or nothing
    assert len(runs()) - len(wanted) < CHEAP / 2  # a tenth of them, by chance more or less
    until(lambda: semconv.COST_COUNTER in kept.metrics, log)  # of all runs
    [cost] = kept.metrics[semconv.COST_COUNTER].sum.data_points
    assert round(cost.as_double, 2) == round(0.49 * (CHEAP + len(wanted)), 2)
