"""What definitions in these tests name: tools, functions, types and models of an application's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

from pydantic import BaseModel, Field

from pyagent_patterns import Agent, NewAgent, Prompts, RateLimit, Tool, Traffic, tool
from pyagent_patterns.orchestration import prompts
from pyagent_patterns.sandbox import SandboxResult
from pyagent_providers import Message
from pyagent_providers.testing import ScriptedLLM


class Question(BaseModel):
    """What a team is asked."""

    topic: Annotated[str, Field(min_length=2)]
    pages: int = 1


class Report(BaseModel):
    text: str


def search(query: str) -> str:
    """Search the archive."""
    return f"found {query}"


@tool(effect="read")
def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word}: a word"


async def echo(messages: Sequence[Message]) -> str:
    return f"echo: {messages[-1].content}"


async def helper(prompt: str) -> str:
    """Helps."""
    return f"helped with {prompt}"


def is_good(work: str) -> bool:
    return bool(work)


def is_money(task: str) -> bool:
    return "money" in task


def is_busy(error: Exception) -> bool:
    return "busy" in str(error)


def hire(wanted: NewAgent) -> Agent:
    return Agent(wanted.name, echo, system_prompt=wanted.system_prompt)


class Box:
    """A sandbox that runs nothing."""

    async def run(self, argv: Sequence[str], *, stdin: str = "") -> SandboxResult:
        return SandboxResult(stdout=stdin, stderr="", exit_code=0)


class Shelf:
    """A toolset that brings one tool."""

    name = "shelf"

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Sequence[Tool]]:
        yield [look_up]


scripted = ScriptedLLM(["from the script"])
box = Box()
shelf = Shelf()
calm = Traffic({"openai": RateLimit(requests_per_minute=10)})
wording = Prompts(subtask=lambda assignment, outputs: assignment.subtask)
assert wording != prompts.DEFAULT
number = 3
