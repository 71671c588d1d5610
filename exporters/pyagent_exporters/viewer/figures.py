"""What the calls of a run used and cost, summed: below each span, and by agent, phase and model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from .forest import Node, walk
from .spans import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Sums over calls to models.

    `cost` is US dollars of the `priced` ones, `unpriced` counts those that nobody knows the price
    of; what was refused at the door is neither. Input tokens include cached ones, output tokens
    include reasoning.
    """

    calls: int = 0
    cost: Decimal = Decimal(0)
    priced: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @classmethod
    def total(cls, parts: Iterable[Figures]) -> Figures:
        """All of these together."""
        every = [*parts]
        if len(every) == 1:
            return every[0]
        calls = priced = unpriced = read = written = cached = reasoning = 0
        cost = Decimal(0)
        for one in every:
            calls += one.calls
            cost += one.cost
            priced += one.priced
            unpriced += one.unpriced
            read += one.input_tokens
            written += one.output_tokens
            cached += one.cached_tokens
            reasoning += one.reasoning_tokens
        return cls(
            calls=calls,
            cost=cost,
            priced=priced,
            unpriced=unpriced,
            input_tokens=read,
            output_tokens=written,
            cached_tokens=cached,
            reasoning_tokens=reasoning,
        )


@dataclass(frozen=True, slots=True)
class Share:
    """A row of a cost table; `share` of the dearest row is between 0 and 1."""

    key: str
    figures: Figures
    share: float


@dataclass(frozen=True, slots=True)
class Call:
    """A call to a model that has ended, and the agent that made it, as far as that is known."""

    node: Node
    span: Span
    agent: Node | None
    figures: Figures

    @property
    def agent_span(self) -> Span | None:
        return self.agent.span if self.agent is not None else None


def calls(roots: Sequence[Node]) -> tuple[Call, ...]:
    """The calls to models in these trees.

    A call within a call is another instrumentation's report of the same one, and is left out.
    """
    found = [*_chats(roots)]
    unpriced = _unpriced(found)
    return tuple(
        Call(node, span, agent, _figures(span, is_unpriced=node in unpriced))
        for node, span, agent in found
    )


def below(roots: Sequence[Node], calls: Sequence[Call]) -> dict[Node, Figures]:
    """The sums of the calls at and below each span."""
    own = {call.node: call.figures for call in calls}
    sums: dict[Node, Figures] = {}
    for node in reversed([*walk(roots)]):  # children first
        parts = [sums[child] for child in node.children]
        sums[node] = Figures.total([own[node], *parts] if node in own else parts)
    return sums


def by_agent(calls: Sequence[Call]) -> tuple[Share, ...]:
    """Of the agents that made the calls, the dearest first."""
    return _shares(calls, _agent)


def by_phase(calls: Sequence[Call]) -> tuple[Share, ...]:
    """Of what the agents were asked for, the dearest first."""
    return _shares(calls, lambda call: (call.agent_span and call.agent_span.phase) or "")


def by_model(calls: Sequence[Call]) -> tuple[Share, ...]:
    """Of the models that were asked, the dearest first."""
    return _shares(calls, lambda call: call.span.model or "")


def _agent(call: Call) -> str:
    span = call.agent_span
    return (span.path or span.agent or "") if span is not None else call.span.agent or ""


def _shares(calls: Sequence[Call], key: Callable[[Call], str]) -> tuple[Share, ...]:
    parts: dict[str, list[Figures]] = {}
    for call in calls:
        parts.setdefault(key(call), []).append(call.figures)
    sums = {name: Figures.total(figures) for name, figures in parts.items()}
    most = max((figures.cost for figures in sums.values()), default=Decimal(0))
    return tuple(
        Share(name, figures, float(figures.cost / most) if most else 0.0)
        for name, figures in sorted(sums.items(), key=_dearest_first)
    )


def _dearest_first(item: tuple[str, Figures]) -> tuple[Decimal, int, str]:
    name, figures = item
    return -figures.cost, -figures.calls, name


# Which calls there are

_Chat = tuple[Node, Span, Node | None]


def _chats(roots: Sequence[Node]) -> Iterator[_Chat]:
    """Each ended call with the agent around it, in order of time within each tree."""
    waiting: list[tuple[Node, Node | None, bool]] = [(root, None, False) for root in roots]
    waiting.reverse()
    while waiting:
        node, agent, is_within_call = waiting.pop()
        span = node.span
        if node.role == "agent":
            agent, is_within_call = node, False
        elif node.role == "chat":
            if span is not None and span.end is not None and not is_within_call:
                yield node, span, agent
            is_within_call = True
        waiting += [(child, agent, is_within_call) for child in reversed(node.children)]


def _figures(span: Span, *, is_unpriced: bool) -> Figures:
    cost = span.cost
    return Figures(
        calls=1,
        cost=cost or Decimal(0),
        priced=int(cost is not None),
        unpriced=int(is_unpriced),
        input_tokens=span.input_tokens or 0,
        output_tokens=span.output_tokens or 0,
        cached_tokens=span.cache_read_tokens or 0,
        reasoning_tokens=span.reasoning_tokens or 0,
    )


def _unpriced(chats: Sequence[_Chat]) -> set[Node]:
    """The calls that have no price.

    One that failed may have cost nothing: its agent's span says how many have no price. Where
    nobody says so, a failed call has none if it reported any tokens.
    """
    found: set[Node] = set()
    doubtful: dict[Node, list[Node]] = {}
    for node, span, agent in chats:
        if span.cost is not None:
            continue
        counts = _counts_unpriced(agent)
        if span.status != "error" or (not counts and span.input_tokens is not None):
            found.add(node)
        elif counts and agent is not None:
            doubtful.setdefault(agent, []).append(node)
    known = _numbers(chats, found)
    for agent, failed in doubtful.items():
        told = agent.span.unpriced if agent.span is not None else 0
        found.update(failed[: max(0, told - known.get(agent, 0))])
    return found


def _counts_unpriced(agent: Node | None) -> bool:
    """Whether it is an agent of ours that has ended."""
    span = agent.span if agent is not None else None
    return span is not None and span.run_id is not None and span.end is not None


def _numbers(chats: Sequence[_Chat], among: set[Node]) -> Mapping[Node, int]:
    numbers: dict[Node, int] = {}
    for node, _, agent in chats:
        if node in among and agent is not None:
            numbers[agent] = numbers.get(agent, 0) + 1
    return numbers
