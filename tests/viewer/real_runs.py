"""Runs of real patterns on scripted models, as the viewer has them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan

from pyagent_exporters.file import request
from pyagent_exporters.viewer import otlp_json
from pyagent_exporters.viewer.runs import RunTrace
from pyagent_exporters.viewer.spans import Span
from pyagent_exporters.viewer.store import SpanStore
from pyagent_patterns import Agent, OrchestratorWorkers, RetryPolicy
from pyagent_patterns.base import Pattern
from pyagent_patterns.errors import PyAgentError
from pyagent_patterns.testing import capture_trace
from pyagent_patterns.tools import tool
from pyagent_providers import ModelPrice
from pyagent_providers.errors import RateLimitError, ServerError
from pyagent_providers.testing import Answer, ScriptedLLM, Step
from pyagent_providers.types import Completion, ToolCall, Usage
from tests.patterns.teams import item, plan_text


def as_viewed(spans: Sequence[ReadableSpan]) -> tuple[Span, ...]:
    """The spans as they come out of a file or a request."""
    return otlp_json.decode(json.dumps(request(spans))).spans


def only_run(spans: Sequence[Span]) -> RunTrace:
    """The run that all these spans are of, as the store has it."""
    with SpanStore() as store:
        store.add(spans)
        [summary] = store.runs().runs
        trace = store.run(summary.run_id)
    assert trace is not None
    return trace


async def trace_of(pattern: Pattern, task: str = "the task") -> RunTrace:
    """One run, streamed and failing if it wants to."""
    with capture_trace() as captured:
        try:
            async for _ in pattern.stream(task):
                pass
        except PyAgentError:
            pass
    return only_run(as_viewed(captured.spans))


# A run with a bit of everything, in which time passes.

BIG, SMALL = ModelPrice(input="2.50", output="10"), ModelPrice(input="0.15", output="0.60")


def says(
    text: str | Exception, seconds: float, tokens: tuple[int, int] = (900, 260), *, cached: int = 0
) -> Step:
    usage = Usage(input_tokens=tokens[0], output_tokens=tokens[1], cache_read_tokens=cached)
    return Step(text, usage=usage, delay=seconds)


def worker(name: str, *answers: Answer | Step, model: str = "gpt-4o-mini") -> Agent:
    price = SMALL if model == "gpt-4o-mini" else None
    llm = ScriptedLLM(answers, model=model, provider="openai", price=price)
    return Agent(name, llm, system_prompt=f"You are the {name}.", description=f"the {name}")


@tool(effect="read")
async def search(query: str) -> str:
    """Look something up."""
    return json.dumps([{"title": f"About {query}", "score": 0.93}])


def looks_up(query: str) -> Completion:
    call = ToolCall("call-1", "search", json.dumps({"query": query}))
    usage = Usage(input_tokens=640, output_tokens=31)
    return Completion(
        text="", usage=usage, model="gpt-4o-mini", finish_reason="tool_calls", tool_calls=(call,)
    )


def showcase(speed: float = 1.0) -> OrchestratorWorkers:
    """A software team: a plan that is sent back, tools, a retry, a failure and what it skips."""
    plan = plan_text(
        item("researcher", "Find the pitfalls of async HTTP clients.", id="research"),
        item("coder", "Write the client.", id="code", depends_on=["research"]),
        item("tester", "Write tests.", id="tests", depends_on=["code"]),
        item("doc_writer", "Document it.", id="docs", depends_on=["code"]),
        item("benchmarker", "Measure it.", id="bench", depends_on=["code"]),
        item("reviewer", "Review all.", id="review", depends_on=["code", "tests", "docs"]),
        item("publisher", "Publish the figures.", id="publish", depends_on=["bench"]),
    )
    busy = RateLimitError("429: slow down", provider="openai", model="gpt-4o-mini", retry_after=0)
    broken = ServerError("the benchmark host is down", provider="openai", model="gpt-4o-mini")
    planner = ScriptedLLM(
        [
            says("Sure! Here is a plan.", 0.05 * speed, (1450, 22)),
            says(plan, 0.12 * speed, (1720, 310), cached=1024),
            says("Here is a production-ready client.\n\nIt retries.", 0.1 * speed, (3900, 820)),
        ],
        model="gpt-4o",
        provider="openai",
        price=BIG,
    )
    researcher = Agent(
        "researcher",
        ScriptedLLM(
            [
                Step(looks_up("httpx pools"), delay=0.04 * speed),
                says("Mind the pool.", 0.06 * speed),
            ],
            model="gpt-4o-mini",
            provider="openai",
            price=SMALL,
        ),
        system_prompt="You research.",
        tools=[search],
    )
    return OrchestratorWorkers(
        orchestrator=Agent("planner", planner, system_prompt="You are a tech lead. Plan as JSON."),
        workers=[
            researcher,
            worker(
                "coder",
                says(busy, 0.02 * speed),
                says("class Client: ...", 0.2 * speed, (2100, 940)),
            ),
            worker("tester", says("def test(): ...", 0.16 * speed, (1800, 620))),
            worker("doc_writer", says("# Client", 0.09 * speed, (1500, 410)), model="house-model"),
            worker("benchmarker", *[says(broken, 0.03 * speed)] * 2),
            worker("reviewer", says("Looks right.", 0.11 * speed, (3300, 280))),
            worker("publisher"),
        ],
        retry=RetryPolicy(max_attempts=2, backoff=0, max_backoff=1),
    )
