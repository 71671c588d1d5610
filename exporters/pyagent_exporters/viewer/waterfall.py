"""A run as rows on a time axis: every span where it belongs, with what it used and cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Final, Literal

from markupsafe import Markup

from pyagent_providers import semconv

from .critical_path import Segment, critical_path
from .details import problem
from .figures import Figures
from .forest import Node, walk
from .spans import Role, Span
from .templates import duration
from .visible import visible
from .waiting import Stretch, stretches
from .wording import State, badges, error_of, name_of, state_of

AXIS: Final = 1000  # the time axis is this many units wide
_THINNEST: Final = 2.5  # units: what is shorter would not be seen
_FINEST: Final = 3  # units: a shorter piece of the path is not drawn
_PATH_LINE: Final = 10  # how far down in a row
_DEEPEST: Final = 12  # as run.css knows; what is further down is drawn at this depth
_QUARTERS: Final = 4
_LONG: Final = 300  # rows; of a longer run most are left out until they are asked for
_MOST: Final = 200  # of a longer run, below one row


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Where a row lies on the axis, in its units; `waited` is the wait for the first chunk.

    `path` is an SVG path over those parts that are on the critical path.
    """

    start: float
    length: float
    waited: float
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One span. `depth` is how far it is indented; the next row is below it if it is deeper.

    `seconds` is None for a span that has not come. `on_path` is how many seconds the run waited for
    this span itself. `ends` are the levels that end after this row, the deepest first.
    """

    span: Span | None
    key: str
    role: Role
    name: str
    model: str | None
    figures: Figures
    state: State
    error: str | None
    attempt: int
    seconds: float | None
    on_path: float
    bar: Bar
    notes: tuple[Note, ...]
    badges: tuple[str, ...]
    depth: int
    has_children: bool
    is_open: bool
    ends: tuple[End, ...]

    @property
    def has_details(self) -> bool:
        """Whether there is more to tell than stands in the row: agents with calls have it there."""
        is_told = self.has_children and self.role in ("pattern", "agent")
        return self.span is not None and not is_told

    @property
    def paid_before(self) -> Decimal | None:
        """What a replayed answer had cost when it was given."""
        return self.span.cost if self.span is not None and self.span.replayed else None


@dataclass(frozen=True, slots=True)
class End:
    """Where what is below a span ends. `key` is its id; so many of its children are `shown`, and so
    many rows are left out."""

    key: str
    shown: int
    left_out: int


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a reader should see without looking for it."""

    kind: Literal["problem", "rejected"]
    text: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One trace: a run that went on after a crash has several. `ticks` are the axis's labels."""

    trace_id: str
    start: int
    seconds: float
    rows: tuple[Row, ...]
    ticks: tuple[str, ...]
    path: tuple[Stretch, ...]


def execution(
    roots: Sequence[Node], figures: Mapping[Node, Figures], *, whole: bool = True
) -> Execution:
    """The rows of one trace, which has at least one span; `figures` are those below each.

    Unless it is to be `whole`, much of a long one is left out, and `rows_below` has it: what agents
    did, and what is below one span beyond the first few hundred.
    """
    start, end = _ends(roots)
    path = _path(roots, start, end)
    axis = _Axis(start, max(1, end - start), _by_node(path))
    most = {} if whole else _most(roots)
    return Execution(
        trace_id=roots[0].trace_id,
        start=start,
        seconds=(end - start) / 1e9,
        rows=tuple(_rows(roots, axis, figures, tries_of(roots), most)),
        ticks=tuple(
            duration((end - start) * quarter / _QUARTERS / 1e9) if quarter else "0"
            for quarter in range(_QUARTERS + 1)
        ),
        path=tuple(stretches(path, roots)),
    )


def rows_below(
    roots: Sequence[Node], node: Node, figures: Mapping[Node, Figures]
) -> tuple[Row, ...]:
    """The rows that are left out below one of a trace's nodes; all below it, if none are."""
    start, end = _ends(roots)
    axis = _Axis(start, max(1, end - start), _by_node(_path(roots, start, end)))
    most = _most(roots)
    left_out = node.children[most.get(node, 0) :]
    return tuple(_rows(left_out, axis, figures, tries_of([node]), most))


def _ends(roots: Sequence[Node]) -> tuple[int, int]:
    return min(root.start for root in roots), max(root.end for root in roots)


# The critical path


def _path(roots: Sequence[Node], start: int, end: int) -> tuple[Segment, ...]:
    """The path through the trace; one that lost its root has gaps that nobody is known to fill."""
    if len(roots) == 1:
        return critical_path(roots[0])
    lost = Node(None, roots[0].trace_id, "", start, end, children=[*roots])
    return tuple(segment for segment in critical_path(lost) if segment.node is not lost)


def _by_node(path: Sequence[Segment]) -> dict[Node, list[Segment]]:
    segments: dict[Node, list[Segment]] = {}
    for segment in path:
        segments.setdefault(segment.node, []).append(segment)
    return segments


# Rows


@dataclass(frozen=True, slots=True)
class _Axis:
    """Where a moment lies."""

    start: int
    length: int
    path: Mapping[Node, Sequence[Segment]]

    def at(self, moment: float) -> float:
        return round(min(max(0, (moment - self.start) / self.length), 1) * AXIS, 1)

    def bar(self, node: Node, path: Sequence[Segment]) -> Bar:
        left, right = self.at(node.start), self.at(node.end)
        length = max(right - left, _THINNEST)
        return Bar(
            start=round(min(left, AXIS - length), 1),
            length=round(length, 1),
            waited=round(max(0, self.at(node.start + _waited(node.span) * 1e9) - left), 1),
            path="".join(self._strokes(path)),
        )

    def _strokes(self, segments: Sequence[Segment]) -> Iterator[str]:
        for segment in segments:
            left, right = self.at(segment.start), self.at(segment.end)
            if right - left >= _FINEST:
                yield f"M{left:g} {_PATH_LINE}H{right:g}"


def _waited(span: Span | None) -> float:
    """Seconds to the first chunk of a streamed answer."""
    waited = span.attributes.get(semconv.RESPONSE_TIME_TO_FIRST_CHUNK) if span is not None else None
    return max(0.0, waited) if isinstance(waited, float) else 0.0


def _rows(
    roots: Sequence[Node],
    axis: _Axis,
    figures: Mapping[Node, Figures],
    tries: Mapping[Node, int],
    most: Mapping[Node, int],
) -> Iterator[Row]:
    """The rows of these trees; of the children of those in `most`, the first so many."""
    opened = _opened(roots)
    nodes = [*walk(roots, most)]
    depths = [min(node.depth, _DEEPEST) for node in [*nodes, *roots[:1]]]
    levels: list[End] = []  # that have not ended
    for node, (depth, after) in zip(nodes, pairwise(depths), strict=True):
        span, path = node.span, axis.path.get(node, ())
        shown = most.get(node, len(node.children))
        left_out = node.children[shown:]
        if left_out and not shown:
            path = sorted(
                (segment for each in walk([node]) for segment in axis.path.get(each, ())),
                key=lambda segment: segment.start,
            )
        levels.append(End(node.span_id, shown, sum(1 for _ in walk(left_out, most))))
        ended = max(0, depth - after + 1)
        ends = tuple(levels.pop() for _ in range(ended))
        yield Row(
            span=span,
            key=node.span_id,
            role=node.role,
            name=name_of(node),
            model=span.model if span is not None else None,
            figures=figures[node],
            state=state_of(span),
            error=error_of(span),
            attempt=tries.get(node, 1),
            seconds=None if span is None else (node.end - node.start) / 1e9,
            on_path=sum(segment.length for segment in path) / 1e9,
            bar=axis.bar(node, path),
            notes=tuple(_notes(node)),
            badges=tuple(badges(node, tries.get(node, 1))),
            depth=depth,
            has_children=after > depth or bool(left_out),
            is_open=node in opened and (shown > 0 or not left_out),
            ends=ends,
        )


def _most(roots: Sequence[Node]) -> dict[Node, int]:
    """How many children have rows, of those nodes of a long trace whose others are left out.

    Of an agent that only calls and tools are below it is none.
    """
    nodes = [*walk(roots)]
    if len(nodes) <= _LONG:
        return {}
    most: dict[Node, int] = {}
    teams: set[Node] = set()  # with an agent or a pattern at or below them
    for node in reversed(nodes):
        is_alone = teams.isdisjoint(node.children)
        if node.role == "agent" and node.children and is_alone:
            most[node] = 0
        elif len(node.children) > _MOST:
            most[node] = _MOST
        if node.role in ("agent", "pattern") or not is_alone:
            teams.add(node)
    return most


def _opened(roots: Sequence[Node]) -> set[Node]:
    """What has agents or calls below it, or is about to; in another's trace, what has children."""
    nodes = [*walk(roots)]
    working = {node for node in nodes if node.role != "other"}
    if not working:
        return {node for node in nodes if node.children}
    opened = {node for node in nodes if node.role in ("pattern", "agent") and _goes_on(node)}
    for node in reversed(nodes):  # children first
        if any(child in working or child in opened for child in node.children):
            opened.add(node)
    return opened


def _goes_on(node: Node) -> bool:
    return node.span is not None and node.span.end is None


def tries_of(roots: Sequence[Node]) -> dict[Node, int]:
    """Which attempt a call is, where the one before it failed; first ones are not in it."""
    numbers: dict[Node, int] = {}
    for node in walk(roots):
        number = 1
        for child in node.children:
            if child.span is None or child.role != "chat":
                continue
            if number > 1:
                numbers[child] = number
            number = number + 1 if child.span.status == "error" else 1
    return numbers


def _notes(node: Node) -> Iterator[Note]:
    if node.span is None:
        return
    for event in node.span.events:
        if event.name == semconv.PLAN_REJECTED_EVENT:
            faults = event.attributes.get(semconv.PLAN_FAULTS)
            said = "; ".join(map(str, faults)) if isinstance(faults, tuple) else str(faults or "")
            yield Note("rejected", visible(said))
    why = problem(node.span)
    if why is not None:
        below = (problem(child.span) for child in node.children if child.span is not None)
        if why not in below:  # a failure is told where it happened
            yield Note("problem", why)
