"""The run that every backend is shown: a plan, a tool, a pattern within, a failed call, prices.

It is a real run: the real adapter speaks HTTP to the wire server, which answers as OpenAI does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pyagent_exporters import Otlp, configure
from pyagent_patterns import Agent, OrchestratorWorkers, Pipeline, Result, RetryPolicy
from pyagent_patterns.session import MemorySession
from pyagent_providers import OpenAILLM, semconv
from pyagent_providers.telemetry import Telemetry, using
from pyagent_providers.types import ToolCall, Usage
from tests.wire import CHAT, Failure, Reply, Step, WireServer
from tests.wire.server import Sent

SERVICE = "shop-team"
USER = "u-42"
SESSION = "talk-7"

TREE = """\
pyagent.pattern.orchestrator_workers CHAIN
  pyagent.agent.planner CHAIN
    chat gpt-4o LLM
  pyagent.agent.researcher AGENT
    chat gpt-4o-mini LLM
    execute_tool stock TOOL
    chat gpt-4o-mini LLM
  pyagent.pattern.pipeline CHAIN
    pyagent.agent.author AGENT
      chat gpt-4o-mini LLM ✗
      chat gpt-4o-mini LLM
    pyagent.agent.editor AGENT
      chat house-model LLM
  pyagent.agent.planner AGENT
    chat gpt-4o LLM"""


@dataclass(frozen=True)
class Shown:
    """What a backend was sent, and what is true of it."""

    result: Result
    spans: Sequence[ReadableSpan]

    @property
    def trace_id(self) -> str:
        assert self.result.trace_id is not None
        return self.result.trace_id

    @property
    def root(self) -> ReadableSpan:
        return next(span for span in self.spans if span.parent is None)

    def costs(self) -> dict[str, Decimal]:
        """Dollars by the id of the `chat` span, of those calls that have a price."""
        return {
            span_id(span): Decimal(str(span.attributes[semconv.COST_USD]))
            for span in self.spans
            if span.attributes
            and span.attributes.get(semconv.OPERATION_NAME) == "chat"
            and semconv.COST_USD in span.attributes
        }


def span_id(span: ReadableSpan) -> str:
    return f"{span.get_span_context().span_id:016x}"


async def show(to: Otlp, wire: WireServer) -> Shown:
    """Do the run and send it `to` a backend. It has arrived when this returns."""
    wire.respond(Shop())
    memory = InMemorySpanExporter()
    with configure(
        otlp=to, compat=True, span_exporters=[memory], service_name=SERVICE, set_global=False
    ) as handle:
        sent_from = Telemetry(
            tracer_provider=handle.tracer_provider, meter_provider=handle.meter_provider
        )
        with using(sent_from):
            result = await team(wire).run(
                "Write two lines on the hats we have.",
                session=_Named(SESSION),
                user=USER,
                tenant="north",
            )
        assert handle.flush(10), "the backend did not take it"
    return Shown(result, memory.get_finished_spans())


def team(wire: WireServer) -> OrchestratorWorkers:
    def llm(model: str) -> OpenAILLM:
        return OpenAILLM(model, base_url=wire.base_url(CHAT), api_key="sk-test")

    def stock(item: str) -> int:
        """How many of an item there are."""
        return {"hat": 3}[item]

    writing = Pipeline(
        [Agent("author", llm("gpt-4o-mini")), Agent("editor", llm("house-model"))],
        name="writing",
        description="writes texts",
    )
    return OrchestratorWorkers(
        orchestrator=Agent("planner", llm("gpt-4o")),
        workers=[
            Agent("researcher", llm("gpt-4o-mini"), description="looks up", tools=[stock]),
            writing,
        ],
        retry=RetryPolicy(max_attempts=2, backoff=0),
    )


PLAN = json.dumps(
    {
        "assignments": [
            {"id": "facts", "worker": "researcher", "subtask": "count the hats"},
            {
                "id": "text",
                "worker": "writing",
                "subtask": "write the lines",
                "depends_on": ["facts"],
            },
        ]
    }
)


class Shop:
    """Answers as the models of this team would; the first call for the text is turned away."""

    def __init__(self) -> None:
        self._refused = False

    def __call__(self, sent: Sent) -> Step:
        if sent.schema is not None:
            return Reply(PLAN, usage=_tokens(12_000, 800, cache_read_tokens=10_240))
        if sent.model == "gpt-4o":
            return Reply("We have three hats. They are fine.", usage=_tokens(9_000, 400))
        if sent.tools and sent.messages[-1].role != "tool":
            call = ToolCall("call-1", "stock", '{"item": "hat"}')
            usage = _tokens(30_000, 2_000)
            return Reply("", tool_calls=(call,), finish_reason="tool_calls", usage=usage)
        if sent.tools:
            return Reply("There are 3.", usage=_tokens(34_000, 1_000))
        if sent.model == "gpt-4o-mini" and not self._refused:
            self._refused = True
            return Failure("rate_limit")
        return Reply("Three hats.", usage=_tokens(50_000, 6_000, reasoning_tokens=3_200))


def _tokens(fed: int, written: int, **parts: int) -> Usage:
    return Usage(input_tokens=fed, output_tokens=written, **parts)


class _Named(MemorySession):
    """A conversation with a name."""

    def __init__(self, session_id: str) -> None:
        super().__init__()
        self.session_id = session_id
