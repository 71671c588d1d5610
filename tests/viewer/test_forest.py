"""Spans as trees, whatever came and in whichever order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pyagent_exporters.viewer.forest import forest, walk
from pyagent_exporters.viewer.spans import Span

ANY = settings(max_examples=300, deadline=None, derandomize=True, database=None)


def span(name: str, parent: str | None = None, start: int = 0, end: int | None = 9) -> Span:
    return Span(trace_id="t", span_id=name, parent_id=parent, name=name, start=start, end=end)


def drawn(*spans: Span, awaits_parents: bool = False) -> list[tuple[str, int]]:
    roots = forest(spans, now=10, awaits_parents=awaits_parents)
    return [(node.span_id, node.depth) for node in walk(roots)]


@ANY
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 12))),
        unique_by=lambda pair: pair[0],
    ),
    st.booleans(),
)
def test_every_span_is_in_the_trees_once_even_if_parents_are_lost_or_go_round_in_a_ring(
    pairs: list[tuple[int, int | None]], awaits: bool
) -> None:
    spans = [span(str(own), None if above is None else str(above)) for own, above in pairs]
    roots = forest(spans, now=10, awaits_parents=awaits)
    found = [node.span for node in walk(roots) if node.span is not None]
    assert sorted(s.span_id for s in found) == sorted(s.span_id for s in spans)


def test_children_stand_below_their_parents_in_order_of_start() -> None:
    spans = [span("b", "root", 3), span("a", "root", 1), span("root"), span("a1", "a", 2)]
    assert drawn(*spans) == [("root", 0), ("a", 1), ("a1", 2), ("b", 1)]


def test_a_span_whose_parent_is_lost_is_a_root() -> None:
    assert drawn(span("a", "lost"), span("b", "lost", 1)) == [("a", 0), ("b", 0)]


def test_a_parent_that_is_still_to_come_has_its_place() -> None:
    spans = [span("a", "awaited", 2), span("b", "awaited", 1)]
    assert drawn(*spans, awaits_parents=True) == [("awaited", 0), ("b", 1), ("a", 1)]
    [awaited] = forest(spans, now=10, awaits_parents=True)
    assert awaited.span is None
    assert (awaited.start, awaited.end) == (1, 10)


def test_a_span_that_goes_on_is_drawn_to_the_moment_it_is_looked_at() -> None:
    [running] = forest([span("a", None, 3, None)], now=10)
    assert (running.start, running.end) == (3, 10)


def test_a_clock_that_went_back_makes_no_span_of_negative_length() -> None:
    [odd] = forest([span("a", None, 8, 3)], now=10)
    assert (odd.start, odd.end) == (8, 8)
