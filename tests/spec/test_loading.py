"""A definition becomes the objects that Python would have made, and they run."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from pyagent_patterns import (
    Agent,
    Budget,
    Hierarchical,
    Loop,
    OrchestratorWorkers,
    Parallel,
    Pipeline,
    RetryPolicy,
    Router,
    Team,
    Timeouts,
)
from pyagent_patterns.agent import MemberTool
from pyagent_patterns.base import Pattern
from pyagent_patterns.mcp import MCPServer
from pyagent_patterns.people import AskHuman
from pyagent_patterns.spec import load
from pyagent_providers import ModelPrice, OpenAILLM
from tests.wire import CHAT, Reply, WireServer

from .conftest import Write

AGENTS = """
agents:
  a: {llm: "custom:parts.py:echo"}
  b: {llm: "custom:parts.py:echo"}
  c: {llm: "custom:parts.py:echo"}
"""


def member(team: Pattern, name: str) -> Agent:
    return next(agent for agent in team.agents if agent.name == name)


def test_an_agent_has_every_setting_that_its_definition_gives(write: Write) -> None:
    write("You are A.\n", "prompts/a.md")
    team = load(
        write(
            """
agents:
  a:
    name: The A
    llm: [openai:gpt-4o-mini, custom:parts.py:echo]
    system_prompt: {file: prompts/a.md}
    description: does a
    max_tokens: 50
    temperature: 1
    top_p: 0.5
    stop: [no, END]
    seed: 7
    output_schema: {type: object}
    stream: true
    retry: {max_attempts: 2, backoff: 0, jitter: false, retry_on: ["builtins:KeyError"]}
    timeouts: {call: 3}
    on_error: skip
    fallback: b
    max_steps: 4
    use_history: true
    max_context_tokens: 1000
    keep_recent: 2
  b: {llm: custom:parts.py:scripted}
team: {pattern: pipeline, stages: [a]}
"""
        )
    ).team
    a = member(team, "The A")
    assert [llm.model for llm in a.llms] == ["gpt-4o-mini", "echo"]
    assert (a.system_prompt, a.description) == ("You are A.\n", "does a")
    assert (a.sampling.max_tokens, a.sampling.temperature, a.sampling.top_p) == (50, 1, 0.5)
    assert (a.sampling.stop, a.sampling.seed) == (("no", "END"), 7)
    assert a.output_schema is not None
    assert a.output_schema.schema == {"type": "object"}
    assert a.stream
    assert a.retry == RetryPolicy(max_attempts=2, backoff=0, jitter=False, retry_on=(KeyError,))
    assert a.timeouts == Timeouts(call=3)
    assert a.on_error == "skip"
    assert a.fallback is member(team, "b")
    assert (a.max_steps, a.use_history, a.max_context_tokens, a.keep_recent) == (4, True, 1000, 2)


def test_a_model_has_every_setting_and_its_key_from_the_environment(write: Write) -> None:
    path = write(
        """
models:
  own:
    provider: openai
    model: m
    base_url: http://localhost:9/${PLACE}/v1
    api_key: ${A_KEY}
    timeout: 5
    api: responses
    provider_name: mine
    price: {input: 1, output: "2.50", cache_read: 0.1}
agents:
  a: {llm: own}
  b: {llm: own}
team: {pattern: pipeline, stages: [a, b]}
"""
    )
    team = load(path, environment={"PLACE": "here", "A_KEY": "sk-1"}).team
    a, b = team.agents
    assert isinstance(a.llm, OpenAILLM)
    assert a.llm is b.llm
    assert a.llm.provider == "mine"
    assert a.llm.price == ModelPrice("1", "2.50", cache_read="0.1")
    assert a.llm.settings == {
        "base_url": "http://localhost:9/${PLACE}/v1",
        "api_key": "${A_KEY}",
        "timeout": 5,
        "api": "responses",
        "structured_output": "json_schema",
        "provider": "mine",
    }


async def test_the_key_and_the_address_are_what_is_sent(write: Write, wire: WireServer) -> None:
    wire.script(Reply("hello"))
    path = write(
        """
agents:
  a: {llm: {provider: openai, model: m, base_url: "${URL}", api_key: "${A_KEY}"}}
team: {pattern: pipeline, stages: [a]}
"""
    )
    environment = {"URL": wire.base_url(CHAT), "A_KEY": "sk-from-the-environment"}
    result = await load(path, environment=environment).team.run("Hi")
    assert result.output == "hello"
    assert wire.requests[0].headers["authorization"] == "Bearer sk-from-the-environment"


def test_tools_come_from_functions_folders_sandboxes_members_and_people(write: Write) -> None:
    (write("", "data/x.txt")).touch()
    write("---\nname: sums\ndescription: how to add\n---\nAdd.\n", "skills/sums/SKILL.md")
    team = load(
        write(
            """
tools:
  find: {function: parts.py:search, effect: read, approve: true, timeout: 3, name: find}
  files: {workspace: data, writable: false}
agents:
  a:
    llm: custom:parts.py:echo
    system_prompt: You are A.
    skills: skills
    tools:
      - find
      - parts.py:look_up
      - files
      - {sandbox: "parts.py:box", runs: shell, effect: idempotent}
      - {member: b, name: ask_b, description: knows b}
      - {member: both}
      - ask_human
      - {ask_human: Ask the boss., name: boss}
  b: {llm: "custom:parts.py:echo"}
patterns:
  both: {pattern: parallel, members: [b]}
team: {pattern: pipeline, stages: [a]}
"""
        )
    ).team
    a = member(team, "a")
    assert [tool.name for tool in a.tools] == [
        *("find", "look_up", "list_files", "read_file", "search_files", "run_shell", "ask_b"),
        *("parallel", "ask_human", "boss", "read_skill", "read_skill_file"),
    ]
    find = a.tools[0]
    assert (find.effect, find.approve, find.timeout) == ("read", True, 3)  # type: ignore[union-attr]
    assert isinstance(a.tools[6], MemberTool)
    assert a.tools[6].member is member(team, "b")
    assert isinstance(a.tools[9], AskHuman)
    assert a.tools[9].description == "Ask the boss."
    assert a.system_prompt.startswith("You are A.\n\n")
    assert "sums: how to add" in a.system_prompt


def test_mcp_servers_have_their_terms_and_all_who_name_one_share_it(write: Write) -> None:
    team = load(
        write(
            """
mcp:
  files:
    command: npx
    args: [-y, "--token=${A_KEY}", "$${HOME}"]
    env: {TOKEN: "${A_KEY}"}
    allow: [read]
    effects: {read: read}
    prefix: fs_
    timeout: null
agents:
  a: {llm: "custom:parts.py:echo", mcp: [files, "parts.py:shelf"]}
  b:
    llm: custom:parts.py:echo
    mcp: [files, {url: "https://example.org/mcp", headers: {Authorization: "Bearer ${A_KEY}"}}]
team: {pattern: pipeline, stages: [a, b]}
"""
        )
    ).team
    a, b = team.agents
    server = a.toolsets[0]
    assert isinstance(server, MCPServer)
    assert b.toolsets[0] is server
    assert server.connection.args == ("-y", "--token=sk-very-secret", "${HOME}")  # type: ignore[union-attr]
    assert server.connection.env == {"TOKEN": "sk-very-secret"}  # type: ignore[union-attr]
    assert (server.terms.prefix, server.terms.allow, server.terms.timeout) == (
        "fs_",
        ["read"],
        None,
    )
    assert b.toolsets[1].connection.headers == {"Authorization": "Bearer sk-very-secret"}  # type: ignore[attr-defined]
    assert "sk-very-secret" not in repr(server.connection) + repr(server.connection.env)  # type: ignore[union-attr]


def test_every_pattern_can_be_defined_with_its_options_and_nested(write: Write) -> None:
    team = load(
        write(
            AGENTS
            + """
patterns:
  work:
    pattern: orchestrator_workers
    name: work
    orchestrator: a
    workers: [b, "parts.py:helper"]
    planning: iterative
    max_iterations: 4
    max_parallel: 2
    agent_factory: parts.py:hire
    max_new_agents: 1
    prompts: parts.py:wording
    review: [{judge: c, criteria: true facts, max_rounds: 1, of: outcome}]
team:
  pattern: hierarchical
  name: agency
  description: does it all
  manager: a
  synthesizer: c
  teams:
    - work
    - {pattern: team, name: leads, description: led, lead: a, workers: [b]}
    - pattern: router
      name: desk
      routes: [{route: cash, member: b, description: money, when: "parts.py:is_money"}, c]
      classifier: a
      default: c
      top_k: 2
      merge: a
    - pattern: pipeline
      name: line
      sees: all
      stages:
        - [a, b]
        - review: {judge: parts.py:is_good}
        - {pattern: loop, name: polish, worker: a, judge: b, criteria: short, max_rounds: 5}
    - {pattern: parallel, name: side, members: [a, b], merge: c}
  budget: {max_cost_usd: "0.25", max_calls: 9, on_unpriced: {input: 1, output: 2}}
  timeouts: {run: 60}
  on_error: abort
  approve: [plan]
  degrade_to: [a]
  traffic: parts.py:calm
  output_type: parts.py:Report
"""
        )
    ).team
    assert isinstance(team, Hierarchical)
    work, leads, desk, line, side = team.teams.values()
    assert isinstance(work, OrchestratorWorkers)
    assert isinstance(leads, Team)
    assert isinstance(desk, Router)
    assert isinstance(line, Pipeline)
    assert isinstance(side, Parallel)
    assert (work.planner.mode, work.planner.max_iterations, work.planner.max_new_agents) == (
        *("iterative", 4, 1),
    )
    assert list(work.workers) == ["b", "helper"]
    assert (work.reviews[0].criteria, work.reviews[0].of) == ("true facts", "outcome")
    assert list(desk.routes) == ["cash", "c"]
    assert desk.routes["cash"].purpose == "money"
    assert (desk.default, desk.top_k) == ("c", 2)
    assert [list(stage.team) for stage in line.stages] == [["a", "b"], ["polish"]]
    assert len(line.stages[0].gates) == 1
    polish = line.stages[1].team["polish"]
    assert isinstance(polish, Loop)
    assert polish.review.max_rounds == 5
    assert team.budget == Budget(max_cost_usd="0.25", max_calls=9, on_unpriced=ModelPrice("1", "2"))
    assert team.policy.on_error == "abort"
    assert team.policy.timeouts.run == 60
    assert team.approve == {"plan"}
    assert [one.name for one in team.degrade_to] == ["a"]
    assert len({id(agent) for agent in team.agents if agent.name == "b"}) == 1


async def test_a_defined_team_runs(write: Write) -> None:
    team = load(write(AGENTS + "team: {pattern: pipeline, stages: [a, 'parts.py:helper']}")).team
    result = await team.run("Say hi.")
    assert result.output.startswith("helped with <task>\nSay hi.")
    assert "echo: Say hi." in result.output


def test_text_that_other_yaml_reads_as_truth_or_a_date_stays_text(write: Write) -> None:
    agent = """
agents:
  no: {llm: "custom:parts.py:echo", stop: [yes, on, 2024-01-01, 1:30, 0x1F, .inf]}
team: {pattern: pipeline, stages: [no]}
"""
    (no,) = load(write(agent)).team.agents
    assert no.name == "no"
    assert no.sampling.stop == ("yes", "on", "2024-01-01", "1:30", "0x1F", ".inf")


def test_an_alias_repeats_a_value(write: Write) -> None:
    text = """
agents:
  a: {llm: "custom:parts.py:echo", timeouts: &slow {call: 90}}
  b: {llm: "custom:parts.py:echo", timeouts: *slow}
team: {pattern: pipeline, stages: [a, b]}
"""
    assert {agent.timeouts for agent in load(write(text)).team.agents} == {Timeouts(call=90)}


def test_paths_are_from_the_definitions_folder_wherever_one_is(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(AGENTS + "team: {pattern: pipeline, stages: [a]}\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert load(path).team.agents[0].llm.price_of is not None
    assert load(Path("..", "team.yaml")).team.kind == "pipeline"


def test_money_is_exact(write: Write) -> None:
    text = AGENTS + "team: {pattern: pipeline, stages: [a], budget: {max_cost_usd: 0.1}}"
    assert load(write(text)).team.budget == Budget(max_cost_usd=Decimal("0.1"))
