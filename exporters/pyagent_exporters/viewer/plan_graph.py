"""A plan as a graph: who does what after whom, and how far each of them is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from pyagent_providers import semconv

from .figures import Figures
from .forest import Node
from .layers import BOX_HEIGHT, BOX_WIDTH, layout
from .spans import Span
from .templates import counted, dollars, duration
from .wording import name_of, state_of

TaskState = Literal[
    "pending", "running", "done", "partial", "failed", "cancelled", "suspended", "skipped"
]

# Of each task of the plan, in its order, the ids that it waits for, with ", " between them.
_MOST_TASKS: Final = 200  # more are not drawn, but said
_PLANNING: Final = ("plan", "manage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A piece of work. `key` is the span id of the last span that did it, None before that.

    `task` is the assignment's id; planning and synthesis have none. `seconds` is how long its
    spans took together, None before the first of them.
    """

    key: str | None
    task: str | None
    who: str
    what: str
    state: TaskState
    is_replayed: bool
    is_team: bool
    seconds: float | None
    figures: Figures
    waits_for: tuple[str, ...]
    x: int
    y: int

    @property
    def figures_line(self) -> str:
        """How it went, how long it took and what it cost, as far as there is something to say."""
        state = "" if self.state == "done" else self.state
        time = duration(self.seconds) if self.seconds is not None else ""
        if self.is_replayed:
            time = "replayed"
        money = dollars(self.figures.cost) if self.figures.priced else ""
        if self.figures.unpriced:
            money = f"{money} + ?" if money else "unpriced"
        return " · ".join(text for text in (state, time, money) if text)

    @property
    def told(self) -> str:
        """All of it in a sentence."""
        what = f"{self.task or self.what} {self.who}: {self.state}"
        if self.seconds is not None:
            what += f", {duration(self.seconds)}"
        if self._money:
            what += f", {self._money}"
        return f"{what}, after {', '.join(self.waits_for)}" if self.waits_for else what

    @property
    def _money(self) -> str:
        known = dollars(self.figures.cost) if self.figures.priced else ""
        unpriced = f"{counted(self.figures.unpriced)} unpriced" if self.figures.unpriced else ""
        return " + ".join(text for text in (known, unpriced) if text)


@dataclass(frozen=True, slots=True)
class Line:
    """From what is waited for to who waits, as an SVG path; `is_done` when the wait is over."""

    path: str
    is_done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanGraph:
    """The plan of one pattern; `within` are the names of the patterns around it, then its own."""

    within: tuple[str, ...]
    key: str
    tasks: int
    plans: int
    rejected: int
    left_out: int
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    width: int
    height: int

    @property
    def box_size(self) -> tuple[int, int]:
        """Width and height of every box."""
        return BOX_WIDTH, BOX_HEIGHT


def plan_graphs(
    executions: Sequence[Sequence[Node]], figures: Mapping[Node, Figures]
) -> tuple[PlanGraph, ...]:
    """The plans of a run, outermost first, given the trees of its executions in their order.

    What an earlier execution finished is finished. `figures` are those below each span. A single
    assignment that nobody planned makes no graph.
    """
    teams: dict[_Place, _Team] = {}
    for roots in executions:
        for place, team in _teams(roots, figures).items():
            known = teams.setdefault(place, _Team())
            known.patterns += team.patterns
            known.members += team.members
    planned = {place: team for place, team in teams.items() if any(map(_plan, team.patterns))}
    graphs = (_graph(place, team) for place, team in planned.items())
    return tuple(graph for graph in graphs if len(graph.boxes) > 1)


# The spans of a pattern

_Place = tuple[tuple[str, int], ...]  # name and number of each pattern around, and its own


@dataclass(slots=True)
class _Team:
    """The spans of one pattern, one for each execution, and of those that it gave work to."""

    patterns: list[Node] = field(default_factory=list[Node])
    members: list[_Member] = field(default_factory=list["_Member"])


_Member = tuple[Node, Figures]


def _teams(roots: Sequence[Node], figures: Mapping[Node, Figures]) -> dict[_Place, _Team]:
    """Each pattern's team, outer ones first."""
    teams: dict[_Place, _Team] = {}
    waiting: list[tuple[Node, _Place]] = [(root, ()) for root in reversed(roots)]
    numbers: dict[_Place, int] = {}
    while waiting:
        node, place = waiting.pop()
        if place in teams and node.role in ("pattern", "agent"):
            teams[place].members.append((node, figures[node]))
        if node.role == "pattern":
            name = (*place, (name_of(node), 0))
            numbers[name] = numbers.get(name, 0) + 1
            place = (*place, (name_of(node), numbers[name]))
            teams[place] = _Team([node])
        waiting += [(child, place) for child in reversed(node.children)]
    return teams


def _plan(node: Node) -> tuple[tuple[str, str], ...]:
    return node.span.plan if node.span is not None else ()


# The graph


@dataclass(frozen=True, slots=True)
class _Work:
    """A box before it has its place."""

    task: str | None
    who: str
    what: str
    done_by: tuple[_Member, ...]
    waits_for: tuple[str, ...]


def _graph(place: _Place, team: _Team) -> PlanGraph:
    newest = next(node for node in reversed(team.patterns) if _plan(node))
    plan = _plan(newest)
    works = dict(_works(team, newest, plan[:_MOST_TASKS]))
    placed = layout({name: work.waits_for for name, work in works.items()})
    states: dict[str, TaskState] = {
        name: _state(work, team.patterns[-1]) for name, work in works.items()
    }
    return PlanGraph(
        within=tuple(name for name, _ in place),
        key=newest.span_id,
        tasks=len(plan),
        plans=sum(1 for node, _ in team.members if _phase(node) in _PLANNING),
        rejected=sum(
            event.name == semconv.PLAN_REJECTED_EVENT
            for node in team.patterns
            if node.span is not None
            for event in node.span.events
        ),
        left_out=max(0, len(plan) - _MOST_TASKS),
        boxes=tuple(_box(work, states[name], *placed.boxes[name]) for name, work in works.items()),
        lines=tuple(
            Line(path, states[source] in _OVER) for (source, _), path in placed.lines.items()
        ),
        width=placed.width,
        height=placed.height,
    )


_BEFORE: Final = "before"
_AFTER: Final = "after"
_OVER: Final = ("done", "partial")


def _works(
    team: _Team, pattern: Node, plan: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, _Work]]:
    """The planning, the assignments and the synthesis, each under a name of its own."""
    planning = tuple(m for m in team.members if _phase(m[0]) in _PLANNING)
    synthesis = tuple(m for m in team.members if _phase(m[0]) == "synthesis")
    waits = _dependencies(team, pattern, plan)
    if planning:
        yield _BEFORE, _Work(None, name_of(planning[-1][0]), "plan", planning, ())
    for task, worker in plan:
        done_by = tuple(m for m in team.members if _task(m[0]) == task)
        needs = tuple(f"task {other}" for other in waits[task])
        yield (
            f"task {task}",
            _Work(task, worker, "", done_by, needs or ((_BEFORE,) if planning else ())),
        )
    if synthesis:
        waited_for = {other for others in waits.values() for other in others}
        last = tuple(f"task {task}" for task, _ in plan if task not in waited_for)
        who = name_of(synthesis[-1][0])
        yield _AFTER, _Work(None, who, "synthesis", synthesis, last)


def _dependencies(
    team: _Team, pattern: Node, plan: Sequence[tuple[str, str]]
) -> dict[str, tuple[str, ...]]:
    """What each assignment waits for: as its span says or, without one, its pattern's."""
    told = pattern.span.texts(semconv.PLAN_DEPENDS_ON) if pattern.span is not None else ()
    waits = {task: () for task, _ in plan}
    waits |= {
        task: tuple(name for name in names.split(", ") if name in waits)
        for (task, _), names in zip(plan, told, strict=False)
    }
    for node, _ in team.members:
        if node.span is not None and node.span.task_id in waits and node.span.depends_on:
            waits[node.span.task_id] = tuple(n for n in node.span.depends_on if n in waits)
    return waits


def _box(work: _Work, state: TaskState, x: int, y: int) -> Box:
    last = work.done_by[-1][0] if work.done_by else None
    return Box(
        key=last.span_id if last is not None else None,
        task=work.task,
        who=work.who,
        what=work.what,
        state=state,
        is_replayed=last is not None and last.span is not None and last.span.replayed,
        is_team=last is not None and last.role == "pattern",
        seconds=sum(n.end - n.start for n, _ in work.done_by) / 1e9 if work.done_by else None,
        figures=Figures.total(figures for _, figures in work.done_by),
        waits_for=tuple(name.removeprefix("task ") for name in work.waits_for if name != _BEFORE),
        x=x,
        y=y,
    )


def _state(work: _Work, pattern: Node) -> TaskState:
    if not work.done_by:
        return "pending" if _goes_on(pattern.span) else "skipped"
    state = state_of(work.done_by[-1][0].span)
    return "done" if state in ("ok", "awaited") else state


def _goes_on(span: Span | None) -> bool:
    """Whether there may be more work to come."""
    return span is None or span.end is None or span.run_status == "suspended"


def _phase(node: Node) -> str | None:
    return node.span.phase if node.span is not None and node.role == "agent" else None


def _task(node: Node) -> str | None:
    return node.span.task_id if node.span is not None else None
