"""No panel, rule or variable names a metric or a label that the code does not emit."""

from __future__ import annotations

import json
import re
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pyagent_providers import semconv

from .conftest import Fed
from .promql import Named
from .test_generated import DASHBOARDS
from .test_queries import QUERIES, Query
from .test_rules import ALERTS, RECORDED

RULE_EXPRESSIONS = {rule.get("record") or rule["alert"]: rule["expr"] for rule in RECORDED + ALERTS}
# Names of the code that are no attribute of the conventions.
OWN_LABELS = {"destination", "signal", "service_name"}
METRICS = (
    semconv.OPERATION_DURATION,
    semconv.TOKEN_USAGE,
    semconv.TIME_TO_FIRST_CHUNK,
    semconv.INVOKE_AGENT_DURATION,
    semconv.INVOKE_WORKFLOW_DURATION,
    semconv.EXECUTE_TOOL_DURATION,
    semconv.COST_COUNTER,
    semconv.UNPRICED,
    semconv.RETRIES,
    semconv.CACHE_SAVINGS,
    semconv.BUDGET_REJECTIONS,
    semconv.BUDGET_USED,
    semconv.RUNS,
    semconv.RUNS_ACTIVE,
    semconv.BREAKER_OPENED,
    semconv.BREAKER_OPEN,
    semconv.EXPORT_FAILURES,
    semconv.EXPORT_DROPPED,
)


@pytest.fixture(scope="module")
def emitted(fed: Fed) -> dict[str, set[str]]:
    """The metrics on the page of real runs, and the labels that each has with a value."""
    with urllib.request.urlopen(fed.url, timeout=20) as page:
        text = page.read().decode()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            given = {label for label, value in sample.labels.items() if value}
            found.setdefault(sample.name, set()).update(given)
    return found


def recorded() -> dict[str, set[str]]:
    """The metrics that the rules record, and the labels they keep."""
    return {rule["record"]: Named.by(rule["expr"]).grouped | {"le"} for rule in RECORDED}


def panel_faults(promql: str, emitted: dict[str, set[str]]) -> list[str]:
    return Named.by(re.sub(r"\$__?\w+", "1m", promql)).faults(emitted)


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_a_panel_names_what_is_emitted(emitted: dict[str, set[str]], query: Query) -> None:
    assert panel_faults(query.promql, emitted) == []


@pytest.mark.parametrize("name", RULE_EXPRESSIONS)
def test_a_rule_names_what_is_emitted_or_recorded(emitted: dict[str, set[str]], name: str) -> None:
    assert Named.by(RULE_EXPRESSIONS[name]).faults(emitted | recorded()) == []


def test_variables_are_filled_from_what_is_emitted(emitted: dict[str, set[str]]) -> None:
    for path in DASHBOARDS:
        for variable in json.loads(path.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                query = variable["query"]["query"]
                asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
                assert asked is not None
                metric, label = asked.groups()
                assert label in emitted[metric] | {"job"}, query


def test_every_label_that_is_named_is_one_of_the_conventions(
    emitted: dict[str, set[str]],
) -> None:
    known = {value.replace(".", "_") for value in vars(semconv).values() if isinstance(value, str)}
    for promql in [*RULE_EXPRESSIONS.values(), *(query.promql for query in QUERIES)]:
        named = Named.by(re.sub(r"\$__?\w+", "1m", promql))
        labels = named.grouped.union(*named.metrics.values()) - {"job", "instance", "le"}
        assert labels <= known | OWN_LABELS


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_of_the_code_is_shown_or_alerted_on(metric: str) -> None:
    name = metric.replace(".", "_")
    everything = " ".join([*RULE_EXPRESSIONS.values(), *(query.promql for query in QUERIES)])
    assert re.search(rf"\b{name}(_seconds)?(_total|_bucket|_sum|_count)?\b", everything)


@pytest.mark.parametrize(
    ("promql", "fault"),
    [
        ("sum(pyagent_costs_usd_total)", "no metric pyagent_costs_usd_total"),
        ('pyagent_cost_usd_total{gen_ai_agent="a"}', "has no label gen_ai_agent"),
        ("sum by (pyagent_patern) (pyagent_cost_usd_total)", "the label pyagent_patern"),
        ("rate(pyagent_runs_total[1m]) / on (tenant) x:y", "no metric x:y"),
        ("sum by (error_type) (pyagent_runs_total)", "the label error_type"),
    ],
)
def test_a_misnamed_metric_or_label_is_found(
    emitted: dict[str, set[str]], promql: str, fault: str
) -> None:
    assert fault in "\n".join(panel_faults(promql, emitted))
