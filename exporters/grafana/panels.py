"""The vocabulary of the dashboards: stats, charts, tables and how they become Grafana's JSON.

It is that of Grafana 10 to 12, schema version 39, and no more of it than is used here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from urllib.parse import quote

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
Unit = Literal["currencyUSD", "s", "short", "percentunit"]
Limits = tuple[float, float]  # from where a value is amber, and from where it is red

COLUMNS: Final = 24  # of Grafana's grid
METRICS: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Query:
    """PromQL, and how its series are called: `{{label}}` stands for a label's value.

    With `exemplars`, dots on the chart lead to the traces of what was measured.
    """

    promql: str
    legend: str = ""
    exemplars: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A panel, but for its place. `width` is in columns of 24, `height` in Grafana's rows."""

    kind: str
    title: str
    description: str
    width: int
    height: int
    queries: Sequence[Query]
    instant: bool  # one value for the dashboard's time range, not one for each point of it
    defaults: Mapping[str, Json]  # of Grafana's fieldConfig
    options: Mapping[str, Json]
    transformations: Sequence[Json] = ()


@dataclass(frozen=True)
class Row:
    """A heading."""

    title: str


def stat(
    title: str,
    promql: str,
    description: str,
    *,
    unit: Unit = "short",
    limits: Limits | None = None,
    width: int = 4,
    empty: str = "none",
) -> Panel:
    """One number. `empty` is said where there is no data."""
    return Panel(
        kind="stat",
        title=title,
        description=description,
        width=width,
        height=4,
        queries=[Query(promql)],
        instant=True,
        defaults=_defaults(unit, limits, empty),
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "none" if limits is None else "value",
            "graphMode": "none",
            "textMode": "auto",
        },
    )


def chart(
    title: str,
    *queries: Query,
    description: str,
    unit: Unit = "short",
    limits: Limits | None = None,
    bars: bool = False,
    width: int = 12,
    empty: str = "nothing in this time",
) -> Panel:
    """Values over time: lines, or stacked `bars` of what came in each span of time."""
    style: Json = {
        "drawStyle": "bars" if bars else "line",
        "fillOpacity": 80 if bars else 8,
        "lineWidth": 1,
        "showPoints": "auto",
        "stacking": {"mode": "normal" if bars else "none", "group": "A"},
        "thresholdsStyle": {"mode": "off" if limits is None else "dashed"},
    }
    return Panel(
        kind="timeseries",
        title=title,
        description=description,
        width=width,
        height=8,
        queries=queries,
        instant=False,
        defaults={**_defaults(unit, limits, empty), "custom": style, "min": 0},
        options={
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    )


def totals(
    title: str,
    query: Query,
    *,
    description: str,
    unit: Unit,
    width: int = 8,
    empty: str = "nothing in this time",
    traces: str | None = None,
) -> Panel:
    """A bar for each series, the greatest first; a click finds the spans named `traces`."""
    links = [] if traces is None else [traces_link(traces)]
    return Panel(
        kind="bargauge",
        title=title,
        description=description,
        width=width,
        height=8,
        queries=[Query(f"sort_desc({query.promql})", query.legend)],
        instant=True,
        defaults={**_defaults(unit, None, empty), "min": 0, "links": links},
        options={
            "orientation": "horizontal",
            "displayMode": "basic",
            "valueMode": "color",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    )


def table(
    title: str,
    query: Query,
    *,
    description: str,
    unit: Unit,
    value: str,
    columns: Mapping[str, str],
    traces: str,
    width: int = 12,
    empty: str = "nothing in this time",
) -> Panel:
    """A row for each series: its labels, under the names in `columns`, and its value."""
    return Panel(
        kind="table",
        title=title,
        description=description,
        width=width,
        height=8,
        queries=[query],
        instant=True,
        defaults={**_defaults(unit, None, empty), "links": [traces_link(traces)]},
        options={"showHeader": True, "sortBy": [{"displayName": value, "desc": True}]},
        transformations=[
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True},
                    "renameByName": {**columns, "Value": value},
                },
            }
        ],
    )


def traces_link(span: str) -> Json:
    """A link that looks for the spans of this name, in the time that the dashboard shows."""
    search = {
        "refId": "A",
        "queryType": "search",
        "service": "${service}",
        "operation": span,
    }
    pane = {
        "datasource": "${traces}",
        "queries": [search],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    # Variables have to stay as they are: Grafana fills them in, and does not look into %24%7B.
    panes = quote(json.dumps({"pya": pane}, separators=(",", ":")), safe='${}:,"[].')
    panes = panes.replace('"', "%22")
    return {
        "title": "Traces",
        "url": f"/explore?schemaVersion=1&orgId=1&panes={panes}",
        "targetBlank": True,
    }


def dashboard(
    name: str, title: str, description: str, variables: Sequence[Json], *content: Panel | Row
) -> Json:
    """The whole of it, panels set from left to right and in rows."""
    return {
        "uid": f"pyagent-{name}",
        "title": title,
        "description": description,
        "tags": ["pyagent"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": list(variables)},
        "annotations": {"list": []},
        "links": [
            {
                "title": "PyAgent",
                "type": "dashboards",
                "tags": ["pyagent"],
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
                "icon": "external link",
                "targetBlank": False,
                "tooltip": "",
                "url": "",
            }
        ],
        "panels": _placed(content),
    }


def source(name: str, label: str, kind: str) -> Json:
    """A variable: which data source of a kind."""
    return {"name": name, "label": label, "type": "datasource", "query": kind, "hide": 0}


def choice(name: str, label: str, metric: str, of: str, *, several: bool = True) -> Json:
    """A variable: a value that a metric's label has; if `several`, some of them or all."""
    everything = {"selected": True, "text": ["All"], "value": ["$__all"]}
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": METRICS,
        "query": {"query": f"label_values({metric}, {of})", "refId": "values"},
        "refresh": 2,  # when the time range changes
        "sort": 1,
        "multi": several,
        "includeAll": several,
        "allValue": ".*" if several else None,
        "current": everything if several else {},
        "hide": 0,
    }


def _placed(content: Sequence[Panel | Row]) -> list[Json]:
    placed: list[Json] = []
    x = y = height = 0
    for number, item in enumerate(content, 1):
        width = COLUMNS if isinstance(item, Row) else item.width
        if x + width > COLUMNS:
            x, y = 0, y + height
        height = 1 if isinstance(item, Row) else item.height
        place: Json = {"x": x, "y": y, "w": width, "h": height}
        x += width
        if isinstance(item, Row):
            row = {"id": number, "type": "row", "title": item.title, "gridPos": place}
            placed.append({**row, "collapsed": False, "panels": []})
        else:
            placed.append(_panel(number, item, place))
    return placed


def _panel(number: int, panel: Panel, place: Json) -> Json:
    targets: list[Json] = [
        {
            "refId": chr(ord("A") + n),
            "datasource": METRICS,
            "editorMode": "code",
            "expr": query.promql,
            "legendFormat": query.legend or "__auto",
            "instant": panel.instant,
            "range": not panel.instant,
            "exemplar": query.exemplars,
            "format": "table" if panel.kind == "table" else "time_series",
        }
        for n, query in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": METRICS,
        "gridPos": place,
        "interval": "1m",  # the least: a few scrapes are in every point
        "targets": targets,
        "fieldConfig": {"defaults": panel.defaults, "overrides": []},
        "options": panel.options,
        "transformations": panel.transformations,
    }


def _defaults(unit: Unit, limits: Limits | None, empty: str) -> Mapping[str, Json]:
    steps: list[Json] = [{"color": "green", "value": None}]
    if limits is not None:
        steps += [{"color": "orange", "value": limits[0]}, {"color": "red", "value": limits[1]}]
    return {
        "unit": unit,
        "noValue": empty,
        "color": {"mode": "palette-classic" if limits is None else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": steps},
    }
