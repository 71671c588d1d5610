"""Every query of every panel, on the real Prometheus, fed by real runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from .conftest import Fed
from .scenes import RUNS
from .servers import GRAFANA

DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
WINDOW = "10m"  # longer than the test takes: all that was measured is in it
VARIABLES = {
    "$__rate_interval": WINDOW,
    "$__interval": WINDOW,
    "$__range": WINDOW,
    "$job": ".*",
    "$pattern": ".*",
    "$tenant": ".*",
    "$model": ".*",
}


@dataclass(frozen=True)
class Query:
    """One query of a panel."""

    dashboard: str
    panel: str
    promql: str
    legend: str

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel}"


def queries() -> Iterator[Query]:
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield Query(path.stem, panel["title"], target["expr"], target["legendFormat"])


QUERIES = tuple(queries())


def filled(promql: str, **chosen: str) -> str:
    """The query as Grafana sends it, with all of everything chosen but for these."""
    for variable, value in (VARIABLES | {f"${k}": v for k, v in chosen.items()}).items():
        promql = promql.replace(variable, value)
    assert "$" not in promql, f"a variable that no dashboard has: {promql}"
    return promql


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_a_panel_shows_something(fed: Fed, query: Query) -> None:
    values = [float(row["value"][1]) for row in fed.server.query(filled(query.promql))]
    # A quantile of what was not measured lately is NaN, which Grafana leaves out.
    shown = [value for value in values if not math.isnan(value)]
    assert shown, f"no data: {filled(query.promql)}"
    assert min(shown) >= 0


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_what_a_legend_names_is_there(fed: Fed, query: Query) -> None:
    rows = fed.server.query(filled(query.promql))
    for label in _labels(query.legend):
        assert any(label in row["metric"] for row in rows), f"no series has {label}"


def _labels(legend: str) -> list[str]:
    return [part.partition("}}")[0] for part in legend.split("{{")[1:]]


def panel(dashboard: str, title: str) -> str:
    """The first query of the panel of this title."""
    return next(q.promql for q in QUERIES if (q.dashboard, q.panel) == (dashboard, title))


@pytest.mark.parametrize(
    ("title", "label", "key"),
    [
        ("By phase", "pyagent_phase", "phase"),
        ("By model", "gen_ai_request_model", "model"),
        ("By provider", "gen_ai_provider_name", "provider"),
    ],
)
def test_what_is_shown_by_a_key_is_what_the_runs_results_say(
    fed: Fed, title: str, label: str, key: str
) -> None:
    shown = fed.server.by(label, filled(panel("costs", title)))
    assert shown == {k: pytest.approx(float(usd)) for k, usd in fed.costs[key].items()}


def test_by_agent_it_is_too_but_for_agents_that_a_planner_made_up(fed: Fed) -> None:
    shown = fed.server.by("gen_ai_agent_name", filled(panel("costs", "By agent")))
    said = {k: float(usd) for k, usd in fed.costs["agent"].items()}
    said["other"] = said.pop("poet_of_the_day")
    assert shown == {k: pytest.approx(usd) for k, usd in said.items()}


@pytest.mark.parametrize("title", ["By tenant", "By pattern", "By phase", "By agent", "By model"])
def test_however_the_bill_is_split_it_comes_to_the_same(fed: Fed, title: str) -> None:
    total = float(fed.costs["total"][""])
    label = panel("costs", title).partition("sum by (")[2].partition(")")[0]
    for when in (title, f"{title}, over time"):
        shown = fed.server.by(label, filled(panel("costs", when)))
        assert sum(shown.values()) == pytest.approx(total)
    assert fed.server.by("", filled(panel("costs", "Spent"))) == {"": pytest.approx(total)}


def test_tenants_that_are_not_allowed_are_other_and_none_is_nobody(fed: Fed) -> None:
    shown = fed.server.by("pyagent_tenant", filled(panel("costs", "By tenant")))
    assert set(shown) == {"acme", "globex", "other", ""}


def test_one_tenant_can_be_chosen(fed: Fed) -> None:
    by_tenant = fed.server.by("pyagent_tenant", filled(panel("costs", "By tenant")))
    chosen = fed.server.by("", filled(panel("costs", "Spent"), tenant="acme"))
    assert chosen == {"": pytest.approx(by_tenant["acme"])}


@pytest.mark.parametrize(
    ("dashboard", "title", "per_round", "once"),
    [
        ("runs", "Runs ended", RUNS, 0),
        ("runs", "Partial", 1, 0),
        ("runs", "Under way", 0, 1),
        ("costs", "Calls without a price", 1, 0),
        ("costs", "Calls refused", 1, 0),
        ("providers", "Told to slow down", 1, 0),
        ("providers", "Taken to be down", 0, 1),
    ],
)
def test_a_count_is_exact(fed: Fed, dashboard: str, title: str, per_round: int, once: int) -> None:
    shown = fed.server.by("", filled(panel(dashboard, title)))
    assert shown == {"": per_round * fed.rounds + once}


def test_runs_by_status_are_as_they_ended(fed: Fed) -> None:
    shown = fed.server.by("pyagent_status", filled(panel("runs", "Runs by status")))
    each = {"completed": 7, "partial": 1, "failed": 2, "cancelled": 1}
    assert shown == {status: runs * fed.rounds for status, runs in each.items()}
