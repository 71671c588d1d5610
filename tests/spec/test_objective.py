"""The objective is a template over the inputs, and reaches nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyagent_patterns.spec import DefinitionError, load

from .conftest import Write, faults_of, told

AGENT = "agents: {a: {llm: 'custom:parts.py:echo'}}\n"
TEAM = "team: {pattern: pipeline, stages: [a]}\n"
SCHEMA = "{type: object, properties: {topic: {type: string}}, required: [topic]}"
ASKED = f"team: {{pattern: pipeline, stages: [a], inputs: {SCHEMA}}}\n"


def defined(write: Write, objective: str, team: str = TEAM) -> Path:
    return write(f"objective: {objective}\n{AGENT}{team}")


def test_inputs_are_filled_in(write: Write) -> None:
    task = load(defined(write, "Write about {{ topic }} {% if long %}at length{% endif %}.")).task
    assert task({"topic": "salt <& sea>", "long": True}) == "Write about salt <& sea> at length."


def test_a_template_may_be_in_a_file(write: Write) -> None:
    write("About {{ topic }}.\n", "texts/objective.md")
    assert load(defined(write, "{file: texts/objective.md}")).task({"topic": "x"}) == "About x."


def test_inputs_of_a_model_are_checked_and_have_their_defaults(write: Write) -> None:
    team = "team: {pattern: pipeline, stages: [a], inputs: 'parts.py:Question'}\n"
    definition = load(defined(write, "'{{ pages }} on {{ topic }}'", team))
    assert definition.task({"topic": "salt"}) == "1 on salt"
    with pytest.raises(ValueError, match="inputs do not fit: topic: String should have at least 2"):
        definition.task({"topic": "x"})


def test_inputs_are_held_to_a_json_schema(write: Write) -> None:
    definition = load(defined(write, "About {{ topic }}.", ASKED))
    with pytest.raises(ValueError, match=r"'topic' is a required property"):
        definition.task({})


def test_what_a_template_has_and_the_inputs_lack_is_told_when_it_is_loaded(write: Write) -> None:
    path = defined(write, "About {{ topik }} and {{ range(3) }}.", ASKED)
    assert told(path) == ["1: objective: the team's inputs have no 'topik'; did you mean 'topic'?"]


def test_an_input_that_is_not_given_is_told_and_not_left_empty(write: Write) -> None:
    with pytest.raises(DefinitionError, match=r"team.yaml:1:1: objective: .* 'topic' is undefined"):
        load(defined(write, "About {{ topic }}.")).task()


def test_a_fault_in_a_template_is_told_with_its_own_line(write: Write) -> None:
    path = write(f"objective: |\n  One.\n  {{% if x %}}\n  {{{{ }}\n{AGENT}{TEAM}")
    (fault,) = faults_of(path)
    assert fault.line == 4
    assert "this is no Jinja template" in fault.message


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ topic.__init__.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ items.append(1) }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ range(100000000) | list }}",
    ],
)
def test_a_template_reaches_nothing_but_its_inputs(write: Write, attack: str) -> None:
    definition = load(defined(write, f'"{attack}"'))
    with pytest.raises(DefinitionError):
        definition.task({"topic": "x", "items": []})


def test_inputs_are_no_templates(write: Write) -> None:
    assert load(defined(write, "'{{ topic }}'")).task({"topic": "{{ 7 * 7 }}"}) == "{{ 7 * 7 }}"


def test_without_an_objective_the_task_is_to_be_given(write: Write) -> None:
    definition = load(write(AGENT + TEAM))
    assert not definition.has_objective
    with pytest.raises(ValueError, match="has no objective: give the task itself"):
        definition.task()
