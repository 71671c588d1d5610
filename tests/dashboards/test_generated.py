"""The dashboards' JSON: that of the generator, in Grafana's own shape, complete in itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from .servers import GRAFANA

DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
PROVISIONED = yaml.safe_load((GRAFANA / "provisioning/datasources/pyagent.yml").read_text())


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def panels(path: Path) -> Iterator[dict[str, Any]]:
    yield from (panel for panel in read(path)["panels"] if panel["type"] != "row")


def test_what_is_committed_is_what_the_generator_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, GRAFANA / "generate.py", tmp_path], check=True)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_text() for path in DASHBOARDS}, (
        "run: python exporters/grafana/generate.py"
    )


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_grafanas_own_model_knows_every_field(path: Path) -> None:
    """Read into the classes made from Grafana's schema, and written again, all is there."""
    sdk = pytest.importorskip("grafana_foundation_sdk.cog.encoder", reason="needs Grafana's SDK")
    from grafana_foundation_sdk.cog import plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    plugins.register_default_plugins()
    again = json.loads(sdk.JSONEncoder().encode(Dashboard.from_json(read(path))))
    assert _lost(read(path), again) == []


def _lost(given: Any, kept: Any, where: str = "") -> list[str]:
    """Where `kept` does not have what was given. An empty list or object may be left out."""
    if isinstance(given, dict):
        kept = kept if isinstance(kept, dict) else {}
        return [
            lost
            for key, value in given.items()
            for lost in _lost(value, kept.get(key), f"{where}.{key}")
        ]
    if isinstance(given, list) and given:
        if not isinstance(kept, list) or len(kept) != len(given):
            return [where]
        return [
            lost
            for n, (one, other) in enumerate(zip(given, kept, strict=True))
            for lost in _lost(one, other, f"{where}[{n}]")
        ]
    return [] if given == kept or given == [] else [f"{where}: {given!r} became {kept!r}"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_do_not_overlap_and_stay_within_the_grid(path: Path) -> None:
    places = [panel["gridPos"] for panel in read(path)["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or below, (a, b)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_says_what_it_shows_in_which_unit_and_what_if_there_is_nothing(
    path: Path,
) -> None:
    for panel in panels(path):
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["title"], panel
        assert panel["description"].endswith("."), panel["title"]
        assert defaults["unit"], panel["title"]
        assert defaults["noValue"], panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_variable_that_is_used_can_be_chosen_and_the_other_way_round(path: Path) -> None:
    dashboard = read(path)
    text = json.dumps(dashboard["panels"])
    known = {variable["name"] for variable in dashboard["templating"]["list"]}
    for name in ("job", "pattern", "tenant", "model", "service", "traces", "datasource"):
        used = f"${name}" in text.replace("${" + name + "}", f"${name}")
        assert used <= (name in known), f"{name} is used and cannot be chosen"
    assert {"job", "datasource"} <= known


def test_links_to_traces_are_links_grafana_can_read() -> None:
    links = [
        link["url"]
        for path in DASHBOARDS
        for panel in panels(path)
        for link in panel["fieldConfig"]["defaults"].get("links", ())
    ]
    assert links
    for url in links:
        assert url.startswith("/explore?schemaVersion=1&orgId=1&panes=")
        (pane,) = json.loads(
            url.partition("&panes=")[2].replace("%22", '"').replace("%20", " ")
        ).values()
        assert pane["datasource"] == "${traces}"
        assert pane["queries"][0]["queryType"] == "search"
        assert pane["queries"][0]["service"] == "${service}"


def test_a_link_has_one_service_and_one_data_source() -> None:
    for path in DASHBOARDS:
        for variable in read(path)["templating"]["list"]:
            if variable["name"] in ("service", "traces", "datasource"):
                assert not variable.get("multi")
                assert not variable.get("includeAll")


def test_dots_on_charts_lead_to_a_data_source_that_is_provisioned() -> None:
    asked = [
        target
        for path in DASHBOARDS
        for panel in panels(path)
        for target in panel["targets"]
        if target["exemplar"]
    ]
    assert asked
    assert all("_bucket" in target["expr"] for target in asked)
    sources = {source["uid"]: source for source in PROVISIONED["datasources"]}
    (metrics,) = [source for source in sources.values() if source["type"] == "prometheus"]
    for destination in metrics["jsonData"]["exemplarTraceIdDestinations"]:
        assert destination["name"] == "trace_id"
        assert sources[destination["datasourceUid"]]["type"] == "jaeger"
