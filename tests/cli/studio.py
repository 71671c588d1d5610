"""Teams that ask people, take inputs and have budgets, on the newsroom's stub model.

The tests copy this file to where they work, beside the newsroom's.
"""

from __future__ import annotations

import json

from newsroom import ONCE, PRICE, Stub  # pyright: ignore

from pyagent_patterns import Agent, Pattern
from pyagent_patterns.orchestration import Loop, Parallel, Pipeline
from pyagent_patterns.people import ask_human
from pyagent_patterns.tools import tool
from pyagent_providers import Completion, ToolCall, Usage
from pyagent_providers.testing import ScriptedLLM


class Says(ScriptedLLM):
    """Says one thing, in two pieces, however often it is asked."""

    def __init__(self, text: str) -> None:
        super().__init__([], price=PRICE)
        self.text = text

    async def _complete(self, request):
        return Completion(text=self.text, usage=Usage(input_tokens=100, output_tokens=10))

    async def _stream(self, request):
        half = len(self.text) // 2
        yield self.text[:half]
        yield self.text[half:]
        yield await self._complete(request)


class Asks(Stub):
    """Calls a tool once, then answers with what that said."""

    def __init__(self, tool: str, arguments: dict[str, str]) -> None:
        super().__init__("asks")
        self.call = ToolCall("call-1", tool, json.dumps(arguments))

    async def _complete(self, request):
        usage = Usage(input_tokens=100, output_tokens=10)
        said = [m.content for m in request.messages if m.role == "tool"]
        if said:
            return Completion(text=f"I was told: {said[0]}", usage=usage, finish_reason="stop")
        return Completion(text="", usage=usage, finish_reason="tool_calls", tool_calls=(self.call,))


@tool(effect="unsafe", approve=True)
def publish(text: str) -> str:
    """Publish a text."""
    return f"published {text}"


class Shouts(Pattern):
    """Gives another answer than the one that was written."""

    name = "shouts"

    @property
    def members(self):
        return (writer,)

    async def _execute(self, ctx, task):
        return (await ctx.ask(writer, task, phase="worker")).upper()


says = Says("Salt comes from rock.")
writer = Agent("writer", says)
solo = Pipeline([writer], name="solo", retry=ONCE)
gated = Pipeline([writer], name="gated", approve=["answer"], retry=ONCE)
shouts = Shouts(retry=ONCE)
twice = Loop(writer, lambda work: False, max_rounds=1, retry=ONCE)
together = Parallel([writer, Agent("other", Says("So it does."))], retry=ONCE)
asking = Agent("curious", Asks("ask_human", {"question": "Which sea?"}), tools=[ask_human])
acting = Agent("careful", Asks("publish", {"text": "this"}), tools=[publish])
curious = Pipeline([asking])
careful = Pipeline([acting])
both = Parallel([asking, acting])
about = Pipeline(
    [writer],
    retry=ONCE,
    inputs={
        "type": "object",
        "properties": {"sea": {"type": "string"}, "depth": {"type": "integer"}},
        "required": ["sea"],
        "additionalProperties": False,
    },
)
