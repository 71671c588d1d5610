"""With another instrumentation of the OpenAI SDK switched on, a call is still seen once: by us.

Each is first shown to report a call of its own here when it is not told that the call is
reported, so that these tests fail when a new edition of it no longer hooks in where they look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pyagent_providers import OpenAILLM, telemetry
from pyagent_providers.base import LLM, Completion, Request
from pyagent_providers.telemetry import Telemetry, using
from tests.wire import CHAT, RESPONSES, Reply, WireServer

pytest.importorskip("openai")
# The others' own deprecations are not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


@dataclass(frozen=True)
class Family:
    """One instrumentation of the OpenAI SDK.

    `sees_post` is whether it hooks in below the SDK's methods, where our adapters call, `measures`
    whether it has metrics.
    """

    module: str
    sees_post: bool = False
    measures: bool = True

    def __str__(self) -> str:
        return self.module


OFFICIAL = Family("opentelemetry.instrumentation.genai.openai")
TRACELOOP = Family("opentelemetry.instrumentation.openai")
OPENINFERENCE = Family("openinference.instrumentation.openai", sees_post=True, measures=False)
FAMILIES = (OFFICIAL, TRACELOOP, OPENINFERENCE)


class Seen:
    """What all instrumentations reported, ours included."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)

    @property
    def scopes_of_spans(self) -> list[str]:
        spans = self._exporter.get_finished_spans()
        return [_shown(span.instrumentation_scope.name) for span in spans]

    @property
    def scopes_of_metrics(self) -> set[str]:
        data = self._reader.get_metrics_data()
        scopes = data.resource_metrics[0].scope_metrics if data else ()
        return {_shown(scope.scope.name) for scope in scopes}


def _shown(scope: str) -> str:
    return "ours" if scope == "pyagent" else "theirs"


@pytest.fixture(params=FAMILIES, ids=str)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param


@pytest.fixture
def seen(family: Family) -> Iterator[Seen]:
    """The instrumentation switched on, and ours, both into the same providers."""
    module = pytest.importorskip(family.module)
    seen = Seen()
    instrumentor = module.OpenAIInstrumentor()
    instrumentor.instrument(
        tracer_provider=seen.tracers, meter_provider=seen.meters, skip_dep_check=True
    )
    with using(Telemetry(tracer_provider=seen.tracers, meter_provider=seen.meters)):
        yield seen
    instrumentor.uninstrument()


@pytest.fixture
def unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_it_is(context: Context) -> Context:
        return context

    monkeypatch.setattr(telemetry, "reported_here", as_it_is)


class ThroughTheSDK(LLM):
    """An adapter of somebody's own, which calls the SDK's method that all of them wrap."""

    def __init__(self, base_url: str) -> None:
        super().__init__("gpt-4o", provider="openai")
        self._base_url = base_url

    async def _complete(self, request: Request) -> Completion:
        import openai

        async with openai.AsyncOpenAI(base_url=self._base_url, api_key="k") as client:
            answer = await client.chat.completions.create(
                model=self.model, messages=[{"role": "user", "content": "hi"}]
            )
        return Completion(text=answer.choices[0].message.content or "")

    async def _stream(self, request: Request) -> Any:
        import openai

        async with openai.AsyncOpenAI(base_url=self._base_url, api_key="k") as client:
            events = await client.chat.completions.create(
                model=self.model, messages=[{"role": "user", "content": "hi"}], stream=True
            )
            async for event in events:
                if event.choices and (text := event.choices[0].delta.content):
                    yield text
        yield Completion(text="")


def ours(wire: WireServer) -> LLM:
    return OpenAILLM("gpt-4o", base_url=wire.base_url(CHAT), api_key="k")


def ours_by_responses(wire: WireServer) -> LLM:
    base_url = wire.base_url(RESPONSES)
    return OpenAILLM("gpt-4o", base_url=base_url, api_key="k", api="responses")


def through_the_sdk(wire: WireServer) -> LLM:
    return ThroughTheSDK(wire.base_url(CHAT))


@pytest.mark.usefixtures("unguarded")
async def test_untold_it_reports_a_call_through_the_sdk_a_second_time(
    family: Family, seen: Seen, wire: WireServer
):
    wire.script(Reply())
    await through_the_sdk(wire).complete("hi")
    assert sorted(seen.scopes_of_spans) == ["ours", "theirs"]
    assert ("theirs" in seen.scopes_of_metrics) is family.measures


@pytest.mark.usefixtures("unguarded")
async def test_untold_it_reports_a_call_of_our_adapter_only_if_it_hooks_in_below(
    family: Family, seen: Seen, wire: WireServer
):
    wire.script(Reply())
    await ours(wire).complete("hi")
    assert sorted(seen.scopes_of_spans) == (["ours", "theirs"] if family.sees_post else ["ours"])


@pytest.mark.parametrize("make", [ours, ours_by_responses, through_the_sdk])
async def test_a_call_is_one_span_and_one_set_of_metrics(
    family: Family, seen: Seen, wire: WireServer, make: Callable[[WireServer], LLM]
):
    wire.script(Reply())
    await make(wire).complete("hi")
    assert seen.scopes_of_spans == ["ours"]
    assert seen.scopes_of_metrics == {"ours"}


@pytest.mark.parametrize("make", [ours, ours_by_responses, through_the_sdk])
async def test_so_is_a_streamed_call(
    family: Family, seen: Seen, wire: WireServer, make: Callable[[WireServer], LLM]
):
    wire.script(Reply())
    async for _ in make(wire).stream("hi"):
        pass
    assert seen.scopes_of_spans == ["ours"]
    assert seen.scopes_of_metrics == {"ours"}


async def test_a_call_that_is_not_ours_is_still_theirs(seen: Seen, wire: WireServer):
    import openai

    wire.script(Reply(), Reply())
    await ours(wire).complete("hi")
    async with openai.AsyncOpenAI(base_url=wire.base_url(CHAT), api_key="k") as client:
        await client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "hi"}]
        )
    assert seen.scopes_of_spans == ["ours", "theirs"]


async def test_http_clients_are_silenced_only_where_there_is_no_other_way(
    family: Family, seen: Seen
):
    """OpenTelemetry's general switch also hides the HTTP request's span."""
    from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled

    enabled: list[bool] = []

    class Looks(LLM):
        async def _complete(self, request: Request) -> Completion:
            enabled.append(is_http_instrumentation_enabled())
            return Completion(text="")

    await Looks("m", provider="p").complete("hi")
    assert enabled == [family is not OPENINFERENCE]


def test_nothing_is_told_to_an_instrumentation_that_is_loaded_but_off():
    pytest.importorskip(OPENINFERENCE.module)
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled

    token = otel_context.attach(telemetry.reported_here(Context()))
    try:
        assert is_instrumentation_enabled()
    finally:
        otel_context.detach(token)
