"""Hierarchical: a manager plans for teams, each team's lead plans for its workers, and back up.

task ─► manage ─► each team: plan ─► work ─► synthesis ─► the manager's synthesis ─► answer

Every level is an `OrchestratorWorkers`: the manager's, whose workers are teams, and each team.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from pyagent_patterns.agent import Agent, MemberLike
from pyagent_patterns.base import Options, Policies

from .checks import an_agent, named
from .orchestrator_workers import OrchestratorWorkers


class Team(OrchestratorWorkers):
    """A team with a lead, who plans for the workers and makes one answer of their work.

    `description` is what a manager is told of it. `policies` are those of every pattern.
    """

    name = "team"

    def __init__(
        self,
        name: str,
        lead: Agent,
        workers: Sequence[MemberLike],
        description: str = "",
        **policies: Unpack[Policies],
    ) -> None:
        super().__init__(
            orchestrator=an_agent("lead", lead),
            workers=workers,
            name=name,
            description=description,
            **policies,
        )


class Hierarchical(OrchestratorWorkers):
    """A manager gives each team a subtask of its own; the teams do them; the manager answers.

    A team is a `Team`, or any other pattern or agent; teams of teams go as deep as you like.
    Budgets, time limits, gates and traces nest. The `manager` plans and writes the answer, that
    under a system prompt of its own, unless there is a `synthesizer`. At most `max_parallel` teams
    work at once. `options` are those of every pattern.

    Raises TypeError or ValueError for teams that cannot work. A run raises `PlanError`,
    `WorkersFailedError` when no team's work completed, and `AgentError` when the manager gives no
    answer.
    """

    name = "hierarchical"
    planning_phase = "manage"

    def __init__(
        self,
        *,
        manager: Agent,
        teams: Sequence[MemberLike],
        synthesizer: MemberLike | None = None,
        max_parallel: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.manager = an_agent("manager", manager)
        self.teams = named("teams", teams)
        super().__init__(
            orchestrator=manager,
            workers=[*self.teams.values()],
            synthesizer=synthesizer,
            max_parallel=max_parallel,
            **options,
        )
