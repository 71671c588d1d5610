"""A team for every pattern, one with tools and one with people, whose runs are killed.

Their model answers with a digest of all that it was told; so an answer that went to the wrong
place, or a tool's output, is seen in everything that comes of it. What a run's right answer is, a
run that nobody kills tells.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from pyagent_patterns import Agent, Pattern, tool
from pyagent_patterns.orchestration import (
    Hierarchical,
    OrchestratorWorkers,
    Pipeline,
    Review,
    Router,
    Team,
    loop,
    parallel,
)
from pyagent_patterns.people import Human, ask_human
from pyagent_patterns.plan import NewAgent
from pyagent_patterns.tools import Effect, Tool, ToolError
from pyagent_providers.types import JSONObject, Request, ToolCall

from . import provider
from .log import Log
from .teams import PATIENT

MENDED: Final = "(mended)"
REASON: Final = "it was seen to"  # why a person declined something
CRASHED: Final = (
    f"it may have been made before a crash, and a person declined to make it again: {REASON}"
)
ACTS: Final = ("look", "put", "send", "fetch")


@dataclass(frozen=True, slots=True)
class Step:
    """A planner's step: assignments, each a worker and what it depends on, and new agents."""

    assignments: Mapping[str, tuple[str, Sequence[str]]]
    hires: Sequence[str] = ()


class Digest(provider.InTheWorld):
    """Answers with a digest of all it was told: a plan, a route or a verdict where that is wanted.

    `wishes` are the tool calls of each step, an id and a tool for each.
    """

    def __init__(
        self,
        name: str,
        *,
        steps: Sequence[Step] = (),
        routes: Sequence[str] = (),
        wishes: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__()
        self._name = name
        self._steps = steps
        self._routes = routes
        self._wishes = wishes

    def call(self, request: Request) -> tuple[str, str]:
        told = "\n".join(message.content for message in request.messages)
        run = re.search(r"\br\d+\b", told)
        assert run is not None, f"{self._name} was not told the run:\n{told}"
        return run[0], f"{self._name}.{_digest(request)}"

    def reply(self, request: Request, run: str, call: str) -> tuple[str, Sequence[ToolCall]]:
        told = request.messages[-1].content
        wanted = {} if request.schema is None else request.schema.schema.get("properties", {})
        assert isinstance(wanted, Mapping)
        if "assignments" in wanted:
            return json.dumps(self._plan(f"{run} {call}", told)), ()
        if "routes" in wanted:
            chosen = [{"route": route, "confidence": 0.5} for route in self._routes]
            return json.dumps({"routes": chosen, "reason": call}), ()
        if "accepted" in wanted:
            return json.dumps({"accepted": MENDED in told, "reasons": call}), ()
        step = sum(bool(message.tool_calls) for message in request.messages)
        if step < len(self._wishes):
            return "", [_wish(run, id, name) for id, name in self._wishes[step].items()]
        mended = MENDED if "It was sent back" in told else ""
        return f"{run}:{call}{mended}", ()

    def _plan(self, which: str, told: str) -> JSONObject:
        """The first step of which something is not finished; an empty one when all is."""
        left = (s for s in self._steps if any(f'id="{id}"' not in told for id in s.assignments))
        step = next(left, Step({}))
        return {
            "assignments": [
                {"id": id, "worker": worker, "subtask": f"{which} {id}", "depends_on": list(after)}
                for id, (worker, after) in step.assignments.items()
            ],
            "agents": [
                {"name": name, "role": "helps", "prompt": f"You are {name}."} for name in step.hires
            ],
        }


def _digest(request: Request) -> str:
    told = [asdict(message) for message in request.messages]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:10]


def _wish(run: str, id: str, name: str) -> ToolCall:
    given = {"run": run, "id": id}
    if name == ask_human.name:
        given = {"question": f"What now, in {run}?"}
    elif name not in ACTS:
        given = {"task": f"{run} {id}"}
    return ToolCall(id, name, json.dumps(given))


def agent(name: str) -> Agent:
    return Agent(name, Digest(name))


def hired(spec: NewAgent) -> Agent:
    return Agent(spec.name, Digest(spec.name), system_prompt=spec.prompt)


def planner(name: str, *steps: Step) -> Agent:
    return Agent(name, Digest(name, steps=steps))


async def right_answer(
    team: Pattern, run_id: str, *, declined: Mapping[str, str], human: Human | None, scratch: Path
) -> str:
    """What comes of a run in one go, where tool calls are `declined` and a `human` decides."""
    provider.world = provider.World(Log(scratch), lambda call: 0.0, declined=declined)
    return (await team.run(run_id, human=human)).output


# Every pattern

pipeline = Pipeline(
    [
        agent("draft"),
        [agent("left"), agent("right")],
        Review(agent("judge"), criteria="none"),
        agent("last"),
    ],
    sees="all",
    retry=PATIENT,
)
router = Router(
    [agent("a"), agent("b"), agent("c")],
    classifier=Agent("classifier", Digest("classifier", routes=["c", "a"])),
    top_k=2,
    merge=agent("merge"),
    retry=PATIENT,
)
hierarchical = Hierarchical(
    manager=planner("manager", Step({"x": ("red", ()), "y": ("blue", ("x",)), "z": ("red", ())})),
    teams=[
        Team("red", planner("ruby", Step({"p": ("ann", ()), "q": ("ben", ("p",))})),
             [agent("ann"), agent("ben")]),
        Team("blue", planner("bella", Step({"p": ("cyd", ()), "q": ("dan", ())})),
             [agent("cyd"), agent("dan")]),
    ],
    retry=PATIENT,
)  # fmt: skip
side_by_side = parallel(
    *(agent(f"member{n}") for n in range(6)), merge=agent("merge"), retry=PATIENT
)
rounds = loop(agent("writer"), agent("judge"), criteria="none", retry=PATIENT)
stepwise = OrchestratorWorkers(
    orchestrator=planner(
        "boss",
        Step({"a": ("worker", ()), "b": ("nora", ("a",)), "c": ("nora", ())}, hires=["nora"]),
        Step({"d": ("worker", ("a", "c")), "e": ("otto", ("b",))}, hires=["otto"]),
    ),
    workers=[agent("worker")],
    planning="iterative",
    agent_factory=hired,
    retry=PATIENT,
)
nested = Pipeline(
    [
        [
            parallel(
                loop(agent("writer"), agent("judge"), name="rounds"),
                agent("member"),
                merge=agent("merge"),
            ),
            agent("beside"),
        ],
        Router(
            {
                "deep": OrchestratorWorkers(
                    orchestrator=planner(
                        "boss", Step({"a": ("both", ()), "b": ("worker", ("a",))})
                    ),
                    workers=[
                        parallel(agent("one"), agent("two"), merge=agent("join"), name="both"),
                        agent("worker"),
                    ],
                ),
                "shallow": agent("shallow"),
            },
            classifier=Agent("classifier", Digest("classifier", routes=["deep"])),
        ),
        agent("last"),
    ],
    retry=PATIENT,
)


# Tools


def act(name: str, effect: Effect) -> Tool:
    """A tool that takes its time; in the midst of it, it does what it does."""

    @tool(name=name, effect=effect)
    async def acting(run: str, id: str) -> str:
        world = provider.here()
        if id in world.declined:
            raise ToolError(world.declined[id])
        half = world.latency(f"tool.{id}") / 2
        await asyncio.sleep(half)
        world.log.write("EFFECT", run=run, call=id)
        await asyncio.sleep(half)
        return f"{name} {id} of {run}"

    return acting


@dataclass(frozen=True, slots=True)
class Shelf:
    """A toolset, as an MCP server is one."""

    name: str = "shelf"

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Sequence[Tool]]:
        provider.here().log.write("OPENED")
        yield [act("fetch", "read")]


tooled = Pipeline(
    [
        Agent(
            "hand",
            Digest(
                "hand",
                wishes=[
                    {"look1": "look", "put1": "put", "send1": "send", "send2": "send"},
                    {"help1": "helpers", "fetch1": "fetch"},
                    {"send3": "send", "look2": "look"},
                ],
            ),
            tools=[
                act("look", "read"),
                act("put", "idempotent"),
                act("send", "unsafe"),
                parallel(agent("one"), agent("two"), merge=agent("join"), name="helpers").as_tool(),
            ],
            mcp=[Shelf()],
        ),
        agent("last"),
    ],
    retry=PATIENT,
)
UNSAFE: Final = ("send1", "send2", "send3")


# People


def gated(name: str, **wishes: str) -> Agent:
    return Agent(name, Digest(name, wishes=[wishes]), tools=[act("send", "unsafe"), ask_human])


# Two gates open at once, within a pattern within a pattern; and each kind of gate.
people = Pipeline(
    [
        parallel(
            OrchestratorWorkers(
                orchestrator=planner("boss", Step({"a": ("doer", ()), "b": ("asker", ())})),
                workers=[gated("doer", send1="send"), gated("asker", ask1="ask_human")],
                approve=["plan", "tools"],
            ),
            agent("beside"),
            merge=agent("merge"),
        ),
        agent("last"),
    ],
    approve=["answer"],
    retry=PATIENT,
)

EVERY: Final[Mapping[str, Pattern]] = {
    "pipeline": pipeline,
    "router": router,
    "hierarchical": hierarchical,
    "side_by_side": side_by_side,
    "rounds": rounds,
    "stepwise": stepwise,
    "nested": nested,
}
