"""A plan: who does what, after whom. Read from a model's answer, never guessed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Final, TypedDict

from pyagent_providers.base import OutputSchema
from pyagent_providers.types import JSONObject

from .form import unfenced

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_AGENT_NAME = re.compile(r"[\w-](?:[\w -]{0,62}[\w-])?")


class AssignmentDict(TypedDict):
    """An assignment as JSON values."""

    id: str
    worker: str
    subtask: str
    depends_on: list[str]


@dataclass(frozen=True, slots=True)
class Assignment:
    """One piece of the plan: `worker` does `subtask` once `depends_on` (ids) are done."""

    id: str
    worker: str
    subtask: str
    depends_on: tuple[str, ...] = ()

    def to_dict(self) -> AssignmentDict:
        return {
            "id": self.id,
            "worker": self.worker,
            "subtask": self.subtask,
            "depends_on": list(self.depends_on),
        }


class InvalidPlan(ValueError):
    """A planner's answer that is not a plan: all its faults, and the answer as it came."""

    def __init__(self, faults: Sequence[str], text: str) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)
        self.text = text


@dataclass(frozen=True, slots=True)
class NewAgent:
    """An agent that a planner defines for itself: what it is called, what for, and its prompt."""

    name: str
    role: str
    prompt: str


@dataclass(frozen=True)
class Plan:
    """Assignments in the planner's order, with unique ids, known workers and no cycle.

    `agents` are those that the planner wants besides.
    """

    assignments: tuple[Assignment, ...]
    agents: tuple[NewAgent, ...] = ()

    def __iter__(self) -> Iterator[Assignment]:
        return iter(self.assignments)

    def __getitem__(self, name: str) -> Assignment:
        """The assignment with this id."""
        return self._by_id[name]

    @cached_property
    def _by_id(self) -> dict[str, Assignment]:
        return {assignment.id: assignment for assignment in self.assignments}

    @classmethod
    def parse(
        cls,
        text: str,
        workers: Sequence[str],
        *,
        before: Mapping[str, bool] | None = None,
        max_agents: int = 0,
        may_be_empty: bool = False,
    ) -> Plan:
        """Read a plan from the planner's answer.

        The answer is `{"assignments": [{"worker", "subtask", "id"?, "depends_on"?}]}`, bare or in
        one code fence. A missing id becomes `t1`, `t2`, ... by position. A dependency names an
        assignment's id, or a worker that has exactly one assignment; the order in which assignments
        are listed does not matter.

        `before` says of the assignments of earlier plans, by id, whether they are finished. One may
        depend on those that are; only the id of one that is not may be used again, which does it
        anew. At most `max_agents` new agents may be defined, as
        `"agents": [{"name", "role", "prompt"}]`. Raises `InvalidPlan` with every fault found.
        """
        draft, faults = _read(unfenced(text))
        if not faults:
            agents = tuple(draft.agents or ())
            faults = _faults_in(agents, workers, max_agents)
            known = [*workers, *(agent.name for agent in agents)]
            if draft.assignments or not may_be_empty:
                assignments, more = _resolve(draft.assignments, known, before or {})
                faults += more
            else:
                assignments = ()
            if not faults:
                return cls(assignments, agents)
        raise InvalidPlan(faults, text)

    @classmethod
    def schema(cls, workers: Sequence[str], *, new_agents: bool = False) -> OutputSchema:
        """The JSON Schema of a plan for these workers, within what strict modes accept."""
        return _schema(tuple(workers), new_agents)


@lru_cache(maxsize=256)  # a team has the same in every run, and its text is made once
def _schema(workers: tuple[str, ...], new_agents: bool) -> OutputSchema:
    worker: JSONObject = {"type": "string"}
    if not new_agents:
        worker = {"type": "string", "enum": list(workers)}
    assignment: JSONObject = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "description": "a short unique id, such as t1"},
            "worker": worker,
            "subtask": {
                "type": "string",
                "description": "the worker's full instructions",
            },
            "depends_on": {
                "type": "array",
                "items": {"type": "string"},
                "description": "ids of the assignments whose output this one needs",
            },
        },
        "required": ["id", "worker", "subtask", "depends_on"],
        "additionalProperties": False,
    }
    properties: dict[str, JSONObject] = {
        "assignments": {"type": "array", "items": assignment},
    }
    if new_agents:
        properties["agents"] = {"type": "array", "items": _NEW_AGENT}
    wanted: JSONObject = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return OutputSchema("plan", wanted)


_NEW_AGENT: Final[JSONObject] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "short, and not that of a worker"},
        "role": {"type": "string", "description": "what it is for, in a sentence"},
        "prompt": {"type": "string", "description": "its system prompt"},
    },
    "required": ["name", "role", "prompt"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class _Item:
    """An assignment as a planner writes it."""

    worker: str
    subtask: str
    id: str | None = None
    depends_on: list[str] | None = None


@dataclass(frozen=True, slots=True)
class _Draft:
    """A plan as a planner writes it."""

    assignments: list[_Item]
    agents: list[NewAgent] | None = None


@cache
def _shape() -> TypeAdapter[_Draft]:
    # Not at the top: pydantic takes longer to import than all of this package.
    from pydantic import TypeAdapter

    return TypeAdapter(_Draft)


def _read(text: str) -> tuple[_Draft, list[str]]:
    """What the answer says, and what is wrong with its form."""
    from pydantic import ValidationError

    try:
        return _shape().validate_json(text, strict=True), []
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
    if faults[0]["type"] == "json_invalid":
        return _Draft([]), [
            'the answer is not JSON; answer with {"assignments": [...]} and nothing else'
        ]
    return _Draft([]), [
        f"{_path(fault['loc'])}: {fault['msg'][:1].lower()}{fault['msg'][1:]}" for fault in faults
    ]


def _path(location: Sequence[int | str]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path or "the answer"


def _faults_in(agents: Sequence[NewAgent], workers: Sequence[str], at_most: int) -> list[str]:
    """What is wrong with the agents that a planner defines."""
    faults: list[str] = []
    if len(agents) > at_most:
        faults.append(f"it defines {len(agents)} agents of its own; at most {at_most} are allowed")
    names = Counter(agent.name for agent in agents)
    faults += [f"the agent {name!r} is defined {n} times" for name, n in names.items() if n > 1]
    for agent in agents:
        if not _AGENT_NAME.fullmatch(agent.name):
            faults.append(
                f"the agent's name {agent.name!r} is not one: up to 64 letters, digits, spaces, "
                "'_' and '-'"
            )
        if agent.name in workers:
            faults.append(f"the agent {agent.name!r} is there already; use it, or another name")
        for what, text in (("role", agent.role), ("prompt", agent.prompt)):
            if not text.strip():
                faults.append(f"the agent {agent.name!r} has an empty {what}")
    return faults


def _resolve(
    items: Sequence[_Item], workers: Sequence[str], before: Mapping[str, bool]
) -> tuple[tuple[Assignment, ...], list[str]]:
    """The assignments with every dependency as an id, and what is wrong with them."""
    if not items:
        return (), ["the plan is empty; give at least one assignment"]
    finished = {name for name, is_finished in before.items() if is_finished}
    ids = _ids(items, before)
    known_ids = finished.union(ids)
    known_workers = frozenset(workers)
    ids_of: dict[str, list[str]] = {}
    for own, item in zip(ids, items, strict=True):
        ids_of.setdefault(item.worker, []).append(own)

    faults = [
        f"the id {name!r} is used {count} times; ids must be unique"
        for name, count in Counter(ids).items()
        if count > 1
    ]
    faults += [
        f"the id {name!r} is that of finished work; give a new one"
        for name in ids
        if name in finished
    ]
    assignments: list[Assignment] = []
    for own, item in zip(ids, items, strict=True):
        if item.worker not in known_workers:
            known = ", ".join(repr(name) for name in workers)
            faults.append(f"assignment {own!r}: no worker {item.worker!r}; choose from {known}")
        if not item.subtask.strip():
            faults.append(f"assignment {own!r}: its subtask is empty")
        needs: list[str] = []
        for wanted in item.depends_on or ():
            try:
                needs.append(_dependency(wanted, own, known_ids, ids_of))
            except LookupError as fault:
                faults.append(f"assignment {own!r}: {fault.args[0]}")
        assignments.append(Assignment(own, item.worker, item.subtask, tuple(dict.fromkeys(needs))))

    if cycle := _cycle({a.id: [d for d in a.depends_on if d not in finished] for a in assignments}):
        faults.append(f"these assignments wait for each other: {' -> '.join(cycle)}")
    return tuple(assignments), faults


def _ids(items: Sequence[_Item], before: Mapping[str, bool]) -> list[str]:
    """Each item's id; one without takes its position, `t3`, or the next number that is free."""
    taken = {item.id for item in items} | before.keys()
    ids: list[str] = []
    for position, item in enumerate(items, 1):
        number = position
        while not item.id and f"t{number}" in taken:
            number += len(items)
        ids.append(item.id or f"t{number}")
        taken.add(ids[-1])
    return ids


def _dependency(wanted: str, own: str, ids: Set[str], ids_of: Mapping[str, Sequence[str]]) -> str:
    """The id that a dependency means. Raises LookupError saying why it means none."""
    if wanted in ids:
        meant = wanted
    else:
        match ids_of.get(wanted, ()):
            case [only]:
                meant = only
            case []:
                raise LookupError(f"it depends on {wanted!r}, which is not an assignment's id")
            case several:
                some = ", ".join(repr(name) for name in several[:_NAMED])
                more = ", ..." if len(several) > _NAMED else ""
                raise LookupError(
                    f"it depends on {wanted!r}, a worker with {len(several)} assignments; "
                    f"name one by id: {some}{more}"
                )
    if meant == own:
        raise LookupError("it depends on itself")
    return meant


_NAMED = 10  # ids in one fault: all of them in each would make a long answer a huge one


def _cycle(dependencies: Mapping[str, Sequence[str]]) -> list[str] | None:
    if not any(dependencies.values()):
        return None
    try:
        TopologicalSorter(dependencies).prepare()
    except CycleError as error:
        return list(error.args[1])
    return None
