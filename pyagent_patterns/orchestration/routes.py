"""The routes of a router, and the ways to choose among them."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, cast, runtime_checkable

from pyagent_patterns.agent import MemberLike, as_member, on_one_line
from pyagent_patterns.form import unfenced
from pyagent_patterns.run import RunContext
from pyagent_providers.base import OutputSchema
from pyagent_providers.types import JSONObject, JSONValue

Rule: TypeAlias = "Callable[[str], bool | Awaitable[bool]]"
Embed: TypeAlias = "Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]"
RouteLike: TypeAlias = "Route | MemberLike"


class Route:
    """A way that a task can take: who does it, what it is for, and `when` it is taken unasked."""

    def __init__(
        self,
        name: str,
        member: MemberLike,
        *,
        description: str = "",
        when: Rule | None = None,
    ) -> None:
        if not name.strip():
            raise ValueError("a route's name is empty")
        self.name = name.strip()
        self.member = as_member(f"route {name!r}", member)
        self.description = description
        self.purpose = on_one_line(description) or self.member.purpose
        self.when = when


@dataclass(frozen=True, slots=True)
class Choice:
    """A route that is taken, how sure the classifier is (0 to 1), and why."""

    route: str
    confidence: float | None = None
    reason: str = ""

    @staticmethod
    def schema(routes: Sequence[str]) -> OutputSchema:
        """The JSON Schema of a classifier's answer."""
        choice: JSONObject = {
            "type": "object",
            "properties": {
                "route": {"type": "string", "enum": list(routes)},
                "confidence": {"type": "number"},
            },
            "required": ["route", "confidence"],
            "additionalProperties": False,
        }
        answer: JSONObject = {
            "type": "object",
            "properties": {
                "routes": {"type": "array", "items": choice},
                "reason": {"type": "string"},
            },
            "required": ["routes", "reason"],
            "additionalProperties": False,
        }
        return OutputSchema("route", answer)


class NoRoute(ValueError):
    """An answer that names no route, or one that there is not."""


@runtime_checkable
class Classifier(Protocol):
    """Chooses routes without being a member of the run; a look outside belongs in `ctx.call`."""

    async def choose(
        self, ctx: RunContext, routes: Mapping[str, Route], task: str
    ) -> Sequence[Choice]:
        """The routes that fit the task, the best first; none if none does."""
        ...


class EmbeddingClassifier:
    """Chooses the routes whose description is nearest to the task, by cosine similarity.

    `embed` gives a vector for each text. Routes below `threshold` (-1 to 1) are not chosen. What
    it costs is not in the ledger: it is the application's own call.
    """

    def __init__(self, embed: Embed, *, threshold: float = 0.0) -> None:
        self._embed = embed
        self._threshold = threshold

    async def choose(
        self, ctx: RunContext, routes: Mapping[str, Route], task: str
    ) -> Sequence[Choice]:
        texts = [task, *(f"{name}: {route.purpose}" for name, route in routes.items())]

        async def look() -> JSONValue:
            wanted, *vectors = await self._embed(texts)
            return [_cosine(wanted, vector) for vector in vectors]

        near = cast("Sequence[float]", await ctx.call("embed", look, input=texts))
        ranked = sorted(zip(near, routes, strict=True), key=lambda pair: -pair[0])
        return [
            Choice(name, round(max(0.0, nearness), 4), "nearest by embedding")
            for nearness, name in ranked
            if nearness >= self._threshold
        ]


def as_routes(given: Sequence[RouteLike] | Mapping[str, MemberLike]) -> dict[str, Route]:
    """The routes by name. Raises TypeError or ValueError for what is none."""
    if isinstance(given, Mapping):
        listed = [Route(name, member) for name, member in given.items()]
    else:
        listed = [_as_route(f"routes[{n}]", value) for n, value in enumerate(given)]
    routes: dict[str, Route] = {}
    for route in listed:
        if route.name in routes:
            raise ValueError(f"two routes are named {route.name!r}; a classifier goes by names")
        routes[route.name] = route
    if not routes:
        raise ValueError("routes is empty; give at least one")
    return routes


def _as_route(argument: str, value: RouteLike) -> Route:
    if isinstance(value, Route):
        return value
    member = as_member(argument, value)
    return Route(member.name, member)


async def by_rule(ctx: RunContext, routes: Mapping[str, Route], task: str) -> list[Choice]:
    """The routes whose rule says yes to the task."""
    rules = {route.name: route.when for route in routes.values() if route.when is not None}
    if not rules:
        return []

    async def look() -> JSONValue:
        taken: list[str] = []
        for name, rule in rules.items():
            said = rule(task)
            if await said if inspect.isawaitable(said) else said:
                taken.append(name)
        return taken

    taken = cast("Sequence[str]", await ctx.call("rules", look, input=task))
    return [Choice(name, 1.0, "by rule") for name in taken]


def read_choices(answer: str, routes: Mapping[str, Route]) -> list[Choice]:
    """The choices in a classifier's answer: JSON as it was asked for, or a bare name.

    An empty list chooses none. Raises `NoRoute` for a name that no route has.
    """
    try:
        said: object = json.loads(unfenced(answer))
    except (ValueError, RecursionError):
        return [Choice(_matched(answer, routes))]
    if isinstance(said, str):
        return [Choice(_matched(said, routes))]
    if not isinstance(said, dict):
        raise NoRoute(_WANTED)
    stated = cast("Mapping[str, object]", said)
    if not isinstance(stated.get("routes"), list):
        raise NoRoute(_WANTED)
    reason = stated.get("reason")
    why = reason if isinstance(reason, str) else ""
    choices: dict[str, Choice] = {}
    for item in cast("Sequence[object]", stated["routes"]):
        choice = _choice(item, why, routes)
        choices.setdefault(choice.route, choice)
    return list(choices.values())


def _choice(item: object, why: str, routes: Mapping[str, Route]) -> Choice:
    """One item of a classifier's list: a name, or a name with a confidence."""
    its = cast("Mapping[str, object]", item if isinstance(item, dict) else {"route": item})
    name, sure = its.get("route"), its.get("confidence")
    if not isinstance(name, str):
        raise NoRoute("a route is not named")
    known = isinstance(sure, int | float) and not isinstance(sure, bool) and 0 <= sure <= 1
    return Choice(_matched(name, routes), float(cast(float, sure)) if known else None, why)


def _matched(name: str, routes: Mapping[str, Route]) -> str:
    """The route of that name; in another case only where that is unambiguous."""
    name = name.strip()
    if name in routes:
        return name
    alike = [route for route in routes if route.casefold() == name.casefold()]
    if len(alike) == 1:
        return alike[0]
    known = ", ".join(repr(route) for route in routes)
    raise NoRoute(f"there is no route {name[:100]!r}; there are {known}")


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / lengths if lengths else 0.0


_WANTED: Final = 'the answer is not {"routes": [...], "reason": "..."}'
