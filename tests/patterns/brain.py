"""A model that does whatever it is asked for: plans, chooses, judges, calls tools, or answers."""

from __future__ import annotations

import json

from pyagent_providers import LLM, Completion, Usage
from pyagent_providers.types import Request, ToolCall
from tests.wire.team import form_filled

from .teams import PRICE

_ASKED = "Answer with JSON that follows this schema, and nothing else:\n"


class Brain(LLM):
    """Plans for every worker, chooses the first route, accepts all work, calls each tool once.

    What it is asked for it reads from the request, else from the words of the question, as a
    model behind another pattern has to. A call costs $0.00006.
    """

    def __init__(self, name: str = "brain") -> None:
        super().__init__(name, provider="scripted", price=PRICE)

    async def _complete(self, request: Request) -> Completion:
        usage = Usage(input_tokens=10, output_tokens=5)
        if request.tools and request.messages[-1].role != "tool":
            calls = tuple(
                ToolCall(f"call-{n}", tool.name, '{"task": "help me"}')
                for n, tool in enumerate(request.tools)
            )
            return Completion(
                text="", usage=usage, tool_calls=calls, finish_reason="tool_calls", model=self.model
            )
        text = self._text(request)
        return Completion(text=text, usage=usage, finish_reason="stop", model=self.model)

    def _text(self, request: Request) -> str:
        question = request.messages[-1].content
        if request.schema is not None:
            return form_filled(request.schema.schema)
        if _ASKED in question:
            wanted = question.rpartition(_ASKED)[2].splitlines()[0]
            return form_filled(json.loads(wanted))
        return f"{self.model} did: {question.splitlines()[0][:40]}"
