"""Spans as trees: who is below whom, whatever has not come, came twice or makes no sense."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .spans import Role, Span

Key = tuple[str, str]  # trace id, span id


@dataclass(slots=True, eq=False)
class Node:
    """A span with those below it, in order of start.

    `span` is None for one that others are below and that has not come. `end` is when it ended or,
    as long as it goes on, the moment it is looked at; both are in nanoseconds. `depth` counts those
    that it is below.
    """

    span: Span | None
    trace_id: str
    span_id: str
    start: int
    end: int
    role: Role = "other"
    children: list[Node] = field(default_factory=list["Node"])
    depth: int = 0


def walk(roots: Iterable[Node], most: Mapping[Node, int] | None = None) -> Iterator[Node]:
    """These nodes and all below them, parents before children.

    Of the children of a node in `most`, only the first so many, and what is below those.
    """
    most = most or {}
    waiting = [*roots][::-1]
    while waiting:
        node = waiting.pop()
        yield node
        if node.children:
            waiting += reversed(node.children[: most.get(node)])


def forest(spans: Sequence[Span], *, now: int, awaits_parents: bool = False) -> list[Node]:
    """The trees of these spans, by the start of their roots.

    A span without a parent among them is a root; `awaits_parents` puts a node without a span in
    the place of a parent that is still to come. Spans that are each other's parents are roots, too.
    """
    nodes = {(span.trace_id, span.span_id): _node(span, now) for span in spans}
    roots: list[Node] = []
    awaited: dict[Key, Node] = {}
    for key, node in nodes.items():
        span = node.span
        parent_id = span.parent_id if span is not None else None
        above = (node.trace_id, parent_id) if parent_id else None
        if above is not None and above in nodes and above != key:
            nodes[above].children.append(node)
        elif above is not None and above != key and awaits_parents:
            parent = awaited.setdefault(above, Node(None, above[0], above[1], node.start, now))
            parent.children.append(node)
        else:
            roots.append(node)
    roots += awaited.values()
    roots += _freed(roots, nodes)
    for node in [*nodes.values(), *awaited.values()]:
        node.children.sort(key=_by_start)
    for node in awaited.values():
        node.start = node.children[0].start
    for node in walk(roots):
        for child in node.children:
            child.depth = node.depth + 1
    return sorted(roots, key=_by_start)


def _node(span: Span, now: int) -> Node:
    end = max(span.start, now if span.end is None else span.end)
    return Node(span, span.trace_id, span.span_id, span.start, end, span.role)


def _freed(roots: Sequence[Node], nodes: dict[Key, Node]) -> Iterator[Node]:
    """One span of each ring, taken out of it so that it can be a root."""
    reached = set(walk(roots))
    for node in nodes.values():
        if node in reached:
            continue
        above = nodes.get((node.trace_id, (node.span and node.span.parent_id) or ""))
        if above is not None:
            above.children.remove(node)
        reached.update(walk([node]))
        yield node


def _by_start(node: Node) -> tuple[int, int, str]:
    return node.start, -node.end, node.span_id
