"""The viewer as a web application: its pages, and where programs send their spans."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from . import comparison, costs, run_page
from .asked import BUCKETS, DIMENSIONS, Asked
from .details import details
from .receiving import Receiver, is_otlp, refusal
from .runs import CostRow, RunTrace, Sums
from .security import Access, Guard
from .spans import Span
from .store import SpanStore
from .templates import STATIC_TYPES, address, render, static_file

_MOST_ROWS = 500  # of a table of costs
_FOR_A_YEAR = "public, max-age=31536000, immutable"  # the address changes with the content


def application(store: SpanStore, access: Access, *, source: str) -> ASGIApp:
    """The viewer of a store; `source` says to readers where its spans come from."""
    pages = _Pages(store, source)
    receiver = Receiver(store)
    app = Starlette(
        routes=[
            Route("/", pages.runs),
            Route("/runs/{run_id:path}", pages.run),
            Route("/costs", pages.costs),
            Route("/costs.csv", pages.costs_csv),
            Route("/costs.json", pages.costs_json),
            Route("/compare", pages.compare),
            Route("/version", pages.version),
            Route("/static/{name}", _static),
            Route("/v1/traces", receiver.traces, methods=["POST"]),
            Route("/v1/{signal:str}", receiver.not_kept, methods=["POST"]),
        ],
        exception_handlers={HTTPException: pages.refused, Exception: pages.broken},
    )
    return Guard(app, access, pages.refuse)


class _Pages:
    """What a browser is shown. Each is made in a thread: the store is asked, and text is made."""

    def __init__(self, store: SpanStore, source: str) -> None:
        self._store = store
        self._source = source

    def runs(self, request: Request) -> Response:
        asked = _asked(request)
        version = self._store.version()  # first: what comes meanwhile is news to the page
        query = asked.query(datetime.now(UTC))
        page = self._store.runs(query)
        return self._page(
            "runs.html",
            here="runs",
            version=version,
            asked=asked,
            choices=self._store.choices(),
            page=page,
            first=query.offset + 1,
            totals=self._store.totals(query),
            receiver=str(request.base_url).rstrip("/"),
        )

    def run(self, request: Request) -> Response:
        version = self._store.version(request.path_params["run_id"])
        trace = self._found(request.path_params["run_id"])
        if (span_id := request.query_params.get("span")) is not None:
            span = _span(trace, span_id)
            return self._page(
                "span.html", here="run", page=trace, name=span.name, span=details(span)
            )
        if (span_id := request.query_params.get("below")) is not None:
            rows = run_page.rows_below(trace, span_id) or ()
            name = _span(trace, span_id).name
            return self._page(
                "below.html", here="run", page=trace, name=name, span_id=span_id, rows=rows
            )
        return self._page("run.html", here="run", version=version, page=run_page.view(trace))

    def costs(self, request: Request) -> Response:
        version, asked = self._store.version(), _asked(request)
        rows = self._rows(asked)
        if asked.bucket is not None:
            newest_first = sorted(rows, key=lambda row: -(row.bucket or 0))
        else:
            newest_first = rows
        return self._page(
            "costs.html",
            here="costs",
            version=version,
            asked=asked,
            choices=self._store.choices(),
            dimensions=DIMENSIONS,
            buckets=BUCKETS,
            rows=newest_first[:_MOST_ROWS],
            left_out=max(0, len(rows) - _MOST_ROWS),
            totals=Sums.of(rows),
            chart=costs.chart(rows, asked.by, asked.bucket),
        )

    def costs_csv(self, request: Request) -> Response:
        asked = _asked(request)
        text = costs.as_csv(self._rows(asked), asked)
        return _file(text, "text/csv; charset=utf-8", f"costs-by-{asked.by}.csv")

    def costs_json(self, request: Request) -> Response:
        asked = _asked(request)
        text = costs.as_json(self._rows(asked), asked)
        return _file(text, "application/json", f"costs-by-{asked.by}.json")

    def compare(self, request: Request) -> Response:
        picked = request.query_params.getlist("run")
        if len(picked) == 2:  # the boxes of the list
            return RedirectResponse(address("/compare", {"a": picked[0], "b": picked[1]}), 303)
        a, b = request.query_params.get("a"), request.query_params.get("b")
        if a is None or b is None:
            raise HTTPException(400, "pick two runs in the list, and compare those")
        both = comparison.compare(self._found(a), self._found(b))
        return self._page("compare.html", here="compare", both=both)

    def version(self, request: Request) -> Response:
        """A number that grows when there is something new to see."""
        return JSONResponse({"version": self._store.version(request.query_params.get("run"))})

    # When there is no such page

    def refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these
        answer = self.refuse(request, error.status_code, error.detail)
        answer.headers.update(error.headers or {})
        return answer

    def broken(self, request: Request, error: Exception) -> Response:
        """An error of ours: what it says is for the log, which Starlette sees to."""
        return self.refuse(request, 500, "the viewer's log says what went wrong")

    def refuse(self, request: Request, status: int, why: str) -> Response:
        if is_otlp(request):
            return refusal(request, status, why)
        title = HTTPStatus(status).phrase
        text = render(
            "error.html", here="", source=self._source, status=status, title=title, why=why
        )
        return HTMLResponse(text, status)

    # Helpers

    def _page(self, template: str, **values: object) -> Response:
        return HTMLResponse(render(template, source=self._source, **values))

    def _rows(self, asked: Asked) -> tuple[CostRow, ...]:
        query = asked.query(datetime.now(UTC))
        return self._store.costs(asked.by, bucket=asked.bucket, query=query)

    def _found(self, run_id: str) -> RunTrace:
        trace = self._store.run(run_id)
        if trace is None:
            raise HTTPException(404, f"there is no run {run_id!r} here, or not yet")
        return trace


def _span(trace: RunTrace, span_id: str) -> Span:
    span = next((span for span in trace.spans if span.span_id == span_id), None)
    if span is None:
        raise HTTPException(404, f"that run has no span {span_id!r}, or not yet")
    return span


def _asked(request: Request) -> Asked:
    try:
        return Asked.of(request.query_params)
    except ValueError as error:
        raise HTTPException(400, str(error)) from None


def _static(request: Request) -> Response:
    name: str = request.path_params["name"]
    try:
        content = static_file(name)
    except KeyError:
        raise HTTPException(404, f"there is no file {name!r}") from None
    media_type = STATIC_TYPES[name.rpartition(".")[2]]
    return Response(content, media_type=media_type, headers={"Cache-Control": _FOR_A_YEAR})


def _file(text: str, media_type: str, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type=media_type, headers=headers)
