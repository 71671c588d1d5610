"""Agents that have MCP servers: one session for a whole run, and nothing left after it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from pyagent_patterns import Agent, Pipeline, parallel
from pyagent_providers import Completion, ModelPrice, ToolCall, Usage
from pyagent_providers.testing import ScriptedLLM

from .helpers import children, raw, until, workbench

FREE = ModelPrice(input=0, output=0)


def asks(*calls: tuple[str, dict[str, object]]) -> Completion:
    """A model's answer that calls tools."""
    return Completion(
        text="",
        tool_calls=tuple(
            ToolCall(f"{n}", name, json.dumps(arguments))
            for n, (name, arguments) in enumerate(calls)
        ),
        usage=Usage(input_tokens=10, output_tokens=5),
        model="scripted",
        finish_reason="tool_calls",
    )


def told(llm: ScriptedLLM) -> list[str]:
    """The results of tools in the last question to a model."""
    return [message.content for message in llm.requests[-1].messages if message.role == "tool"]


async def test_twenty_agents_of_one_run_share_one_process(tmp_path: Path) -> None:
    before = children()
    server = workbench()
    together = asks(("together", {"path": str(tmp_path / "here"), "count": 20}))
    llms = [ScriptedLLM([together, "done"], price=FREE) for _ in range(20)]
    agents = [Agent(f"worker{n}", llm, mcp=[server]) for n, llm in enumerate(llms)]
    await parallel(*agents).run("Meet.")
    pids = {pid for llm in llms for pid in told(llm)}
    assert len(pids) == 1
    assert pids.pop().isdigit()
    assert children() == before


async def test_a_server_lost_during_a_run_costs_it_one_call_and_not_the_run() -> None:
    first = asks(("die", {"last_words": "out of memory"}))
    llm = ScriptedLLM([first, asks(("one", {})), "done"], price=FREE)
    server = raw(effects={"die": "read", "one": "read"})
    result = await Pipeline([Agent("clerk", llm, mcp=[server])]).run("Do it.")
    assert result.output == "done"
    lost, called = told(llm)
    assert "'raw' was lost during the call of 'die'" in lost
    assert lost.endswith("out of memory")
    assert called == "one was called"


async def test_a_run_that_is_cancelled_during_a_call_leaves_no_process(tmp_path: Path) -> None:
    before = children()
    file = tmp_path / "state"
    llm = ScriptedLLM([asks(("slow", {"path": str(file)}))], price=FREE)
    run = asyncio.create_task(Pipeline([Agent("clerk", llm, mcp=[workbench()])]).run("Do it."))
    await until(file.exists)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert file.read_text() == "cancelled"
    assert children() == before
