"""The three example teams run as written, over real HTTP, with the real SDKs."""

from __future__ import annotations

import importlib.util
import runpy
from decimal import Decimal
from pathlib import Path

import pytest

from pyagent_patterns import OrchestratorWorkers, Result
from tests.wire import CHAT, GEMINI, MESSAGES, WireServer
from tests.wire.team import team_responder

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
KEYS = {
    "OPENAI_API_KEY": "sk-openai",
    "ANTHROPIC_API_KEY": "sk-anthropic",
    "GEMINI_API_KEY": "gemini-key",
}


@pytest.fixture
def providers(wire: WireServer, monkeypatch: pytest.MonkeyPatch) -> WireServer:
    """Every provider's usual variables, pointed at the wire server."""
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    monkeypatch.setenv("OPENAI_BASE_URL", wire.base_url(CHAT))
    monkeypatch.setenv("ANTHROPIC_BASE_URL", wire.base_url(MESSAGES))
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", wire.base_url(GEMINI))
    return wire


def load(name: str) -> OrchestratorWorkers:
    team = runpy.run_path(str(EXAMPLES / f"{name}.py"))["team"]
    assert isinstance(team, OrchestratorWorkers)
    return team


async def test_the_software_teams_reviewer_runs_after_those_it_reviews(
    providers: WireServer,
) -> None:
    providers.respond(team_responder({"reviewer": ["coder", "tester", "doc_writer"]}))
    result = await load("software_team").run("Build a production-ready async HTTP client")
    assert result.status == "completed"
    assert result.metadata["workers_used"][-1] == "reviewer"
    assert set(result.metadata["workers_used"]) == {
        *("researcher", "coder", "tester", "doc_writer", "reviewer"),
    }
    reviewer = next(o for o in result.outcomes if o.worker == "reviewer")
    for worker in ("coder", "tester", "doc_writer"):
        outcome = next(o for o in result.outcomes if o.worker == worker)
        assert (outcome.ended_at or 0) <= (reviewer.started_at or 0)
        assert f'<output from="{worker}"' in str(sent_with(providers, "reviewer"))
    # gpt-4o (plan, reviewer, synthesis): $0.0035 a call; gpt-4o-mini (4 workers): $0.00021
    assert result.cost_by("model")["gpt-4o"] == 3 * Decimal("0.0035")
    assert result.cost_estimate == 3 * Decimal("0.0035") + 4 * Decimal("0.00021")
    assert result.unpriced == 0


def sent_with(wire: WireServer, worker: str) -> list[str]:
    texts = [r.sent.messages[-1].content for r in wire.requests]
    return [text for text in texts if text.startswith(f"do what a {worker} does")]


def test_the_software_team_prints_its_answer_and_costs(
    providers: WireServer, capsys: pytest.CaptureFixture[str]
) -> None:
    providers.respond(team_responder())
    runpy.run_path(str(EXAMPLES / "software_team.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert "workers used: researcher, coder, tester, doc_writer, reviewer" in out
    assert "cost: $0.0113" in out


async def test_the_data_analysis_team_mixes_anthropic_and_gemini(providers: WireServer) -> None:
    providers.respond(
        team_responder({"statistician": ["data_cleaner"], "visualizer": ["statistician"]})
    )
    result = await load("data_analysis_team").run("Is there a trend?")
    assert result.status == "completed"
    assert result.metadata["workers_used"] == ["data_cleaner", "statistician", "visualizer"]
    # claude-sonnet-4: $3/$15 per million tokens; gemini-2.5-flash: $0.30/$2.50
    assert result.cost_by("provider") == {
        "anthropic": 3 * Decimal("0.0045"),
        "gcp.gemini": 2 * Decimal("0.00055"),
    }
    assert result.unpriced == 0


@pytest.mark.skipif(not importlib.util.find_spec("litellm"), reason="runs where LiteLLM is")
async def test_the_content_team_runs_three_providers_through_litellm(
    providers: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMINI_API_BASE", providers.base_url(GEMINI) + "/v1beta")  # LiteLLM's own
    providers.respond(team_responder({"fact_checker": ["writer"]}))
    result: Result = await load("content_team").run("Why is the sea salty?")
    assert result.metadata["workers_used"] == ["writer", "fact_checker"]
    assert {call.provider for call in result.calls} == {"openai", "anthropic", "gcp.gemini"}
    assert result.unpriced == 0
    assert set(result.cost_by("provider")) == {"openai", "anthropic", "gcp.gemini"}
