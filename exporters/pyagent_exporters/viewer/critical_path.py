"""The chain of spans that decided how long a run took.

Whoever wants the run to be faster has to make one of these shorter: what ran beside them would not
have been waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .forest import Node


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the path in which one span was at work itself, or waited; in nanoseconds."""

    node: Node
    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


def critical_path(root: Node) -> tuple[Segment, ...]:
    """The path through a tree, in order of time.

    It is walked back from the end: what a span waited for last is its child that ended last,
    before that the child that ended last before that one's start, and so on; what no child covers
    is the span's own. Each child is walked in the same way. The segments cover the time of the
    root, one after another, without overlap. Of a child that outlives its parent or starts before
    it, only what lies within its parent counts.
    """
    segments: list[Segment] = []
    waiting = [(root, root.start, root.end)]
    while waiting:
        node, start, end = waiting.pop()
        latest = end  # everything after it is on the path already
        for child, child_start, child_end in _within(node.children, start, end):
            if child_end > latest:
                continue  # it ran beside the one that was waited for
            _add(segments, node, child_end, latest)
            waiting.append((child, child_start, child_end))
            latest = child_start
        _add(segments, node, start, latest)
    return tuple(sorted(segments, key=lambda segment: segment.start))


def time_on_path(segments: Iterable[Segment]) -> dict[Node, int]:
    """How long each span kept the run, in nanoseconds; spans off the path are not in it."""
    times: dict[Node, int] = {}
    for segment in segments:
        times[segment.node] = times.get(segment.node, 0) + segment.length
    return times


def _within(children: Sequence[Node], start: int, end: int) -> list[tuple[Node, int, int]]:
    """The children as far as they lie in this time, the one that ended last before the others."""
    clipped = [(child, max(child.start, start), min(child.end, end)) for child in children]
    lasting = [entry for entry in clipped if entry[1] < entry[2]]
    return sorted(lasting, key=lambda entry: (-entry[2], entry[1]))


def _add(segments: list[Segment], node: Node, start: int, end: int) -> None:
    if start < end:
        segments.append(Segment(node, start, end))
