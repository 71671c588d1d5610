"""Where a team can be imported from, so that a run can go on in another process.

A team is named `package.module:object`, or `path/to/file.py:object` if its file is a script.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast
from weakref import WeakKeyDictionary

from pyagent_patterns.agent import Agent
from pyagent_patterns.events import Observer
from pyagent_patterns.journal import Store
from pyagent_patterns.people import Human
from pyagent_patterns.policy import Policy
from pyagent_patterns.result import Result
from pyagent_patterns.session import Session


class Team(Protocol):
    """What a store needs of a pattern."""

    policy: Policy

    @property
    def kind(self) -> str: ...

    @property
    def agents(self) -> Sequence[Agent]: ...

    def policy_at(self, path: str) -> Policy: ...

    async def run(
        self,
        task: str,
        *,
        on_event: Observer | None = None,
        run_id: str | None = None,
        durable: str | os.PathLike[str] | Store | None = None,
        human: Human | None = None,
        session: Session | None = None,
    ) -> Result: ...


def locate(team: object) -> str | None:
    """The name to `load` a team by; None if it is not at the top of an imported module."""
    if team is None:
        return None
    if team not in _known:  # also one that has no name: to look costs milliseconds
        _known[team] = search(team)
    return _known[team]


_known: WeakKeyDictionary[object, str | None] = WeakKeyDictionary()


def search(team: object) -> str | None:
    """The same, of anything, and looked for each time."""
    for name, module in list(sys.modules.items()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is team:
                where = module_name(name, module)
                return None if where is None else f"{where}:{attribute}"
    return None


def load(name: str) -> object:
    """The object that a name such as `package.module:object` stands for.

    Raises LookupError, saying what to do, when there is none.
    """
    where, colon, attribute = name.rpartition(":")
    if not colon or not where or not attribute:
        raise LookupError(f"a team is named as package.module:object; got {name!r}")
    try:
        module = _import(where)
    except ImportError as error:
        raise LookupError(f"the module of team {name!r} cannot be imported: {error}") from error
    found: object = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise LookupError(f"{where!r} has no {attribute!r}; is the team still there?") from None
    return found


def of_run(run_id: str, name: str | None) -> Team:
    """The team that a run's record names, imported. Raises LookupError if there is none."""
    if name is None:
        raise LookupError(
            f"run {run_id!r} does not say where its team is; pass the team, or start runs of a "
            "team that stands at the top of a module"
        )
    found = load(name)
    if not callable(getattr(found, "run", None)):
        raise LookupError(f"{name!r} is a {type(found).__name__}, not a team that can be run")
    return cast(Team, found)


def _import(where: str) -> ModuleType:
    if not where.endswith(".py"):
        if os.getcwd() not in sys.path:  # as `python -m` does
            sys.path.insert(0, os.getcwd())
        return importlib.import_module(where)
    path = Path(where).resolve()
    main = sys.modules["__main__"]
    running = getattr(main, "__file__", None)
    if running is not None and Path(running).resolve() == path:
        return main
    known = f"pyagent_script_{path.stem}_{abs(hash(str(path))):x}"
    if known in sys.modules:
        return sys.modules[known]
    if str(path.parent) not in sys.path:  # as for a script that is run
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(known, path)
    if spec is None or spec.loader is None or not path.exists():
        raise ImportError(f"there is no file {str(path)!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[known] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[known]
        raise
    return module


def module_name(name: str, module: ModuleType) -> str | None:
    """What a module, known in this process by a name, can be imported as in any other."""
    if name.startswith("pyagent_script_"):
        return str(module.__file__)
    if name != "__main__":
        return name
    spec = getattr(module, "__spec__", None)
    if spec is not None:  # python -m package.module
        return str(spec.name)
    file = getattr(module, "__file__", None)
    return None if file is None else str(Path(file).resolve())
