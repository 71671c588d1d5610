"""Plain values as the models of a definition, with everything that is wrong told at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from pydantic import ValidationError

from .faults import Faults, Path, meant_or_all
from .parts import FAULTY, Spec
from .reading import Value
from .teams import DefinitionSpec


def checked(value: Value, faults: Faults) -> DefinitionSpec | None:
    """The definition; None of what is no mapping.

    What is wrong in form is told, and `FAULTY` put in its place, or it is left out: so that what
    is wrong with the rest, such as a name that nothing has, can be told beside it.
    """
    if not isinstance(value, dict):
        faults.add((), "a definition is a mapping, with agents and a team")
        return None
    tried: dict[Path, int] = {}
    while True:
        try:
            spec = DefinitionSpec.model_validate(value)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            wrong: dict[Path, list[str]] = {}
            for fault in found:
                path = _path(fault["loc"], value, missing=fault["type"] == "missing")
                wrong.setdefault(path, []).append(_message(fault["type"], fault["msg"]))
        else:
            break
        for path, messages in wrong.items():
            if path not in tried and _at(value, path) != FAULTY:
                faults.add(path, " or ".join(dict.fromkeys(messages)))
            _take_out(value, path, tried)
    for path, part in _parts(spec, ()):
        known = type(part).model_fields
        for key in part.model_extra or ():
            faults.add((*path, key), f"there is no such key here{meant_or_all(key, known)}")
    return spec


def _path(loc: Sequence[int | str], value: Value, *, missing: bool) -> Path:
    """Where in the file an error is; in its own words alternatives are steps on the way, too."""
    path: Path = ()
    here: object = value
    for n, step in enumerate(loc):
        inner = _within(here, step)
        if inner is None and not (missing and n == len(loc) - 1):
            continue
        path = (*path, step)
        here = None if inner is None else inner[0]
    return path


def _at(value: object, path: Path) -> object:
    for step in path:
        inner = _within(value, step)
        value = None if inner is None else inner[0]
    return value


def _within(value: object, step: int | str) -> tuple[object] | None:
    """What is one step further in; None if there is no such step."""
    if isinstance(value, dict) and step in value:
        return (cast("dict[int | str, object]", value)[step],)
    if isinstance(value, list) and isinstance(step, int):
        return (cast("list[object]", value)[step],)
    return None


def _message(kind: str, message: str) -> str:
    if kind == "missing":
        return "this key is missing"
    if kind == "model_type":
        return "it should be a mapping"
    return message.replace("Input should be", "it should be").replace("dictionary", "mapping")


def _take_out(root: dict[str, Value], path: Path, tried: dict[Path, int]) -> None:
    """Replace what is wrong; leave it out if it is wrong even so; then what it is in, too."""
    while path:
        holder, step, times = _at(root, path[:-1]), path[-1], tried.get(path, 0)
        tried[path] = times + 1
        if isinstance(holder, dict) and times < 2:
            entries = cast("dict[int | str, Value]", holder)
            if times:
                del entries[step]
            else:
                entries[step] = FAULTY
            return
        if isinstance(holder, list) and isinstance(step, int) and not times:
            cast("list[Value]", holder)[step] = FAULTY
            return
        if not isinstance(holder, dict | list):
            return  # it was taken out with what it is in
        path = path[:-1]


def _parts(value: object, path: Path) -> Iterator[tuple[Path, Spec]]:
    """Every mapping of the definition that is a model, with its place."""
    if isinstance(value, Spec):
        yield path, value
        for name in type(value).model_fields:
            yield from _parts(getattr(value, name), (*path, name))
    elif isinstance(value, list):
        for n, item in enumerate(cast("list[object]", value)):
            yield from _parts(item, (*path, n))
    elif isinstance(value, dict):
        for key, item in cast("dict[str, object]", value).items():
            yield from _parts(item, (*path, key))
