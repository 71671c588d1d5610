"""What other backends read: it is on every span it belongs on, agrees with ours, and is once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from pyagent_exporters.compat import CompatProcessor
from pyagent_patterns import Agent, OrchestratorWorkers, Pipeline, Result
from pyagent_patterns.session import MemorySession
from pyagent_providers import Completion, ModelPrice, Usage, semconv
from pyagent_providers.errors import RateLimitError
from pyagent_providers.telemetry import Telemetry, using
from pyagent_providers.testing import ScriptedLLM, Step
from pyagent_providers.types import ToolCall
from tests.patterns.teams import PRICE, QUICK, item, plan_text

THINKS = Usage(
    input_tokens=1000,
    output_tokens=100,
    cache_read_tokens=600,
    cache_write_tokens=50,
    reasoning_tokens=70,
)

# What another instrumentation says of a call, in the same words.
ASKS = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 5, "pyagent.cost.usd": 1.0}


class Exported:
    """A provider with the processor, what came out of it, and what the application's own saw."""

    def __init__(self, limits: SpanLimits | None = None) -> None:
        self.provider = TracerProvider(
            resource=Resource({"service.name": "shop"}), shutdown_on_exit=False, span_limits=limits
        )
        self._memory, self._beside = InMemorySpanExporter(), InMemorySpanExporter()
        self.processor = CompatProcessor(SimpleSpanProcessor(self._memory))
        self.provider.add_span_processor(self.processor)
        self.provider.add_span_processor(SimpleSpanProcessor(self._beside))

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._memory.get_finished_spans()

    @property
    def beside(self) -> Sequence[ReadableSpan]:
        return self._beside.get_finished_spans()

    def named(self, start: str) -> list[Mapping[str, AttributeValue]]:
        """The attributes of the spans whose name begins so."""
        return [of(span) for span in self.spans if span.name.startswith(start)]


@pytest.fixture
def exported() -> Exported:
    return Exported()


def of(span: ReadableSpan) -> Mapping[str, AttributeValue]:
    return span.attributes or {}


class Talk(MemorySession):
    session_id = "talk-7"


def team(provider: TracerProvider) -> OrchestratorWorkers:
    """A planner; a worker with a tool that has spans of its own; a pattern whose agent fails."""
    shop = provider.get_tracer("shop-db")

    def stock(item: str) -> int:
        """How many there are."""
        with (
            shop.start_as_current_span("query"),
            shop.start_as_current_span("ask", attributes=ASKS),
        ):
            return len(item)

    call = Completion(
        text="",
        tool_calls=(ToolCall("call-1", "stock", '{"item": "hat"}'),),
        usage=Usage(input_tokens=30, output_tokens=2),
        finish_reason="tool_calls",
    )

    def llm(name: str, *steps: str | Completion | Exception | Step, price: ModelPrice | None):
        return ScriptedLLM(list(steps), model=name, price=price)

    author = llm(
        "author-model",
        RateLimitError("busy", provider="scripted", model="author-model"),
        Step("a text", usage=THINKS),
        price=PRICE,
    )
    plan = plan_text(item("counter"), item("writing"))
    return OrchestratorWorkers(
        orchestrator=Agent("planner", llm("planner-model", plan, "the end", price=PRICE)),
        workers=[
            Agent("counter", llm("counter-model", call, "three", price=PRICE), tools=[stock]),
            Pipeline(
                [
                    Agent("author", author),
                    Agent("editor", llm("house-model", "a better text", price=None)),
                ],
                name="writing",
            ),
        ],
        retry=QUICK,
    )


async def run(exported: Exported) -> Result:
    with using(Telemetry(tracer_provider=exported.provider)):
        return await team(exported.provider).run("Write it.", session=Talk(), user="u-42")


async def test_every_span_of_a_run_says_its_run_session_and_user(exported: Exported) -> None:
    result = await run(exported)
    names = {span.name for span in exported.spans}
    assert {"query", "ask", "pyagent.pattern.pipeline", "execute_tool stock"} <= names
    for span in exported.spans:
        assert of(span)["pyagent.run.id"] == result.run_id, span.name
        assert of(span)["session.id"] == "talk-7", span.name
        assert of(span)["user.id"] == "u-42", span.name


async def test_what_a_span_says_of_itself_stays(exported: Exported) -> None:
    def greet() -> str:
        """Say hello."""
        other = exported.provider.get_tracer("shop")
        own = {"session.id": "other", "user.id": "robot", "pyagent.run.id": "theirs"}
        with other.start_as_current_span("job", attributes=own):
            return "hello"

    call = Completion(
        text="", tool_calls=(ToolCall("1", "greet", "{}"),), finish_reason="tool_calls"
    )
    polite = Agent("polite", ScriptedLLM([call, "done"]), tools=[greet])
    with using(Telemetry(tracer_provider=exported.provider)):
        await Pipeline([polite]).run("Be kind.", session=Talk(), user="u-42")
    (job,) = exported.named("job")
    assert (job["session.id"], job["user.id"], job["pyagent.run.id"]) == (
        "other",
        "robot",
        "theirs",
    )


async def test_a_run_for_nobody_in_particular_names_no_session_and_no_user(
    exported: Exported,
) -> None:
    with using(Telemetry(tracer_provider=exported.provider)):
        await team(exported.provider).run("Write it.")
    assert not any({"session.id", "user.id"} & set(of(span)) for span in exported.spans)


async def test_spans_outside_a_run_are_handed_on_as_they_are(exported: Exported) -> None:
    web = exported.provider.get_tracer("web")
    with web.start_as_current_span("GET /", attributes={"session.id": "browser", "user.id": "x"}):
        with web.start_as_current_span("log in"):
            pass
        await run(exported)
    (login,) = exported.named("log in")
    assert dict(login) == {}
    assert {of(span)["session.id"] for span in exported.spans if span.name != "log in"} == {
        "browser",
        "talk-7",
    }


async def test_every_span_of_ours_has_the_kind_that_fits_it(exported: Exported) -> None:
    await run(exported)
    kinds = {
        (span.name, of(span).get("openinference.span.kind"))
        for span in exported.spans
        if of(span)[semconv.RUN_ID]
    }
    assert kinds == {
        ("pyagent.pattern.orchestrator_workers", "CHAIN"),
        ("pyagent.pattern.pipeline", "CHAIN"),
        ("pyagent.agent.planner", "CHAIN"),  # when it plans
        ("pyagent.agent.planner", "AGENT"),
        ("pyagent.agent.counter", "AGENT"),
        ("pyagent.agent.author", "AGENT"),
        ("pyagent.agent.editor", "AGENT"),
        ("chat planner-model", "LLM"),
        ("chat counter-model", "LLM"),
        ("chat author-model", "LLM"),
        ("chat house-model", "LLM"),
        ("execute_tool stock", "TOOL"),
        ("query", None),
        ("ask", None),
    }


async def test_costs_are_the_ledgers_and_are_on_calls_only(exported: Exported) -> None:
    result = await run(exported)
    costs = [
        json.loads(str(attributes["langfuse.observation.cost_details"]), parse_float=Decimal)
        for attributes in exported.named("")
        if "langfuse.observation.cost_details" in attributes
    ]
    assert sum(cost["total"] for cost in costs) == result.cost_estimate
    assert all(set(cost) == {"total"} for cost in costs)
    for span in exported.spans:
        ours = of(span).get("gen_ai.usage.cost")  # on calls of ours that have a price
        assert of(span).get("operation.cost") == ours
        assert ("langfuse.observation.cost_details" in of(span)) == (ours is not None)


async def test_tokens_are_in_one_part_each_and_on_calls_only(exported: Exported) -> None:
    result = await run(exported)
    told = [
        json.loads(str(attributes["langfuse.observation.usage_details"]))
        for attributes in exported.named("")
        if "langfuse.observation.usage_details" in attributes
    ]
    for parts in told:
        total = parts.pop("total")
        assert sum(parts.values()) == total
    usage = result.usage
    assert sum(sum(parts.values()) for parts in told) == usage.input_tokens + usage.output_tokens
    assert {
        "input": 350,
        "output": 30,
        "input_cached_tokens": 600,
        "input_cache_creation": 50,
        "output_reasoning_tokens": 70,
    } in told
    assert {"input": 10, "output": 5} in told


async def test_a_call_without_a_price_or_an_answer_is_given_none(exported: Exported) -> None:
    await run(exported)
    (unpriced,) = exported.named("chat house-model")
    assert "langfuse.observation.usage_details" in unpriced
    (failed,) = (span for span in exported.spans if span.name == "chat author-model"
                 and span.status.status_code is StatusCode.ERROR)  # fmt: skip
    for attributes in (unpriced, of(failed)):
        assert not {"langfuse.observation.cost_details", "operation.cost"} & set(attributes)
    assert "langfuse.observation.usage_details" not in of(failed)


async def test_no_name_is_added_by_which_a_backend_would_count_again(exported: Exported) -> None:
    await run(exported)
    for span in exported.spans:
        for name in of(span):
            assert not name.startswith(("llm.", "langfuse.trace.")), name
            assert name != "langfuse.observation.type"  # to Datadog: a span of Langfuse's SDK
            if name.startswith("gen_ai.usage."):
                assert span.name.startswith(("chat ", "ask"))


async def test_a_stream_says_when_its_first_chunk_came(exported: Exported) -> None:
    with using(Telemetry(tracer_provider=exported.provider)):
        model = ScriptedLLM([Step("a b c", delay=0.01)])
        async for _ in model.stream("hello"):
            pass
    (span,) = exported.spans
    told = datetime.fromisoformat(str(of(span)["langfuse.observation.completion_start_time"]))
    wait = of(span)["gen_ai.response.time_to_first_chunk"]
    assert span.start_time is not None
    assert isinstance(wait, float)
    assert told.timestamp() == pytest.approx(span.start_time / 1e9 + wait, abs=0.002)


async def test_the_applications_own_exporters_see_no_vendors_names(exported: Exported) -> None:
    await run(exported)
    assert len(exported.beside) == len(exported.spans)
    for span in exported.beside:
        assert not [name for name in of(span) if name.startswith(("langfuse.", "operation."))]


def test_but_for_its_attributes_a_span_is_as_it_was() -> None:
    exported = Exported(SpanLimits(max_events=1, max_links=1, max_span_attributes=6))
    tracer = exported.provider.get_tracer(semconv.SCOPE, "1.2.3")
    with tracer.start_as_current_span("first") as first:
        span = tracer.start_span(
            "chat m",
            kind=trace.SpanKind.CLIENT,
            links=[Link(first.get_span_context(), {"n": n}) for n in range(3)],
            attributes={
                "dropped": 1,
                semconv.OPERATION_NAME: "chat",
                semconv.INPUT_TOKENS: 3,
                semconv.OUTPUT_TOKENS: 4,
                semconv.COST_USD: 0.5,
            },
        )
        span.add_event("one")
        span.add_event("two", {"a": (1, 2)})
        span.set_attribute("last", "one")
        span.set_status(Status(StatusCode.ERROR, "broken"))
        span.end()
    (sent,) = (s for s in exported.spans if s.name == "chat m")
    (seen,) = (s for s in exported.beside if s.name == "chat m")
    assert {**of(seen)}.items() < {**of(sent)}.items()
    mine, theirs = (json.loads(s.to_json()) for s in (sent, seen))
    del mine["attributes"], theirs["attributes"]
    assert mine == theirs
    assert sent.instrumentation_scope == seen.instrumentation_scope
    assert sent.resource == seen.resource
    for span in (sent, seen):
        assert (span.dropped_attributes, span.dropped_events, span.dropped_links) == (1, 1, 2)


async def test_once_shut_down_it_leaves_spans_alone(exported: Exported) -> None:
    exported.processor.shutdown()
    await run(exported)
    assert not [span for span in exported.beside if "session.id" in of(span)]
