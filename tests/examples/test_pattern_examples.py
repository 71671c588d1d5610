"""The example of each pattern runs as written, over real HTTP, with the real SDKs."""

from __future__ import annotations

import json
import runpy
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pyagent_patterns import Pattern
from tests.wire import CHAT, GEMINI, MESSAGES, Reply, WireServer
from tests.wire.server import Sent
from tests.wire.team import USAGE, team_responder

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
MINI, LARGE = Decimal("0.00021"), Decimal("0.0035")  # a call of gpt-4o-mini, and of gpt-4o


@pytest.fixture
def providers(wire: WireServer, monkeypatch: pytest.MonkeyPatch) -> WireServer:
    """Every provider's usual variables, pointed at a wire server that plays any team."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "a-key")
    monkeypatch.setenv("OPENAI_BASE_URL", wire.base_url(CHAT))
    monkeypatch.setenv("ANTHROPIC_BASE_URL", wire.base_url(MESSAGES))
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", wire.base_url(GEMINI))
    wire.respond(team_responder())
    return wire


def load(file: str, name: str) -> Pattern:
    pattern: Any = runpy.run_path(str(EXAMPLES / f"{file}.py"))[name]
    assert isinstance(pattern, Pattern)
    return pattern


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("article_pipeline", "4-editor: completed, $0.0035"),
        ("support_desk", "I forgot my password. -> security (by rule)"),
        ("product_launch", "engineering/tech_lead: $0.0004"),
        ("second_opinions", "gcp.gemini: $0.0006"),
        ("polished_pitch", "completed after 1 judgements, $0.0037"),
    ],
)
def test_an_example_prints_what_came_of_it_and_what_it_cost(
    file: str, says: str, providers: WireServer, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(EXAMPLES / f"{file}.py"), run_name="__main__")
    assert says in capsys.readouterr().out


async def test_the_article_is_checked_from_two_sides_before_it_is_edited(
    providers: WireServer,
) -> None:
    result = await load("article_pipeline", "pipeline").run("the sea")
    assert result.status == "completed"
    assert result.cost_estimate == 5 * MINI + LARGE
    editor = last_words(providers.requests[-1])
    assert 'from="3-fact_checker"' in editor
    assert 'from="3-stylist"' in editor


def last_words(received: Any) -> str:
    return received.sent.messages[-1].content


async def test_the_support_desk_asks_the_dear_model_only_where_it_is_chosen(
    providers: WireServer,
) -> None:
    desk = load("support_desk", "desk")
    cheap = await desk.run("I was charged twice.")
    assert {call.model for call in cheap.calls} == {"gpt-4o-mini"}

    def technical(sent: Sent) -> Reply:
        if sent.schema is None:
            return Reply("done", usage=USAGE)
        chosen = {"routes": [{"route": "technical", "confidence": 0.9}], "reason": "a fault"}
        return Reply(json.dumps(chosen), usage=USAGE)

    providers.respond(technical)
    dear = await desk.run("It says error 500.")
    assert [call.provider for call in dear.calls] == ["openai", "anthropic"]


async def test_the_launchs_costs_add_up_over_its_teams(providers: WireServer) -> None:
    result = await load("product_launch", "company").run("the launch")
    assert result.status == "completed"
    by_path = result.cost_by("path")
    assert by_path["manager"] == 2 * LARGE
    assert sum(by_path.values()) == result.cost_estimate == 2 * LARGE + 8 * MINI


async def test_the_second_opinions_come_from_three_providers(providers: WireServer) -> None:
    result = await load("second_opinions", "opinions").run("the question")
    assert {call.provider for call in result.calls} == {"openai", "anthropic", "gcp.gemini"}
    assert result.unpriced == 0


async def test_the_pitch_is_written_again_with_the_critics_reasons(providers: WireServer) -> None:
    refused = json.dumps({"accepted": False, "reasons": "no number"})
    providers.script(Reply("a draft"), Reply(refused))
    result = await load("polished_pitch", "pitch").run("the pitch")
    assert result.status == "completed"
    assert [call.phase for call in result.calls] == ["worker", "evaluate"] * 2
    assert "no number" in last_words(providers.requests[2])
