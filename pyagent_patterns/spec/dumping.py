"""`dump`: a team that was made in Python as the YAML that `load` makes it from."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path as File
from typing import TYPE_CHECKING, Any, Final, cast

from pyagent_patterns.agent import Agent, Member
from pyagent_patterns.base import Pattern
from pyagent_patterns.form import OutputType
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
    prompts,
)
from pyagent_providers.types import JSONObject, JSONValue

from .describing import CannotWriteError, Describer, Written, changed
from .naming import free_key
from .teams import PATTERNS

if TYPE_CHECKING:
    import yaml

_AGENT_OPTIONS: Final = (
    *("stream", "on_error", "max_steps", "use_history", "max_context_tokens", "keep_recent"),
)


def dump(
    team: Pattern, *, objective: str | None = None, folder: str | os.PathLike[str] = "."
) -> str:
    """The team as YAML text, which `load` makes an equal team of.

    Functions, types and models of your own are named, as `module:name`; paths are from `folder`,
    where the text is to be kept. API keys, headers and the environments of servers are written
    as `${NAME}`, never in clear; other texts, such as the arguments of a server's command, as
    they are.

    Raises `CannotWriteError`, which lists all that a file cannot hold, such as a lambda.
    ImportError without the `spec` extra.
    """
    try:
        import yaml
    except ImportError as error:
        raise ImportError('definitions need PyYAML: pip install "pyagent-sdk[spec]"') from error
    written = _Writer(File(folder).resolve()).definition(team, objective)

    return yaml.dump(written, Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=100)


def _dumper() -> type[yaml.SafeDumper]:
    """Texts of several lines as blocks; nothing is an alias of another."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None
        return cast(Any, dumper).represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return Dumper


class _Writer:
    """Writes each agent, server and nested pattern once, under a name of its own."""

    def __init__(self, folder: File) -> None:
        self._parts = Describer(folder)
        self._keys: dict[int, str] = {}
        self._agents: dict[str, JSONValue] = {}
        self._servers: dict[str, JSONValue] = {}
        self._patterns: dict[str, JSONValue] = {}

    def definition(self, team: Pattern, objective: str | None) -> JSONObject:
        body = self._pattern(team)
        written: Written = {} if objective is None else {"objective": objective}
        models = _shared_models(self._agents)
        sections = {
            "models": models,
            "mcp": self._servers,
            "agents": self._agents,
            "patterns": self._patterns,
        }
        written |= {name: section for name, section in sections.items() if section}
        if self._parts.faults:
            raise CannotWriteError(list(dict.fromkeys(self._parts.faults)))
        return {**written, "team": body}

    def _member(self, member: Member) -> str:
        """The name that the member is written under, or that of what it is imported as."""
        if id(member) in self._keys:
            return self._keys[id(member)]
        if isinstance(member, Agent):
            if member.stands_for is not None:
                return self._parts.named(member.stands_for, f"member {member.name!r}")
            key = self._key(member)
            self._agents[key] = None  # its place; who it refers to comes after it
            self._agents[key] = self._agent(member, key)
            return key
        if type(member) not in _KINDS:
            return self._parts.named(member, f"the pattern {member.name!r}")
        key = self._key(member)
        self._patterns[key] = self._pattern(cast(Pattern, member))
        return key

    def _key(self, member: Member) -> str:
        taken = {*self._agents, *self._patterns, *self._keys.values()}
        self._keys[id(member)] = key = free_key(member.name, taken)
        return key

    def _members(self, members: Iterable[Member]) -> list[JSONValue]:
        return [self._member(member) for member in members]

    def _agent(self, agent: Agent, key: str) -> JSONValue:
        who = f"agent {agent.name!r}"
        written: Written = {} if key == agent.name else {"name": agent.name}
        models = [self._parts.model(llm, who) for llm in agent.llms]
        written["llm"] = models[0] if len(models) == 1 else models
        tools, skills = self._parts.tools(agent, lambda tool: self._member(tool.member))
        prompt = agent.system_prompt
        if skills is not None:
            if not prompt.endswith(skills.summary):
                self._parts.faults.append(
                    f"{who} has the tools of {skills!r} without its summary at the end of the "
                    "system prompt; a definition has both"
                )
            prompt = prompt.removesuffix(skills.summary).removesuffix("\n\n")
            written["skills"] = self._parts.path(skills.folder)
        texts = {"system_prompt": prompt, "description": agent.description}
        written |= {name: text for name, text in texts.items() if text}
        written |= changed(agent.sampling, Agent, "max_tokens", "temperature", "top_p", "seed")
        if agent.sampling.stop:
            written["stop"] = list(agent.sampling.stop)
        if agent.output_schema is not None:
            written["output_schema"] = agent.output_schema.schema
        written |= changed(agent, Agent, *_AGENT_OPTIONS)
        if agent.retry is not None:
            written["retry"] = self._parts.retry(agent.retry, who)
        if agent.timeouts is not None:
            written["timeouts"] = self._parts.timeouts(agent.timeouts)
        if agent.fallback is not None:
            written["fallback"] = self._member(agent.fallback)
        if tools:
            written["tools"] = tools
        if agent.toolsets:
            written["mcp"] = [self._server(toolset, who) for toolset in agent.toolsets]
        return written

    def _server(self, toolset: object, who: str) -> str:
        if id(toolset) not in self._keys:
            from pyagent_patterns.tools import Toolset

            its = cast(Toolset, toolset)
            server = self._parts.server(its, who)
            if isinstance(server, str):
                return server
            key = self._keys[id(toolset)] = free_key(its.name, self._servers)
            self._servers[key] = server
        return self._keys[id(toolset)]

    def _pattern(self, pattern: Pattern) -> JSONValue:
        if type(pattern) not in _KINDS:
            return self._parts.named(pattern, f"the team {pattern.name!r}")
        written: Written = {"pattern": pattern.kind}
        if pattern.options.get("name"):
            written["name"] = pattern.name
        if pattern.description:
            written["description"] = pattern.description
        written |= self._own(pattern)
        return written | self._options(pattern)

    def _own(self, pattern: Pattern) -> Written:
        """What only this kind of pattern has."""
        match pattern:
            case Team():
                lead, workers = pattern.planner.member, pattern.workers.values()
                return {"lead": self._member(lead), "workers": self._members(workers)}
            case Hierarchical():
                written: Written = {
                    "manager": self._member(pattern.manager),
                    "teams": self._members(pattern.teams.values()),
                    "synthesizer": self._synthesizer(pattern.synthesizer, pattern.manager),
                    "max_parallel": pattern.max_parallel,
                }
                return _without_none(written)
            case OrchestratorWorkers():
                return self._orchestrator(pattern)
            case Pipeline():
                stages: list[JSONValue] = []
                for stage in pattern.stages:
                    several = self._members(stage.team.values())
                    stages.append(several[0] if len(several) == 1 else several)
                    stages += [{"review": self._review(gate)} for gate in stage.gates]
                return {"stages": stages, **changed(pattern, Pipeline, "sees")}
            case Router():
                routes: list[JSONValue] = [self._route(r) for r in pattern.routes.values()]
                classifier = pattern.classifier
                if classifier is not None and not isinstance(classifier, Member):
                    classifier = self._parts.named(classifier, f"the classifier of {pattern!r}")
                elif classifier is not None:
                    classifier = self._member(classifier)
                written = {"routes": routes, "classifier": classifier}
                written |= changed(pattern, Router, "default", "top_k")
                return _without_none(written | {"merge": self._or_none(pattern.merge)})
            case Parallel():
                members = self._members(pattern.side_by_side.values())
                return _without_none({"members": members, "merge": self._or_none(pattern.merge)})
            case Loop():
                review = pattern.review
                told = changed(review, Loop, "criteria", "max_rounds")
                worker = self._member(pattern.worker)
                return {"worker": worker, "judge": self._judge(review), **told}
            case _:
                raise AssertionError(pattern)

    def _orchestrator(self, pattern: OrchestratorWorkers) -> Written:
        planner, first = pattern.planner, pattern.orchestrator
        written: Written = {
            "orchestrator": self._or_none(first),
            "planner": None if planner.member is first else self._member(planner.member),
            "workers": self._members(pattern.workers.values()),
            "synthesizer": self._synthesizer(pattern.synthesizer, first),
            "max_parallel": pattern.max_parallel,
        }
        if planner.mode != "full":
            written["planning"] = planner.mode
        numbers = ("max_iterations", "max_replans", "max_new_agents")
        written |= changed(planner, OrchestratorWorkers, *numbers)
        if planner.agent_factory is not None:
            what = f"the agent_factory of {pattern!r}"
            written["agent_factory"] = self._parts.named(planner.agent_factory, what)
        if planner.wording != prompts.DEFAULT:
            what = f"the prompts of {pattern!r}"
            written["prompts"] = self._parts.named(planner.wording, what)
        if planner.schema is not None:
            written["plan_schema"] = planner.schema.schema
        if pattern.reviews:
            written["review"] = [self._review(review) for review in pattern.reviews]
        return _without_none(written)

    def _synthesizer(self, synthesizer: Member, first: Member | None) -> str | None:
        """None for the one that the pattern itself makes of its first agent."""
        if isinstance(first, Agent) and isinstance(synthesizer, Agent):
            own = first.with_system_prompt(prompts.SYNTHESIS_ROLE)
            if own.as_recorded == synthesizer.as_recorded and own.llms == synthesizer.llms:
                return None
        return self._member(synthesizer)

    def _or_none(self, member: Member | None) -> str | None:
        return None if member is None else self._member(member)

    def _review(self, review: Review) -> Written:
        told = changed(review, Review, "criteria", "max_rounds", "of")
        return {"judge": self._judge(review), **told}

    def _judge(self, review: Review) -> str:
        if isinstance(review.judge, Member):
            return self._member(review.judge)
        return self._parts.named(review.judge, "a review's judge")

    def _route(self, route: Route) -> JSONValue:
        member = self._member(route.member)
        if route.name == route.member.name and not route.description and route.when is None:
            return member
        written: Written = {"route": route.name, "member": member}
        if route.description:
            written["description"] = route.description
        if route.when is not None:
            written["when"] = self._parts.named(route.when, f"the rule of route {route.name!r}")
        return written

    def _options(self, pattern: Pattern) -> Written:
        options, parts = pattern.options, self._parts
        written: Written = {}
        if (retry := options.get("retry")) is not None:
            written["retry"] = parts.retry(retry, repr(pattern))
        if (timeouts := options.get("timeouts")) is not None:
            written["timeouts"] = parts.timeouts(timeouts)
        written["on_error"] = options.get("on_error")
        if pattern.budget is not None:
            written["budget"] = parts.budget(pattern.budget)
        if pattern.degrade_to:
            written["degrade_to"] = self._members(pattern.degrade_to)
        if (traffic := options.get("traffic")) is not None:
            written["traffic"] = parts.named(traffic, f"the traffic of {pattern!r}")
        if pattern.approve:
            written["approve"] = sorted(pattern.approve)
        for name in ("output_type", "inputs"):
            wanted = cast("OutputType | None", options.get(name))
            if isinstance(wanted, Mapping):
                written[name] = wanted
            elif wanted is not None:
                written[name] = parts.named(wanted, f"the {name} of {pattern!r}")
        return _without_none(written)


_KINDS: Final = frozenset(PATTERNS.values())  # not classes derived from them


def _shared_models(agents: dict[str, JSONValue]) -> dict[str, JSONValue]:
    """Models with settings that several agents have, under names, which take their place."""
    places = [
        (agent, cast(JSONObject, agent["llm"]))
        for agent in agents.values()
        if isinstance(agent, dict) and isinstance(agent.get("llm"), dict)
    ]
    named: dict[str, JSONValue] = {}
    counted = Counter(repr(model) for _, model in places)
    for agent, model in places:
        if counted[repr(model)] > 1:
            known = next((key for key, other in named.items() if other == model), None)
            key = known or free_key(str(model["model"]), named)
            named[key] = model
            agent["llm"] = key
    return named


def _without_none(written: Written) -> Written:
    return {key: value for key, value in written.items() if value is not None}
