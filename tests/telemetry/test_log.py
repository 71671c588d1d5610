"""The log of a run on the logger `pyagent`: facts at INFO, texts at DEBUG, keys never."""

from __future__ import annotations

import logging

import pytest

from pyagent_patterns import Agent, OrchestratorWorkers
from pyagent_patterns.errors import AgentError
from pyagent_patterns.testing import capture_trace
from pyagent_providers import OpenAILLM, content
from pyagent_providers.errors import BadRequestError, RateLimitError
from tests.patterns.teams import QUICK, item, plan_text, team
from tests.wire import CHAT, Failure, WireServer

PLAN = plan_text(
    item("researcher", "look it up", id="t1"),
    item("writer", "write it down", id="t2", depends_on=["t1"]),
)


def steps(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if hasattr(record, "step")]


async def test_info_has_one_structured_record_per_step(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "pyagent")
    result = await team(
        [PLAN],
        {"researcher": [RateLimitError("slow"), "found"], "writer": [BadRequestError("bad")]},
    ).run("a task")
    assert [(r.step, r.phase, r.worker, r.attempts, r.success) for r in steps(caplog)] == [
        (1, "plan", "planner", 1, True),
        (2, "worker", "researcher", 2, True),
        (3, "worker", "writer", 1, False),
        (4, "synthesis", "planner", 1, True),
    ]
    for record in steps(caplog):
        assert record.name == "pyagent"
        assert record.levelno == logging.INFO
        assert record.run_id == result.run_id
        assert record.latency_seconds >= 0
    assert [(r.input_tokens, r.output_tokens) for r in steps(caplog)] == [
        (10, 5),
        (10, 5),
        (0, 0),
        (10, 5),
    ]


async def test_info_has_no_prompts_and_no_answers(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "pyagent")
    await team([PLAN], {"researcher": ["found it"], "writer": ["wrote it"]}).run("a task")
    assert len(steps(caplog)) == 4
    for text in ("a task", "look it up", "found it", "wrote it", "the final answer"):
        assert text not in caplog.text


async def test_debug_has_the_plan_as_a_numbered_list_and_every_input_and_output(
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.DEBUG, "pyagent")
    await team([PLAN], {"researcher": ["found it"], "writer": ["wrote it"]}).run("a task")
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    [plan] = [message for message in said if "the plan" in message]
    assert plan.splitlines()[1:] == [
        "1. researcher: look it up",
        "2. writer: write it down (after t1)",
    ]
    asked = [message for message in said if "asking writer" in message]
    assert len(asked) == 1
    assert "write it down" in asked[0]
    assert [m.splitlines()[1] for m in said if "writer answered" in m] == ["wrote it"]


async def test_an_api_key_is_nowhere_not_even_when_the_provider_repeats_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, wire: WireServer
):
    pytest.importorskip("openai")
    monkeypatch.setenv(content.VARIABLE, "SPAN_AND_EVENT")
    caplog.set_level(logging.DEBUG)
    key = "sk-do-not-tell-1234567890"
    wire.script(Failure("authentication", message=f"Incorrect API key provided: {key}."))
    llm = OpenAILLM("gpt-4o", base_url=wire.base_url(CHAT), api_key=key)
    planner = Agent("planner", llm)
    lone = OrchestratorWorkers(orchestrator=planner, workers=[Agent("a", llm)], retry=QUICK)
    with capture_trace() as trace, pytest.raises(AgentError) as caught:
        await lone.run("a task")
    assert trace.tree().endswith("chat gpt-4o !AuthenticationError")
    spans = [span.to_json() for span in trace.spans]
    metrics = trace.metric("gen_ai.client.operation.duration")
    for place in (*spans, repr(metrics), caplog.text, str(caught.value), repr(llm)):
        assert key not in place
    assert caught.value.result is not None
    assert key not in str(caught.value.result.to_dict())
