"""The smallest pattern, for tests of what happens to one question."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import ClassVar, Unpack

from pyagent_patterns import Agent, Pattern
from pyagent_patterns.base import Options
from pyagent_patterns.run import RunContext
from pyagent_patterns.traffic import Traffic
from pyagent_providers import Completion, ModelPrice, Usage

PRICE = ModelPrice(input="1", output="10")  # dollars per million
MILLIONTH = Decimal("0.000001")


class Solo(Pattern):
    """One question to one agent. Without `traffic`, its own: no test is slowed by another."""

    name: ClassVar[str] = "solo"

    def __init__(self, agent: Agent, **policies: Unpack[Options]) -> None:
        super().__init__(**{"traffic": Traffic(), **policies})
        self._agent = agent

    @property
    def members(self) -> Sequence[Agent]:
        return (self._agent,)

    async def _execute(self, ctx: RunContext, task: str) -> str:
        return await ctx.ask(self._agent, task, phase="worker")


def cut_off(text: str, *, tokens: int = 5) -> Completion:
    """An answer that ended at its token limit."""
    usage = Usage(input_tokens=10, output_tokens=tokens)
    return Completion(text=text, usage=usage, finish_reason="length")
