"""Teams as they are drawn, and what became of one run of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hypothesis import currently_in_test_context, note

from pyagent_patterns import Agent, Budget, OrchestratorWorkers, Result, RetryPolicy, Timeouts
from pyagent_patterns.base import Pattern
from pyagent_patterns.events import Event
from pyagent_patterns.journal import Store
from pyagent_patterns.policy import OnError
from pyagent_patterns.purse import Purse
from pyagent_patterns.run import RunContext
from pyagent_patterns.testing import CapturedTrace, capture_trace
from pyagent_patterns.traffic import Breaker, RateLimit, Traffic
from pyagent_providers import ModelPrice
from pyagent_providers.types import Request

from .virtual import VirtualLoop, run_virtually
from .world import Model, Turn, World


@dataclass(frozen=True, slots=True)
class ModelSpec:
    turns: tuple[Turn, ...] = (Turn(),)
    provider: str = "p"
    price: ModelPrice | None = None


@dataclass(frozen=True, slots=True)
class AgentSpec:
    models: tuple[ModelSpec, ...] = (ModelSpec(),)
    max_tokens: int | None = 100
    stream: bool = False
    on_error: OnError | None = None
    retry: RetryPolicy | None = None
    fallback: AgentSpec | None = None

    @property
    def bounded(self) -> bool:
        return self.max_tokens is not None and (self.fallback is None or self.fallback.bounded)


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task of a plan: the worker's number, and the numbers of earlier tasks."""

    worker: int
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TeamSpec:
    """An OrchestratorWorkers. The planner gives `bad_plans` first.

    Its agents and subtasks begin with `letter`; all plans have the same ids. A subtask has so
    many more `words` than its name.
    """

    tasks: tuple[TaskSpec, ...]
    workers: tuple[AgentSpec, ...]
    planner: AgentSpec = AgentSpec()
    synthesizer: AgentSpec | None = None
    bad_plans: int = 0
    max_parallel: int | None = None
    letter: str = "t"
    budget: Budget | None = None  # of one that stands in
    words: int = 0

    @property
    def agents(self) -> Sequence[AgentSpec]:
        return [self.planner, *self.workers, *([self.synthesizer] if self.synthesizer else [])]


@dataclass(frozen=True, slots=True)
class CaseSpec:
    """A run: of `team`, under policies, and cancelled at the times of `cancel_at`."""

    team: TeamSpec
    retry: RetryPolicy = RetryPolicy(jitter=False)  # noqa: RUF009 - immutable
    timeouts: Timeouts = Timeouts()  # noqa: RUF009
    on_error: OnError = "partial"
    budget: Budget | None = None
    run_budget: Budget | None = None
    degrade_to: tuple[TeamSpec | AgentSpec, ...] = ()
    limit: RateLimit = RateLimit()  # noqa: RUF009
    breaker: Breaker | None = None
    cancel_at: tuple[float, ...] = ()

    @property
    def agents(self) -> Sequence[AgentSpec]:
        stand_ins = [
            agent
            for stand_in in self.degrade_to
            for agent in (stand_in.agents if isinstance(stand_in, TeamSpec) else [stand_in])
        ]
        return [*self.team.agents, *stand_ins]

    @property
    def budgets(self) -> Sequence[Budget]:
        return [budget for budget in (self.budget, self.run_budget) if budget is not None]


@dataclass
class Played:
    """One run: what came out of it, and everything it left behind."""

    world: World
    trace: CapturedTrace
    result: Result = field(init=False)
    error: BaseException | None = None
    seconds: float = 0
    events: list[Event] = field(default_factory=list)
    purses: list[Purse] = field(default_factory=list)
    traffic: Traffic = field(init=False)
    left: list[str] = field(default_factory=list)

    def __repr__(self) -> str:  # what a failing example shows
        return f"<{self.error!r} after {self.seconds:g} s: {self.result}>"


def play(case: CaseSpec) -> Played:
    """Run it once, on a virtual clock."""
    show(case)
    world = World()
    with capture_trace() as trace:
        played = Played(world, trace)

        async def main() -> None:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            limits = {"p": case.limit, "q": case.limit}
            played.traffic = Traffic(limits, breaker=case.breaker, clock=loop.time)
            stand_ins = [
                _stand_in(world, n, spec, played) for n, spec in enumerate(case.degrade_to)
            ]
            team = _team(
                world,
                case.team,
                played,
                retry=case.retry,
                timeouts=case.timeouts,
                on_error=case.on_error,
                budget=case.budget,
                degrade_to=stand_ins,
                traffic=played.traffic,
            )
            await see(team, played, budget=case.run_budget, cancel_at=case.cancel_at)

        run_virtually(main)
    return played


def show(drawn: object) -> None:
    """In the report on an example that fails."""
    if currently_in_test_context():
        note(repr(drawn))


async def see(
    pattern: Pattern,
    played: Played,
    *,
    budget: Budget | None = None,
    cancel_at: Sequence[float] = (),
    store: Store | None = None,
) -> None:
    """Run a pattern and note what came of it; in the end nothing of it may be left."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)

    async def go() -> None:
        try:
            played.result = await pattern.run(
                "the task",
                on_event=played.events.append,
                budget=budget,
                run_id="the-run",
                durable=store,
            )
        except BaseException as error:
            played.error = error
            played.result = _result_of(error)

    running = asyncio.ensure_future(go())
    cancelling = [loop.call_later(seconds, running.cancel) for seconds in cancel_at]
    await asyncio.wait([running])
    played.seconds = loop.time()
    running.result()
    for timer in cancelling:
        timer.cancel()
    for _ in range(3):  # turns of the loop, for whoever was told to go
        await asyncio.sleep(0)
    played.left = loop.what_is_left()


def _result_of(error: BaseException) -> Result:
    result = getattr(error, "result", None)
    assert isinstance(result, Result), f"{error!r} has no result"
    return result


class _Team(OrchestratorWorkers):
    """Lets a test look into the purse of its run."""

    played: Played

    async def _execute(self, ctx: RunContext, task: str) -> str:
        if ctx._purse is not None:
            self.played.purses.append(ctx._purse)
        return await super()._execute(ctx, task)


def _stand_in(world: World, n: int, spec: TeamSpec | AgentSpec, played: Played) -> Agent | Pattern:
    if isinstance(spec, AgentSpec):
        return agent(world, f"stand-in-{n}", spec)
    return _team(world, spec, played, budget=spec.budget)


def _team(world: World, spec: TeamSpec, played: Played, **policies: object) -> _Team:
    def plans(request: Request, made: int) -> str | None:
        if request.schema is None:
            return None
        return "I would begin with a plan." if made < spec.bad_plans else _plan(spec)

    def name(role: str) -> str:
        return f"{spec.letter}-{role}"

    last = spec.synthesizer
    team = _Team(
        orchestrator=agent(world, name("planner"), spec.planner, plans),
        workers=[agent(world, name(f"w{n}"), worker) for n, worker in enumerate(spec.workers)],
        synthesizer=None if last is None else agent(world, name("synthesizer"), last),
        max_parallel=spec.max_parallel,
        **policies,  # pyright: ignore[reportArgumentType]
    )
    team.played = played
    return team


def _plan(spec: TeamSpec) -> str:
    return json.dumps(
        {
            "assignments": [
                {
                    "id": f"t{n}",
                    "worker": f"{spec.letter}-w{task.worker}",
                    "subtask": f"{spec.letter}{n}" + "\nmore" * spec.words,
                    "depends_on": [f"t{after}" for after in task.after],
                }
                for n, task in enumerate(spec.tasks)
            ]
        }
    )


def agent(
    world: World,
    name: str,
    spec: AgentSpec,
    says: Callable[[Request, int], str | None] = lambda request, n: None,
) -> Agent:
    models = [
        Model(world, f"{name}-m{n}", m.turns, provider=m.provider, price=m.price, says=says)
        for n, m in enumerate(spec.models)
    ]
    return Agent(
        name,
        models,
        max_tokens=spec.max_tokens,
        stream=spec.stream,
        on_error=spec.on_error,
        retry=spec.retry,
        fallback=None if spec.fallback is None else agent(world, f"{name}-f", spec.fallback, says),
    )
