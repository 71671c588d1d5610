"""Reading a provider's JSON, which may lack any field or hold odd types, into plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, cast

_NOTHING: Final[Mapping[str, object]] = {}


def obj(value: object) -> Mapping[str, object]:
    """The JSON object, or an empty one."""
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else _NOTHING


def arr(value: object) -> Sequence[object]:
    """The JSON array, or an empty one."""
    return cast("Sequence[object]", value) if isinstance(value, list) else ()


def text(value: object) -> str:
    """The string, or an empty one."""
    return value if isinstance(value, str) else ""


def count(value: object) -> int:
    """The whole number, or 0."""
    return value if isinstance(value, int) else 0


def arguments(text: str) -> Mapping[str, object]:
    """A tool call's arguments as an object, for the APIs that take nothing else back.

    What a model wrote that is none goes back under one name, so that it sees its own mistake.
    """
    try:
        given = json.loads(text or "{}")
    except ValueError:
        given = None
    return cast("Mapping[str, object]", given) if isinstance(given, dict) else {"invalid": text}


def dollars(value: object) -> Decimal | None:
    """An amount written as a number or a string, exactly as written, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount >= 0 else None
