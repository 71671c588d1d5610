"""What a recorded call is known by: its place in a run, and what it was given."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from pyagent_providers.types import JSONObject, JSONValue

from .errors import ScopeError


class OneAtATime:
    """The block in which a scope makes a call."""

    __slots__ = ("_busy", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._busy = False

    def __enter__(self) -> None:
        if self._busy:
            raise ScopeError(
                f"two calls at once in scope {self._path or '/'!r}; parallel calls need scopes "
                "of their own: use child() or dag()"
            )
        self._busy = True

    def __exit__(self, *error: object) -> None:
        self._busy = False


@dataclass(frozen=True, slots=True)
class Input:
    """What other work than a question is given."""

    activity: str
    value: JSONValue

    def to_dict(self) -> JSONObject:
        return {"input": self.value}

    @property
    def input_hash(self) -> str:
        text = json.dumps(self.value, sort_keys=True)
        return hashlib.sha256(f"{self.activity}\0{text}".encode()).hexdigest()


@lru_cache(maxsize=1024)  # the same few, in every run
def segment(name: str) -> str:
    """A scope's name as part of a path, in which `/` separates."""
    return name if name.isalnum() and name.isascii() else quote(name, safe="")
