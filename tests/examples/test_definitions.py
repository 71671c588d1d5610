"""The example definitions run, over real HTTP, with the real SDKs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyagent_patterns.spec import load
from tests.wire import CHAT, MESSAGES, WireServer
from tests.wire.team import team_responder

TEAMS = Path(__file__).parent.parent.parent / "examples" / "teams"


@pytest.fixture
def providers(wire: WireServer, monkeypatch: pytest.MonkeyPatch) -> WireServer:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-anthropic")
    monkeypatch.setenv("OPENAI_BASE_URL", wire.base_url(CHAT))
    monkeypatch.setenv("ANTHROPIC_BASE_URL", wire.base_url(MESSAGES))
    wire.respond(team_responder())
    return wire


async def test_the_research_team_writes_its_report(providers: WireServer) -> None:
    definition = load(TEAMS / "research.yaml")
    inputs = {"market": "sea salt", "pages": 2}
    task = definition.task(inputs)
    assert task.startswith("Write a report of 2 pages on the market for sea salt.")
    result = await definition.team.run(task, inputs=inputs)
    assert result.status == "completed"
    assert {"researcher", "strategist", "summary"} <= set(result.metadata["workers_used"])
    assert set(result.cost_by("agent")) == {
        *("lead", "researcher", "strategist", "writer", "editor", "checker"),
    }
    assert {request.sent.key for request in providers.requests} == {"sk-openai", "sk-anthropic"}


@pytest.mark.parametrize("question", ["I was charged twice for salt.", "Do you sell sugar?"])
async def test_the_support_desk_asks_who_answers_unless_a_rule_says_so(
    providers: WireServer, question: str
) -> None:
    result = await load(TEAMS / "support.yaml").team.run(question)
    assert result.status == "completed"
    by_rule = "charged twice" in question
    assert ("dispatcher" not in result.cost_by("agent")) == by_rule


async def test_the_agency_plans_a_campaign(providers: WireServer) -> None:
    definition = load(TEAMS / "campaign.yaml")
    inputs = {"product": "salt"}
    result = await definition.team.run(definition.task(inputs), inputs=inputs)
    assert result.status == "completed"
    assert {"analyst", "sceptic", "bold", "quiet", "chooser"} <= set(result.cost_by("agent"))
