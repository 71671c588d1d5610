"""What form an answer must have: a pydantic model, another type, or a JSON Schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, cast

from pyagent_providers.base import OutputSchema
from pyagent_providers.types import JSONObject

OutputType: TypeAlias = "type[Any] | JSONObject"
"""A type that pydantic knows, or a JSON Schema."""

_Reader: TypeAlias = Callable[[object], tuple[object, list[str]]]
"""Reads a value: as what, and what is wrong with it."""

_FENCE: Final = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?```\Z", re.DOTALL)


class Unfit(ValueError):
    """A text that does not have the form: all its faults, and the text as it came."""

    def __init__(self, faults: list[str], text: str) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)
        self.text = text


class Form:
    """The form of an answer, or of what a run is given.

    Of a type, values are read by pydantic; of a JSON Schema they stay JSON values, checked by
    `jsonschema`. `schema` is what a model is held to where its provider can: an object, else None.

    Raises TypeError or ValueError for what is neither, ImportError without `jsonschema`
    (`pip install "pyagent-sdk[spec]"`).
    """

    def __init__(self, wanted: OutputType) -> None:
        if isinstance(wanted, Mapping):
            schema, self._read = wanted, _by_schema(wanted)
        else:
            schema, self._read = _by_type(wanted)
        self._told = OutputSchema("answer", schema, strict=False)
        self.schema = self._told if schema.get("type") == "object" else None

    def read(self, text: str) -> object:
        """The value that a text stands for: JSON, bare or in one code fence. Raises `Unfit`."""
        try:
            value: object = json.loads(unfenced(text))
        except (ValueError, RecursionError) as error:
            raise Unfit([f"it is not JSON: {error}"], text) from error
        return self.check(value, text)

    def check(self, value: object, text: str = "") -> object:
        """The value, read as the type. Raises `Unfit` with every fault."""
        read, faults = self._read(value)
        if faults:
            raise Unfit(faults, text)
        return read

    def asked(self, prompt: str) -> str:
        """A prompt that asks for the form as well."""
        return (
            f"{prompt}\n\nAnswer with JSON that follows this schema, and nothing else:\n"
            f"{self._told.text}"
        )

    def repair(self, prompt: str, unfit: Unfit) -> str:
        """The same question, with the answer that was given and everything wrong with it."""
        listed = "\n".join(f"- {fault}" for fault in unfit.faults)
        return (
            f"{self.asked(prompt)}\n\nThis answer was given before:\n{unfit.text}\n\n"
            f"It does not follow the schema:\n{listed}\n\n"
            "Give the whole answer again with every one of these faults mended."
        )


def unfenced(text: str) -> str:
    """What a model wrote in one code fence, without it; anything else as it is."""
    fenced = _FENCE.match(text.strip())
    return fenced.group(1) if fenced else text


def as_json(value: object) -> str:
    """A value as JSON text, also one that pydantic knows how to write."""
    from pydantic_core import to_json

    return to_json(value, indent=2).decode()


def _by_type(wanted: type[Any]) -> tuple[JSONObject, _Reader]:
    """The schema of a type, and how a value is read as one."""
    # Not at the top: pydantic takes longer to import than all of this package.
    from pydantic import (
        PydanticUndefinedAnnotation,
        PydanticUserError,
        TypeAdapter,
        ValidationError,
    )

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(wanted)
        schema = cast(JSONObject, adapter.json_schema())
    except (PydanticUndefinedAnnotation, PydanticUserError) as error:
        raise TypeError(
            f"{wanted!r} is neither a type that pydantic knows nor a JSON Schema: {error.message}"
        ) from error

    def read(value: object) -> tuple[object, list[str]]:
        try:
            return adapter.validate_python(value), []
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
        return None, [
            f"{'.'.join(map(str, fault['loc'])) or 'it'}: {fault['msg']}" for fault in found
        ]

    return schema, read


def _by_schema(schema: JSONObject) -> _Reader:
    """Finds what is wrong with a value by a JSON Schema."""
    try:
        from jsonschema.exceptions import SchemaError
        from jsonschema.validators import validator_for
    except ImportError as error:
        raise ImportError(
            'a JSON Schema needs jsonschema: pip install "pyagent-sdk[spec]"; '
            "a pydantic model does not"
        ) from error
    kind: Any = validator_for(cast(Any, schema))
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"this is no JSON Schema: {error.message}") from error
    validator = kind(schema)

    def read(value: object) -> tuple[object, list[str]]:
        found = validator.iter_errors(value)
        return value, [f"{fault.json_path}: {fault.message}" for fault in found]

    return read
