"""Real runs in which everything happens that is to be seen of one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pyagent_patterns import Agent, Budget, Pattern, tool
from pyagent_patterns.durable import FileSession, Runs
from pyagent_patterns.errors import PyAgentError, RunSuspended
from pyagent_patterns.orchestration import Pipeline
from pyagent_patterns.session import Turn
from pyagent_patterns.tools import Tool, ToolError
from pyagent_patterns.traffic import Breaker, Traffic
from pyagent_providers import LLM, Completion, ProviderError, Usage
from pyagent_providers.base import OutputSchema
from pyagent_providers.errors import OverloadedError
from pyagent_providers.telemetry import Telemetry, allow_tenants, using
from pyagent_providers.testing import ScriptedLLM
from pyagent_providers.types import Sampling
from tests.patterns.crews import agent, crew, item, new, with_agents
from tests.patterns.teams import PRICE, QUICK, plan_text
from tests.patterns.test_every_provider import CREWS, answer
from tests.patterns.tools import Box, wishes
from tests.providers.subjects import SUBJECTS
from tests.wire import EndEarly, Failure, Reply, WireServer

SCHEMA = OutputSchema("form", {"type": "object", "properties": {"a": {"type": "string"}},
                               "required": ["a"], "additionalProperties": False})  # fmt: skip
ALL = Usage(input_tokens=1000, output_tokens=50, cache_read_tokens=600, cache_write_tokens=200,
            reasoning_tokens=20)  # fmt: skip


class Seen:
    """All that the runs emitted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self._events = InMemoryLogRecordExporter()
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        loggers = LoggerProvider(shutdown_on_exit=False)
        loggers.add_log_record_processor(SimpleLogRecordProcessor(self._events))
        self.telemetry = Telemetry(
            tracer_provider=tracers,
            meter_provider=MeterProvider([self._reader], shutdown_on_exit=False),
            logger_provider=loggers,
        )
        self.metrics: tuple[Metric, ...] = ()

    def read(self) -> None:
        data = self._reader.get_metrics_data()
        assert data is not None
        self.metrics = tuple(
            metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        )

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._spans.get_finished_spans()

    @property
    def events(self):
        return [data.log_record for data in self._events.get_finished_logs()]

    @property
    def names(self) -> set[str]:
        """Every name of an attribute, an event or a metric."""
        found: set[str] = {metric.name for metric in self.metrics}
        for metric in self.metrics:
            found.update(*(point.attributes or {} for point in metric.data.data_points))
        for span in self.spans:
            found.update(span.attributes or {})
            for event in span.events:
                found |= {event.name, *(event.attributes or {})}
        return found | {event.event_name or "" for event in self.events}


async def all_that_happens(seen: Seen) -> None:
    allow_tenants(["acme"])
    try:
        with using(seen.telemetry):
            for scene in SCENES:
                await scene(seen.folder)
    finally:
        allow_tenants([])
    seen.read()


async def every_pattern_on_every_provider(folder: Path) -> None:
    for subject in SUBJECTS:
        for make in CREWS.values():
            with WireServer() as wire:
                wire.respond(answer)
                llm = subject.make(base_url=wire.base_url(subject.dialect))
                await make(lambda name, llm=llm: Agent(name, llm)).run("the task")


async def every_request_and_answer_on_every_provider(folder: Path) -> None:
    for subject in SUBJECTS:
        has = subject.lacks
        sampling = Sampling(
            max_tokens=100,
            temperature=None if "temperature" in has else 0.5,
            top_p=None if "top_p" in has else 0.9,
            stop=() if "stop" in has else ("END",),
            seed=None if "seed" in has else 7,
        )
        with WireServer() as wire:
            llm = subject.make(base_url=wire.base_url(subject.dialect))
            wire.script(
                *(Reply('{"a": "b"}', usage=ALL), Reply("Hi."), Reply("it is cut", usage=None)),
                *(Failure("rate_limit"), Failure("authentication"), EndEarly()),
            )
            await llm.complete("hi", sampling=sampling, schema=SCHEMA)
            await _read(llm)
            with suppress(ProviderError):
                await llm.complete("hi", sampling=sampling)
            for _ in range(2):
                with suppress(ProviderError):
                    await llm.complete("hi")
            with suppress(ProviderError):
                await _read(llm)


async def _read(llm: LLM) -> None:
    async for _ in llm.stream("hi"):
        pass


async def tools_that_work_and_fail(folder: Path) -> None:
    @tool(effect="read")
    async def look_up(what: str) -> str:
        """Looks something up."""
        return what

    @tool(effect="read")
    async def fail(what: str) -> str:
        """Fails."""
        raise ToolError("no")

    async def served(arguments: object) -> str:
        return "from the server"

    brought = Tool(name="served", description="", parameters={"type": "object"}, run=served)
    calls = (("look_up", {"what": "x"}), ("fail", {"what": "x"}), ("served", {}), ("made_up", {}))
    helper = agent("helper", "helped").as_tool(description="helps")
    clerk = agent(
        "clerk",
        wishes(*calls, ("helper", {"task": "help"})),
        "done",
        tools=[look_up, fail, helper],
        mcp=[Box(lambda: [brought])],
    )
    with Runs(folder / "tools.db") as runs:
        await Pipeline([clerk]).run("go", run_id="r", durable=runs)
        await runs.resume("r", Pipeline([clerk]))


async def plans(folder: Path) -> None:
    made = agent("poet", "a rose", description="writes verse")
    team = crew(
        [
            "no plan at all",
            with_agents(
                new("poet"),
                items=[item("a", id="x"), item("poet", "sing", id="y", depends_on=["x"])],
            ),
        ],
        {"a": [OverloadedError("busy", provider="p", model="m"), "found"]},
        agent_factory=lambda wanted: made,
        retry=QUICK,
    )
    session = FileSession(folder / "talk.db", "conversation-1")
    await session.add("before", Turn("hello", "hi"))
    await team.run("go", tenant="acme", user="ann", session=session)
    await crew([plan_text(item("a"))], {"a": ["found"]}).run("go", tenant="somebody")


async def money(folder: Path) -> None:
    cached = Completion(text="read before", usage=ALL, model="gpt-4o", finish_reason="stop")
    llm = ScriptedLLM([cached], model="gpt-4o", provider="openai")
    await Pipeline([Agent("reader", llm)]).run("go", tenant="acme")
    await Pipeline([Agent("unpriced", ScriptedLLM(["hm"]))]).run("go", tenant="acme")
    poor = Pipeline([agent("a", "x", max_tokens=50), agent("b", "y", max_tokens=50)])
    with suppress(PyAgentError):
        await poor.run("go", budget=Budget(max_cost_usd="0.0008"), tenant="acme")
    with suppress(PyAgentError):
        await poor.run("go", budget=Budget(max_calls=1))


async def a_model_that_is_down(folder: Path) -> None:
    busy = [OverloadedError("busy", provider="p", model="m")] * 2
    traffic = Traffic(breaker=Breaker(failures=2, cool_down=0.01))
    team = Pipeline([agent("a", *busy, "up again")], traffic=traffic, retry=QUICK)
    with suppress(PyAgentError):
        await team.run("go")
    await asyncio.sleep(0.02)
    with suppress(PyAgentError):
        await team.run("go")


async def runs_that_end_otherwise(folder: Path) -> None:
    slow = Pipeline([Agent("slow", _Slow([]))])
    running = asyncio.create_task(slow.run("go"))
    await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.wait([running])
    with Runs(folder / "gates.db") as runs, suppress(RunSuspended):
        await Pipeline([agent("a", "draft")], approve=["answer"]).run("go", durable=runs)
    lost = crew(
        [plan_text(item("a"), item("b"))],
        {"a": ["found"], "b": [OverloadedError("busy", provider="p", model="m")]},
    )
    assert (await lost.run("go")).status == "partial"
    broken = Pipeline([agent("a", OverloadedError("busy", provider="p", model="m"))])
    with suppress(PyAgentError):
        await broken.run("go")


async def what_is_too_long(folder: Path) -> None:
    class Short(ScriptedLLM):
        async def _complete(self, request: object) -> Completion:
            return Completion(text="short", usage=Usage(input_tokens=9, output_tokens=1))

    def reader(name: str) -> Agent:
        llm = Short([], model="m", price=PRICE)
        return Agent(name, llm, max_context_tokens=600, keep_recent=1)

    session = FileSession(folder / "long.db", "long")
    for n in range(4):
        await session.add(str(n), Turn(f"task {n} " + "word " * 200, "answer " * 200))
    team: Pattern = Pipeline([reader("editor")])
    await team.run("go", session=session)


class _Slow(ScriptedLLM):
    async def _complete(self, request: object) -> Completion:
        await asyncio.sleep(60)
        raise AssertionError("it is cancelled")


SCENES: tuple[Callable[[Path], Awaitable[None]], ...] = (
    every_pattern_on_every_provider,
    every_request_and_answer_on_every_provider,
    tools_that_work_and_fail,
    plans,
    money,
    a_model_that_is_down,
    runs_that_end_otherwise,
    what_is_too_long,
)
