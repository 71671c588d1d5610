"""Makes the spans a run emits, with times of one's choosing, on a real tracer provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue

from pyagent_providers import semconv

START = 1_700_000_000_000_000_000


@dataclass
class Made:
    """A span to make; times are in seconds from the start of the trace."""

    name: str
    start: float
    end: float
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    children: Sequence[Made] = ()
    error: str | None = None
    rejected: Sequence[Sequence[str]] = ()


def pattern(name: str, start: float, end: float, *children: Made, **more: AttributeValue) -> Made:
    names = {
        "cost": semconv.COST_USD,
        "unpriced": semconv.UNPRICED,
        "plan": semconv.PLAN_WORKERS,
        "status": semconv.STATUS,
    }
    attributes = {semconv.STATUS: "completed"} | {names[key]: more[key] for key in more}
    return Made(semconv.PATTERN_SPAN + name, start, end, attributes, children)


def agent(
    name: str,
    phase: semconv.Phase,
    start: float,
    end: float,
    model: str | None = "gpt-4o-mini",
    *children: Made,
    attempts: int = 1,
    replayed: bool = False,
    error: str | None = None,
) -> Made:
    attributes: dict[str, AttributeValue] = {semconv.PHASE: phase, semconv.ATTEMPTS: attempts}
    if replayed:
        attributes[semconv.REPLAYED] = True
    chat = [Made(f"chat {model}", start, end, {semconv.REQUEST_MODEL: model})] if model else []
    return Made(semconv.AGENT_SPAN + name, start, end, attributes, [*chat, *children], error)


def sample() -> Made:
    """The run that the documentation shows."""
    return pattern(
        "orchestrator_workers",
        0,
        8.4,
        agent("planner", "plan", 0, 1.3, "gpt-4o"),
        agent("researcher", "worker", 1.4, 3.5),
        agent("coder", "worker", 1.41, 4.81),
        agent("tester", "worker", 1.42, 4.22),
        agent("reviewer", "worker", 5.0, 6.9, "gpt-4o"),
        agent("planner", "synthesis", 7.0, 8.1, "gpt-4o"),
        cost=0.028,
        plan=("researcher", "coder", "tester", "reviewer"),
    )


SAMPLE = """\
Trace: pyagent.pattern.orchestrator_workers (8.4s, $0.028)
├── pyagent.agent.planner — planning (1.3s, gpt-4o)
│   └── assignments: [researcher, coder, tester, reviewer]
├── [parallel workers]
│   ├── pyagent.agent.researcher (2.1s, gpt-4o-mini)
│   ├── pyagent.agent.coder (3.4s, gpt-4o-mini)
│   └── pyagent.agent.tester (2.8s, gpt-4o-mini)
├── pyagent.agent.reviewer (1.9s, gpt-4o)
└── pyagent.agent.planner — synthesis (1.1s, gpt-4o)"""


def emit(tracer: Tracer, made: Made, parent: Span | None = None) -> None:
    """Make the spans on `tracer`; each ends after its children, as in a run."""
    context = set_span_in_context(parent) if parent else None
    span = tracer.start_span(
        made.name,
        context=context,
        start_time=START + round(made.start * 1e9),
        attributes=made.attributes,
    )
    for child in made.children:
        emit(tracer, child, span)
    for faults in made.rejected:
        span.add_event(semconv.PLAN_REJECTED_EVENT, {semconv.PLAN_FAULTS: list(faults)})
    if made.error:
        span.set_attribute(semconv.ERROR_TYPE, made.error)
        span.set_status(Status(StatusCode.ERROR, made.error))
    span.end(START + round(made.end * 1e9))


def recorded(*made: Made) -> Sequence[ReadableSpan]:
    """The ended spans, in the order in which they end."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    for root in made:
        emit(provider.get_tracer("test"), root)
    return memory.get_finished_spans()
