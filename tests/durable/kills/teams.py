"""The teams whose runs are killed; at the top of a module, so that any process can import them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from pyagent_patterns import Agent, Pattern, RetryPolicy
from pyagent_patterns.durable.teams import load
from pyagent_patterns.orchestration import OrchestratorWorkers
from pyagent_patterns.run import RunContext

from .provider import Graph, Stub, question

# A diamond, and four tasks beside it: much happens at once, in an order that is chance.
DIAMOND: Final[Graph] = {
    "a": (),
    "b": ("a",),
    "c": ("a",),
    "d": ("b", "c"),
    "u": (),
    "v": (),
    "w": ("u",),
    "x": ("u", "v"),
}
CHAIN_LENGTH: Final = 52
CHAIN: Final[Graph] = {
    f"t{number}": (f"t{number - 1}",) if number else () for number in range(CHAIN_LENGTH)
}


# So many attempts are turned away one after another once in a hundred million times.
PATIENT: Final = RetryPolicy(max_attempts=8, backoff=0.002)


def _orchestrator(graph: Graph) -> OrchestratorWorkers:
    stub = Stub(graph)
    return OrchestratorWorkers(
        orchestrator=Agent("boss", stub), workers=[Agent("worker", stub)], retry=PATIENT
    )


class Waiting(Pattern):
    """Asks, waits for `signals` signals with a pause before each but the first, and asks again."""

    name: ClassVar[str] = "waiting"

    def __init__(self, *, signals: int, pause: float) -> None:
        super().__init__(retry=PATIENT)
        self._first, self._last = Agent("first", Stub()), Agent("last", Stub())
        self._signals = signals
        self._pause = pause

    @property
    def members(self) -> Sequence[Agent]:
        return (self._first, self._last)

    async def _execute(self, ctx: RunContext, task: str) -> str:
        given = {"first": await self._ask(ctx, self._first, task, {})}
        for number in range(self._signals):
            wait = ctx.child(f"wait{number}")
            if number:
                await wait.sleep(self._pause)
            given[f"go{number}"] = str(await wait.wait_signal("go"))
        return await self._ask(ctx, self._last, task, given)

    async def _ask(self, ctx: RunContext, agent: Agent, task: str, given: Mapping[str, str]) -> str:
        prompt = question(task, agent.name, given)
        return await ctx.child(agent.name).ask(agent, prompt, phase="worker")


def waited(run: str, *values: str) -> str:
    """The right answer of a run of `Waiting` that was sent these values."""
    return f"{run}:last({','.join((f'{run}:first()', *values))})"


def key(call: str) -> str:
    """The key under which a team here makes a call."""
    return (
        f"{call}/ask:0" if call in ("plan", "synthesis", "first", "last") else f"work/{call}/ask:0"
    )


diamond = _orchestrator(DIAMOND)
chain = _orchestrator(CHAIN)
waiting = Waiting(signals=2, pause=0.05)
approval = Waiting(signals=1, pause=0.0)


def named(team: str) -> Pattern:
    """A team of this module, or `module:name` of another one in this folder."""
    module, _, name = team.rpartition(":")
    found = load(f"{__package__}.{module or 'teams'}:{name}")
    assert isinstance(found, Pattern), found
    return found
