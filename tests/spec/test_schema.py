"""The JSON Schema for editors says what the loader does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from pyagent_patterns import spec
from pyagent_patterns.spec import json_schema

ROOT = Path(__file__).parent.parent.parent
PUBLISHED = Path(spec.__file__).with_name("team.schema.json")
EXAMPLES = sorted((ROOT / "examples" / "teams").glob("*.yaml"))


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json.loads(PUBLISHED.read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_published_schema_is_that_of_the_models() -> None:
    published = json.loads(PUBLISHED.read_text())
    assert published == json_schema(), "pyagent schema > pyagent_patterns/spec/team.schema.json"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_valid_by_it(path: Path, validator: Draft202012Validator) -> None:
    validator.validate(yaml.safe_load(path.read_text()))
    first = path.read_text().splitlines()[0]
    schema = first.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / schema).resolve() == PUBLISHED


@pytest.mark.parametrize(
    "change",
    [
        {"objectiv": "x"},
        {"agents": {"a": {}}},
        {"agents": {"a": {"llm": "x", "temprature": 1}}},
        {"agents": {"a": {"llm": "x", "max_tokens": "5"}}},
        {"models": {"m": {"provider": "openai", "model": "m", "api_key": "sk-clear"}}},
        {"team": {"pattern": "lop"}},
        {"team": {"pattern": "pipeline"}},
        {"team": {"pattern": "pipeline", "stages": [["a", 3]]}},
        {"team": {"pattern": "pipeline", "stages": ["a"], "on_error": "skp"}},
    ],
)
def test_an_editor_sees_what_the_loader_would_refuse(
    change: dict[str, object], validator: Draft202012Validator
) -> None:
    good: dict[str, object] = {
        "agents": {"a": {"llm": "openai:m"}},
        "team": {"pattern": "pipeline", "stages": ["a"]},
    }
    validator.validate(good)
    assert list(validator.iter_errors({**good, **change}))


def test_what_the_documentation_shows_is_valid_by_it(validator: Draft202012Validator) -> None:
    page = (ROOT / "docs" / "definitions.md").read_text()
    shown = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(shown) == 3
    for text in shown:
        validator.validate({"team": "x", **yaml.safe_load(text)})


def test_every_key_that_does_not_speak_for_itself_is_described() -> None:
    definitions = json_schema()["$defs"]
    assert isinstance(definitions, dict)
    assert all("description" in one for one in definitions.values())
    llm = definitions["LLMSpec"]["properties"]
    assert "never the key itself" in llm["api_key"]["description"]
