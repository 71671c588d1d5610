"""The picture of a team has everybody in it, and nothing of it can be drawn by a name."""

from __future__ import annotations

import re

from pyagent_patterns import (
    Agent,
    Hierarchical,
    OrchestratorWorkers,
    Pipeline,
    Review,
    Route,
    Router,
    Team,
    ask_human,
    loop,
    parallel,
    tool,
)
from pyagent_patterns.graph import mermaid
from pyagent_patterns.mcp import MCPServer
from pyagent_providers.testing import ScriptedLLM


def a(name: str, model: str = "m", **options: object) -> Agent:
    return Agent(name, ScriptedLLM([], model=model), **options)  # type: ignore[arg-type]


@tool(approve=True)
def pay(usd: int) -> str:
    """Pay."""
    return ""


def test_a_small_team_is_drawn_whole() -> None:
    team = OrchestratorWorkers(
        orchestrator=a("lead", "big"),
        workers=[a("clerk", tools=[pay], fallback=a("temp"))],
        name="office",
        approve=["plan"],
        degrade_to=[a("alone")],
    )
    assert (
        mermaid(team)
        == """\
flowchart TD
  task(["task"])
  answer(["answer"])
  subgraph n1["office: orchestrator_workers (a person approves: plan)"]
    n2["lead<br/>big<br/>plans"]
    n3["clerk<br/>m"]
    n4[/"pay, a person approves"/]
    n3 -.- n4
    n5["temp<br/>m"]
    n3 -.->|"fallback"| n5
    n2 --> n3
    n6["lead<br/>big<br/>writes the answer"]
    n3 --> n6
  end
  n7["alone<br/>m"]
  n1 -.->|"degrades to"| n7
  task --> n1
  n1 --> answer
"""
    )


def test_every_pattern_and_member_is_in_the_picture() -> None:
    async def helper(prompt: str) -> str:
        return prompt

    team = Hierarchical(
        manager=a("manager"),
        teams=[
            Team("squad", a("lead"), [a("worker")]),
            Router([Route("cash", a("cashier"))], classifier=a("porter"), default="cash"),
            Pipeline([[a("left"), a("right")], Review(a("judge")), helper], name="line"),
            parallel(a("one"), a("two"), merge=a("merger")),
            loop(a("author"), lambda work: True),
            a("asks", tools=[ask_human, a("expert").as_tool()], mcp=[MCPServer.stdio("filer")]),
        ],
    )
    drawn = mermaid(team)
    for name in (
        *("manager", "squad: team", "lead", "worker", "cashier", "porter", "line: pipeline"),
        *("left", "right", "judge", "helper", "one", "two", "merger", "author", "loop", "asks"),
        *("ask_human", "expert", "filer", "#60;lambda#62;"),
    ):
        assert f'"{name}"' in drawn or f'"{name}<br/>' in drawn, name
    assert '-->|"cash (default)"|' in drawn
    assert drawn.count("subgraph") == drawn.count("  end\n") == 6


def test_a_hostile_name_is_text_and_nothing_else() -> None:
    name = 'x"]; end --> y <script>alert(1)</script> `md` #quot; %%{init: {}}%% \\'
    drawn = mermaid(Pipeline([a(name, model='"] --> z\n  click n1 "javascript:x"')]))
    node = next(line for line in drawn.splitlines() if "alert" in line)
    assert re.fullmatch(r'    n\d+\["[^"`<>\[\]{}%\\;]*(#\d+;[^"`<>\[\]{}%\\;]*|<br/>)*"\]', node)
    assert len(drawn.splitlines()) == len(mermaid(Pipeline([a("x")])).splitlines())


def test_an_agents_tools_are_drawn_once_however_often_it_works() -> None:
    clerk = a("clerk", tools=[pay])
    assert mermaid(Pipeline([clerk, a("b"), clerk])).count("pay") == 1
