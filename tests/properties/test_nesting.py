"""Graphs within graphs, with budgets of their own at any depth."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from pyagent_patterns import Agent, Budget
from pyagent_patterns.base import Pattern
from pyagent_patterns.errors import AgentError, RunAborted
from pyagent_patterns.journal import MemoryStore, Store
from pyagent_patterns.plan import Assignment
from pyagent_patterns.purse import Purse
from pyagent_patterns.run import RunContext, Task
from pyagent_patterns.schedule import Done, Failed, Settled
from pyagent_patterns.testing import capture_trace
from pyagent_patterns.traffic import Traffic

from . import claims
from .sizes import examples
from .strategies import PRICED, agents, budgets, combinations
from .teams import AgentSpec, ModelSpec, Played, agent, see, show
from .virtual import run_virtually
from .world import Attempt, Turn, World

Work = Callable[[RunContext, Mapping[str, str]], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Leaf:
    """Ask an agent."""

    asks: AgentSpec


@dataclass(frozen=True, slots=True)
class Graph:
    """Do `parts`, each after those of the earlier ones whose bit is set in its `after`."""

    parts: tuple[Leaf | Graph, ...]
    after: tuple[int, ...]
    limit: int | None = None
    budget: Budget | None = None

    def needs(self, n: int) -> list[int]:
        return [other for other in range(n) if self.after[n] >> other & 1]


@st.composite
def trees(draw: st.DrawFn, depth: int = 2) -> Graph:
    size = draw(st.integers(1, 3))
    parts = [
        draw(trees(depth - 1))
        if depth and draw(st.booleans())
        else Leaf(draw(agents(prices=PRICED)))
        for _ in range(size)
    ]
    after = draw(st.lists(st.integers(0, 2**size - 1), min_size=size, max_size=size))
    budget = draw(st.none() | budgets())
    return draw(
        combinations(
            Graph,
            parts=(tuple(parts),),
            after=(tuple(after),),
            limit=(None, 1, 2),
            budget=(None, budget),
        )
    )


class Nested(Pattern):
    """Does a tree of graphs, each in a scope with its budget. A leaf is named by its path."""

    name = "nested"

    def __init__(self, tree: Graph, world: World, traffic: Traffic) -> None:
        super().__init__(traffic=traffic)
        self._tree = tree
        self.asked: dict[str, Agent] = {}
        self.assignments: dict[str, Assignment] = {}
        self.purses: list[Purse] = []
        self._name_all(tree, "r", world)

    @property
    def members(self) -> Sequence[Agent]:
        return tuple(self.asked.values())

    async def _execute(self, ctx: RunContext, task: str) -> str:
        ctx.record.plan_accepted(tuple(self.assignments.values()))
        return await self._do(self._tree, "r", ctx)

    async def _do(self, part: Leaf | Graph, name: str, ctx: RunContext) -> str:
        if isinstance(part, Leaf):
            return await ctx.ask(self.asked[name], name, phase="worker")
        scope = ctx.child("within", budget=part.budget)
        if scope._purse is not None:
            self.purses.append(scope._purse)
        names = [f"{name}.{n}" for n in range(len(part.parts))]
        done = await scope.dag(
            {
                names[n]: Task(tuple(names[m] for m in part.needs(n)), self._work(inner, names[n]))
                for n, inner in enumerate(part.parts)
            },
            limit=part.limit,
            on_settled=lambda own, how: self._settled(own, how, ctx),
        )
        texts = [how.value for how in done.values() if isinstance(how, Done)]
        if not texts:
            raise next(how.error for how in done.values() if isinstance(how, Failed))
        return "\n".join(texts)

    def _work(self, part: Leaf | Graph, name: str) -> Work:
        async def work(ctx: RunContext, outputs: Mapping[str, str]) -> str:
            return await self._do(part, name, ctx)

        return work

    def _settled(self, name: str, how: Settled[str], ctx: RunContext) -> None:
        if name in self.assignments:
            ctx.record.settled(self.assignments[name], how)

    def _name_all(self, part: Leaf | Graph, name: str, world: World) -> None:
        if isinstance(part, Leaf):
            self.asked[name] = agent(world, name, part.asks)
            self.assignments[name] = Assignment(name, name, name)
        else:
            for n, inner in enumerate(part.parts):
                self._name_all(inner, f"{name}.{n}", world)


def play(
    tree: Graph,
    budget: Budget | None = None,
    cancel_at: Sequence[float] = (),
    store: Store | None = None,
) -> Played:
    show(tree)
    world = World()
    with capture_trace() as trace:
        played = Played(world, trace)

        async def main() -> None:
            played.traffic = Traffic(breaker=None, clock=asyncio.get_running_loop().time)
            nested = Nested(tree, world, played.traffic)
            await see(nested, played, budget=budget, cancel_at=cancel_at, store=store)
            played.purses += nested.purses

        run_virtually(main)
    return played


@examples(100, slow=2_000)
@given(trees(), st.none() | budgets(), st.sampled_from(((), (), (), (2.0,), (0.0,))))
def test_scopes_keep_their_budgets_and_lose_nothing_at_any_depth(
    tree: Graph, budget: Budget | None, cancel_at: tuple[float, ...]
) -> None:
    played = play(tree, budget, cancel_at)
    may_end_it = AgentError | RunAborted | asyncio.CancelledError
    assert played.error is None or isinstance(played.error, may_end_it)
    claims.nothing_is_left_running(played)
    claims.all_accounts_agree(played)
    claims.all_that_was_reserved_is_given_back(played)
    if budget is not None:
        claims.budgets_hold(played.world.attempts, played.result.calls, budget)
    budgets_hold_below(tree, "r", played)
    in_order(tree, "r", played)
    outcomes = {outcome.id: outcome.output for outcome in played.result.outcomes}
    for attempt in played.world.attempts:
        if attempt.text:
            assert outcomes[attempt.task] == attempt.text


def below(name: str, played: Played) -> list[Attempt]:
    return [a for a in played.world.attempts if a.task.startswith(f"{name}.") or a.task == name]


def budgets_hold_below(part: Leaf | Graph, name: str, played: Played) -> None:
    if isinstance(part, Leaf):
        return
    if part.budget is not None:
        calls = [c for c in played.result.calls if str(c.task_id).startswith(f"{name}.")]
        claims.budgets_hold(below(name, played), calls, part.budget)
    for n, inner in enumerate(part.parts):
        budgets_hold_below(inner, f"{name}.{n}", played)


def in_order(part: Leaf | Graph, name: str, played: Played) -> None:
    """A part begins when all it needs has ended."""
    if isinstance(part, Leaf):
        return
    for n, inner in enumerate(part.parts):
        begun = [attempt.order for attempt in below(f"{name}.{n}", played)]
        for needed in part.needs(n) if begun else ():
            ended = [attempt.ended or 0 for attempt in below(f"{name}.{needed}", played)]
            assert max(ended, default=0) < min(begun)
        in_order(inner, f"{name}.{n}", played)


def test_a_scopes_budget_refuses_a_model_without_a_price() -> None:
    priced, unpriced = (Leaf(AgentSpec(models=(ModelSpec(price=p),))) for p in (PRICED[0], None))
    within = Graph((unpriced, priced), (0, 0), budget=Budget(max_cost_usd=1))
    played = play(Graph((within, unpriced), (0, 0)))
    assert [attempt.task for attempt in played.world.attempts] == ["r.1", "r.0.1"]
    outcomes = {outcome.id: outcome for outcome in played.result.outcomes}
    assert "no price is known for 'r.0.0-m0'" in str(outcomes["r.0.0"].error)


def test_what_a_scope_spent_before_a_crash_counts_in_its_budget() -> None:
    quick, slow = (Leaf(AgentSpec((ModelSpec((Turn(seconds=s),)),))) for s in (1, 9))
    within = Graph((quick, slow, quick), (0, 0, 0), limit=1, budget=Budget(max_calls=2))
    store = MemoryStore()
    first = play(Graph((within, slow), (0, 0)), cancel_at=(5,), store=store)
    again = play(Graph((within, slow), (0, 0)), store=store)
    assert [attempt.task for attempt in first.world.attempts] == ["r.1", "r.0.0", "r.0.1"]
    assert [attempt.task for attempt in again.world.attempts] == ["r.1", "r.0.1"]
    outcomes = {outcome.id: outcome for outcome in again.result.outcomes}
    assert "2 of 2 calls are made" in str(outcomes["r.0.2"].error)


@examples(30, slow=500)
@given(st.integers(1, 3), st.integers(1, 3))
def test_what_is_kept_for_the_answer_is_kept_in_the_runs_budget_not_in_a_scopes(
    calls: int, graphs: int
) -> None:
    """A scope whose budget is so many calls makes so many."""
    within = Graph((Leaf(AgentSpec()),) * calls, (0,) * calls, budget=Budget(max_calls=calls))
    tree = Graph((within,) * graphs, (0,) * graphs)
    played = play(tree, Budget(max_calls=100))
    assert len(played.result.calls) == calls * graphs
