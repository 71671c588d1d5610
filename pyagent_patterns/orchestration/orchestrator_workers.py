"""OrchestratorWorkers: one agent plans, specialists work, one agent writes the answer.

task ─► plan ─► work: each assignment when what it depends on is done ─► synthesis ─► answer
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar, Unpack

from pyagent_patterns.agent import Agent
from pyagent_patterns.base import Pattern, Policies
from pyagent_patterns.errors import PlanError, WorkersFailedError
from pyagent_patterns.plan import Assignment, InvalidPlan, Plan
from pyagent_patterns.result import Outcome
from pyagent_patterns.run import RunContext, Task
from pyagent_providers.base import OutputSchema
from pyagent_providers.types import JSONObject

from . import prompts


class OrchestratorWorkers(Pattern):
    """A planner splits the task over workers; a synthesiser makes one answer of their work.

    The planner is told each worker's name and what it is for. An assignment starts the moment
    those it depends on are done, and is given their outputs; at most `max_parallel` run at once
    (None: no limit). A worker that fails does not end the run: what depends on it is skipped,
    and the synthesis is told what is missing. `synthesizer` writes the answer; without one the
    orchestrator's model does, under a system prompt of its own. `plan_schema` replaces the JSON
    Schema that constrains the planner's answer, for models that need a tighter one. `policies`
    are those of every pattern: what happens when things fail, and what may be spent.

    `result.metadata` has `assignments` (id, worker, subtask, depends_on) and `workers_used`.

    Raises TypeError or ValueError for a team that cannot work. A run raises `PlanError`,
    `WorkersFailedError` when no assignment completed, and `AgentError` when the planner or the
    synthesiser gives no answer.
    """

    name: ClassVar[str] = "orchestrator_workers"

    def __init__(
        self,
        *,
        orchestrator: Agent,
        workers: Sequence[Agent],
        synthesizer: Agent | None = None,
        max_parallel: int | None = None,
        plan_schema: JSONObject | None = None,
        **policies: Unpack[Policies],
    ) -> None:
        super().__init__(**policies)
        self.orchestrator = _agent("orchestrator", orchestrator)
        self.workers = _team(workers)
        # The planner's own system prompt asks for a plan; the final answer must not heed it.
        self.synthesizer = (
            orchestrator.with_system_prompt(prompts.SYNTHESIS_ROLE)
            if synthesizer is None
            else _agent("synthesizer", synthesizer)
        )
        if max_parallel is not None and max_parallel < 1:
            raise ValueError(f"max_parallel must be at least 1, or None; got {max_parallel!r}")
        self.max_parallel = max_parallel
        self._schema = _schema(plan_schema, self.workers)

    @property
    def agents(self) -> Sequence[Agent]:
        return (self.orchestrator, *self.workers.values(), self.synthesizer)

    async def _execute(self, ctx: RunContext, task: str) -> str:
        plan = await self._plan(ctx.child("plan"), task)
        outcomes = await self._work(ctx.child("work"), plan)
        return await self._synthesise(ctx.child("synthesis"), task, outcomes)

    async def _plan(self, ctx: RunContext, task: str) -> Plan:
        """Ask for a plan; if it is not valid, once more with everything that is wrong."""
        question = prompts.planning(task, tuple(self.workers.values()), self._schema)
        try:
            return await self._ask_plan(ctx, question)
        except InvalidPlan as invalid:
            question = prompts.repair(question, invalid.text, invalid.faults)
        try:
            return await self._ask_plan(ctx, question)
        except InvalidPlan as invalid:
            raise PlanError(self.orchestrator.name, invalid.faults, invalid.text) from None

    async def _ask_plan(self, ctx: RunContext, question: str) -> Plan:
        answer = await ctx.ask(self.orchestrator, question, phase="plan", schema=self._schema)
        try:
            plan = Plan.parse(answer, tuple(self.workers))
        except InvalidPlan as invalid:
            ctx.record.plan_rejected(invalid)
            raise
        ctx.record.plan_accepted(plan.assignments)
        return plan

    async def _work(self, ctx: RunContext, plan: Plan) -> Sequence[Outcome]:
        """Run the plan's graph; what became of each assignment, in the plan's order."""
        await ctx.dag(
            {a.id: Task(a.depends_on, partial(self._do, plan, a)) for a in plan},
            limit=self.max_parallel,
            on_settled=lambda name, how: ctx.record.settled(plan[name], how),
        )
        outcomes = ctx.record.outcomes
        if not any(outcome.output is not None for outcome in outcomes):
            raise WorkersFailedError(outcomes)
        return outcomes

    async def _do(
        self, plan: Plan, assignment: Assignment, ctx: RunContext, outputs: Mapping[str, str]
    ) -> str:
        given = {plan[name]: output for name, output in outputs.items()}
        question = prompts.subtask(assignment, given)
        return await ctx.ask(self.workers[assignment.worker], question, phase="worker")

    async def _synthesise(self, ctx: RunContext, task: str, outcomes: Sequence[Outcome]) -> str:
        question = prompts.synthesis(task, outcomes)
        return await ctx.ask(self.synthesizer, question, phase="synthesis")


def _agent(argument: str, value: object) -> Agent:
    if not isinstance(value, Agent):
        raise TypeError(f"{argument} must be an Agent('name', llm); got {value!r}")
    return value


def _team(workers: Sequence[Agent]) -> dict[str, Agent]:
    team: dict[str, Agent] = {}
    for position, worker in enumerate(workers):
        _agent(f"workers[{position}]", worker)
        if worker.name in team:
            raise ValueError(
                f"workers has two agents named {worker.name!r}; a plan names workers, so give "
                "each a name of its own"
            )
        team[worker.name] = worker
    if not team:
        raise ValueError("workers is empty; give at least one Agent to do the work")
    return team


def _schema(given: JSONObject | None, team: Mapping[str, Agent]) -> OutputSchema:
    if given is None:
        return Plan.schema(tuple(team))
    return OutputSchema("plan", given, strict=False)
