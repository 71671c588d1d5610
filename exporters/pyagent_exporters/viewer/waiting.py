"""Whom a run waited for: its critical path, by agent, tool and pattern."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from .critical_path import Segment, time_on_path
from .forest import Node, walk
from .wording import name_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """How long a run waited for one agent, tool or pattern itself, its calls included."""

    key: str
    name: str
    what: str
    seconds: float


_MOST: Final = 12


def together(paths: Iterable[Sequence[Stretch]]) -> tuple[Stretch, ...]:
    """The critical paths of several executions as one, the longest stretches first.

    What comes after the first dozen is one stretch.
    """
    every = sorted((s for path in paths for s in path), key=lambda stretch: -stretch.seconds)
    rest = every[_MOST:]
    if len(rest) > 1:
        seconds = sum(stretch.seconds for stretch in rest)
        others = Stretch(key="", name=f"{len(rest)} others", what="", seconds=seconds)
        every = [*every[:_MOST], others]
    return tuple(every)


def stretches(path: Sequence[Segment], roots: Sequence[Node]) -> Iterator[Stretch]:
    """What the run waited for, the longest first."""
    owners = _owners(roots)
    times: dict[Node, int] = {}
    for node, time in time_on_path(path).items():
        times[owners[node]] = times.get(owners[node], 0) + time
    for node, time in sorted(times.items(), key=lambda item: -item[1]):
        yield Stretch(
            key=node.span_id,
            name=name_of(node),
            what=(node.span and node.span.phase) or "",
            seconds=time / 1e9,
        )


def _owners(roots: Sequence[Node]) -> dict[Node, Node]:
    """The agent, tool or pattern that each span was for; where there is none, the span itself."""
    owners: dict[Node, Node] = {}
    for node in walk(roots):
        if _is_someone(node):
            owners[node] = node
        owner = owners.setdefault(node, node)
        if node.children and _is_someone(owner):
            owners.update(dict.fromkeys(node.children, owner))
    return owners


def _is_someone(node: Node) -> bool:
    return node.role in ("agent", "tool", "pattern")
