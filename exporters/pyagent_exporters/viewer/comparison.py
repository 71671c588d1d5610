"""Two runs side by side: their figures, their agents, their plans and what was answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Final, Literal, TypeVar

from markupsafe import Markup

from .details import details
from .figures import Figures, by_agent, calls
from .forest import Node, forest
from .runs import RunSummary, RunTrace
from .spans import Span
from .templates import counted, dollars, duration

Trend = Literal["more", "less", ""]
Mark = Literal["same", "changed", "left", "right"]

_MOST_LINES: Final = 400  # of an answer that is compared line by line: that takes their square
_MOST_ANSWERS: Final = 100
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of both runs, in words. `difference` is "" where there is none, or it has no
    size; `trend` is which way it goes, from the left run to the right."""

    name: str
    left: str
    right: str
    difference: str = ""
    trend: Trend = ""

    @property
    def differs(self) -> bool:
        return self.left != self.right


@dataclass(frozen=True, slots=True)
class AgentPair:
    """What one agent's calls used and cost in both runs; None where it made none."""

    agent: str
    left: Figures | None
    right: Figures | None
    difference: Figure


@dataclass(frozen=True, slots=True)
class Task:
    """One assignment of a plan."""

    task_id: str
    worker: str
    depends_on: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskPair:
    """An assignment in both plans, or in one of them."""

    left: Task | None
    right: Task | None

    @property
    def mark(self) -> Mark:
        return _mark(self.left, self.right)


@dataclass(frozen=True, slots=True)
class LinePair:
    """A line of two answers; None where one of them has nothing in its place."""

    left: Markup | None
    right: Markup | None

    @property
    def mark(self) -> Mark:
        return _mark(self.left, self.right)


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """What an agent answered in both runs; None where it did not, or it was not captured.

    `lines` are both, line beside line; empty if they are too long for that.
    """

    title: str
    left: Markup | None
    right: Markup | None
    lines: tuple[LinePair, ...]

    @property
    def mark(self) -> Mark:
        return _mark(self.left, self.right)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two runs have in common, and what not. The last of the `answers` is the final one."""

    left: RunSummary
    right: RunSummary
    figures: tuple[Figure, ...]
    agents: tuple[AgentPair, ...]
    tasks: tuple[TaskPair, ...]
    answers: tuple[AnswerPair, ...]


def compare(left: RunTrace, right: RunTrace) -> Comparison:
    """The two runs, beside each other."""
    left_roots, right_roots = _roots(left), _roots(right)
    return Comparison(
        left.summary,
        right.summary,
        tuple(_figures(left.summary, right.summary)),
        tuple(_agents(left_roots, right_roots)),
        tuple(TaskPair(*pair) for pair in _paired(_plan(left), _plan(right)).values()),
        tuple(_answers(left_roots, right_roots)),
    )


def _roots(trace: RunTrace) -> Sequence[Node]:
    latest = max((span.end or span.start for span in trace.spans), default=0)
    return forest(trace.spans, now=latest)


# Figures


def _figures(left: RunSummary, right: RunSummary) -> Iterator[Figure]:
    yield Figure("Status", left.status, right.status)
    yield Figure("Pattern", left.pattern or "–", right.pattern or "–")
    yield _seconds("Took", left.duration_seconds, right.duration_seconds)
    yield _dollars("Cost", left.cost, right.cost)
    yield _count("Unpriced calls", left.unpriced, right.unpriced)
    yield _count("Model calls", left.calls, right.calls)
    yield _count("Tokens in", left.input_tokens, right.input_tokens)
    yield _count("Tokens out", left.output_tokens, right.output_tokens)
    yield _count("Errors", left.errors, right.errors)
    if left.tenant or right.tenant:
        yield Figure("Tenant", left.tenant or "–", right.tenant or "–")


def _count(name: str, left: int, right: int) -> Figure:
    if left == right:
        return Figure(name, counted(left), counted(right))
    difference = f"{right - left:+,}".replace("-", "−") + _percent(left, right)
    return Figure(name, counted(left), counted(right), difference, _trend(left, right))


def _seconds(name: str, left: float | None, right: float | None) -> Figure:
    if left is None or right is None:
        return Figure(name, duration(left), duration(right))
    words = duration(left), duration(right)
    if words[0] == words[1]:
        return Figure(name, *words)
    size = f"{'+' if right > left else '−'}{duration(abs(right - left))}{_percent(left, right)}"
    return Figure(name, *words, size, _trend(left, right))


def _dollars(name: str, left: Decimal, right: Decimal) -> Figure:
    if left == right:
        return Figure(name, dollars(left), dollars(right))
    difference = f"{'+' if right > left else ''}{dollars(right - left)}{_percent(left, right)}"
    return Figure(name, dollars(left), dollars(right), difference, _trend(left, right))


def _percent(left: float | Decimal, right: float | Decimal) -> str:
    return f" ({float(right) / float(left) - 1:+.0%})".replace("-", "−") if left else ""


def _trend(left: float | Decimal, right: float | Decimal) -> Trend:
    return "more" if right > left else "less" if right < left else ""


# Agents


def _agents(left: Sequence[Node], right: Sequence[Node]) -> Iterator[AgentPair]:
    """Every agent of both, the dearest first."""
    left_costs = {share.key: share.figures for share in by_agent(calls(left))}
    right_costs = {share.key: share.figures for share in by_agent(calls(right))}
    pairs = _paired(left_costs, right_costs)
    nothing = Figures()

    def dearest_first(agent: str) -> tuple[Decimal, str]:
        its = pairs[agent]
        return -max((its[0] or nothing).cost, (its[1] or nothing).cost), agent

    for agent in sorted(pairs, key=dearest_first):
        ours, theirs = pairs[agent]
        difference = _dollars(agent, (ours or nothing).cost, (theirs or nothing).cost)
        yield AgentPair(agent, ours, theirs, difference)


# Plans


def _plan(trace: RunTrace) -> Mapping[str, Task]:
    """The assignments by where they are in the run, in the order of the plan.

    Those that were never begun are known by the pattern's span only.
    """
    found: dict[str, Task] = {}
    for span in trace.spans:
        if span.role == "agent" and span.task_id is not None:
            found[_place(span)] = Task(span.task_id, span.agent or "", span.depends_on)
    known = {(task.task_id, task.worker) for task in found.values()}
    for span in trace.spans:
        for task_id, worker in span.plan if span.role == "pattern" else ():
            if (task_id, worker) not in known:
                found.setdefault(task_id, Task(task_id, worker, ()))
    return found


def _place(span: Span) -> str:
    """An assignment's id, with the pattern within the run that has it in its plan."""
    within = (span.path or "").rpartition("/")[0]
    return "/".join(filter(None, (within, span.task_id)))


# Answers


def _answers(left: Sequence[Node], right: Sequence[Node]) -> Iterator[AnswerPair]:
    pairs = _paired(_said(left), _said(right))
    for title, (ours, theirs) in list(pairs.items())[-_MOST_ANSWERS:]:
        yield AnswerPair(title, ours, theirs, tuple(_lines(ours, theirs)))


def _said(roots: Sequence[Node]) -> Mapping[str, Markup]:
    """What each agent answered last to each thing it was asked for, in the order of time."""
    said: list[tuple[int, str, Markup]] = []
    waiting: list[tuple[Node, Span | None]] = [(root, None) for root in roots]
    while waiting:
        node, agent = waiting.pop()
        span = node.span
        if span is not None and span.role == "agent":
            agent = span
        answer = None if span is None else _answer(span)
        if answer is not None:
            said.append((node.end, _title(agent), answer))
        waiting += [(child, agent) for child in node.children]
    latest: dict[str, Markup] = {}
    for _, title, answer in sorted(said, key=lambda item: item[0]):
        latest.pop(title, None)
        latest[title] = answer
    return latest


def _answer(span: Span) -> Markup | None:
    """The captured answer, made safe to show."""
    if span.role not in ("chat", "agent"):
        return None
    turns = [turn for its in details(span).content if its.title == "Answer" for turn in its.turns]
    parts = [part.text for turn in turns for part in turn.parts]
    return Markup("\n").join(parts) if parts else None


def _title(agent: Span | None) -> str:
    if agent is None:
        return "answer"
    what = agent.task_id or agent.phase
    name = agent.path or agent.agent or "agent"
    return f"{name}, {what}" if what else name


def _lines(left: Markup | None, right: Markup | None) -> Iterator[LinePair]:
    if left is None or right is None:
        return
    ours, theirs = left.split("\n"), right.split("\n")
    if max(len(ours), len(theirs)) > _MOST_LINES:
        return
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    for _, ours_from, ours_to, theirs_from, theirs_to in matcher.get_opcodes():
        some, others = ours[ours_from:ours_to], theirs[theirs_from:theirs_to]
        for line, other in zip_longest(some, others):
            yield LinePair(line, other)


# Both


def _paired(
    left: Mapping[str, _T], right: Mapping[str, _T]
) -> Mapping[str, tuple[_T | None, _T | None]]:
    """What has the same key, or none in the other; in the order of the left ones."""
    return {key: (left.get(key), right.get(key)) for key in (*left, *right)}


def _mark(left: object | None, right: object | None) -> Mark:
    if left is None:
        return "right"
    if right is None:
        return "left"
    return "same" if left == right else "changed"
