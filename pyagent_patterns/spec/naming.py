"""Where the objects that a definition names are to be imported from, and keys that are free."""

from __future__ import annotations

import sys
from collections.abc import Collection
from operator import attrgetter
from pathlib import Path as File
from typing import cast

from pyagent_patterns.durable import teams
from pyagent_patterns.tools import Tool


def name_of(found: object, folder: File) -> str | None:
    """`module:object`, or a path from `folder`; None for what is not at the top of a module."""
    name = _own_name(found) or teams.search(found)
    if name is None:
        return None
    where, _, attribute = name.rpartition(":")
    if not where.endswith(".py"):
        return name
    path = File(where).resolve()
    near = path.is_relative_to(folder)
    return f"{path.relative_to(folder) if near else path}:{attribute}"


def _own_name(found: object) -> str | None:
    """By what a function or class says of itself, if that leads back to it, or its tool."""
    module, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        return None
    try:
        there = cast(object, attrgetter(name)(sys.modules[module]))
    except (KeyError, AttributeError):
        return None
    its_tool = isinstance(there, Tool) and there.made_of is found
    where = teams.module_name(module, sys.modules[module]) if there is found or its_tool else None
    return None if where is None else f"{where}:{name}"


def free_key(wanted: str, taken: Collection[str]) -> str:
    """The key, numbered if another has it."""
    key, n = wanted, 2
    while key in taken:
        key, n = f"{wanted}-{n}", n + 1
    return key
