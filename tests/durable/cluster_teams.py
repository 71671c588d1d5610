"""Teams for the tests of clusters, on models that note in a file what they are asked.

The file is `log` in the folder that CLUSTER_TEST_DIR names. A question that has the word "hold" in
it is answered when there is a file `open` in that folder.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from pyagent_patterns import Agent, Pattern, Pipeline
from pyagent_patterns.run import RunContext, Task
from pyagent_providers import LLM, Completion, ModelPrice, Usage
from pyagent_providers.errors import BadRequestError
from pyagent_providers.types import Request

FOLDER = "CLUSTER_TEST_DIR"


@dataclass(frozen=True, slots=True)
class Asked:
    """A line of the log. `what` is `asked` or `answered`."""

    what: str
    process: int
    prompt: str


def folder() -> Path:
    return Path(os.environ[FOLDER])


def log() -> list[Asked]:
    path = folder() / "log"
    if not path.exists():
        return []
    split = [line.split(" ", 2) for line in path.read_text().splitlines()]
    return [Asked(what, int(process), prompt) for what, process, prompt in split]


def asked(prompt: str = "") -> list[str]:
    """The prompts that models were asked, those that have `prompt` in them."""
    return [line.prompt for line in log() if line.what == "asked" and prompt in line.prompt]


def note(what: str, prompt: str) -> None:
    descriptor = os.open(folder() / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{what} {os.getpid()} {prompt}\n".encode())
    os.close(descriptor)


class Noting(LLM):
    """A model that repeats the question."""

    async def _complete(self, request: Request) -> Completion:
        prompt = request.messages[-1].content
        note("asked", prompt)
        if "fail" in prompt:
            raise BadRequestError("it is out of order", provider="stub", model=self.model)
        if "hold" in prompt:
            while not (folder() / "open").exists():
                await asyncio.sleep(0.01)
        if found := re.search(r"(\d+)ms", prompt):
            await asyncio.sleep(int(found[1]) / 1000)
        note("answered", prompt)
        return Completion(text=f"re: {prompt}", usage=Usage(input_tokens=10, output_tokens=5))


class Order(BaseModel):
    item: str
    count: int = 1


class Each(Pattern):
    """Asks one question for each word of the task, all at once, and then one more."""

    name = "each"

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self._agent = agent

    @property
    def members(self) -> Sequence[Agent]:
        return [self._agent]

    async def _execute(self, ctx: RunContext, task: str) -> str:
        tasks = {
            word: Task((), lambda its, _, word=word: its.ask(self._agent, word, phase="worker"))
            for word in task.split(", ")
        }
        await ctx.child("each").dag(tasks)
        return await ctx.child("last").ask(self._agent, "last", phase="synthesis")


class Approved(Pattern):
    """Asks, waits for the signal `yes`, and asks again; a time between the two if there is one."""

    name = "approved"

    def __init__(self, agent: Agent, pause: float = 0, name: str | None = None) -> None:
        super().__init__(name=name)
        self._agent = agent
        self._pause = pause

    @property
    def members(self) -> Sequence[Agent]:
        return [self._agent]

    async def _execute(self, ctx: RunContext, task: str) -> str:
        await ctx.child("draft").ask(self._agent, f"draft {task}", phase="worker")
        if self._pause:
            await ctx.sleep(self._pause)
            return "slept"
        value = await ctx.wait_signal("yes")
        return await ctx.child("final").ask(self._agent, f"final {value}", phase="worker")


PRICE = ModelPrice(input="1", output="10")  # a question costs $0.00006
agent = Agent("it", Noting("stub-model", provider="stub", price=PRICE))
each = Each(agent)
approved = Approved(agent)
sleeping = Approved(agent, pause=0.2)
ordered = Pipeline([agent], inputs=Order)
named = Pipeline([agent], name="the desk")
