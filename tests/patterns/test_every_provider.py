"""Each pattern on each provider, over the wire: what it asks for arrives, and comes back priced."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pyagent_patterns import (
    Agent,
    Hierarchical,
    Loop,
    OrchestratorWorkers,
    Parallel,
    Pattern,
    Pipeline,
    Review,
    Router,
    Team,
)
from pyagent_patterns.testing import capture_trace
from pyagent_providers import LLM
from pyagent_providers.types import ToolCall
from tests.providers.subjects import SUBJECTS, Subject, warm_up
from tests.wire import Failure, Reply, WireServer
from tests.wire.script import Step
from tests.wire.server import Sent
from tests.wire.team import form_filled

from .teams import QUICK
from .test_nesting import assert_accounts_agree

CREWS: dict[str, Callable[[Callable[[str], Agent]], Pattern]] = {
    "orchestrator_workers": lambda agent: OrchestratorWorkers(
        orchestrator=agent("planner"), workers=[agent("a"), agent("b")]
    ),
    "pipeline": lambda agent: Pipeline(
        [agent("a"), Review(agent("judge")), [agent("b"), agent("c")], agent("d")]
    ),
    "router": lambda agent: Router([agent("a"), agent("b")], classifier=agent("clerk")),
    "hierarchical": lambda agent: Hierarchical(
        manager=agent("boss"), teams=[Team("team", agent("lead"), [agent("a")]), agent("b")]
    ),
    "parallel": lambda agent: Parallel([agent("a"), agent("b")], merge=agent("merge")),
    "loop": lambda agent: Loop(agent("a"), agent("judge")),
}
CALLS = {
    "orchestrator_workers": ["plan", "worker", "worker", "synthesis"],
    "pipeline": ["stage", "evaluate", "stage", "stage", "stage"],
    "router": ["route", "worker"],
    "hierarchical": ["manage", "worker", "plan", "worker", "synthesis", "synthesis"],
    "parallel": ["worker", "worker", "synthesis"],
    "loop": ["worker", "evaluate"],
}


def answer(sent: Sent) -> Step:
    """What a model says that does whatever it is asked for."""
    if sent.schema is not None:
        return Reply(form_filled(sent.schema))
    if sent.tools and sent.messages[-1].role != "tool":
        [tool] = sent.tools
        call = ToolCall("call-1", tool.name, '{"task": "help me"}')
        return Reply("", tool_calls=(call,), finish_reason="tool_calls")
    return Reply(f"done: {sent.messages[-1].content.splitlines()[0]}")


@pytest.fixture(params=[pytest.param(s, id=str(s), marks=s.marks) for s in SUBJECTS])
def llm(request: pytest.FixtureRequest, wire: WireServer) -> LLM:
    subject: Subject = request.param
    warm_up(subject)
    wire.respond(answer)
    return subject.make(base_url=wire.base_url(subject.dialect))


@pytest.mark.parametrize("pattern", CREWS)
async def test_a_pattern_runs_on_a_provider_and_all_of_it_is_priced(
    pattern: str, llm: LLM, wire: WireServer
) -> None:
    crew = CREWS[pattern](lambda name: Agent(name, llm))
    with capture_trace() as trace:
        result = await crew.run("the task")
    assert result.status == "completed"
    assert result.output
    assert sorted(call.phase for call in result.calls) == sorted(CALLS[pattern])
    assert result.unpriced == 0
    assert_accounts_agree(result, trace)
    # Who must answer in a form is told so in the provider's own way.
    formal = sum(call.phase in ("plan", "manage", "route", "evaluate") for call in result.calls)
    assert sum(received.sent.schema is not None for received in wire.requests) == formal


@pytest.mark.parametrize("pattern", CREWS)
async def test_a_pattern_is_a_tool_of_an_agent_on_every_provider(
    pattern: str, llm: LLM, wire: WireServer
) -> None:
    within = CREWS[pattern](lambda name: Agent(name, llm))
    user = Agent("user", llm, tools=[within.as_tool("crew", "helps")])
    result = await Pipeline([user]).run("the task")
    assert result.status == "completed"
    assert len(result.calls) == 2 + len(CALLS[pattern])
    told = wire.requests[-1].sent.messages[-1]
    assert (told.role, told.tool_call_id is not None) == ("tool", True)
    assert any("help me" in message.content for r in wire.requests for message in r.sent.messages)


@pytest.mark.parametrize("pattern", CREWS)
async def test_a_rate_limit_deep_inside_is_waited_out(
    pattern: str, llm: LLM, wire: WireServer
) -> None:
    wire.script(Failure("rate_limit"))
    within = CREWS[pattern](lambda name: Agent(name, llm))
    result = await Pipeline([within], retry=QUICK).run("the task")
    assert result.status == "completed"
    assert [call.status for call in result.calls].count("failed") == 1
