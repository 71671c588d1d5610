"""What models say that call tools, and what they are told, for the tests of the tool loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pyagent_patterns import Agent
from pyagent_patterns.tools import Tool
from pyagent_providers.testing import Answer, ScriptedLLM, Step
from pyagent_providers.types import Completion, ToolCall, Usage

from .teams import PRICE

Call = tuple[str, dict[str, object] | str]


def wishes(*calls: Call, text: str = "") -> Completion:
    """A model's wish to call these, each a name and arguments (or the JSON text of some)."""
    return Completion(
        text=text,
        usage=Usage(input_tokens=10, output_tokens=5),
        model="scripted",
        finish_reason="tool_calls",
        tool_calls=tuple(
            ToolCall(f"call-{n}", name, given if isinstance(given, str) else json.dumps(given))
            for n, (name, given) in enumerate(calls)
        ),
    )


def model(*answers: Answer | Step) -> ScriptedLLM:
    return ScriptedLLM(answers, price=PRICE)


def told(agent: Agent, question: int = -1) -> list[str]:
    """The results of tools in a question to the agent, the last unless another is named."""
    assert isinstance(agent.llm, ScriptedLLM)
    return [m.content for m in agent.llm.requests[question].messages if m.role == "tool"]


@dataclass
class Box:
    """A toolset that notes when it is opened and closed. `bring` gives its tools."""

    bring: Callable[[], Sequence[Tool]]
    name: str = "box"
    fault: Exception | None = None
    fault_at_end: Exception | None = None
    log: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Sequence[Tool]]:
        self.log.append("opened")
        await asyncio.sleep(0)  # opening something takes a while
        if self.fault is not None:
            raise self.fault
        try:
            yield self.bring()
        finally:
            self.log.append("closed")
            if self.fault_at_end is not None:
                raise self.fault_at_end
