"""A trace as people read it: who was asked, for how long, with which model, at what cost.

Every string in a span may come from a model, so nothing in it can move the cursor, colour the
terminal or turn the reading direction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from math import floor, isfinite, log10
from typing import TYPE_CHECKING, Final, cast

from opentelemetry.trace import StatusCode

from pyagent_providers import semconv
from pyagent_providers.hostile import shown

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

SpanKey = tuple[int, int]  # trace id, span id


def render(spans: Iterable[ReadableSpan]) -> str:
    """Draw the pattern runs among these ended spans, one tree under another.

    Spans of anything but patterns and agents are looked through; without a pattern span the text
    is empty.
    """
    return draw([Node.of(span) for span in spans])


@dataclass(frozen=True, slots=True)
class Node:
    """What the drawing needs of one span, cleaned; the span itself may hold whole prompts."""

    key: SpanKey
    parent: SpanKey | None
    name: str
    called: str | None  # a pattern, if it has a name of its own
    start: int  # nanoseconds
    end: int
    is_pattern: bool
    is_agent: bool
    phase: str | None
    model: str | None
    plan: tuple[str, ...]
    rejected: tuple[str, ...]  # the faults of each plan that was sent back
    cost: float | None  # US dollars
    unpriced: int
    status: str | None
    attempts: int
    replayed: bool
    error: str | None

    @classmethod
    def of(cls, span: ReadableSpan) -> Node:
        context, parent = span.get_span_context(), span.parent
        given: Mapping[str, object] = span.attributes or {}
        return cls(
            key=(context.trace_id, context.span_id) if context else (0, 0),
            parent=(parent.trace_id, parent.span_id) if parent else None,
            name=clean(span.name),
            called=_own_name(given),
            start=span.start_time or 0,
            end=span.end_time or span.start_time or 0,
            is_pattern=span.name.startswith(semconv.PATTERN_SPAN),
            is_agent=span.name.startswith(semconv.AGENT_SPAN),
            phase=_text(given.get(semconv.PHASE)),
            model=_text(given.get(semconv.REQUEST_MODEL)),
            plan=_texts(given.get(semconv.PLAN_WORKERS)),
            rejected=tuple(
                "; ".join(_texts((event.attributes or {}).get(semconv.PLAN_FAULTS)))
                for event in span.events
                if event.name == semconv.PLAN_REJECTED_EVENT
            ),
            cost=_number(given.get(semconv.COST_USD)),
            unpriced=int(_number(given.get(semconv.UNPRICED)) or 0),
            status=_text(given.get(semconv.STATUS)),
            attempts=int(_number(given.get(semconv.ATTEMPTS)) or 1),
            replayed=given.get(semconv.REPLAYED) is True,
            error=_error(span),
        )


def draw(nodes: Sequence[Node]) -> str:
    """`render`, of spans that were taken down earlier."""
    family = _Family(nodes)
    lines: list[str] = []
    for root in family.roots:
        entry = _pattern_entry(root, family)
        lines += [f"Trace: {entry.label}", *_branches(entry.below)]
    return "\n".join(lines)


# What belongs to what.


class _Family:
    """The shown spans by their nearest shown ancestor, and the models each of them used."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.roots: list[Node] = []
        self._children: dict[SpanKey, list[Node]] = {}
        self._models: dict[SpanKey, dict[str, None]] = {}
        by_key = {node.key: node for node in nodes}
        for node in sorted(nodes, key=lambda node: node.start):
            above = _shown_ancestor(node, by_key)
            if node.is_pattern or node.is_agent:
                if above is not None:
                    self._children.setdefault(above.key, []).append(node)
                elif node.is_pattern:
                    self.roots.append(node)
            elif node.model and above is not None:
                self._models.setdefault(above.key, {})[node.model] = None

    def children(self, node: Node) -> Sequence[Node]:
        return self._children.get(node.key, ())

    def models(self, node: Node) -> list[str]:
        return list(self._models.get(node.key) or ([node.model] if node.model else []))


def _shown_ancestor(node: Node, by_key: Mapping[SpanKey, Node]) -> Node | None:
    above = by_key.get(node.parent) if node.parent else None
    while above is not None and not (above.is_pattern or above.is_agent):
        above = by_key.get(above.parent) if above.parent else None
    return above


# What each span says.

_PHASE_WORDS: Final = {
    "plan": "planning",
    "synthesis": "synthesis",
    "route": "routing",
    "manage": "managing",
    "evaluate": "evaluation",
}
_AT_WORK: Final = ("worker", "stage", "evaluate")
_NAMES_LIMIT: Final = 20


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of the tree, and what hangs from it."""

    label: str
    below: Sequence[_Entry] = field(default=())


def _pattern_entry(node: Node, family: _Family) -> _Entry:
    details = [_duration(node), _money(node)]
    if node.status != "completed" and node.error is None:
        details.append(node.status)
    name = f"{node.name} {node.called}" if node.called else node.name
    return _Entry(_label(name, details, node.error), _pattern_children(node, family))


def _pattern_children(node: Node, family: _Family) -> list[_Entry]:
    """The pattern's agents in order of start, each plan with what became of it below it."""
    children = family.children(node)
    plans = [child for child in children if child.phase in ("plan", "manage")]
    notes: dict[SpanKey, _Entry] = {
        plan.key: _Entry(f"rejected: {_cut(faults)}")
        for plan, faults in zip(plans, node.rejected, strict=False)
    }
    if node.plan and plans:
        notes[plans[-1].key] = _Entry(f"assignments: {_listed(node.plan)}")
    entries: list[_Entry] = []
    for group in _overlapping(children):
        drawn = [_child_entry(child, family, notes.get(child.key)) for child in group]
        entries += drawn if len(drawn) == 1 else [_Entry("[parallel workers]", drawn)]
    return entries


def _child_entry(node: Node, family: _Family, note: _Entry | None) -> _Entry:
    if node.is_pattern:
        return _pattern_entry(node, family)
    word = _PHASE_WORDS.get(node.phase or "")
    details = [
        _duration(node),
        " + ".join(family.models(node)),
        f"{node.attempts} attempts" if node.attempts > 1 else None,
        "replayed" if node.replayed else None,
    ]
    below = [_child_entry(child, family, None) for child in family.children(node)]
    label = _label(f"{node.name} — {word}" if word else node.name, details, node.error)
    return _Entry(label, [note, *below] if note else below)


def _label(name: str, details: Sequence[str | None], error: str | None) -> str:
    known = ", ".join(detail for detail in details if detail)
    return f"{name} ({known})" + (f" ✗ {error}" if error else "")


def _overlapping(children: Sequence[Node]) -> Iterator[list[Node]]:
    """Neighbouring workers that ran at the same time together, anything else by itself."""
    group: list[Node] = []
    group_end = 0
    for child in children:
        joins = child.is_pattern or child.phase in _AT_WORK
        if group and joins and child.start < group_end:
            group.append(child)
            group_end = max(group_end, child.end)
            continue
        if group:
            yield group
        group = [child]
        group_end = child.end if joins else 0
    if group:
        yield group


def _branches(entries: Sequence[_Entry], indent: str = "") -> Iterator[str]:
    for number, entry in enumerate(entries, start=1):
        last = number == len(entries)
        yield f"{indent}{'└── ' if last else '├── '}{entry.label}"
        yield from _branches(entry.below, indent + ("    " if last else "│   "))


# Figures.


def _duration(node: Node) -> str:
    seconds = max(0, node.end - node.start) / 1e9
    if seconds >= 60:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes}m {rest:02d}s"
    if seconds >= 0.095 or seconds == 0:
        return f"{seconds:.1f}s"
    return f"{seconds * 1000:.0f}ms" if seconds >= 0.0005 else "<1ms"


def _money(node: Node) -> str | None:
    if node.cost is None:
        return "unpriced" if node.unpriced else None
    known = dollars(node.cost)
    return f"{known} + {node.unpriced} unpriced" if node.unpriced else known


def dollars(amount: float) -> str:
    """US dollars to the cent, and below one dollar to two significant digits at the least."""
    if amount and abs(amount) < 1e-6:
        return "<$0.000001"
    digits = 2
    if amount and abs(amount) < 1:
        digits = min(6, max(3, 1 - floor(log10(abs(amount)))))
    whole, _, fraction = f"{Decimal(repr(amount)):,.{digits}f}".partition(".")
    return f"${whole}.{fraction[:2]}{fraction[2:].rstrip('0')}"


# Text that may be hostile.

_TEXT_LIMIT: Final = 100
_FAULTS_LIMIT: Final = 200


def clean(text: str) -> str:
    """One line of printable text: escape sequences and invisible characters are gone."""
    return _cut(" ".join(shown(text[: _TEXT_LIMIT * 10]).split()), _TEXT_LIMIT) or "?"


def _cut(text: str, limit: int = _FAULTS_LIMIT) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:_NAMES_LIMIT])
    if len(names) > _NAMES_LIMIT:
        shown.append(f"… {len(names) - _NAMES_LIMIT} more")
    return f"[{', '.join(shown)}]"


def _text(value: object) -> str | None:
    return clean(value) if isinstance(value, str) else None


def _own_name(given: Mapping[str, object]) -> str | None:
    """What a pattern is called, where that says more than which pattern it is."""
    name, kind = given.get(semconv.WORKFLOW_NAME), given.get(semconv.PATTERN)
    return None if name == kind else _text(name)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        return ()
    items = cast("Sequence[object]", value)
    return tuple(clean(item) for item in items if isinstance(item, str))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and isfinite(value) else None


def _error(span: ReadableSpan) -> str | None:
    """The short name of what went wrong: `openai.RateLimitError` reads as `RateLimitError`."""
    if span.status.status_code is not StatusCode.ERROR:
        return None
    name = _text((span.attributes or {}).get(semconv.ERROR_TYPE)) or "error"
    return name.rpartition(".")[2] or name
