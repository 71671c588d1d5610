"""One run as its page shows it: figures, the plan, the spans on a time axis, and what cost what."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from . import waterfall
from .details import CONTENT
from .figures import Figures, Share, below, by_agent, by_model, by_phase, calls
from .forest import Node, forest, walk
from .plan_graph import PlanGraph, plan_graphs
from .runs import RunSummary, RunTrace
from .spans import Span
from .waiting import Stretch, together
from .waterfall import Execution, Row, execution, tries_of


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPageView:
    """What the templates `run.html` and `report.html` draw."""

    summary: RunSummary
    figures: Figures
    retries: int
    executions: tuple[Execution, ...]
    path: tuple[Stretch, ...]
    graphs: tuple[PlanGraph, ...]
    agents: tuple[Share, ...]
    phases: tuple[Share, ...]
    models: tuple[Share, ...]
    has_content: bool

    @property
    def seconds(self) -> float:
        """How long it took, without the time between its executions."""
        known = self.summary.duration_seconds
        return sum(each.seconds for each in self.executions) if known is None else known

    @property
    def path_seconds(self) -> float:
        """How long the critical path is."""
        return sum(stretch.seconds for stretch in self.path)

    @property
    def first_problem(self) -> str | None:
        """The span where something failed first."""
        rows = (row for each in self.executions for row in each.rows)
        return next((row.key for row in rows if any(n.kind == "problem" for n in row.notes)), None)

    @property
    def is_live(self) -> bool:
        return self.summary.status == "running"


def view(trace: RunTrace, *, now: int | None = None, whole: bool = False) -> RunPageView:
    """A run's page. `now`, in Unix nanoseconds, is where spans that go on are drawn to; by
    default it is the time, or the last that was heard of a run that is not running.

    Unless it is to be `whole`, most of a long run's rows are left out: `rows_below` has them.
    """
    traces = _trees(trace, _now(trace) if now is None else now)
    roots = [root for trees in traces for root in trees]
    paid = calls(roots)
    figures = below(roots, paid)
    executions = tuple(execution(trees, figures, whole=whole) for trees in traces)
    return RunPageView(
        summary=trace.summary,
        figures=Figures.total(figures[root] for root in roots),
        retries=sum(len(tries_of(trees)) for trees in traces),
        executions=executions,
        path=together(each.path for each in executions),
        graphs=plan_graphs(traces, figures),
        agents=by_agent(paid),
        phases=by_phase(paid),
        models=by_model(paid),
        has_content=any(map(_has_content, trace.spans)),
    )


def rows_below(trace: RunTrace, span_id: str) -> tuple[Row, ...] | None:
    """The rows that a run's page leaves out below one of its spans, or else all that are below it;
    None if there are none, or there is no such span."""
    for trees in _trees(trace, _now(trace)):
        node = next((node for node in walk(trees) if node.span_id == span_id), None)
        if node is not None and node.children:
            return waterfall.rows_below(trees, node, below(trees, calls(trees)))
    return None


def _now(trace: RunTrace) -> int:
    return time.time_ns() if trace.summary.status == "running" else _last_heard(trace.spans)


def _trees(trace: RunTrace, now: int) -> list[list[Node]]:
    """The trees of each of the run's traces, by when they began."""
    by_trace: dict[str, list[Span]] = {}
    for span in trace.spans:
        by_trace.setdefault(span.trace_id, []).append(span)
    is_running = trace.summary.status == "running"
    trees = [forest(spans, now=now, awaits_parents=is_running) for spans in by_trace.values()]
    return sorted(trees, key=lambda roots: roots[0].start)


def _last_heard(spans: Iterable[Span]) -> int:
    return max((span.start if span.end is None else span.end for span in spans), default=0)


def _has_content(span: Span) -> bool:
    return not CONTENT.keys().isdisjoint(span.attributes)
