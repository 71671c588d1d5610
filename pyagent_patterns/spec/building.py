"""The agents and patterns of a definition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from pyagent_patterns.agent import Agent, AgentTool, Member, MemberTool, as_member
from pyagent_patterns.base import Pattern
from pyagent_patterns.orchestration import Review, Route
from pyagent_patterns.skills import Skills
from pyagent_patterns.tools import Toolset
from pyagent_providers import LLM

from . import making
from .faults import Path, meant_or_all
from .parts import AgentSpec, LLMSpec, MemberToolSpec, Spec
from .teams import (
    PATTERNS,
    DefinitionSpec,
    GateSpec,
    HierarchicalSpec,
    LoopSpec,
    MemberSpec,
    OrchestratorWorkersSpec,
    ParallelSpec,
    PatternSpec,
    PipelineSpec,
    ReviewSpec,
    RouterSpec,
    RouteSpec,
    TeamOfLeadSpec,
)
from .workshop import Workshop, given

T = TypeVar("T")

_DEEPEST: Final = 60


@dataclass(frozen=True, slots=True)
class _Part:
    """What can stand under a name of its own: how it is made, and what else may be written."""

    what: str
    make: Callable[[Workshop, Any, Path], object]
    otherwise: str = ""
    words: Sequence[str] = ()


_SECTIONS: Final[Mapping[str, _Part]] = {
    "models": _Part("model", making.model, "; or write provider:model, such as openai:gpt-4o-mini"),
    "tools": _Part(
        "tool", making.tools, "; or write module:function, or ask_human", words=["ask_human"]
    ),
    "mcp": _Part("MCP server", making.server),
}


class Builder:
    """Makes what a definition names, each once; what is wrong is told to the workshop."""

    def __init__(self, definition: DefinitionSpec, shop: Workshop) -> None:
        self._shop = shop
        self._definition = definition
        self._agents = definition.agents or {}
        self._patterns = definition.patterns or {}
        self._made: dict[Path, object] = {}
        self._under_way: list[str] = []

    def team(self) -> Pattern | None:
        """The team, and all else that is defined, for its faults."""
        for section in _SECTIONS:
            for name in self._named_in(section):
                self._part(section, name, ())
        for name in self._agents:
            self._named(name, ("agents", name))
        for name in self._patterns:
            self._named(name, ("patterns", name))
            if name in self._agents:
                self._shop.trouble(("patterns", name), f"an agent is named {name!r}, too")
        team = self._member(self._definition.team, ("team",))
        if team is None or isinstance(team, Pattern):
            return team
        self._shop.trouble(
            ("team",), "an agent alone is no team; write pattern: pipeline, with it as its stage"
        )
        return None

    def _member(self, spec: MemberSpec | None, at: Path) -> Member | None:
        found = self._given(spec, at)
        if found is None or isinstance(found, Member):
            return found
        return self._shop.made(at, self._shop.troubles, lambda: as_member("it", found))

    def _given(self, spec: MemberSpec | None, at: Path) -> object:
        """A member; or what stands at `module:object`, for those who take other things, too."""
        match spec:
            case None:
                return None
            case str():
                return self._named(spec, at)
            case AgentSpec():
                if spec.name is None:
                    self._shop.trouble(at, "an agent that stands here needs a name")
                    return None
                return self._agent(spec, spec.name, at)
            case _:
                return self._pattern(spec, at)

    def _named(self, name: str, at: Path) -> object:
        if self._shop.is_faulty(name):
            return None
        if name in self._agents:
            return self._once(
                name, at, ("agents", name), lambda p: self._agent(self._agents[name], name, p)
            )
        if name in self._patterns:
            spec = self._patterns[name]
            if isinstance(spec, str):  # another's name
                return self._once(name, at, ("patterns", name), lambda p: self._named(spec, p))
            return self._once(name, at, ("patterns", name), lambda p: self._pattern(spec, p))
        if ":" in name:
            return self._shop.imported(name, at)
        known = [*self._agents, *self._patterns]
        self._shop.trouble(at, f"no agent or pattern is named {name!r}{meant_or_all(name, known)}")
        return None

    def _once(self, name: str, at: Path, place: Path, make: Callable[[Path], object]) -> object:
        """What stands at a place, made when it is first asked for."""
        if place in self._made:
            found = self._made[place]
            self._shop.troubles += found is None
            return found
        if name in self._under_way:
            way = [*self._under_way[self._under_way.index(name) :], name]
            self._shop.trouble(at, f"this goes round in a circle: {' -> '.join(map(repr, way))}")
            return None
        if len(self._under_way) >= _DEEPEST:
            self._shop.trouble(at, f"this is nested more than {_DEEPEST} deep")
            return None
        self._under_way.append(name)
        found = self._made[place] = make(place)
        self._under_way.pop()
        return found

    def _part(self, section: str, spec: object, at: Path) -> Any:
        """A model, tools or a server: what has the name in its section, or what is said here."""
        shop, part, named = self._shop, _SECTIONS[section], self._named_in(section)
        if isinstance(spec, str):
            if spec in named:
                return self._once(
                    spec, at, (section, spec), lambda place: part.make(shop, named[spec], place)
                )
            if ":" not in spec and spec not in part.words and not shop.is_faulty(spec):
                known = meant_or_all(spec, named)
                shop.trouble(at, f"no {part.what} is named {spec!r}{known}{part.otherwise}")
                return None
        return part.make(shop, spec, at)

    def _named_in(self, section: str) -> dict[str, object]:
        return getattr(self._definition, section) or {}

    def _agent(self, spec: AgentSpec, name: str, at: Path) -> Agent | None:
        shop = self._shop
        since = shop.troubles
        models = self._models(spec.llm, (*at, "llm"))
        prompt = shop.text(spec.system_prompt, (*at, "system_prompt")) or ""
        tools = self._tools(spec, at)
        if spec.skills is not None and not shop.is_faulty(spec.skills):
            folder = shop.path(spec.skills)
            skills = shop.made((*at, "skills"), shop.troubles, lambda: Skills(folder))
            if skills is not None:
                prompt = f"{prompt}\n\n{skills.summary}" if prompt else skills.summary
                tools += skills.tools()
        options = given(spec, but=["skills"])
        options |= {
            "name": spec.name or name,
            "llm": models,
            "system_prompt": prompt,
            "tools": tools,
            "retry": making.retry(shop, spec.retry, (*at, "retry")),
            "timeouts": making.timeouts(shop, spec.timeouts, (*at, "timeouts")),
            "fallback": self._member(spec.fallback, (*at, "fallback")),
            "mcp": self._servers(spec, at),
        }
        return shop.made(at, since, lambda: Agent(**options))

    def _models(self, spec: str | LLMSpec | Sequence[str | LLMSpec], at: Path) -> list[LLM]:
        if not isinstance(spec, list):
            return _there([self._part("models", spec, at)])
        return _there([self._part("models", one, (*at, n)) for n, one in enumerate(spec)])

    def _servers(self, spec: AgentSpec, at: Path) -> list[Toolset]:
        servers = enumerate(spec.mcp or ())
        return _there([self._part("mcp", one, (*at, "mcp", n)) for n, one in servers])

    def _tools(self, spec: AgentSpec, at: Path) -> list[AgentTool]:
        found: list[AgentTool | None] = []
        for n, entry in enumerate(spec.tools or ()):
            place = (*at, "tools", n)
            for tool in self._part("tools", entry, place) or ():
                is_member = isinstance(tool, MemberToolSpec)
                found.append(self._member_tool(tool, place) if is_member else tool)
        return _there(found)

    def _member_tool(self, spec: MemberToolSpec, at: Path) -> MemberTool | None:
        since = self._shop.troubles
        member: Any = self._member(spec.member, (*at, "member"))
        return self._shop.made(at, since, lambda: member.as_tool(**given(spec, but=["member"])))

    def _pattern(self, spec: PatternSpec, at: Path) -> Pattern | None:
        since = self._shop.troubles
        options = given(spec, but=["pattern"]) | self._options(spec, at) | self._own(spec, at)
        return self._shop.made(at, since, lambda: PATTERNS[spec.pattern](**options))

    def _own(self, spec: PatternSpec, at: Path) -> dict[str, object]:
        """What only this kind of pattern is made of."""

        def member(*keys: str) -> dict[str, object]:
            return {key: self._member(getattr(spec, key), (*at, key)) for key in keys}

        def several(key: str, make: Callable[[Any, Path], object]) -> dict[str, object]:
            specs: Sequence[object] = getattr(spec, key) or ()
            return {key: [make(one, (*at, key, n)) for n, one in enumerate(specs)]}

        match spec:
            case OrchestratorWorkersSpec():
                return {
                    **member("orchestrator", "planner", "worker", "synthesizer"),
                    **several("workers", self._member),
                    **several("review", self._review),
                    **self._imports(spec, at, "agent_factory", "prompts"),
                }
            case TeamOfLeadSpec():
                return member("lead") | several("workers", self._member)
            case PipelineSpec():
                return several("stages", self._stage)
            case RouterSpec():
                classifier = self._given(spec.classifier, (*at, "classifier"))
                routes = several("routes", self._route)
                return {"classifier": classifier, **routes, **member("merge")}
            case HierarchicalSpec():
                return member("manager", "synthesizer") | several("teams", self._member)
            case ParallelSpec():
                return several("members", self._member) | member("merge")
            case LoopSpec():
                return {**member("worker"), "judge": self._given(spec.judge, (*at, "judge"))}

    def _options(self, spec: PatternSpec, at: Path) -> dict[str, object]:
        """What every pattern can be told that is made of something."""
        shop = self._shop
        return {
            "retry": making.retry(shop, spec.retry, (*at, "retry")),
            "timeouts": making.timeouts(shop, spec.timeouts, (*at, "timeouts")),
            "budget": making.budget(shop, spec.budget, (*at, "budget")),
            "degrade_to": [
                self._member(one, (*at, "degrade_to", n))
                for n, one in enumerate(spec.degrade_to or ())
            ],
            "output_type": shop.schema(spec.output_type, (*at, "output_type")),
            "inputs": shop.schema(spec.inputs, (*at, "inputs")),
            **self._imports(spec, at, "traffic"),
        }

    def _imports(self, spec: Spec, at: Path, *keys: str) -> dict[str, object]:
        names = {key: name for key, name in given(spec).items() if key in keys}
        return {key: self._shop.imported(name, (*at, key)) for key, name in names.items()}

    def _stage(self, spec: object, at: Path) -> Any:
        if isinstance(spec, GateSpec):
            return self._review(spec.review, (*at, "review"))
        if isinstance(spec, list):
            several = cast("list[MemberSpec]", spec)
            return [self._member(one, (*at, n)) for n, one in enumerate(several)]
        return self._member(cast(MemberSpec, spec), at)

    def _review(self, spec: ReviewSpec, at: Path) -> Review | None:
        since = self._shop.troubles
        options = given(spec)
        options["judge"] = self._given(spec.judge, (*at, "judge"))
        return self._shop.made(at, since, lambda: Review(**options))

    def _route(self, spec: RouteSpec | MemberSpec, at: Path) -> object:
        if not isinstance(spec, RouteSpec):
            return self._member(spec, at)
        since = self._shop.troubles
        options = given(spec, but=["route"])
        options["member"] = self._member(spec.member, (*at, "member"))
        if spec.when is not None:
            options["when"] = self._shop.function(spec.when, (*at, "when"))
        return self._shop.made(at, since, lambda: Route(spec.route, **options))


def _there(found: Iterable[T | None]) -> list[T]:
    """Those that could be made."""
    return [one for one in found if one is not None]
