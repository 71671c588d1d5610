"""A trace as text, from whatever a backend says its spans are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """A span as a backend has it; `start` is in any unit, `kind` is its OpenInference kind."""

    id: str
    parent: str | None
    name: str
    kind: str
    start: float
    failed: bool


def drawn(nodes: Sequence[Node]) -> str:
    """One line a span, its children below it in the order in which they started."""
    ids = {node.id for node in nodes}
    assert len(ids) == len(nodes), "a span is there twice"
    assert all(node.parent is None or node.parent in ids for node in nodes), "an orphan"
    lines: list[str] = []

    def draw(parent: str | None, depth: int) -> None:
        for node in sorted(nodes, key=lambda node: node.start):
            if node.parent == parent:
                failed = " ✗" if node.failed else ""
                lines.append(f"{'  ' * depth}{node.name} {node.kind}{failed}")
                draw(node.id, depth + 1)

    draw(None, 0)
    return "\n".join(lines)
