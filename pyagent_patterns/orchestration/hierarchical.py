"""Hierarchical: a manager plans for teams, each team's lead plans for its workers, and back up.

task ─► manage ─► each team: plan ─► work ─► synthesis ─► the manager's synthesis ─► answer
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Unpack

from pyagent_patterns.agent import Agent, Member, MemberLike, as_member
from pyagent_patterns.base import Options, Pattern, Policies
from pyagent_patterns.errors import WorkersFailedError
from pyagent_patterns.plan import Assignment
from pyagent_patterns.run import RunContext

from . import prompts
from .checks import limit_of, named
from .orchestrator_workers import OrchestratorWorkers
from .planning import Planner, Planning
from .synthesis import synthesise


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
            orchestrator=lead, workers=workers, name=name, description=description, **policies
        )


class Hierarchical(Pattern):
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

    def __init__(
        self,
        *,
        manager: Agent,
        teams: Sequence[MemberLike],
        synthesizer: MemberLike | None = None,
        max_parallel: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        if not isinstance(manager, Agent):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"manager must be an Agent('name', llm); got {manager!r}")
        self.manager = manager
        self.teams = named("teams", teams)
        self.synthesizer = (
            manager.with_system_prompt(prompts.SYNTHESIS_ROLE)
            if synthesizer is None
            else as_member("synthesizer", synthesizer)
        )
        self.max_parallel = limit_of("max_parallel", max_parallel)
        self._planner = Planner(
            member=manager, workers=self.teams, phase="manage", closing=self.synthesizer
        )

    @property
    def members(self) -> Sequence[Member]:
        return (self.manager, *self.teams.values(), self.synthesizer)

    async def _execute(self, ctx: RunContext, task: str) -> str:
        planning, work = self._planner.begin(ctx.child("manage"), task), ctx.child("work")
        while plan := await planning.next():
            await work.carry_out(plan, partial(self._do, planning), limit=self.max_parallel)
        outcomes = ctx.record.outcomes
        if not any(outcome.output is not None for outcome in outcomes):
            raise WorkersFailedError(outcomes)
        return await synthesise(ctx.child("synthesis"), self.synthesizer, task, outcomes)

    async def _do(
        self,
        planning: Planning,
        assignment: Assignment,
        ctx: RunContext,
        outputs: Mapping[str, str],
    ) -> str:
        def question(shown: Mapping[str, str]) -> str:
            given = {planning.assignment(name): output for name, output in shown.items()}
            return prompts.subtask(assignment, given)

        team = self.teams[assignment.worker]
        work = await ctx.fit(team, outputs, question, phase="worker")
        return await ctx.ask(team, question(work.pieces), phase="worker", answers=False, work=work)
