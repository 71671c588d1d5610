"""What the tests of streams and displays watch: a model that answers in pieces, and small teams."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence

from pyagent_patterns import Agent, OrchestratorWorkers
from pyagent_patterns.base import Pattern
from pyagent_patterns.orchestration import Hierarchical, Loop, Parallel, Pipeline, Router, Team
from pyagent_patterns.tools import tool
from pyagent_providers.errors import RateLimitError, ServerError
from pyagent_providers.testing import Answer, ScriptedLLM, Step
from pyagent_providers.types import Completion, Request, ToolCall, Usage

from .teams import PRICE, QUICK, item, plan_text


class Piecewise(ScriptedLLM):
    """A scripted model that streams its answer word by word, and lets others run in between."""

    async def _stream(self, request: Request) -> AsyncIterator[str | Completion]:
        completion = await self._complete(request)
        for word in re.findall(r"\S+\s*", completion.text):
            await asyncio.sleep(0)
            yield word
        yield completion


def piecewise(name: str, *answers: Answer | Step, **about: object) -> Agent:
    llm = Piecewise(answers, model=f"{name}-model", price=PRICE)
    return Agent(name, llm, **about)  # pyright: ignore[reportArgumentType]


def calls_tool(name: str, arguments: str, said: str = "") -> Completion:
    """An answer that calls a tool."""
    usage = Usage(input_tokens=10, output_tokens=5)
    call = ToolCall(f"call-{name}", name, arguments)
    return Completion(text=said, usage=usage, finish_reason="tool_calls", tool_calls=(call,))


def busy() -> RateLimitError:
    return RateLimitError("slow down", provider="p", model="m", retry_after=0)


@tool(effect="read")
async def look_up(word: str) -> str:
    """Look a word up."""
    if word == "nothing":
        raise LookupError("there is no such word")
    return f"{word} is a word"


def eventful(**options: object) -> OrchestratorWorkers:
    """A run with a plan that is sent back, a retry, tool calls, a failure and a skip."""
    plan = plan_text(
        item("finder", "find", id="t1", depends_on=[]),
        item("breaker", "break", id="t2", depends_on=["t1"]),
        item("writer", "write", id="t3", depends_on=["t2"]),
    )
    return OrchestratorWorkers(
        orchestrator=piecewise("planner", "no plan", plan, "the final answer"),
        workers=[
            piecewise(
                "finder",
                busy(),
                calls_tool("look_up", '{"word": "salt"}', "let me look"),
                calls_tool("look_up", '{"word": "nothing"}'),
                "it is salt",
                tools=[look_up],
            ),
            piecewise("breaker", *[ServerError("it broke", provider="p", model="m")] * 3),
            piecewise("writer"),
        ],
        retry=QUICK,
        max_parallel=1,
        **options,  # pyright: ignore[reportArgumentType]
    )


def orchestrator() -> Pattern:
    plan = plan_text(item("a", id="t1", depends_on=[]), item("b", id="t2", depends_on=["t1"]))
    return OrchestratorWorkers(
        orchestrator=piecewise("planner", plan, "the final answer"),
        workers=[piecewise("a", "a did it"), piecewise("b", "b did it")],
    )


def pipeline() -> Pattern:
    return Pipeline([piecewise("a", "a did it"), piecewise("b", "the final answer")])


def router() -> Pattern:
    chosen = json.dumps({"routes": [{"route": "b", "confidence": 0.9}], "reason": "it fits"})
    return Router(
        {"a": piecewise("a"), "b": piecewise("b", "the final answer")},
        classifier=piecewise("classifier", chosen),
    )


def hierarchical() -> Pattern:
    return Hierarchical(
        manager=piecewise("manager", plan_text(item("team")), "the final answer"),
        teams=[
            Team(
                "team",
                lead=piecewise("lead", plan_text(item("a")), "what the team says"),
                workers=[piecewise("a", "a did it")],
            )
        ],
    )


def parallel() -> Pattern:
    return Parallel(
        [piecewise("a", "a did it"), piecewise("b", "b did it")],
        merge=piecewise("editor", "the final answer"),
    )


def loop() -> Pattern:
    answers: Sequence[str] = ("a first try", "the final answer")
    verdicts = [False, True]
    return Loop(piecewise("a", *answers), lambda work: verdicts.pop(0))


PATTERNS: dict[str, Callable[[], Pattern]] = {
    "orchestrator_workers": orchestrator,
    "pipeline": pipeline,
    "router": router,
    "hierarchical": hierarchical,
    "parallel": parallel,
    "loop": loop,
}
