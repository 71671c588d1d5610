"""One team of every pattern on scripted models, and their spans as an OTLP exporter sends them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from pyagent_exporters.viewer import otlp_in
from pyagent_exporters.viewer.spans import Span
from pyagent_patterns import (
    Agent,
    Hierarchical,
    Loop,
    OrchestratorWorkers,
    Parallel,
    Pattern,
    Pipeline,
    Router,
    Team,
)
from pyagent_patterns.tools import tool
from pyagent_providers import ModelPrice
from pyagent_providers.errors import OverloadedError, RequestTimeoutError
from pyagent_providers.testing import Answer, ScriptedLLM, Step
from pyagent_providers.types import Completion, ToolCall, Usage
from tests.patterns.teams import QUICK, item, plan_text

# A scripted call, 10+5 tokens, costs $0.0000007025: less than a micro-dollar, and not a round one.
PRICE = ModelPrice(input="0.03", output="0.0805")


def agent(name: str, *script: Answer | Step, priced: bool = True, **options: object) -> Agent:
    model = ScriptedLLM(script, model=f"{name}-model", price=PRICE if priced else None)
    return Agent(name, model, retry=QUICK, **options)  # pyright: ignore[reportArgumentType]


@tool
async def look(what: str) -> str:
    """Look something up."""
    return f"seen {what}"


def orchestrator_workers() -> Pattern:
    return OrchestratorWorkers(
        orchestrator=agent(
            "planner", plan_text(item("a", id="x"), item("b", depends_on=["x"])), "done"
        ),
        workers=[agent("a", OverloadedError("busy"), "alpha"), agent("b", "beta", priced=False)],
    )


def pipeline() -> Pattern:
    return Pipeline(stages=[agent("draft", "one"), agent("edit", "two")])


def router() -> Pattern:
    routes = {"code": agent("coder", "def"), "prose": agent("writer", "once")}
    return Router(routes, classifier=agent("clerk", json.dumps(CHOICE)))


CHOICE = {"routes": [{"route": "prose", "confidence": 0.9}], "reason": "it is a story"}


def parallel() -> Pattern:
    return Parallel([agent("left", "l"), agent("right", "r")], merge=agent("both", "lr"))


def loop() -> Pattern:
    judge = agent("judge", '{"passed": false, "reasons": "no"}', '{"passed": true, "reasons": ""}')
    return Loop(agent("worker", "first", "second"), judge)


def hierarchical() -> Pattern:
    lead = agent("lead", plan_text(item("coder")), "team's")
    writing = Pipeline([agent("draft", "d"), agent("edit", "e")], name="writing")
    return Hierarchical(
        manager=agent("manager", plan_text(item("backend"), item("writing")), "all"),
        teams=[Team("backend", lead, [agent("coder", "code")]), writing],
    )


def with_tools() -> Pattern:
    wish = Completion(
        text="",
        tool_calls=(ToolCall("c1", "look", '{"what": "cat"}'), ToolCall("c2", "helper", HELP)),
        usage=Usage(input_tokens=10, output_tokens=5),
    )
    helper = agent("helper", "helped")
    return Pipeline([agent("finder", wish, "found", tools=[look, helper.as_tool()])])


def with_a_team_as_a_tool() -> Pattern:
    """The tool, the pattern behind it and the one around it all have the same name."""
    writing = Pipeline([agent("draft", "d"), agent("edit", "e")], name="writing")
    wish = Completion(
        text="",
        tool_calls=(ToolCall("c1", "writing", HELP),),
        usage=Usage(input_tokens=10, output_tokens=5),
    )
    around = Pipeline([agent("finder", wish, "found", tools=[writing.as_tool()])], name="writing")
    return Parallel([around, agent("beside", "b")], merge=agent("both", "all"))


HELP = json.dumps({"task": "help"})


def failing() -> Pattern:
    """One worker times out, which may be billed, and nobody knows for how much."""
    late = RequestTimeoutError("late")
    return Parallel(
        [agent("left", late, late, late, priced=False), agent("right", "r")],
        merge=agent("both", "only right"),
    )


EVERY: dict[str, Callable[[], Pattern]] = {
    make.__name__: make
    for make in (
        *(orchestrator_workers, pipeline, router, parallel, loop),
        *(hierarchical, with_tools, with_a_team_as_a_tool, failing),
    )
}


def sent(spans: Sequence[ReadableSpan]) -> tuple[Span, ...]:
    """The spans as the receiver has them from the OTLP exporter's own bytes."""
    body = encode_spans(spans).SerializeToString()
    received = otlp_in.decode(body, content_type=otlp_in.PROTOBUF)
    assert received.rejected == 0
    return received.spans
