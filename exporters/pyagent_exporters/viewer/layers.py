"""Where to draw the boxes and lines of a graph: in columns, each after all that it waits for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from statistics import fmean
from typing import Final

BOX_WIDTH: Final = 196
BOX_HEIGHT: Final = 52
_GAP_ACROSS: Final = 40
_GAP_DOWN: Final = 14
_LANE_HEIGHT: Final = 6  # of a line that passes a column by
_SWEEPS: Final = 4
_MARGIN: Final = 2

_Lane = tuple[str, str, int]  # where the line between two boxes passes by this column
_Item = str | _Lane
_Neighbours = Mapping[_Item, Sequence[_Item]]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each box's upper left corner is, and each line as an SVG path; in pixels."""

    width: int
    height: int
    boxes: Mapping[str, tuple[int, int]]
    lines: Mapping[tuple[str, str], str]


def layout(waits_for: Mapping[str, Sequence[str]]) -> Layout:
    """Lay out boxes, given what each waits for.

    Left out is what waits for a box that is not there, and what closes a circle.
    """
    needs = _sound(waits_for)
    column_of = _columns(needs)
    stops = {
        (source, target): _stops(source, target, column_of)
        for target, sources in needs.items()
        for source in sources
    }
    columns: list[list[_Item]] = [[] for _ in range(max(column_of.values(), default=-1) + 1)]
    for name, column in column_of.items():
        columns[column].append(name)
    for source, *lanes, _ in stops.values():
        for column, lane in enumerate(lanes, column_of[str(source)] + 1):
            columns[column].append(lane)
    _untangle(columns, stops.values())
    tops, height = _tops(columns)
    return Layout(
        width=_left(len(columns)) - _GAP_ACROSS + _MARGIN if columns else 0,
        height=height,
        boxes={name: (_left(column), tops[name]) for name, column in column_of.items()},
        lines={
            ends: " ".join(_strokes(items, column_of[ends[0]], tops))
            for ends, items in stops.items()
        },
    )


def _sound(waits_for: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    known = {
        name: [other for other in dict.fromkeys(others) if other in waits_for and other != name]
        for name, others in waits_for.items()
    }
    while True:
        try:
            TopologicalSorter(known).prepare()
        except CycleError as error:
            first, second, *_ = error.args[1]
            known[second].remove(first)
        else:
            return known


def _columns(needs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The column of each box: the one after that of the last it waits for."""
    columns: dict[str, int] = {}
    for name in TopologicalSorter(needs).static_order():
        columns[name] = max((columns[other] + 1 for other in needs[name]), default=0)
    return {name: columns[name] for name in needs}


def _stops(source: str, target: str, column_of: Mapping[str, int]) -> list[_Item]:
    """What a line touches, one item a column."""
    between = range(column_of[source] + 1, column_of[target])
    return [source, *((source, target, column) for column in between), target]


def _untangle(columns: Sequence[list[_Item]], lines: Iterable[Sequence[_Item]]) -> None:
    """Put each item near the middle of those that it is connected to."""
    before: dict[_Item, list[_Item]] = {}
    after: dict[_Item, list[_Item]] = {}
    for items in lines:
        for left, right in pairwise(items):
            after.setdefault(left, []).append(right)
            before.setdefault(right, []).append(left)
    for _ in range(_SWEEPS):
        for left, right in pairwise(columns):
            _sort_along(right, left, before)
        for left, right in pairwise(reversed(columns)):
            _sort_along(right, left, after)


def _sort_along(column: list[_Item], beside: Sequence[_Item], connected: _Neighbours) -> None:
    place = {item: (n + 0.5) / len(beside) for n, item in enumerate(beside)}
    middles = {
        item: fmean([place[other] for other in connected[item]])
        if item in connected
        else (n + 0.5) / len(column)
        for n, item in enumerate(column)
    }
    column.sort(key=middles.__getitem__)


def _tops(columns: Sequence[Sequence[_Item]]) -> tuple[dict[_Item, int], int]:
    """Where each item begins, each column in the middle of the height; and that height."""
    heights = [sum(map(_height, column)) + _GAP_DOWN * (len(column) - 1) for column in columns]
    tallest = max(heights, default=0)
    tops: dict[_Item, int] = {}
    for column, height in zip(columns, heights, strict=True):
        top = _MARGIN + (tallest - height) // 2
        for item in column:
            tops[item] = top
            top += _height(item) + _GAP_DOWN
    return tops, tallest + 2 * _MARGIN


def _strokes(items: Sequence[_Item], column: int, tops: Mapping[_Item, int]) -> Iterator[str]:
    """From the right side of one box to the left side of another."""
    y = tops[items[0]] + BOX_HEIGHT // 2
    yield f"M{_left(column) + BOX_WIDTH} {y}"
    for item in items[1:]:
        from_x = _left(column) + BOX_WIDTH
        column += 1
        x, to_y, bend = _left(column), tops[item] + _height(item) // 2, _GAP_ACROSS // 2
        yield f"C{from_x + bend} {y} {x - bend} {to_y} {x} {to_y}"
        y = to_y
        if item is not items[-1]:
            yield f"H{x + BOX_WIDTH}"


def _height(item: _Item) -> int:
    return BOX_HEIGHT if isinstance(item, str) else _LANE_HEIGHT


def _left(column: int) -> int:
    return _MARGIN + column * (BOX_WIDTH + _GAP_ACROSS)
