"""How agents work together, as it is written in a definition: the patterns, and the whole file.

Keys are the arguments of the Python constructors, and mean the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias, cast

from pydantic import Discriminator, Tag

from pyagent_patterns.base import Pattern
from pyagent_patterns.orchestration import (
    Hierarchical,
    Loop,
    OrchestratorWorkers,
    Parallel,
    Pipeline,
    Router,
    Team,
)
from pyagent_patterns.orchestration.pipeline import Sees
from pyagent_patterns.orchestration.planning import PlanningMode

from .parts import (
    AgentSpec,
    LLMRef,
    OptionsSpec,
    ServerSettings,
    Spec,
    Text,
    ToolSettings,
    keys_of,
    told_apart,
)


class _TeamSpec(OptionsSpec):
    degrade_to: list[MemberSpec] | None = None
    """Who is tried in turn when a run fails."""


class _NamedSpec(_TeamSpec):
    name: str | None = None
    """What it is called within another pattern."""


class ReviewSpec(Spec):
    """A quality gate: a judge accepts what was done, or sends it back with reasons."""

    judge: MemberSpec
    """Who judges; or a function of the work, as `module:function`."""
    criteria: str | None = None
    max_rounds: int | None = None
    """How often it is sent back at most."""
    of: Literal["outcome", "answer"] | None = None
    """What an orchestrator's review judges."""


class OrchestratorWorkersSpec(_NamedSpec):
    """One agent plans, specialists work, one agent writes the answer."""

    pattern: Literal["orchestrator_workers"]
    orchestrator: MemberSpec | None = None
    """Plans, and writes the answer."""
    workers: list[MemberSpec] | None = None
    planner: MemberSpec | None = None
    """Plans in the orchestrator's place."""
    worker: MemberSpec | None = None
    """One more for the work, or the only one."""
    synthesizer: MemberSpec | None = None
    """Writes the answer in the orchestrator's place."""
    max_parallel: int | None = None
    """How many assignments run at once."""
    planning: PlanningMode | None = None
    max_iterations: int | None = None
    """Of iterative planning: how many steps at most."""
    max_replans: int | None = None
    """Of full planning: how many more plans after failures."""
    agent_factory: str | None = None
    """Makes agents that the planner defines: a function, as `module:function`."""
    max_new_agents: int | None = None
    review: list[ReviewSpec] | None = None
    """Quality gates of each outcome or the answer."""
    prompts: str | None = None
    """Other wording: a `Prompts`, as `module:object`."""
    plan_schema: dict[str, Any] | None = None
    """A JSON Schema for the plan, in place of ours."""


class TeamOfLeadSpec(_TeamSpec):
    """A team for a hierarchy: its lead plans for its workers and makes one answer of their work."""

    pattern: Literal["team"]
    name: str
    lead: MemberSpec
    workers: list[MemberSpec]


class GateSpec(Spec):
    """A gate between two stages."""

    review: ReviewSpec


class PipelineSpec(_NamedSpec):
    """Stages one after another, each going on from the one before."""

    pattern: Literal["pipeline"]
    stages: list[Stage]
    """Each a member, a list of members that work side by side, or a gate: `review: {...}`."""
    sees: Sees | None = None
    """Whether a stage is given the output previous to it or all before it."""


class RouteSpec(Spec):
    """A way that a task can take."""

    route: str
    """Its name."""
    member: MemberSpec
    description: str | None = None
    """What it is for; else what its member is for."""
    when: str | None = None
    """A function of the task that says whether it is taken unasked, as `module:function`."""


class RouterSpec(_NamedSpec):
    """A classifier chooses who does the task."""

    pattern: Literal["router"]
    routes: list[RouteSettings]
    """Each a member, or `route: NAME` with its member and description."""
    classifier: MemberSpec | None = None
    """An agent, a pattern, or a function or `Classifier` as `module:object`."""
    default: str | None = None
    """The route that is taken when none is chosen."""
    top_k: int | None = None
    merge: MemberSpec | None = None


class HierarchicalSpec(_NamedSpec):
    """A manager plans for teams, each team's lead plans for its workers, and back up."""

    pattern: Literal["hierarchical"]
    manager: MemberSpec
    teams: list[MemberSpec]
    synthesizer: MemberSpec | None = None
    max_parallel: int | None = None
    """How many teams work at once."""


class ParallelSpec(_NamedSpec):
    """The same task to several at once, and one answer of theirs."""

    pattern: Literal["parallel"]
    members: list[MemberSpec]
    merge: MemberSpec | None = None


class LoopSpec(_NamedSpec):
    """A worker does the task, a judge sends it back with reasons, until it is good enough."""

    pattern: Literal["loop"]
    worker: MemberSpec
    judge: MemberSpec
    criteria: str | None = None
    max_rounds: int | None = None


class DefinitionSpec(Spec):
    """A team of agents: what they are made of, how they work together, and what for."""

    objective: Text | None = None
    """The task: a Jinja template over the team's inputs."""
    models: dict[str, LLMRef] | None = None
    """Models by name."""
    tools: dict[str, ToolSettings] | None = None
    """Tools by name."""
    mcp: dict[str, ServerSettings] | None = None
    """MCP servers by name; all who use one share it."""
    agents: dict[str, AgentSpec] | None = None
    """Agents by name."""
    patterns: dict[str, Patterns] | None = None
    """Patterns by name, for use within others."""
    team: MemberSpec
    """The pattern that does the task."""


PATTERNS: Final[Mapping[str, Callable[..., Pattern]]] = {
    kind.name: kind
    for kind in (OrchestratorWorkers, Team, Pipeline, Router, Hierarchical, Parallel, Loop)
}


def _by_pattern(value: object) -> str | None:
    """Which kind of member a value is: a name, a pattern by its `pattern`, else an agent."""
    if isinstance(value, str):
        return "<name>"
    if not isinstance(value, dict):
        return None
    kind = cast("dict[str, object]", value).get("pattern", "agent")
    return f"<{kind}>" if kind in (*PATTERNS, "agent") else None


def _by_stage(value: object) -> str:
    if isinstance(value, list):
        return "<side by side>"
    return "<gate>" if keys_of(value) == {"review"} else "<member>"


def _by_route(value: object) -> str:
    return "<route>" if "route" in keys_of(value) else "<member>"


# The models above name these, and are complete from here on.
PatternSpec: TypeAlias = (
    Annotated[OrchestratorWorkersSpec, Tag("<orchestrator_workers>")]
    | Annotated[TeamOfLeadSpec, Tag("<team>")]
    | Annotated[PipelineSpec, Tag("<pipeline>")]
    | Annotated[RouterSpec, Tag("<router>")]
    | Annotated[HierarchicalSpec, Tag("<hierarchical>")]
    | Annotated[ParallelSpec, Tag("<parallel>")]
    | Annotated[LoopSpec, Tag("<loop>")]
)
Patterns: TypeAlias = Annotated[
    PatternSpec | Annotated[str, Tag("<name>")],
    told_apart(_by_pattern, f"a pattern has a 'pattern': one of {', '.join(PATTERNS)}"),
]
MemberSpec: TypeAlias = Annotated[
    PatternSpec | Annotated[AgentSpec, Tag("<agent>")] | Annotated[str, Tag("<name>")],
    told_apart(
        _by_pattern,
        "a member is a name, an agent, or has a 'pattern': one of " + ", ".join(PATTERNS),
    ),
]
Stage: TypeAlias = Annotated[
    Annotated[list[MemberSpec], Tag("<side by side>")]
    | Annotated[GateSpec, Tag("<gate>")]
    | Annotated[MemberSpec, Tag("<member>")],
    Discriminator(_by_stage),
]
RouteSettings: TypeAlias = Annotated[
    Annotated[RouteSpec, Tag("<route>")] | Annotated[MemberSpec, Tag("<member>")],
    Discriminator(_by_route),
]
DefinitionSpec.model_rebuild()
