"""Patterns of every kind within one another, to any depth, whatever becomes of their agents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pyagent_patterns import (
    Agent,
    Budget,
    Hierarchical,
    Loop,
    OrchestratorWorkers,
    Parallel,
    Pipeline,
    Router,
    Timeouts,
)
from pyagent_patterns.base import Member, Pattern
from pyagent_patterns.errors import PyAgentError
from pyagent_patterns.policy import OnError
from pyagent_patterns.testing import capture_trace
from pyagent_patterns.traffic import Traffic
from pyagent_providers.types import Request
from tests.patterns.test_nesting import assert_accounts_agree
from tests.wire.team import form_filled

from . import claims
from .sizes import examples
from .strategies import BOUNDED, POLICIES, PRICED, agents, budgets, combinations, healthy
from .teams import AgentSpec, Played, agent, see, show
from .virtual import run_virtually
from .world import World


@dataclass(frozen=True, slots=True)
class Part:
    """A pattern of that kind, of `parts`; its planner, judge or merge is `other`."""

    kind: str
    parts: tuple[AgentSpec | Part, ...]
    other: AgentSpec
    budget: Budget | None
    on_error: OnError | None
    seconds: float | None


Build = Callable[[Sequence[Member], Callable[[str], Agent], dict[str, Any]], Pattern]
KINDS: dict[str, Build] = {
    "pipeline": lambda parts, other, options: Pipeline(parts, **options),
    "side by side": lambda parts, other, options: Pipeline([parts, other("last")], **options),
    "parallel": lambda parts, other, options: Parallel(parts, merge=other("merge"), **options),
    "router": lambda parts, other, options: Router(parts, classifier=other("clerk"), **options),
    "loop": lambda parts, other, options: Loop(parts[0], other("judge"), **options),
    "orchestrator": lambda parts, other, options: OrchestratorWorkers(
        orchestrator=other("planner"), workers=parts, **options
    ),
    "hierarchical": lambda parts, other, options: Hierarchical(
        manager=other("manager"), teams=parts, **options
    ),
}


@st.composite
def patterns(draw: st.DrawFn, depth: int = 3) -> Part:
    parts = tuple(
        draw(patterns(depth - 1))
        if depth and draw(st.booleans())
        else draw(healthy(BOUNDED, PRICED) | agents(fallbacks=0))
        for _ in range(draw(st.integers(1, 3)))
    )
    budget = draw(st.none() | budgets())
    return draw(
        combinations(
            Part,
            kind=tuple(KINDS),
            parts=(parts,),
            other=(draw(healthy(BOUNDED, PRICED)),),
            budget=(None, None, budget),
            on_error=(None, None, *POLICIES),
            seconds=(None, None, None, 5.0),
        )
    )


def played(part: Part, budget: Budget | None, cancel_at: Sequence[float]) -> Played:
    show(part)
    world = World()
    with capture_trace() as trace:
        what_came = Played(world, trace)

        async def main() -> None:
            traffic = Traffic(breaker=None, clock=asyncio.get_running_loop().time)
            what_came.traffic = traffic
            whole = built(part, "r", world, traffic=traffic)
            await see(whole, what_came, budget=budget, cancel_at=cancel_at)

        run_virtually(main)
    return what_came


def built(part: Part, name: str, world: World, **options: Any) -> Pattern:
    def answers(request: Request, made: int) -> str | None:
        return None if request.schema is None else form_filled(request.schema.schema)

    def other(role: str) -> Agent:
        return agent(world, f"{name}-{role}", part.other, answers)

    inner = [
        agent(world, f"{name}-{n}", of, answers)
        if isinstance(of, AgentSpec)
        else built(of, f"{name}-{n}", world)
        for n, of in enumerate(part.parts)
    ]
    own = {"name": name, "budget": part.budget, "on_error": part.on_error}
    return KINDS[part.kind](inner, other, own | {"timeouts": Timeouts(run=part.seconds)} | options)


@examples(150, slow=3_000)
@given(patterns(), st.none() | budgets(), st.sampled_from(((), (), (), (3.0,), (0.0,))))
def test_whatever_is_nested_keeps_its_budgets_accounts_and_time(
    part: Part, budget: Budget | None, cancel_at: tuple[float, ...]
) -> None:
    run = played(part, budget, cancel_at)
    assert run.error is None or isinstance(run.error, PyAgentError | asyncio.CancelledError)
    assert bool(run.result.output) == (run.error is None)
    claims.nothing_is_left_running(run)
    assert len(run.result.calls) == len(run.world.attempts)
    assert_accounts_agree(run.result, run.trace)
    for limit in (budget, part.budget):
        if limit is not None:
            claims.budgets_hold(run.world.attempts, run.result.calls, limit)
    budgets_and_time_hold_below(part, "r", "", run)
    for outcome in run.result.outcomes:
        below = {id(c) for c in run.result.calls if f"{c.path}/".startswith(f"{outcome.path}/")}
        assert below <= {id(call) for call in outcome.calls}


def budgets_and_time_hold_below(part: Part, name: str, path: str, run: Played) -> None:
    attempts = [a for a in run.world.attempts if a.model.model.startswith(f"{name}-")]
    if part.budget is not None:
        calls = [call for call in run.result.calls if call.path.startswith(path)]
        assert len(calls) == len(attempts)
        claims.budgets_hold(attempts, calls, part.budget)
    if part.seconds is not None and attempts:
        took = max(a.ended_at for a in attempts) - min(a.began for a in attempts)
        assert took <= part.seconds + 1e-6
    for n, inner in enumerate(part.parts):
        if isinstance(inner, Part):
            budgets_and_time_hold_below(inner, f"{name}-{n}", f"{path}{name}-{n}/", run)
