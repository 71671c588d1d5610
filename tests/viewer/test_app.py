"""The viewer's pages, over real HTTP: what they show, limit, order, compare and hand out."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from pyagent_exporters.viewer import app as viewer_app
from pyagent_exporters.viewer.runs import RunQuery, RunSummary
from pyagent_exporters.viewer.serving import Viewer
from pyagent_exporters.viewer.spans import Span
from pyagent_exporters.viewer.store import SpanStore
from pyagent_exporters.viewer.templates import dollars, static_file

from .asking import Reply, ask
from .conftest import Serve

PAGES = Path(viewer_app.__file__).parent / "pages"
STATIC = Path(viewer_app.__file__).parent / "static"
SECOND = 10**9


def every_run(store: SpanStore, query: RunQuery = RunQuery()) -> tuple[RunSummary, ...]:  # noqa: B008
    return store.runs(query).runs


def listed(page: Reply) -> list[str]:
    """The ids of the runs of a list, in its order."""
    return [html.unescape(found) for found in re.findall(r'name="run" value="([^"]*)"', page.text)]


def a_call(n: int, *, agent: str = "writer", cost: float | None = 0.5, run: str = "") -> list[Span]:
    """An agent's call in a run of its own."""
    run_id = run or f"run-{n}"
    trace = f"{n:032x}"
    return [
        Span(
            trace_id=trace,
            span_id=f"{n:015x}1",
            name="pyagent.pattern.pipeline",
            start=n * SECOND,
            end=(n + 2) * SECOND,
            attributes={
                "pyagent.run.id": run_id,
                "pyagent.status": "completed",
                "pyagent.pattern": "pipeline",
                "gen_ai.workflow.name": "pipeline",
                **({} if cost is not None else {"pyagent.unpriced.calls": 1}),
            },
        ),
        Span(
            trace_id=trace,
            span_id=f"{n:015x}2",
            parent_id=f"{n:015x}1",
            name=f"pyagent.agent.{agent}",
            start=n * SECOND,
            end=(n + 2) * SECOND,
            attributes={
                "pyagent.run.id": run_id,
                "gen_ai.agent.name": agent,
                **({} if cost is not None else {"pyagent.unpriced.calls": 1}),
            },
        ),
        Span(
            trace_id=trace,
            span_id=f"{n:015x}3",
            parent_id=f"{n:015x}2",
            name="chat m",
            kind="client",
            start=n * SECOND,
            end=(n + 1) * SECOND,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "m",
                "gen_ai.usage.input_tokens": 10,
                "gen_ai.usage.output_tokens": 5,
                **({} if cost is None else {"pyagent.cost.usd": cost}),
            },
        ),
    ]


# The list


def test_the_list_has_every_run_with_its_figures(
    showcase_viewer: Viewer, showcase_store: SpanStore
) -> None:
    page = ask(showcase_viewer, "/")
    assert page.status == 200
    runs = every_run(showcase_store)
    assert listed(page) == [run.run_id for run in runs]
    for run in runs:
        assert f'href="/runs/{run.run_id}"' in page.text
        assert dollars(run.cost) in page.text
        assert run.status in page.text


def test_the_totals_are_those_of_the_runs_that_are_listed(
    showcase_viewer: Viewer, showcase_store: SpanStore
) -> None:
    for query, path in (
        (RunQuery(), "/"),
        (RunQuery(pattern="router"), "/?pattern=router"),
        (RunQuery(status="failed"), "/?status=failed"),
    ):
        totals = ask(showcase_viewer, path).text.partition('class="totals"')[2].partition("</dl>")
        runs = every_run(showcase_store, query)
        assert f"<dd>{len(runs)}</dd>" in totals[0]
        assert dollars(sum((run.cost for run in runs), Decimal(0))) in totals[0]
        assert f"<dd>{sum(run.input_tokens for run in runs):,}</dd>" in totals[0]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/?q=coder", RunQuery(text="coder")),
        ("/?q=RateLimit", RunQuery(text="RateLimit")),
        ("/?status=failed", RunQuery(status="failed")),
        ("/?pattern=hierarchical", RunQuery(pattern="hierarchical")),
        ("/?tenant=acme", RunQuery(tenant="acme")),
        ("/?model=gemini-2.5-flash", RunQuery(model="gemini-2.5-flash")),
        ("/?sort=cost", RunQuery(sort="cost")),
        ("/?sort=duration&order=asc", RunQuery(sort="duration", descending=False)),
        ("/?sort=tokens&q=+support+", RunQuery(sort="tokens", text="support")),
        ("/?until=2026-01-01", RunQuery(until=1)),
    ],
)
def test_the_address_says_which_runs_in_which_order(
    showcase_viewer: Viewer, showcase_store: SpanStore, path: str, query: RunQuery
) -> None:
    assert listed(ask(showcase_viewer, path)) == [
        run.run_id for run in every_run(showcase_store, query)
    ]


def test_a_time_limits_the_list(showcase_viewer: Viewer, showcase_store: SpanStore) -> None:
    every = len(every_run(showcase_store))
    counts = [
        len(listed(ask(showcase_viewer, f"/?time={time}")))
        for time in ("15m", "1h", "24h", "7d", "30d")
    ]
    assert counts == sorted(counts)
    assert counts[0] < every
    assert counts[-1] == every


def test_a_long_list_has_pages_and_the_filters_go_along(serve: Serve, store: SpanStore) -> None:
    for n in range(1, 121):
        store.add(a_call(n, agent="a&b"))
    viewer = serve()
    seen: list[str] = []
    path: str | None = "/?q=a%26b&sort=start&order=asc"
    while path is not None:
        page = ask(viewer, path)
        seen += listed(page)
        link = re.search(r'rel="next" href="([^"]+)"', page.text)
        path = html.unescape(link[1]) if link else None
    assert seen == [f"run-{n}" for n in range(1, 121)]


def test_a_list_without_runs_says_how_to_send_some(serve: Serve) -> None:
    viewer = serve()
    page = ask(viewer, "/").text
    assert f"OTEL_EXPORTER_OTLP_ENDPOINT={viewer.url}" in page
    assert "No such run" in ask(viewer, "/?q=nothing").text
    assert "No such run" in ask(viewer, "/?page=7").text


@pytest.mark.parametrize(
    "path",
    [
        *("/?status=fine", "/?sort=name", "/?page=0", "/?page=-1", "/?page=x", "/?page=9999999"),
        *("/?page=%D9%A3", "/?time=1y", "/?since=yesterday", "/?until=9999-99-99", "/?order=up"),
        *("/costs?by=nobody", "/costs?bucket=minute", "/costs.csv?by=x", "/costs.json?bucket=x"),
        *("/compare", "/compare?a=1", "/compare?run=1", "/compare?run=1&run=2&run=3"),
    ],
)
def test_an_address_that_makes_no_sense_is_told_so(showcase_viewer: Viewer, path: str) -> None:
    page = ask(showcase_viewer, path)
    assert page.status == 400
    assert "Bad Request" in page.text
    assert 'href="/"' in page.text


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/runs/nothing", "/runs/", "/compare?a=x&b=y", "/static/none.css", "/v1/x"],
)
def test_what_is_not_there_is_said_so(showcase_viewer: Viewer, path: str) -> None:
    assert ask(showcase_viewer, path, method="GET").status in (404, 405)


@pytest.mark.parametrize(
    "path",
    [
        *("/static/..%2fapp.py", "/static/../app.py", "/static/%2e%2e/app.py", "/static/README.md"),
        *("/static//etc/passwd", "/static/chart.LICENSE.md", "/static/.", "/static/viewer.css%00"),
    ],
)
def test_only_the_files_for_browsers_are_handed_out(showcase_viewer: Viewer, path: str) -> None:
    assert ask(showcase_viewer, path).status == 404


def test_files_may_be_kept_as_long_as_their_address_has_their_sum(showcase_viewer: Viewer) -> None:
    [address] = re.findall(r'href="(/static/viewer\.css\?v=\w+)"', ask(showcase_viewer, "/").text)
    answer = ask(showcase_viewer, address)
    assert answer.body == static_file("viewer.css")
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]


def test_a_run_is_found_whatever_its_id(serve: Serve, store: SpanStore) -> None:
    viewer = serve()
    for n, run_id in enumerate(("a/b", "ü?#%", "two words", "a" * 300, "../costs"), 1):
        store.add(a_call(n, run=run_id))
        page = ask(viewer, "/")
        link = re.findall(r'href="(/runs/[^"]+)"', page.text)[0]
        assert "/" not in link.removeprefix("/runs/")
        assert ask(viewer, html.unescape(link)).status == 200


def test_an_error_of_ours_is_told_without_its_words(
    serve: Serve, store: SpanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(store, "runs", broken)
    page = ask(serve(), "/")
    assert page.status == 500
    assert "secret" not in page.text
    assert page.headers["content-security-policy"]


# Costs


@pytest.mark.parametrize("by", ["agent", "phase", "model", "provider", "path", "tenant", "pattern"])
@pytest.mark.parametrize("bucket", ["", "hour", "day"])
def test_costs_add_up_in_the_table_and_the_files_by_every_dimension(
    showcase_viewer: Viewer, showcase_store: SpanStore, by: str, bucket: str
) -> None:
    path = f"?by={by}&bucket={bucket}"
    whole = sum((run.cost for run in every_run(showcase_store)), Decimal(0))
    page = ask(showcase_viewer, f"/costs{path}")
    assert page.status == 200
    assert dollars(whole) in page.text
    told = ask(showcase_viewer, f"/costs.json{path}").json()
    rows = told["rows"]
    assert isinstance(rows, list)
    assert sum(Decimal(row["cost_usd"]) for row in rows) == whole
    sheet = ask(showcase_viewer, f"/costs.csv{path}")
    table = list(csv.DictReader(io.StringIO(sheet.body.decode())))
    assert sum(Decimal(row["cost_usd"]) for row in table) == whole
    assert [row[by].removeprefix("'") for row in table] == [row[by] for row in rows]
    assert all(("from" in row) == bool(bucket) for row in table)
    assert sheet.headers["content-disposition"] == f'attachment; filename="costs-by-{by}.csv"'
    assert page.text.count("<tr") - 1 == len(rows)


def test_costs_are_limited_as_the_list_is(showcase_viewer: Viewer) -> None:
    rows = ask(showcase_viewer, "/costs.json?by=pattern&pattern=router").json()["rows"]
    assert isinstance(rows, list)
    assert [row["pattern"] for row in rows] == ["router"]


def test_a_cell_is_never_a_formula(serve: Serve, store: SpanStore) -> None:
    names = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", 'a"b,c', "plain", "a=b")
    for n, name in enumerate(names, 1):
        store.add(a_call(n, agent=name))
    text = ask(serve(), "/costs.csv").body.decode()
    cells = {row["agent"] for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert not [cell for cell in cells if cell[0] in "=+-@\t\r"]
    assert {"'=1+1", "'-1", 'a"b,c', "plain", "a=b"} <= cells


def test_a_call_without_a_price_is_not_free(serve: Serve, store: SpanStore) -> None:
    store.add([*a_call(1, cost=None), *a_call(2, agent="other", cost=0.25)])
    viewer = serve()
    page = ask(viewer, "/costs").text
    assert ">unpriced<" in page
    assert "+ 1 unpriced" in page
    assert "1 unpriced" in ask(viewer, "/").text


def test_the_figures_of_the_chart_are_the_tables(serve: Serve, store: SpanStore) -> None:
    for n in range(1, 17):
        store.add(a_call(n, agent=f"agent {n}</script>", cost=n / 10))
    page = ask(serve(), "/costs").text
    [block] = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    figures = json.loads(block)
    assert figures["kind"] == "bars"
    assert figures["labels"][0] == "agent 16</script>"
    assert figures["labels"][-1] == "4 more"
    assert sum(figures["series"][0]["values"]) == pytest.approx(13.6)


def test_the_chart_over_time_has_the_empty_hours_too(serve: Serve, store: SpanStore) -> None:
    store.add([*a_call(1), *a_call(3 * 3600 + 5), *a_call(3 * 3600 + 9, agent="other")])
    page = ask(serve(), "/costs?bucket=hour").text
    [block] = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    figures = json.loads(block)
    assert figures["labels"] == [f"01-01 0{hour}:00" for hour in range(4)]
    series = {its["name"]: its["values"] for its in figures["series"]}
    assert series == {"writer": [0.5, 0, 0, 0.5], "other": [0, 0, 0, 0.5]}


# Two runs


def test_two_picked_runs_are_compared(showcase_viewer: Viewer, showcase_store: SpanStore) -> None:
    query = RunQuery(pattern="orchestrator_workers", status="completed")
    first, second, *_ = every_run(showcase_store, query)
    picked = ask(showcase_viewer, f"/compare?run={first.run_id}&run={second.run_id}")
    assert picked.status == 303
    page = ask(showcase_viewer, picked.headers["location"]).text
    assert page.index(f"/runs/{first.run_id}") < page.index(f"/runs/{second.run_id}")
    for said in (dollars(first.cost), dollars(second.cost), "researcher", "t3", "market for"):
        assert said in page
    assert "<del>" in page
    assert "<ins>" in page


def test_a_run_is_the_same_as_itself(showcase_viewer: Viewer, showcase_store: SpanStore) -> None:
    run = every_run(showcase_store)[0].run_id
    page = ask(showcase_viewer, f"/compare?a={run}&b={run}").text
    main = page.partition("<main")[2]
    assert 'class="differs"' not in main
    assert "<del>" not in main
    assert 'class="tag' not in main


# Live


def test_the_version_grows_when_something_comes(serve: Serve, store: SpanStore) -> None:
    viewer = serve()
    before = ask(viewer, "/version").json()["version"]
    store.add(a_call(1))
    after = ask(viewer, "/version").json()["version"]
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert after > before
    assert ask(viewer, "/version?run=run-1").json()["version"] == after
    assert ask(viewer, "/version?run=unknown").json()["version"] == 0


# The files


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.html")), ids=lambda path: path.name)
def test_no_template_says_that_text_is_safe_or_has_a_script_or_style_of_its_own(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"""[^"']\s*\|\s*safe\b|autoescape|Markup""", text)  # but of a literal
    assert not re.search(r"\sstyle\s*=|\son\w+\s*=|javascript:", text)
    scripts = re.findall(r"<script([^>]*)>", text)
    assert all("src=" in its or 'type="application/json"' in its for its in scripts)
    assert not re.search(r"https?://", text)


def test_what_is_ours_stays_small() -> None:
    assert sum((STATIC / name).stat().st_size for name in ("viewer.js", "costs.js")) < 5_200
    assert (STATIC / "viewer.css").stat().st_size < 15_000


def test_the_chart_library_is_the_one_that_is_named() -> None:
    import hashlib

    readme = (STATIC / "README.md").read_text()
    [total] = re.findall(r"`([0-9a-f]{64})`", readme)
    library = (STATIC / "chart.umd.min.js").read_bytes()
    assert hashlib.sha256(library).hexdigest() == total
    [version] = re.findall(r"Chart\.js v([\d.]+)", library[:200].decode())
    assert f"Chart.js {version}" in readme
    assert "MIT" in (STATIC / "chart.LICENSE.md").read_text()
