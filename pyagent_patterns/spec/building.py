"""The agents and patterns of a definition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from pyagent_patterns.agent import Agent, AgentTool, Member, as_member
from pyagent_patterns.base import Pattern
from pyagent_patterns.orchestration import (
    Hierarchical,
    Loop,
    OrchestratorWorkers,
    Parallel,
    Pipeline,
    Review,
    Route,
    Router,
    Team,
)
from pyagent_patterns.skills import Skills
from pyagent_patterns.tools import Toolset
from pyagent_providers import LLM

from . import making
from .faults import Path, meant_or_all
from .parts import AgentSpec, LLMSpec, MemberToolSpec, Spec
from .teams import (
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

_DEEPEST: Final = 60
_AGENT_OPTIONS: Final = (
    "description", "max_tokens", "temperature", "top_p", "stop", "seed", "output_schema", "stream",
    "on_error", "max_steps", "use_history", "max_context_tokens", "keep_recent",
)  # fmt: skip


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
        definition = self._definition
        for section in ("models", "tools", "mcp"):
            named = cast("dict[str, object]", getattr(definition, section) or {})
            for name in named:
                self._entry(section, name)
        for name in self._agents:
            self._named(name, ("agents", name))
        for name in self._patterns:
            self._named(name, ("patterns", name))
            if name in self._agents:
                self._shop.trouble(("patterns", name), f"an agent is named {name!r}, too")
        team = self._member(definition.team, ("team",))
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

    def _entry(self, section: str, name: str) -> object:
        """A model, tools or a server that stands under a name."""
        spec: Any = getattr(self._definition, section)[name]
        make: Any = {"models": making.model, "tools": making.tools, "mcp": making.server}[section]
        return self._once(name, (), (section, name), lambda p: make(self._shop, spec, p))

    def _agent(self, spec: AgentSpec, name: str, at: Path) -> Agent | None:
        shop = self._shop
        since = shop.troubles
        models = self._models(spec.llm, (*at, "llm"))
        options: dict[str, Any] = given(spec, *_AGENT_OPTIONS)
        prompt = shop.text(spec.system_prompt, (*at, "system_prompt")) or ""
        tools = self._tools(spec, at)
        if spec.skills is not None and not shop.is_faulty(spec.skills):
            folder = shop.path(spec.skills)
            skills = shop.made((*at, "skills"), shop.troubles, lambda: Skills(folder))
            if skills is not None:
                prompt = f"{prompt}\n\n{skills.summary}" if prompt else skills.summary
                tools += skills.tools()
        options |= {
            "retry": making.retry(shop, spec.retry, (*at, "retry")),
            "timeouts": making.timeouts(shop, spec.timeouts, (*at, "timeouts")),
            "fallback": self._member(spec.fallback, (*at, "fallback")),
            "mcp": self._servers(spec, at),
        }
        return shop.made(
            at,
            since,
            lambda: Agent(spec.name or name, models, system_prompt=prompt, tools=tools, **options),
        )

    def _models(self, spec: str | LLMSpec | Sequence[str | LLMSpec], at: Path) -> list[LLM]:
        found: list[LLM | None] = []
        if isinstance(spec, list):
            for n, one in enumerate(spec):
                found.append(self._model(one, (*at, n)))
        else:
            found.append(self._model(cast("str | LLMSpec", spec), at))
        return [one for one in found if one is not None]

    def _model(self, spec: str | LLMSpec, at: Path) -> LLM | None:
        known = self._definition.models or {}
        if isinstance(spec, str) and spec in known:
            return cast("LLM | None", self._entry("models", spec))
        if isinstance(spec, str) and ":" not in spec and not self._shop.is_faulty(spec):
            self._shop.trouble(
                at,
                f"no model is named {spec!r}{meant_or_all(spec, known)}; or write provider:model, "
                "such as openai:gpt-4o-mini",
            )
            return None
        return making.model(self._shop, spec, at)

    def _tools(self, spec: AgentSpec, at: Path) -> list[AgentTool]:
        known, found = self._definition.tools or {}, list[AgentTool]()
        for n, entry in enumerate(spec.tools or ()):
            place = (*at, "tools", n)
            since = self._shop.troubles
            made: Any
            if isinstance(entry, str) and entry in known:
                made = self._entry("tools", entry)
            elif isinstance(entry, str) and ":" not in entry and entry != "ask_human":
                made = None
                if not self._shop.is_faulty(entry):
                    self._shop.trouble(
                        place,
                        f"no tool is named {entry!r}{meant_or_all(entry, known)}; or write "
                        "module:function, or ask_human",
                    )
            else:
                made = making.tools(self._shop, entry, place)
            for tool in cast("Sequence[AgentTool | MemberToolSpec]", made or ()):
                if not isinstance(tool, MemberToolSpec):
                    found.append(tool)
                    continue
                member = self._member(tool.member, (*place, "member"))
                as_tool = self._shop.made(
                    place,
                    since,
                    lambda m=member, t=tool: cast("Agent | Pattern", m).as_tool(
                        t.name, t.description
                    ),
                )
                found += [] if as_tool is None else [as_tool]
        return found

    def _servers(self, spec: AgentSpec, at: Path) -> list[Toolset]:
        known, found = self._definition.mcp or {}, list[Toolset]()
        for n, entry in enumerate(spec.mcp or ()):
            place = (*at, "mcp", n)
            made: object = None
            if isinstance(entry, str) and entry in known:
                made = self._entry("mcp", entry)
            elif isinstance(entry, str) and ":" not in entry:
                if not self._shop.is_faulty(entry):
                    self._shop.trouble(
                        place, f"no MCP server is named {entry!r}{meant_or_all(entry, known)}"
                    )
            else:
                made = making.server(self._shop, entry, place)
            found += [] if made is None else [cast(Toolset, made)]
        return found

    def _pattern(self, spec: PatternSpec, at: Path) -> Pattern | None:
        since = self._shop.troubles
        options = self._options(spec, at)
        make = self._maker(spec, at, options)
        return self._shop.made(at, since, make)

    def _maker(self, spec: PatternSpec, at: Path, options: dict[str, Any]) -> Callable[[], Pattern]:
        """What makes the pattern of its parts, which are made here."""

        def member(key: str) -> Any:
            return self._member(getattr(spec, key), (*at, key))

        def members(key: str) -> Any:
            several = cast("Sequence[MemberSpec]", getattr(spec, key) or ())
            return [self._member(one, (*at, key, n)) for n, one in enumerate(several)]

        match spec:
            case OrchestratorWorkersSpec():
                options |= given(spec, "max_parallel", "planning", "max_iterations", "max_replans",
                                 "max_new_agents", "plan_schema")  # fmt: skip
                options |= self._imports(spec, at, "agent_factory", "prompts")
                options |= {
                    key: member(key) for key in ("orchestrator", "planner", "worker", "synthesizer")
                }
                workers = members("workers")
                review = [
                    self._review(one, (*at, "review", n)) for n, one in enumerate(spec.review or ())
                ]
                return lambda: OrchestratorWorkers(
                    workers=workers, review=cast("list[Review]", review), **options
                )
            case TeamOfLeadSpec():
                lead, workers = member("lead"), members("workers")
                return lambda: Team(lead=lead, workers=workers, **options)
            case PipelineSpec():
                options |= given(spec, "sees")
                stages = [self._stage(one, (*at, "stages", n)) for n, one in enumerate(spec.stages)]
                return lambda: Pipeline(stages, **options)
            case RouterSpec():
                options |= given(spec, "default", "top_k")
                options |= {
                    "classifier": self._given(spec.classifier, (*at, "classifier")),
                    "merge": member("merge"),
                }
                routes: list[Any] = [
                    self._route(one, (*at, "routes", n)) for n, one in enumerate(spec.routes)
                ]
                return lambda: Router(routes, **options)
            case HierarchicalSpec():
                options |= given(spec, "max_parallel")
                options |= {key: member(key) for key in ("manager", "synthesizer")}
                teams = members("teams")
                return lambda: Hierarchical(teams=teams, **options)
            case ParallelSpec():
                several, merge = members("members"), member("merge")
                return lambda: Parallel(several, merge=merge, **options)
            case LoopSpec():
                options |= given(spec, "criteria", "max_rounds")
                worker, judge = member("worker"), self._given(spec.judge, (*at, "judge"))
                return lambda: Loop(worker, cast(Any, judge), **options)

    def _options(self, spec: PatternSpec, at: Path) -> dict[str, Any]:
        shop = self._shop
        options: dict[str, Any] = given(spec, "name", "description", "on_error", "approve")
        options |= {
            "retry": making.retry(shop, spec.retry, (*at, "retry")),
            "timeouts": making.timeouts(shop, spec.timeouts, (*at, "timeouts")),
            "budget": making.budget(shop, spec.budget, (*at, "budget")),
            "degrade_to": [
                self._member(one, (*at, "degrade_to", n))
                for n, one in enumerate(spec.degrade_to or ())
            ],
            "output_type": shop.schema(spec.output_type, (*at, "output_type")),
            "inputs": shop.schema(spec.inputs, (*at, "inputs")),
        }
        return options | self._imports(spec, at, "traffic")

    def _imports(self, spec: Spec, at: Path, *keys: str) -> dict[str, object]:
        names = cast("dict[str, str]", given(spec, *keys))
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
        judge: Any = self._given(spec.judge, (*at, "judge"))
        options: dict[str, Any] = given(spec, "criteria", "max_rounds", "of")
        return self._shop.made(at, since, lambda: Review(judge, **options))

    def _route(self, spec: RouteSpec | MemberSpec, at: Path) -> object:
        if not isinstance(spec, RouteSpec):
            return self._member(spec, at)
        since = self._shop.troubles
        options: dict[str, Any] = given(spec, "description")
        member: Any = self._member(spec.member, (*at, "member"))
        if spec.when is not None:
            options["when"] = self._shop.function(spec.when, (*at, "when"))
        return self._shop.made(at, since, lambda: Route(spec.route, member, **options))
