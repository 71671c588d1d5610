"""Metrics pushed by OTLP to a real Prometheus 3: the same names, and dots that lead to traces."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import yaml

from .scenes import RUNS
from .servers import (
    PROMETHEUS,
    PROMETHEUS_3,
    RULES,
    Costs,
    Server,
    app,
    eventually,
    prometheus,
)
from .test_queries import QUERIES, Query, filled

NOT_OF_A_PUSH = ("Telemetry lost",)  # all of it arrives here


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Costs]]:
    if PROMETHEUS_3 is None:
        pytest.skip(
            "needs Prometheus 3: `make .gobin/prometheus` where Go is, or PYAGENT_PROMETHEUS3"
        )
    directory = tmp_path_factory.mktemp("pushed")
    config = yaml.safe_load((PROMETHEUS / "push.yml").read_text())
    config["rule_files"] = [str(path) for path in RULES]
    config["global"] |= {"evaluation_interval": "1s"}
    del config["alerting"]
    flags = ["--web.enable-otlp-receiver", "--enable-feature=exemplar-storage"]
    with prometheus(directory / "server", config, program=PROMETHEUS_3, flags=flags) as server:
        variables = {
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{server.url}/api/v1/otlp/v1/metrics",
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
        }
        with app(directory, **variables) as runs:
            costs = runs.round()
            ended = "sum(pyagent_runs_total)"
            eventually("the runs", lambda: server.by("", ended) == {"": RUNS} or None)
            runs.round()  # rates need two
            eventually("more", lambda: server.by("", ended) == {"": 2 * RUNS} or None)
            yield server, {key: {k: 2 * usd for k, usd in by.items()} for key, by in costs.items()}


@pytest.mark.parametrize("query", [q for q in QUERIES if q.panel not in NOT_OF_A_PUSH], ids=str)
def test_a_panel_shows_something_of_what_is_pushed(
    pushed: tuple[Server, Costs], query: Query
) -> None:
    assert pushed[0].query(filled(query.promql)), filled(query.promql)


def test_the_job_is_the_service(pushed: tuple[Server, Costs]) -> None:
    assert set(pushed[0].by("job", "pyagent_runs_total")) == {"bookshop"}
    assert set(pushed[0].by("service_name", "target_info")) == {"bookshop"}


def test_what_is_pushed_comes_to_the_same_as_the_runs_results(pushed: tuple[Server, Costs]) -> None:
    server, costs = pushed
    query = "sum by (gen_ai_request_model) (pyagent_cost_usd_total)"
    shown = server.by("gen_ai_request_model", query)
    assert shown == {k: pytest.approx(float(usd)) for k, usd in costs["model"].items()}
    hour = "job:pyagent_cost_usd:increase1h"
    total = {"bookshop": pytest.approx(float(costs["total"][""]))}
    # Rules are evaluated a moment later, and of a push that is still coming in.
    eventually(hour, lambda: True if server.by("job", hour) == total else None)


@pytest.mark.parametrize(
    "histogram",
    [
        "gen_ai_client_operation_duration_seconds",
        "gen_ai_client_operation_time_to_first_chunk_seconds",
        "gen_ai_invoke_agent_duration_seconds",
        "gen_ai_invoke_workflow_duration_seconds",
    ],
)
def test_a_duration_leads_to_the_trace_of_what_took_so_long(
    pushed: tuple[Server, Costs], histogram: str
) -> None:
    now = time.time()
    found = pushed[0].get(
        "/api/v1/query_exemplars",
        query=f"{histogram}_bucket",
        start=str(now - 600),
        end=str(now + 60),
    )["data"]
    labels = [exemplar["labels"] for series in found for exemplar in series["exemplars"]]
    assert labels
    for each in labels:
        assert len(each["trace_id"]) == 32
        assert int(each["trace_id"], 16)
        assert int(each["span_id"], 16)
