"""A team that was made in Python is written as a definition, from which an equal one is made."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from pyagent_patterns import (
    Agent,
    Budget,
    Hierarchical,
    NewAgent,
    OrchestratorWorkers,
    Pipeline,
    RetryPolicy,
    Review,
    Route,
    Router,
    Team,
    Timeouts,
    ask_human,
    loop,
    parallel,
    tool,
)
from pyagent_patterns.agent import MemberTool
from pyagent_patterns.base import Pattern
from pyagent_patterns.mcp import MCPServer
from pyagent_patterns.people import AskHuman
from pyagent_patterns.sandbox import python_tool
from pyagent_patterns.skills import Skills
from pyagent_patterns.spec import CannotWriteError, dump, load
from pyagent_patterns.workspace import Workspace
from pyagent_providers import AnthropicLLM, GeminiLLM, Message, ModelPrice, OpenAILLM
from pyagent_providers.testing import ScriptedLLM

from . import parts
from .conftest import Write


def a(name: str = "a", **options: object) -> Agent:
    return Agent(name, OpenAILLM("gpt-4o-mini"), **options)  # type: ignore[arg-type]


def described(value: object) -> object:
    """All that makes a member what it is, as plain values, read off the objects themselves."""
    match value:
        case Agent():
            return {
                "recorded": value.as_recorded,
                "models": [
                    (llm.provider, llm.model, llm.price, llm.settings) for llm in value.llms
                ],
                "tools": [described(one) for one in value.tools],
                "toolsets": [described(one) for one in value.toolsets],
                "fallback": described(value.fallback),
                "sampling": asdict(value.sampling),
                "schema": value.output_schema and value.output_schema.schema,
                **{name: getattr(value, name) for name in _AGENT},
            }
        case MCPServer():
            return (value.name, value.connection, value.terms, value.start_timeout)
        case MemberTool():
            return (value.name, value.description, described(value.member))
        case AskHuman():
            return (value.name, value.description)
        case Pattern():
            own = {name: described(getattr(value, name, None)) for name in _PATTERN}
            options = {k: v for k, v in value.options.items() if v}
            options.pop("degrade_to", None)
            return (value.kind, value.name, value.description, own, options)
        case Review():
            return (described(value.judge), value.criteria, value.max_rounds, value.of)
        case Route():
            return (value.name, value.purpose, value.when, described(value.member))
        case list() | tuple():
            return [described(one) for one in value]
        case dict():
            return {key: described(one) for key, one in value.items()}
        case _ if hasattr(value, "spec") and hasattr(value, "effect"):
            return (value.spec, value.effect, value.approve, value.timeout)
        case _ if type(value).__name__ == "Stage":
            return (described(value.team), described(value.gates))  # type: ignore[attr-defined]
        case _ if type(value).__name__ == "Planner":
            names = ("mode", "max_iterations", "max_replans", "agent_factory", "max_new_agents")
            told = {name: getattr(value, name) for name in (*names, "wording")}
            return (described(value.member), told)  # type: ignore[attr-defined]
        case _:
            return value


_AGENT = ("name", "description", "stream", "retry", "timeouts", "on_error", "max_steps",
          "use_history", "max_context_tokens", "keep_recent", "system_prompt")  # fmt: skip
_PATTERN = ("workers", "planner", "synthesizer", "reviews", "max_parallel", "stages", "sees",
            "routes", "classifier", "default", "top_k", "merge", "manager", "teams",
            "side_by_side", "worker", "review", "degrade_to")  # fmt: skip


def again(team: Pattern, write: Write, tmp_path: Path) -> Pattern:
    """The team, written and read."""
    return load(write(dump(team, folder=tmp_path))).team


TEAMS: dict[str, Callable[[], Pattern]] = {
    "models": lambda: Pipeline(
        [
            Agent("one", OpenAILLM("m", base_url="http://localhost:9/v1", api="responses")),
            Agent("two", [AnthropicLLM("c", max_tokens=9), GeminiLLM("g", timeout=3)]),
            Agent("three", OpenAILLM("m", price=ModelPrice("1", 2, cache_read="0.5"))),
            Agent("four", parts.echo),
            Agent("five", parts.scripted),
        ]
    ),
    "agents": lambda: Pipeline(
        [
            a(
                system_prompt="One.\n  Two: #3\n\n",
                description="does: a",
                max_tokens=5,
                temperature=0.0,
                top_p=1,
                stop=["no", "1", ""],
                seed=0,
                output_schema={"type": "object", "properties": {"on": {"type": "string"}}},
                stream=True,
                retry=RetryPolicy(retry_on=(KeyError, TimeoutError)),
                timeouts=Timeouts(call=3, idle=0.5),
                on_error="abort",
                fallback=a("b", retry=RetryPolicy(retry_on=parts.is_busy)),
                max_steps=2,
                use_history=False,
                max_context_tokens=99,
                keep_recent=0,
            )
        ]
    ),
    "names": lambda: Pipeline([a("yes"), a("3"), a("a: b"), a("#x"), a("ask_human"), a("é ü")]),
    "same names": lambda: Pipeline([loop(a(), a("j")), loop(a(), a("j"), name="again")]),
    "tools": lambda: Pipeline(
        [
            a(
                tools=[
                    parts.search,
                    parts.look_up,
                    tool(name="other", effect="read", approve=True, timeout=2)(parts.search),
                    python_tool(parts.box, effect="read"),
                    a("helper", tools=[parts.search]).as_tool("help", "helps"),
                    loop(a("w"), a("j")).as_tool(),
                    ask_human,
                    AskHuman("boss", "the boss"),
                ]
            )
        ]
    ),
    "servers": lambda: Pipeline(
        [
            a(
                mcp=[
                    SHARED,
                    MCPServer.http("https://h.example/mcp", timeout=None, trust_annotations=True),
                    parts.shelf,
                ]
            ),
            a("b", mcp=[SHARED]),
        ]
    ),
    "orchestrator": lambda: OrchestratorWorkers(
        orchestrator=a("o", system_prompt="Plan."),
        workers=[a("w"), parts.helper, loop(a("x"), a("y"))],
        planning="iterative",
        max_iterations=3,
        max_replans=2,
        max_parallel=4,
        agent_factory=parts.hire,
        max_new_agents=1,
        prompts=parts.wording,
        review=[Review(parts.is_good, of="outcome"), Review(a("j"), criteria="c", max_rounds=1)],
        plan_schema={"type": "object"},
        name="all",
        description="does all",
        retry=RetryPolicy(max_attempts=1),
        timeouts=Timeouts(run=5),
        on_error="skip",
        budget=Budget(max_cost_usd="0.5", on_unpriced=ModelPrice(1, 2)),
        degrade_to=[a("simple"), Pipeline([a("simpler")])],
        traffic=parts.calm,
        approve=["answer", "plan"],
        output_type=parts.Report,
        inputs={"type": "object"},
    ),
    "planner and synthesizer": lambda: OrchestratorWorkers(
        planner=a("p"), worker=a("w"), synthesizer=a("s"), budget=Budget(max_calls=3)
    ),
    "hierarchy": lambda: Hierarchical(
        manager=a("m"),
        teams=[Team("t", a("l"), [a("w")], "led", on_error="abort"), a("alone")],
        max_parallel=1,
    ),
    "router": lambda: Router(
        [Route("cash", a("c"), description="x" * 300, when=parts.is_money), a("d")],
        classifier=a("k"),
        default="d",
        top_k=2,
        merge=parts.helper,
    ),
    "pipeline": lambda: Pipeline(
        [[a("x"), parallel(a("y"), a("z"), merge=a("m"))], Review(a("j")), parts.helper], sees="all"
    ),
}
SHARED = MCPServer.stdio(
    "npx", ["-y", "x", "${HOME}"], allow=["r"], approve=["r"], effects={"r": "read"}, prefix="p_"
)


@pytest.mark.parametrize("name", TEAMS)
def test_a_written_team_is_read_as_an_equal_one(name: str, write: Write, tmp_path: Path) -> None:
    team = TEAMS[name]()
    back = again(team, write, tmp_path)
    assert described(back) == described(team)
    one, other = (yaml.safe_load(dump(each, folder=tmp_path)) for each in (team, back))
    assert other == one


def test_members_that_are_one_object_stay_one(write: Write, tmp_path: Path) -> None:
    shared = loop(a("w"), a("j"))
    back = again(Pipeline([shared, a(fallback=shared)]), write, tmp_path)
    first, second = (next(iter(stage.team.values())) for stage in back.stages)  # type: ignore[attr-defined]
    assert second.fallback is first


def test_workspaces_and_skills_are_written_as_what_they_are(write: Write, tmp_path: Path) -> None:
    write("---\nname: sums\ndescription: how to add\n---\nAdd.\n", "skills/sums/SKILL.md")
    (tmp_path / "data").mkdir()
    skills = Skills(tmp_path / "skills")
    files = Workspace(tmp_path / "data", writable=False)
    agent = a(
        system_prompt=f"You add.\n\n{skills.summary}", tools=[*files.tools(), *skills.tools()]
    )
    text = dump(Pipeline([agent]), folder=tmp_path)
    written = yaml.safe_load(text)["agents"]["a"]
    assert written["tools"] == [{"workspace": "data", "writable": False}]
    assert (written["skills"], written["system_prompt"]) == ("skills", "You add.")
    (back,) = load(write(text)).team.agents
    assert back.system_prompt == agent.system_prompt
    assert [one.name for one in back.tools] == [one.name for one in agent.tools]


def test_no_secret_is_written_in_clear() -> None:
    agent = Agent(
        "a",
        [
            OpenAILLM("m", api_key="sk-hidden", base_url="https://user:sk-hidden@h.example/v1"),
            AnthropicLLM("m", api_key="sk-hidden"),
            GeminiLLM("m", api_key="sk-hidden", base_url="https://h.example/?key=sk-hidden"),
        ],
        mcp=[
            MCPServer.stdio("x", env={"TOKEN": "sk-hidden"}),
            MCPServer.http("https://h.example/?k=sk-hidden", headers={"X-Api-Key": "sk-hidden"}),
        ],
    )
    text = dump(Pipeline([agent]))
    assert "sk-hidden" not in text
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "TOKEN", "X_API_KEY"):
        assert f"${{{name}}}" in text


def test_what_came_from_the_environment_goes_back_as_its_variable(write: Write) -> None:
    text = """
mcp:
  x: {command: x, args: ["--token=${A_KEY}"], env: {T: "Bearer ${A_KEY}"}, cwd: .}
agents:
  a:
    llm: {provider: openai, model: m, api_key: "${A_KEY}", base_url: "https://${A_KEY}.example"}
    mcp: [x, {url: "https://h.example/${A_KEY}", headers: {A: "${A_KEY}"}}]
team: {pattern: pipeline, stages: [a]}
"""
    written = dump(load(write(text)).team)
    assert "sk-very-secret" not in written
    for kept in ("--token=${A_KEY}", "Bearer ${A_KEY}", "https://${A_KEY}.example",
                 "https://h.example/${A_KEY}"):  # fmt: skip
        assert kept in written


LITERAL = ("${A_KEY}", "$${A_KEY}", "$5", "${", "${a{b}", "$$", "a$${x}${y}")


def test_what_a_definition_leaves_in_words_is_not_filled_in(write: Write, tmp_path: Path) -> None:
    server = MCPServer.stdio("x", LITERAL)
    back = again(Pipeline([a(mcp=[server])]), write, tmp_path)
    assert back.agents[0].toolsets[0].connection.args == LITERAL  # type: ignore[attr-defined]


def test_everything_that_cannot_be_written_is_told_at_once() -> None:
    async def local(messages: Sequence[Message]) -> str:
        return ""

    def hidden(query: str) -> str:
        return query

    def factory(wanted: NewAgent) -> Agent:
        return a(wanted.name)

    class Mine(Pipeline):
        """A pattern of one's own."""

    from openai import AsyncOpenAI

    def team() -> Pattern:
        return OrchestratorWorkers(
            orchestrator=Agent("local", local),
            workers=[
                a("tooled", tools=[hidden]),
                Agent("scripted", ScriptedLLM([])),
                Agent("own client", OpenAILLM("m", client=AsyncOpenAI(api_key="k"))),
                Mine([a("inner")], name="mine"),
                Router([a("r")], classifier=a("c"), name="router"),
            ],
            agent_factory=factory,
            review=Review(lambda work: True),
        )

    with pytest.raises(CannotWriteError) as raised:
        dump(team())
    told = str(raised.value)
    for what in (
        "the model of agent 'local' is <function",
        "the tool 'hidden' of tooled is <function",
        "the model of agent 'scripted' is ScriptedLLM('scripted'), which a file cannot hold: put "
        "it at the top of a module, under a name",
        "the model of agent 'own client' has a client of its own; leave out client=",
        "the pattern 'mine' is Mine('mine')",
        "the agent_factory of OrchestratorWorkers",
        "a review's judge is <function",
    ):
        assert what in told
    assert len(raised.value.faults) == 7


def test_only_some_tools_of_a_workspace_cannot_be_written(tmp_path: Path) -> None:
    files = Workspace(tmp_path)
    with pytest.raises(CannotWriteError, match="agent 'a' has some of the tools of Workspace"):
        dump(Pipeline([a(tools=files.tools()[:1])]))


def test_an_objective_is_written_with_the_team(write: Write, tmp_path: Path) -> None:
    text = dump(Pipeline([a()]), objective="About {{ topic }}:\nbriefly", folder=tmp_path)
    assert load(write(text)).task({"topic": "x"}) == "About x:\nbriefly"


def test_what_is_in_a_file_beside_is_named_by_its_path(write: Write, tmp_path: Path) -> None:
    text = "agents: {a: {llm: 'custom:parts.py:echo'}}\nteam: {pattern: pipeline, stages: [a]}\n"
    written = dump(load(write(text)).team, folder=tmp_path)
    assert yaml.safe_load(written)["agents"]["a"]["llm"] == "custom:parts.py:echo"
    assert not [name for name in sys.modules if name == "parts"]
