"""The JSON Schema of a definition, by which editors complete and check one.

It is kept as `team.schema.json`, beside this module; `pyagent schema` prints it.
"""

from __future__ import annotations

from pyagent_providers.types import JSONObject, JSONValue


def json_schema() -> JSONObject:
    """The schema, made from the models that read definitions."""
    from .teams import DefinitionSpec

    schema = _tidy(DefinitionSpec.model_json_schema())
    assert isinstance(schema, dict)  # noqa: S101 - a mapping stays one
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Team", **schema}


def _tidy(schema: JSONValue, *, names: bool = False) -> JSONValue:
    """Without the titles that pydantic makes, and defaults that say nothing."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        word: _tidy(value, names=word in ("properties", "$defs") and not names)
        for word, value in schema.items()
        if names or not (word == "title" or (word == "default" and value is None))
    }
