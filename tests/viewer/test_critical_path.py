"""The critical path: what a run's end had to wait for, for any tree of spans."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from pyagent_exporters.viewer.critical_path import critical_path, time_on_path
from pyagent_exporters.viewer.forest import Node, forest, walk
from pyagent_exporters.viewer.spans import Span

ANY = settings(max_examples=300, deadline=None, derandomize=True, database=None)


def node(name: str, start: int, end: int, *children: Node) -> Node:
    return Node(None, "trace", name, start, end, children=[*children])


def told(root: Node) -> list[tuple[str, int, int]]:
    return [(part.node.span_id, part.start, part.end) for part in critical_path(root)]


@st.composite
def trees(draw: st.DrawFn) -> Node:
    """A root from 0 to 100, with spans below it that may begin and end wherever they like."""
    spans = [
        Span(trace_id="t", span_id="0", name="root", start=0, end=draw(st.integers(0, 100))),
    ]
    for number in range(1, draw(st.integers(1, 14))):
        start = draw(st.integers(-10, 110))
        spans.append(
            Span(
                trace_id="t",
                span_id=str(number),
                parent_id=str(draw(st.integers(0, number - 1))),
                name="span",
                start=start,
                end=start + draw(st.integers(0, 60)),
            )
        )
    [root] = forest(spans, now=0)
    return root


@ANY
@given(trees())
def test_the_path_covers_the_time_of_the_root_without_gap_or_overlap(root: Node) -> None:
    path = critical_path(root)
    assert all(part.start < part.end for part in path)
    assert all(before.end == after.start for before, after in pairwise(path))
    if root.start < root.end:
        assert (path[0].start, path[-1].end) == (root.start, root.end)
    assert sum(time_on_path(path).values()) == root.end - root.start


@ANY
@given(trees())
def test_each_part_of_the_path_lies_within_its_span_and_all_spans_around_it(root: Node) -> None:
    around = {below: above for above in walk([root]) for below in above.children}
    for part in critical_path(root):
        at: Node | None = part.node
        while at is not None:
            assert at.start <= part.start
            assert part.end <= at.end
            at = around.get(at)


@ANY
@given(trees())
def test_what_is_not_on_the_path_could_be_left_out_and_nothing_would_change(root: Node) -> None:
    path = critical_path(root)
    used = {part.node for part in path}
    around = {below: above for above in walk([root]) for below in above.children}
    for at in [*used]:
        while at in around:
            at = around[at]
            used.add(at)
    for at in [*walk([root])]:
        at.children = [child for child in at.children if child in used]
    assert critical_path(root) == path


def test_of_workers_side_by_side_only_the_slowest_was_waited_for() -> None:
    root = node("run", 0, 10, node("fast", 1, 4), node("slow", 1, 9), node("last", 9, 10))
    assert told(root) == [("run", 0, 1), ("slow", 1, 9), ("last", 9, 10)]


def test_what_lay_before_the_one_that_was_waited_for_is_on_the_path_too() -> None:
    """`late` could begin when `first` had ended; `beside` was still at work then."""
    root = node("run", 0, 10, node("first", 0, 4), node("beside", 0, 6), node("late", 5, 10))
    assert told(root) == [("first", 0, 4), ("run", 4, 5), ("late", 5, 10)]


def test_the_time_between_calls_is_the_agents_own() -> None:
    root = node("run", 0, 9, node("agent", 1, 8, node("call", 1, 3), node("call 2", 5, 7)))
    assert told(root) == [
        ("run", 0, 1), ("call", 1, 3), ("agent", 3, 5), ("call 2", 5, 7), ("agent", 7, 8),
        ("run", 8, 9),
    ]  # fmt: skip
    times = {at.span_id: time for at, time in time_on_path(critical_path(root)).items()}
    assert times == {"run": 2, "call": 2, "agent": 3, "call 2": 2}


def test_a_span_that_outlives_the_run_counts_as_far_as_the_run_goes() -> None:
    root = node("run", 0, 10, node("background", 8, 30))
    assert told(root) == [("run", 0, 8), ("background", 8, 10)]


def test_ten_thousand_spans_one_within_the_other_are_no_trouble() -> None:
    root = node("run", 0, 100_000)
    at = root
    for depth in range(1, 10_000):
        at.children.append(node(str(depth), depth, 100_000 - depth))
        at = at.children[0]
    path = critical_path(root)
    assert len(path) == 19_999
    assert sum(part.length for part in path) == 100_000
