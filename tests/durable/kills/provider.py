"""A provider whose answers are a function of the question alone, and whose speed is chance.

Of every ten attempts it turns one away, so that retries too are cut off and gone on with.

An answer names the call and, in brackets, the answers it was given: `r7:d(r7:b(r7:a()),r7:c())`.
So what the right answer of a run is can be worked out from its graph alone, and an answer that
went to the wrong place is seen in it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import re
import signal
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from pyagent_providers.base import LLM, Completion
from pyagent_providers.errors import OverloadedError
from pyagent_providers.model_price import ModelPrice
from pyagent_providers.types import Request, ToolCall, Usage

from .log import Log

Graph = Mapping[str, Sequence[str]]
PRICE: Final = ModelPrice(1, 3)
FILLER: Final = "~"
TURNED_AWAY: Final = 0.1  # of attempts; never billed, and not in the log
_chance: Final = random.SystemRandom()  # also in forked processes each its own


@dataclass(slots=True)
class World:
    """What the stub provider of this process is like.

    `latency` gives a call's seconds, by the call's name; `size` is how long answers are at least,
    in characters. `freeze` names a call: when it is answered, and before anybody else knows, the
    process stops itself. `declined` has what a model is told of tool calls that a person declined.
    """

    log: Log
    latency: Callable[[str], float]
    size: int = 0
    freeze: str = ""
    declined: Mapping[str, str] = field(default_factory=dict[str, str])


world: World | None = None  # of this process; set before it does anything


def here() -> World:
    """This process's world."""
    assert world is not None, "the process has set no world"
    return world


def between(low: float, high: float, seed: int) -> Callable[[str], float]:
    """Latencies drawn anew for each call."""
    chance = random.Random(seed)
    return lambda call: chance.uniform(low, high)


class InTheWorld(LLM):
    """A model as the world is: slow, at times busy, and everything that it does is in the log.

    The id of an answer says which process had it, and to which call: `4711-3:plan`.
    """

    _counter = itertools.count(1)

    def __init__(self) -> None:
        super().__init__("stub", provider="stub", price=PRICE)

    @abstractmethod
    def call(self, request: Request) -> tuple[str, str]:
        """Which run this is of, and what it is called there."""

    @abstractmethod
    def reply(self, request: Request, run: str, call: str) -> tuple[str, Sequence[ToolCall]]:
        """The answer, and the tool calls that are wished for."""

    async def _complete(self, request: Request) -> Completion:
        world = here()
        run, call = self.call(request)
        if _chance.random() < TURNED_AWAY:
            raise OverloadedError("busy", provider=self.provider, model=self.model)
        world.log.write("START", run=run, call=call)
        await asyncio.sleep(world.latency(call))
        answer = f"{os.getpid()}-{next(self._counter)}:{call}"  # a forked process counts on
        text, wished = self.reply(request, run, call)
        completion = Completion(
            text=text,
            usage=usage(run, call),
            model="stub",
            finish_reason="tool_calls" if wished else "stop",
            response_id=answer,
            tool_calls=tuple(wished),
        )
        world.log.write("DONE", run=run, call=call, answer=answer)
        if call == world.freeze:
            os.kill(os.getpid(), signal.SIGSTOP)
        return completion


class Stub(InTheWorld):
    """Plans a graph, does a task of it, or puts the answers together."""

    def __init__(self, graph: Graph | None = None) -> None:
        super().__init__()
        self._graph = graph or {}

    def call(self, request: Request) -> tuple[str, str]:
        prompt = request.messages[-1].content
        task = re.search(r"<task>\n(\S+)", prompt)
        if task is not None:
            return task[1], "plan" if request.schema is not None else "synthesis"
        run, call = prompt.split(maxsplit=2)[:2]
        return run, call

    def reply(self, request: Request, run: str, call: str) -> tuple[str, Sequence[ToolCall]]:
        prompt = request.messages[-1].content
        return self._plan(run) if call == "plan" else _answered(run, call, prompt), ()

    def _plan(self, run: str) -> str:
        return json.dumps(
            {
                "assignments": [
                    {"id": name, "worker": "worker", "subtask": f"{run} {name}",
                     "depends_on": list(after)}
                    for name, after in self._graph.items()
                ]
            }
        )  # fmt: skip


def question(run: str, call: str, given: Mapping[str, str]) -> str:
    """A question that the stub understands, for patterns that write their own."""
    told = [f'<output from="x" id="{name}">\n{text}\n</output>' for name, text in given.items()]
    return "\n\n".join((f"{run} {call}", *told))


def usage(run: str, call: str) -> Usage:
    """What a call uses: other figures for each call, and none of them round."""
    return Usage(input_tokens=101 + len(run) + 7 * len(call), output_tokens=13 + sum(call.encode()))


def cost(run: str, call: str) -> Decimal:
    """What a call costs, in US dollars."""
    return PRICE.cost(usage(run, call))


def expected(run: str, graph: Graph) -> str:
    """The right answer of a run of this graph."""

    def answer(name: str) -> str:
        return f"{run}:{name}({','.join(answer(before) for before in graph[name])})"

    return f"{run}:synthesis({','.join(answer(name) for name in graph)})"


def _answered(run: str, call: str, prompt: str) -> str:
    given = re.findall(r'<output_* from="[^"]*" id="[^"]*">\n(?:Subtask: .*\n\n)?(.*)\n', prompt)
    text = f"{run}:{call}({','.join(given)})"
    size = here().size
    return text if not size else f"{text}\n{FILLER * size}"
