"""What the tests of rules and dashboards share: one Prometheus that has seen real runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial

import pytest

from .scenes import RUNS
from .servers import PROMETHEUS_SERVER as PROGRAM
from .servers import RULES, App, Costs, Server, app, eventually, free_port, prometheus, scraping

ROUNDS = 3
# The alerts that the scenes give cause for.
CAUSED = (
    "PyAgentUnpricedCalls",
    "PyAgentBudgetRejections",
    "PyAgentRunsFailing",
    "PyAgentModelErrors",
    "PyAgentBreakerOpen",
    "PyAgentTelemetryLost",
)
# What takes a moment to be seen, after the last round.
SIGNS = (
    'pyagent_runs_active{gen_ai_workflow_name="waiting"} > 0',
    "pyagent_export_failures_total",
    "pyagent_export_dropped_total",
    # Rules are evaluated a moment after the page is read; this one is the last of those of spend.
    "abs(sum(model:pyagent_cost_usd:increase1h) - sum(pyagent_cost_usd_total)) < 1e-9",
    *(f'ALERTS{{alertname="{name}"}}' for name in CAUSED),
)


@dataclass(frozen=True)
class Fed:
    """A Prometheus with the metrics of a few rounds of runs, and what these cost."""

    server: Server
    costs: Costs
    rounds: int
    url: str  # of the app's metrics


@pytest.fixture(scope="package")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fed]:
    if PROGRAM is None:
        pytest.skip("needs Debian's prometheus")
    directory = tmp_path_factory.mktemp("fed")
    nowhere = {  # a collector that is not there, and little room for what waits for it
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_MAX_QUEUE_SIZE": "8",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4",
    }
    with app(directory, **nowhere) as runs:
        config = scraping(runs.url, rules=RULES)
        with prometheus(directory / "server", config, program=PROGRAM) as server:
            costs = [_round(server, runs) for _ in range(ROUNDS)]
            runs.stick()
            then = eventually("all that was to be seen", partial(_when_all_is_seen, server))
            yield Fed(then, _sum(costs), ROUNDS, runs.url)


def _round(server: Server, runs: App) -> Costs:
    """One round, when Prometheus has seen all of it."""
    after = _ended(server) + RUNS
    costs = runs.round()
    eventually("all of a round", lambda: True if _ended(server) == after else None)
    return costs


def _ended(server: Server) -> float:
    return sum(server.by("", "sum(pyagent_runs_total)").values())


def _when_all_is_seen(server: Server) -> Server | None:
    """The server at a time at which nothing is missing, as it is while a page is late."""
    then = replace(server, at=time.time())
    return then if all(then.query(sign) for sign in SIGNS) else None


def _sum(rounds: list[Costs]) -> Costs:
    total: Costs = {}
    for costs in rounds:
        for key, by in costs.items():
            for name, usd in by.items():
                so_far = total.setdefault(key, {})
                so_far[name] = so_far.get(name, Decimal(0)) + usd
    return total
