"""Telemetry by what the application set up: nothing, its global providers, or an injected one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from opentelemetry import trace as api

from pyagent_patterns.testing import capture_trace
from pyagent_providers import content, telemetry
from pyagent_providers.testing import ScriptedLLM
from tests.patterns.teams import item, plan_text, team

ROOT = Path(__file__).parents[2]
TEAM = """
import asyncio
from tests.patterns.teams import *
plan = plan_text(item("a", id="t1"), item("b", id="t2"))
slow = {name: [Step(name, delay=0.02)] for name in "ab"}
def run():
    return asyncio.run(team([plan], slow).run("a task"))
"""


def in_a_fresh_process(code: str) -> None:
    """Run `code` after the definition of `run()`; fails with its traceback if it does."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TEAM + textwrap.dedent(code)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), *sys.path]))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr


async def test_with_nothing_configured_nothing_is_recorded_or_computed(
    monkeypatch: pytest.MonkeyPatch,
):
    def computed(*args: object, **kwargs: object) -> None:
        raise AssertionError("computed for nobody")

    monkeypatch.setattr(telemetry, "_response_attributes", computed)
    monkeypatch.setattr("pyagent_patterns.telemetry._totals", computed)
    monkeypatch.setattr(content, "wanted", computed)
    result = await team([plan_text(item("a"))], {"a": ["x"]}).run("a task")
    assert result.output
    assert result.trace_id is None
    assert not api.get_current_span().is_recording()


def test_it_works_without_the_opentelemetry_sdk():
    in_a_fresh_process(
        """
        import sys
        sys.modules["opentelemetry.sdk"] = None  # as if it were not installed
        assert run().output == "the final answer"
        assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk.")]
        from pyagent_patterns.testing import capture_trace
        try:
            with capture_trace():
                pass
        except ImportError as error:
            assert "pip install" in str(error)
        else:
            raise AssertionError("capture_trace without an SDK")
        """
    )


def test_a_run_loads_no_sdk_and_sets_no_global_provider():
    in_a_fresh_process(
        """
        import sys
        from opentelemetry import metrics, trace
        run()
        assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
        assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider"
        assert type(metrics.get_meter_provider()).__name__ == "_ProxyMeterProvider"
        """
    )


def test_global_providers_set_after_the_import_give_one_trace_under_the_users_span():
    in_a_fresh_process(
        """
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        run()  # before there is a provider
        exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        metrics.set_meter_provider(MeterProvider([reader]))
        slow.update({name: [Step(name, delay=0.02)] for name in "ab"})
        with trace.get_tracer("app").start_as_current_span("request") as request:
            run()
        spans = exporter.get_finished_spans()
        assert len(spans) == 10, [span.name for span in spans]
        assert {s.context.trace_id for s in spans} == {request.get_span_context().trace_id}
        parents = {span.context.span_id for span in spans}
        assert [s.name for s in spans if not s.parent or s.parent.span_id not in parents] == [
            "request"
        ]
        [resource] = reader.get_metrics_data().resource_metrics
        [scope] = resource.scope_metrics
        assert scope.scope.name == "pyagent"
        assert "gen_ai.client.operation.duration" in {m.name for m in scope.metrics}
        """
    )


async def test_a_trace_that_is_not_sampled_stays_so_and_costs_no_attributes(
    monkeypatch: pytest.MonkeyPatch,
):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    seen: list[bool] = []

    class Looks(ScriptedLLM):
        async def _complete(self, request):
            context = api.get_current_span().get_span_context()
            seen.append(context.is_valid and not context.trace_flags.sampled)
            return await super()._complete(request)

    monkeypatch.setattr(telemetry, "_response_attributes", None)
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    with telemetry.using(telemetry.Telemetry(tracer_provider=provider)):
        await Looks(["x"]).complete("hi")
    assert seen == [True]


async def test_capture_trace_holds_for_its_block_only():
    with capture_trace() as outer:
        await ScriptedLLM(["x"], model="one").complete("hi")
        with capture_trace() as inner:
            await ScriptedLLM(["x"], model="two").complete("hi")
        await ScriptedLLM(["x"], model="three").complete("hi")
    await ScriptedLLM(["x"], model="four").complete("hi")
    assert outer.tree() == "chat one\nchat three"
    assert inner.tree() == "chat two"
    assert inner.metric("no.such.metric").points == ()
