"""What is wrong with a definition is told at once, each fault with its line and what to do."""

from __future__ import annotations

import traceback

import pytest

from pyagent_patterns.spec import DefinitionError, load

from .conftest import Write, faults_of, told

AGENT = "agents:\n  a: {llm: 'custom:parts.py:echo'}\n"
TEAM = "team: {pattern: pipeline, stages: [a]}\n"


def test_everything_that_is_wrong_is_told_at_once_in_the_files_order(write: Write) -> None:
    path = write(
        """\
objectiv: hello
models:
  own: {provider: openai, model: m, api_key: "${NOWHERE_SET}", base_url: "http://${A_KY}"}
agents:
  a: {llm: fast, temprature: 1, fallback: bee}
  b: {llm: own, max_tokens: "5", tools: [serch, parts.py:serch, parts.py:number]}
  c: {llm: [{model: x}], system_prompt: {file: nowhere.md}, max_steps: 0}
  d: {stop: [1]}
team:
  pattern: pipeline
  stages:
    - a
    - [b, 3]
    - {pattern: loop, worker: a, max_rounds: b}
    - {pattern: lop}
  on_error: skp
  budget: {}
"""
    )
    assert told(path) == [
        "1: objectiv: there is no such key here; did you mean 'objective'?",
        "3: models.own.api_key: the environment has no variable 'NOWHERE_SET'; set it",
        "3: models.own.base_url: the environment has no variable 'A_KY'; did you mean 'A_KEY'?",
        "5: agents.a.llm: no model is named 'fast'; there are 'own'; or write provider:model, "
        "such as openai:gpt-4o-mini",
        "5: agents.a.temprature: there is no such key here; did you mean 'temperature'?",
        "5: agents.a.fallback: no agent or pattern is named 'bee'; there are 'a', 'b', 'c', 'd'",
        "6: agents.b.max_tokens: it should be a valid integer",
        "6: agents.b.tools.0: no tool is named 'serch'; there are none; or write "
        "module:function, or ask_human",
        "6: agents.b.tools.1: 'parts.py' has no 'serch'",
        "6: agents.b.tools.2: a tool is a typed function, one decorated with @tool, or an agent's "
        "or pattern's as_tool(); got 3",
        "7: agents.c.llm.0.provider: this key is missing",
        "7: agents.c.system_prompt.file: 'nowhere.md' cannot be read: No such file or directory",
        "8: agents.d.llm: this key is missing",
        "8: agents.d.stop.0: it should be a valid string",
        "13: team.stages.1.1: a member is a name, an agent, or has a 'pattern': one of "
        "orchestrator_workers, team, pipeline, router, hierarchical, parallel, loop",
        "14: team.stages.2.judge: this key is missing",
        "14: team.stages.2.max_rounds: it should be a valid integer",
        "15: team.stages.3: a member is a name, an agent, or has a 'pattern': one of "
        "orchestrator_workers, team, pipeline, router, hierarchical, parallel, loop",
        "16: team.on_error: it should be 'partial', 'retry', 'fallback', 'skip' or 'abort'",
        "17: team.budget: a Budget needs a limit, such as Budget(max_cost_usd='0.50')",
    ]


def test_the_message_has_the_file_the_line_and_the_column(write: Write) -> None:
    path = write(AGENT + "team: {pattern: pipeline, stages: [a, bee]}\n")
    with pytest.raises(DefinitionError) as raised:
        load(path)
    assert str(raised.value) == (
        f"{path}:3:39: team.stages.1: no agent or pattern is named 'bee'; there are 'a'"
    )


@pytest.mark.parametrize(
    ("team", "why"),
    [
        ("a", "an agent alone is no team; write pattern: pipeline, with it as its stage"),
        ("nobody", "no agent or pattern is named 'nobody'"),
        ("{pattern: pipeline, stages: []}", "stages is empty"),
        ("{pattern: pipeline, stages: [a], max_parallel: 3}", "there is no such key here"),
        ("{pattern: pipeline, stages: [parts.py:number]}", "it must be an Agent, a Pattern or"),
        ("{pattern: pipeline, stages: [nosuch:thing]}", "cannot be imported: No module named"),
        ("{pattern: pipeline, stages: ['parts.py:']}", "is not module:object"),
        ("{pattern: pipeline, stages: [{llm: 'custom:parts.py:echo'}]}", "needs a name"),
        ("{pattern: parallel, members: [a, a]}", "two agents named 'a'"),
        ("{pattern: router, routes: [a], default: b, classifier: a}", "default 'b' is no route"),
        ("{pattern: router, routes: [{route: x, member: a, when: 'parts.py:number'}]}",
         "is a int, not a function"),
        ("{pattern: orchestrator_workers, workers: [a]}", "give an orchestrator"),
        ("{pattern: pipeline, stages: [a], timeouts: {call: -1}}", "must be more than 0 seconds"),
        ("{pattern: pipeline, stages: [a], output_type: 'parts.py:Nothing'}", "has no 'Nothing'"),
        ("{pattern: pipeline, stages: [a], inputs: {type: nonsense}}", "this is no JSON Schema"),
        ("{pattern: pipeline, stages: [a], approve: [everything]}", "it should be 'plan'"),
        ("3", "a member is a name"),
        ("null", "a member is a name"),
    ],
)  # fmt: skip
def test_a_team_that_cannot_be_is_told_where_it_stands(write: Write, team: str, why: str) -> None:
    (fault,) = faults_of(write(f"{AGENT}team: {team}\n"))
    assert fault.line == 3
    assert why in fault.message


@pytest.mark.parametrize(
    ("agent", "why"),
    [
        ("{llm: 'openai:'}", "is no name in models"),
        ("{llm: {provider: anthropic, model: m, api: chat}}", "of 'anthropic' has no 'api'"),
        ("{llm: {provider: custom, model: 'parts.py:echo', timeout: 3}}", "has no 'timeout'"),
        ("{llm: 'custom:parts.py:number'}", "llm must be an LLM"),
        ("{llm: {provider: openai, model: m, price: {input: -1, output: 1}}}", "input must be US"),
        ("{llm: 'custom:parts.py:echo', tools: [{workspace: nowhere}]}", "a folder that exists"),
        ("{llm: 'custom:parts.py:echo', tools: [{member: b}]}", "no agent or pattern is named 'b'"),
        ("{llm: 'custom:parts.py:echo', tools: [ask_human, ask_human]}", "two tools named"),
        ("{llm: 'custom:parts.py:echo', mcp: [github]}", "no MCP server is named 'github'"),
        ("{llm: 'custom:parts.py:echo', mcp: [{url: ftp://x}]}", "begins with http://"),
        ("{llm: 'custom:parts.py:echo', mcp: ['parts.py:number']}", "not an MCP server"),
        ("{llm: 'custom:parts.py:echo', skills: nowhere}", "skills need a folder that exists"),
        ("{llm: 'custom:parts.py:echo', retry: {backoff: -1}}", "0 <= backoff"),
        ("{llm: 'custom:parts.py:echo', retry: {retry_on: ['builtins:KeyError', 'parts.py:echo']}}",
         "exception types, or one function"),
    ],
)  # fmt: skip
def test_an_agent_that_cannot_be_is_told_where_it_stands(
    write: Write, agent: str, why: str
) -> None:
    (fault,) = faults_of(write(f"agents:\n  a: {agent}\n{TEAM}"))
    assert fault.line == 2
    assert why in fault.message


def test_what_goes_round_in_a_circle_is_told_once_with_its_way(write: Write) -> None:
    text = """
agents:
  a: {llm: "custom:parts.py:echo", fallback: b}
  b: {llm: "custom:parts.py:echo", tools: [{member: line}]}
patterns:
  line: {pattern: pipeline, stages: [a]}
team: line
"""
    (fault,) = faults_of(write(text))
    assert fault.message == "this goes round in a circle: 'a' -> 'b' -> 'line' -> 'a'"


def test_a_faulty_agent_is_told_once_however_many_use_it(write: Write) -> None:
    text = "agents:\n  a: {llm: nowhere}\nteam: {pattern: parallel, members: [a], merge: a}\n"
    assert len(faults_of(write(text))) == 1


def test_an_agent_and_a_pattern_of_one_name_are_a_fault(write: Write) -> None:
    text = f"{AGENT}patterns:\n  a: {{pattern: pipeline, stages: [a]}}\n{TEAM}"
    (fault,) = faults_of(write(text))
    assert (fault.line, fault.message) == (4, "an agent is named 'a', too")


SECRET = "sk-very-secret"


@pytest.mark.parametrize(
    "agent",
    [
        f"{{llm: {{provider: openai, model: m, api_key: {SECRET}}}}}",
        f"{{llm: {{provider: openai, model: m, api_key: [{SECRET}]}}}}",
        f"{{llm: {{provider: openai, model: m, api_key: '${{NO_KEY}}{SECRET}'}}}}",
        "{llm: {provider: openai, model: m, base_url: 'ht!tp://${A_KEY}', timeout: -1}}",
        "{llm: {provider: openai, model: m, base_url: 'http://${A_KEY}:port'}}",
        "{llm: {provider: openai, model: m, base_url: 'http://host:${A_KEY}'}}",
        "{llm: 'openai:m', mcp: [{url: 'https://h/?k=${A_KEY}', headers: {'a b': '${A_KEY}'}}]}",
        "{llm: 'openai:m', mcp: [{command: x, args: ['${A_KEY}'], prefix: '1'}]}",
    ],
)
def test_a_secrets_value_is_in_no_error(write: Write, agent: str) -> None:
    path = write(f"agents:\n  a: {agent}\n{TEAM}")
    with pytest.raises(DefinitionError) as raised:
        load(path)
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_a_key_in_clear_is_refused_and_told_where_it_belongs(write: Write) -> None:
    text = "agents:\n  a: {llm: {provider: openai, model: m, api_key: sk-clear}}\n" + TEAM
    (fault,) = faults_of(write(text))
    assert "put it in a variable of the environment and write api_key: ${NAME}" in fault.message


def test_names_in_a_message_cannot_move_the_cursor(write: Write) -> None:
    path = write(AGENT + 'team: {pattern: pipeline, stages: [a], "\\e[2Jx": 1}\n')
    with pytest.raises(DefinitionError) as raised:
        load(path)
    assert "\x1b" not in str(raised.value)


def test_a_module_that_fails_is_told_with_what_it_raised(write: Write) -> None:
    write("raise RuntimeError('out of coffee')\n", "broken.py")
    (fault,) = faults_of(write(f"agents:\n  a: {{llm: 'custom:broken.py:x'}}\n{TEAM}"))
    assert "cannot be imported: RuntimeError: out of coffee" in fault.message


@pytest.mark.parametrize(
    "text",
    [
        "{approve: [x, y, 3], stages: 3}",
        "{pattern: pipeline, stages: {a: b}, approve: [[x], {y: z}], degrade_to: [1, 2, [3]]}",
        "{pattern: router, routes: [1, [2], {route: 3}, {route: x, member: {pattern: 1}}]}",
        "{pattern: parallel, members: [{llm: [[], {}]}, {llm: {price: {input: [1]}}}], name: [1]}",
        "{pattern: pipeline, stages: [[[[a]]], {review: 3}, {review: {judge: {llm: 3}}}]}",
        "[[[]]]",
        "{pattern: loop, worker: {worker: {worker: 3}}, judge: ~, retry: 3, timeouts: [1]}",
    ],
)
def test_nonsense_of_any_shape_is_told_as_faults(write: Write, text: str) -> None:
    assert faults_of(write(f"agents: [1]\nmodels: {{x: 1}}\nmcp: {{x: {{}}}}\nteam: {text}\n"))
