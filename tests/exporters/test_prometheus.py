"""Metrics on a page: names, labels, buckets, who may read it, and a real Prometheus reading it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pyagent_exporters import ExporterError, Handle, Prometheus, configure
from pyagent_exporters.prometheus import _guarded
from pyagent_providers import semconv
from pyagent_providers.telemetry import Telemetry

COST = {
    semconv.PATTERN: "orchestrator_workers",
    semconv.PHASE: "worker",
    semconv.AGENT_NAME: "coder",
    semconv.REQUEST_MODEL: "gpt-4o-mini",
    semconv.PROVIDER_NAME: "openai",
}


def read(url: str, token: str | None = None) -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as page:
        return page.read().decode()


def status(url: str, token: str | None = None) -> int:
    try:
        read(url, token)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    return 200


def samples(page: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@pytest.fixture
def page() -> Iterator[Handle]:
    with configure(prometheus=0, set_global=False) as handle:
        yield handle


def telemetry(handle: Handle) -> Telemetry:
    return Telemetry(tracer_provider=handle.tracer_provider, meter_provider=handle.meter_provider)


def url_of(handle: Handle) -> str:
    assert handle.prometheus_url is not None
    return handle.prometheus_url


def test_cost_is_a_counter_of_dollars_with_its_labels(page: Handle) -> None:
    for dollars in (0.0175, 0.0105):
        telemetry(page).cost.add(dollars, COST)
    ((labels, value),) = samples(read(url_of(page)))["pyagent_cost_usd_total"]
    assert value == pytest.approx(0.028, abs=1e-12)
    assert {name: labels[name] for name in labels if not name.startswith("otel_scope")} == {
        "pyagent_pattern": "orchestrator_workers",
        "pyagent_phase": "worker",
        "gen_ai_agent_name": "coder",
        "gen_ai_request_model": "gpt-4o-mini",
        "gen_ai_provider_name": "openai",
    }


def test_histograms_have_the_advised_buckets(page: Handle) -> None:
    instruments = telemetry(page)
    recorded = {
        "gen_ai_client_operation_duration_seconds": (
            instruments.operation_duration,
            semconv.CLIENT_DURATION_BUCKETS,
        ),
        "gen_ai_client_token_usage": (instruments.token_usage, semconv.TOKEN_BUCKETS),
        "gen_ai_invoke_agent_duration_seconds": (
            instruments.agent_duration,
            semconv.AGENT_DURATION_BUCKETS,
        ),
        "gen_ai_invoke_workflow_duration_seconds": (
            instruments.workflow_duration,
            semconv.WORKFLOW_DURATION_BUCKETS,
        ),
    }
    for histogram, _ in recorded.values():
        histogram.record(1)
    found = samples(read(url_of(page)))
    for name, (_, bounds) in recorded.items():
        edges = [float(labels["le"]) for labels, _ in found[f"{name}_bucket"]]
        assert edges == [*bounds, float("inf")]


def test_every_reader_gets_everything_once_also_at_the_same_time(page: Handle) -> None:
    telemetry(page).cost.add(1, COST)
    pages: list[str] = []
    threads = [
        threading.Thread(target=lambda: pages.extend(read(url_of(page)) for _ in range(5)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [text.count("\npyagent_cost_usd_total{") for text in pages] == [1] * 40


def test_one_reader_is_served_at_a_time() -> None:
    """Two at once could get everything twice and nothing at all: they share the SDK's queue."""
    inside: list[int] = []
    most = 0

    def slow_page(environ: object, start_response: object) -> list[bytes]:
        nonlocal most
        inside.append(1)
        most = max(most, len(inside))
        time.sleep(0.01)
        inside.pop()
        return []

    app = _guarded(slow_page, token=None)
    threads = [
        threading.Thread(target=app, args=({"PATH_INFO": "/metrics"}, None)) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_flush_does_not_put_anything_on_the_page_twice(page: Handle) -> None:
    telemetry(page).cost.add(1, COST)
    assert page.flush()
    assert read(url_of(page)).count("\npyagent_cost_usd_total{") == 1


def test_it_listens_on_loopback_and_answers_at_metrics_only(page: Handle) -> None:
    url = urllib.parse.urlsplit(url_of(page))
    assert (url.hostname, url.path) == ("127.0.0.1", "/metrics")
    assert status(url_of(page)) == 200
    assert status(url_of(page).removesuffix("/metrics") + "/") == 404


def test_a_port_in_use_is_an_error_that_says_what_to_do(page: Handle) -> None:
    port = urllib.parse.urlsplit(url_of(page)).port
    assert port is not None
    before = threading.active_count()
    with pytest.raises(ExporterError, match=f"127.0.0.1:{port}: the port is in use; take another"):
        configure(prometheus=port, set_global=False)
    assert threading.active_count() == before


def test_closing_frees_the_port_and_stops_the_threads() -> None:
    before = set(threading.enumerate())
    handle = configure(prometheus=0, set_global=False)
    port = urllib.parse.urlsplit(url_of(handle)).port
    handle.close()
    handle.close()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
    for thread in set(threading.enumerate()) - before:
        thread.join(2)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.org"])
def test_another_host_than_loopback_needs_a_token(host: str) -> None:
    with pytest.raises(ExporterError, match="token="):
        Prometheus(0, host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_none(host: str) -> None:
    assert Prometheus(0, host=host).token is None


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none_is_an_error(port: int) -> None:
    with pytest.raises(ExporterError, match=f"port {port}"):
        configure(prometheus=port, set_global=False)


def test_a_token_is_demanded_and_never_shown() -> None:
    settings = Prometheus(0, host="0.0.0.0", token="s3cret-ü")
    assert "s3cret" not in repr(settings)
    with configure(prometheus=settings, set_global=False) as handle:
        url = url_of(handle).replace("0.0.0.0", "127.0.0.1")
        assert status(url) == 401
        assert status(url, "wrong") == 401
        assert status(url, "s3cret") == 401
        assert status(url, "s3cret-ü".encode().decode("latin-1")) == 200


def test_an_empty_token_is_an_error() -> None:
    with pytest.raises(ExporterError, match="token is empty"):
        Prometheus(0, token=" ")


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Debian's prometheus")
def test_a_real_prometheus_gives_back_the_recorded_cost(page: Handle, tmp_path: Path) -> None:
    telemetry(page).cost.add(0.028, COST)
    telemetry(page).cost.add(0.0015, COST | {semconv.AGENT_NAME: "tester"})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "prometheus.yml"
    target = urllib.parse.urlsplit(url_of(page)).netloc
    config.write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
        f"scrape_configs: [{{job_name: pyagent, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    prometheus = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        query = 'sum by (gen_ai_agent_name) (pyagent_cost_usd_total{pyagent_phase="worker"})'
        assert _answer(port, query) == {"coder": 0.028, "tester": 0.0015}
    finally:
        prometheus.terminate()
        prometheus.wait(10)


def _answer(port: int, query: str) -> dict[str, float]:
    url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            rows = json.loads(read(url))["data"]["result"]
        except (urllib.error.URLError, ConnectionError):
            rows = []
        if rows:
            return {row["metric"]["gen_ai_agent_name"]: float(row["value"][1]) for row in rows}
        time.sleep(0.1)
    raise AssertionError("prometheus never scraped the page")
