"""A team, and a pattern that suspends, on a stub model that the environment steers.

The tests copy this file to where they work, so that they can edit it, run it and take it away.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from pyagent_patterns import Agent, OrchestratorWorkers, RetryPolicy
from pyagent_patterns.base import Pattern
from pyagent_patterns.run import RunContext
from pyagent_providers import LLM, ModelPrice
from pyagent_providers.types import Completion, Request, Usage

HOSTILE = (
    "\x1b[31mred\x1b[0m \x1b]0;title\x07[bold]loud[/bold] \u202egnol\u202c \x9b2J\ud800é end \r\n\n"
)
HARMLESS = "red [bold]loud[/bold] gnol é end"
ANSWERS = {"editor": HOSTILE, "scientist": HOSTILE, "teacher": "Like soup."}
PLAN = json.dumps(
    {
        "assignments": [
            {"id": "t1", "worker": "scientist", "subtask": "Find out why.", "depends_on": []},
            {"id": "t2", "worker": "teacher", "subtask": "Explain it.", "depends_on": ["t1"]},
        ]
    }
)
PRICE = ModelPrice(input="1", output="10")  # a call of 100+10 tokens costs $0.0002


class Stub(LLM):
    def __init__(self, name: str, price: ModelPrice | None = PRICE) -> None:
        super().__init__(f"{name}-model", provider="stub", price=price)
        self.name = name

    async def _complete(self, request: Request) -> Completion:
        if os.environ.get("DIE_AT") == self.name:
            os._exit(9)
        if os.environ.get("FAIL_AT") == self.name:
            raise ValueError("the stub \x1b[31mfailed[/red]")
        if os.environ.get("BLOCK_AT") == self.name:
            print("blocked", file=sys.stderr, flush=True)
            await asyncio.Event().wait()
        if os.environ.get("SLEEP_AT") == self.name:
            print("asked", file=sys.stderr, flush=True)
            await asyncio.sleep(0.3)
        text = PLAN if request.schema else ANSWERS[self.name]
        usage = Usage(input_tokens=100, output_tokens=10)
        return Completion(text=text, usage=usage, model=self.model, finish_reason="stop")


ONCE = RetryPolicy(max_attempts=1)
scientist = Agent("scientist", Stub("scientist"), system_prompt="You do research.")
teacher = Agent("teacher", Stub("teacher"), system_prompt="You teach.")
editor = Agent("editor", Stub("editor"), system_prompt="You plan.")
team = OrchestratorWorkers(orchestrator=editor, workers=[scientist, teacher], retry=ONCE)
unpriced = OrchestratorWorkers(
    orchestrator=editor, workers=[scientist, Agent("teacher", Stub("teacher", None))], retry=ONCE
)
desk = OrchestratorWorkers(
    orchestrator=editor, workers=[scientist, teacher], retry=ONCE, name="science\x1b[31m desk"
)
ordered = OrchestratorWorkers(orchestrator=editor, workers=[teacher], inputs=dict[str, int])


class Approval(Pattern):
    """Asks, then waits for a word from outside."""

    name = "approval"
    members = (teacher,)

    async def _execute(self, ctx: RunContext, task: str) -> str:
        draft = await ctx.ask(teacher, task, phase="worker")
        return f"{draft} {json.dumps(await ctx.wait_signal('approval'))}"


approval = Approval()

if __name__ == "__main__":
    team.run_sync(sys.argv[1], durable="runs.db", run_id=sys.argv[2])
