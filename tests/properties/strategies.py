"""Teams, budgets and bad luck of every kind.

Drawing is most of what an example costs, so things of many parts are drawn as one of all their
`combinations`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias, TypeVar

from hypothesis import strategies as st

from pyagent_patterns import Budget, RetryPolicy, Timeouts
from pyagent_patterns.budget import Unpriced
from pyagent_patterns.policy import OnError
from pyagent_patterns.traffic import Breaker, RateLimit
from pyagent_providers import ModelPrice

from .teams import AgentSpec, CaseSpec, ModelSpec, TaskSpec, TeamSpec
from .world import ERRORS, Turn

T = TypeVar("T")
Lengths: TypeAlias = Sequence[int | None]
Prices: TypeAlias = Sequence[ModelPrice | None]

BOUNDED: Lengths = (100, 1, 2_000)
PRICED: Prices = tuple(ModelPrice(*p) for p in ((1, 10), (0, 0), (3, 0), (0, 15)))
NO_BUDGET: st.SearchStrategy[Budget | None] = st.none()
POLICIES: Sequence[OnError] = ("partial", "retry", "fallback", "skip", "abort")


def combinations(make: Callable[..., T], **choices: Sequence[object]) -> st.SearchStrategy[T]:
    """`make` of one of all combinations; the first of each choice is the simplest."""

    def pick(number: int) -> T:
        picked: dict[str, object] = {}
        for name, several in choices.items():
            number, n = divmod(number, len(several))
            picked[name] = several[n]
        return make(**picked)

    return st.integers(0, math.prod(map(len, choices.values())) - 1).map(pick)


turns = combinations(
    Turn,
    ends=(*["answer"] * len(ERRORS), *["cut off", "empty", "bug"], *ERRORS),
    seconds=(1.0, 0.0, 2.0, 3.5, 20.0),
    percent=(100, 0, 33),
    unbounded=(50, 30_000),
    reports=(True, True, False),
    retry_after=(None, None, 0.0, 2.0, 45.0),
)
retries = combinations(
    RetryPolicy,
    max_attempts=(1, 2, 3, 4),
    backoff=(0.0, 1.0),
    max_backoff=(1.0, 30.0),
    jitter=(False, True),
)
# Of what can happen to a run each happens to some, so that most runs get somewhere.
timeouts = st.sampled_from(
    (
        *[Timeouts()] * 4,
        *[Timeouts(**{kind: 2.0}) for kind in ("call", "idle", "assignment")],
        Timeouts(call=3.0, assignment=5.0),
        Timeouts(assignment=30.0),
        Timeouts(run=12.0),
    )
)
limits = st.sampled_from(
    (
        *[RateLimit()] * 4,
        RateLimit(requests_per_minute=2),
        RateLimit(requests_per_minute=5, max_concurrent=2),
        RateLimit(tokens_per_minute=5_000),
        RateLimit(max_concurrent=1),
    )
)
breakers = combinations(Breaker, failures=(1, 2, 3), cool_down=(5.0,))


@st.composite
def models(draw: st.DrawFn, prices: Prices) -> ModelSpec:
    attempts = tuple(draw(st.lists(turns, min_size=1, max_size=3)))
    of_provider = combinations(ModelSpec, turns=(attempts,), provider=("p", "q"), price=prices)
    return draw(of_provider)


@st.composite
def agents(
    draw: st.DrawFn, lengths: Lengths = BOUNDED, prices: Prices = PRICED, fallbacks: int = 1
) -> AgentSpec:
    asked = tuple(draw(st.lists(models(prices), min_size=1, max_size=2)))
    has_fallback = fallbacks and draw(st.integers(0, 3)) == 3
    fallback = draw(agents(lengths, prices, fallbacks - 1)) if has_fallback else None
    retry = draw(st.none() | st.none() | retries)
    return draw(
        combinations(
            AgentSpec,
            models=(asked,),
            max_tokens=lengths,
            stream=(False, True),
            on_error=(None, None, *POLICIES),
            retry=(retry,),
            fallback=(fallback,),
        )
    )


def healthy(lengths: Lengths, prices: Prices) -> st.SearchStrategy[AgentSpec]:
    """An agent that answers; else too few runs get beyond their plan."""
    fine = tuple((ModelSpec(price=price),) for price in prices)
    return combinations(AgentSpec, models=fine, max_tokens=lengths)


@st.composite
def graphs(draw: st.DrawFn, workers: int, most: int = 6) -> tuple[TaskSpec, ...]:
    """An acyclic graph of tasks, each for one of so many workers."""
    size = draw(st.integers(1, most))
    # The bits below n say on which earlier ones the n-th depends.
    numbers = draw(st.lists(st.integers(0, 2**size * workers - 1), min_size=size, max_size=size))
    tasks: list[TaskSpec] = []
    for n, number in enumerate(numbers):
        bits, worker = divmod(number, workers)
        tasks.append(TaskSpec(worker, tuple(other for other in range(n) if bits >> other & 1)))
    return tuple(tasks)


@st.composite
def teams(
    draw: st.DrawFn, lengths: Lengths = BOUNDED, prices: Prices = PRICED, letter: str = "t"
) -> TeamSpec:
    workers = tuple(draw(st.lists(agents(lengths, prices), min_size=1, max_size=3)))
    fine = healthy(lengths, prices)
    most_often = fine | fine | fine | fine | agents(lengths, prices)
    return draw(
        combinations(
            TeamSpec,
            tasks=(draw(graphs(len(workers))),),
            workers=(workers,),
            planner=(draw(most_often),),
            synthesizer=(draw(st.none() | most_often),),
            bad_plans=(0, 0, 0, 0, 0, 1, 1, 2),
            max_parallel=(None, None, 1, 2, 3),
            letter=(letter,),
        )
    )


def budgets(on_unpriced: Sequence[Unpriced | ModelPrice] = ("raise",)) -> st.SearchStrategy[Budget]:
    """With limits that are reached soon, late and never."""
    usd = [{"max_cost_usd": f"0.{n:03}"} for n in (12, 20, 30, 45, 60, 90, 150, 400)]
    tokens = [{"max_tokens": n} for n in (6_000, 9_000, 14_000, 20_000, 30_000, 50_000, 99_000)]
    calls = [{"max_calls": n} for n in (1, 2, 3, 4, 6, 8, 12)]
    seconds = [{"max_seconds": n} for n in (2.0, 5.0, 12.0, 40.0, 100.0)]
    several = [usd[3] | tokens[3] | calls[4], tokens[5] | seconds[2], usd[6] | seconds[3]]

    def budget(limits: Mapping[str, object], on_unpriced: Unpriced | ModelPrice) -> Budget:
        return Budget(**limits, on_unpriced=on_unpriced)  # pyright: ignore[reportArgumentType]

    every = (*usd, *tokens, *calls, *seconds, *several)
    return combinations(budget, limits=every, on_unpriced=on_unpriced)


@st.composite
def short_of_money(draw: st.DrawFn) -> CaseSpec:
    """A team whose planner and synthesis do well, under a budget of money, tokens or calls."""
    fine = healthy(BOUNDED, PRICED)
    drawn = draw(teams())
    team = replace(
        drawn,
        workers=tuple(replace(worker, on_error=None) for worker in drawn.workers),
        planner=draw(fine),
        synthesizer=draw(st.none() | fine),
        bad_plans=0,
        words=draw(st.sampled_from((0, 20, 400))),
    )
    return draw(
        combinations(
            CaseSpec,
            team=(team,),
            on_error=("partial", "skip", "retry"),
            run_budget=(draw(budgets().filter(lambda budget: budget.max_seconds is None)),),
        )
    )


@st.composite
def cases(
    draw: st.DrawFn,
    lengths: Lengths = BOUNDED,
    prices: Prices = PRICED,
    limited: st.SearchStrategy[Budget | None] = NO_BUDGET,
) -> CaseSpec:
    """Anything that can happen to a run. `limited` draws its budgets, at least that of the run."""
    stand_ins: list[TeamSpec | AgentSpec] = []
    for letter in "uv"[: draw(st.sampled_from((0, 0, 0, 1, 2)))]:
        stand_in = draw(agents(lengths, prices) | teams(lengths, prices, letter))
        if isinstance(stand_in, TeamSpec):
            stand_in = replace(stand_in, budget=draw(NO_BUDGET | limited))
        stand_ins.append(stand_in)
    return draw(
        combinations(
            CaseSpec,
            team=(draw(teams(lengths, prices)),),
            retry=(draw(retries),),
            timeouts=(draw(timeouts),),
            on_error=("partial", "partial", *POLICIES),
            budget=(draw(NO_BUDGET | limited),),
            run_budget=(draw(limited),),
            degrade_to=(tuple(stand_ins),),
            limit=(draw(limits),),
            breaker=(draw(st.none() | breakers),),
            cancel_at=(*[()] * 16, (0.0,), (1.0,), (2.0,), (2.5,), (4.0, 4.0), (6.0, 7.0)),
        )
    )
