"""Boxes and lines of a graph: nothing lies upon anything else, and every line goes on."""

from __future__ import annotations

import re
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from pyagent_exporters.viewer.layers import BOX_HEIGHT, BOX_WIDTH, layout

ANY = settings(max_examples=200, deadline=None, derandomize=True, database=None)
NAMES = st.sampled_from("abcdefghij")


@ANY
@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=4)))
def test_boxes_lie_apart_within_the_drawing_and_each_right_of_what_it_waits_for(
    waits_for: dict[str, list[str]],
) -> None:
    placed = layout(waits_for)
    assert placed.boxes.keys() == waits_for.keys()
    for x, y in placed.boxes.values():
        assert 0 <= x <= placed.width - BOX_WIDTH
        assert 0 <= y <= placed.height - BOX_HEIGHT
    for (x, y), (other_x, other_y) in combinations(placed.boxes.values(), 2):
        assert abs(x - other_x) >= BOX_WIDTH or abs(y - other_y) >= BOX_HEIGHT
    for source, target in placed.lines:
        assert placed.boxes[source][0] + BOX_WIDTH < placed.boxes[target][0]


@ANY
@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=4)))
def test_a_line_goes_from_side_to_side_and_through_no_box_between(
    waits_for: dict[str, list[str]],
) -> None:
    placed = layout(waits_for)
    for (source, target), path in placed.lines.items():
        (x, y), (end_x, end_y) = placed.boxes[source], placed.boxes[target]
        assert path.startswith(f"M{x + BOX_WIDTH} {y + BOX_HEIGHT // 2} C")
        assert path.endswith(f" {end_x} {end_y + BOX_HEIGHT // 2}")
        for _, lane_y, from_x, to_x in _level_parts(path):
            for box_x, box_y in placed.boxes.values():
                beside = to_x <= box_x or from_x >= box_x + BOX_WIDTH
                assert beside or not box_y <= lane_y <= box_y + BOX_HEIGHT


def _level_parts(path: str) -> list[tuple[int, int, int, int]]:
    """Where a line passes columns by: from and to where, and how far down."""
    found = re.findall(r" (\d+) (\d+) H(\d+)", path)
    return [(0, int(y), int(x), int(to)) for x, y, to in found]


def test_who_waits_for_each_other_is_drawn_all_the_same() -> None:
    placed = layout({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["d", "nobody"]})
    assert placed.boxes.keys() == {"a", "b", "c", "d"}
    assert len(placed.lines) == 2


def test_nothing_takes_no_room() -> None:
    placed = layout({})
    assert (placed.width, dict(placed.boxes), dict(placed.lines)) == (0, {}, {})


def test_lines_that_need_not_cross_do_not() -> None:
    placed = layout({"a": [], "b": [], "to b": ["b"], "to a": ["a"]})
    assert (placed.boxes["a"][1] < placed.boxes["b"][1]) == (
        placed.boxes["to a"][1] < placed.boxes["to b"][1]
    )
