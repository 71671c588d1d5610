"""OrchestratorWorkers: one agent plans, specialists work, one agent writes the answer.

task ─► plan ─► work: each assignment when what it depends on is done ─► synthesis ─► answer
         ▲                                                          │
         └──── plan on: after each step, or after failures ◄────────┘
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal, Unpack

from pyagent_patterns.agent import Agent, Member, MemberLike, as_member
from pyagent_patterns.base import Options, Pattern
from pyagent_patterns.errors import WorkersFailedError
from pyagent_patterns.plan import Assignment
from pyagent_patterns.result import Outcome
from pyagent_patterns.run import RunContext
from pyagent_providers.base import OutputSchema
from pyagent_providers.semconv import Phase
from pyagent_providers.types import JSONObject

from .checks import an_agent, at_least, limit_of, named
from .planning import AgentFactory, Planner, Planning, PlanningMode
from .prompts import DEFAULT, SYNTHESIS_ROLE, Prompts, with_feedback, with_outputs
from .review import Judge, Review, as_reviews, reviewed


class OrchestratorWorkers(Pattern):
    """A planner splits the task over workers; a synthesiser makes one answer of their work.

    The planner is told each worker's name and what it is for. An assignment starts the moment
    those it depends on are done, and is given their outputs; at most `max_parallel` run at once
    (None: no limit). A worker that fails does not end the run: what depends on it is skipped,
    and the synthesis is told what is missing.

    The `orchestrator` plans and writes the answer, that under a system prompt of its own; a
    `planner` or a `synthesizer` takes its place. `workers` are the specialists, `worker` is one
    more. Each of these is an agent, a pattern, or an async function `(prompt) -> str`.

    With `planning="iterative"` the planner plans a step, sees what came of it and plans on, at most
    `max_iterations` times; one that makes no progress twice is stopped. In "full" planning it is
    asked to plan anew what failed, at most `max_replans` times. With an `agent_factory`, which
    makes an `Agent` of a `NewAgent`, the planner may define at most `max_new_agents` in a run.
    `review` is a quality gate, or several, of each outcome or of the answer. `prompts` changes the
    wording; `plan_schema` replaces the JSON Schema that constrains the planner's answer, for models
    that need a tighter one. `options` are those of every pattern: what happens when things fail,
    what may be spent, who is asked, what the answer must be.

    `result.metadata` has `assignments` (id, worker, subtask, depends_on) and `workers_used`.

    Raises TypeError or ValueError for a team that cannot work. A run raises `PlanError`,
    `AgentFactoryError`, `DeclinedError` when a person declines a plan, `WorkersFailedError` when no
    assignment completed, and `AgentError` when the planner or the synthesiser gives no answer.
    """

    name = "orchestrator_workers"
    planning_phase: ClassVar[Phase] = "plan"
    """What its planning is called in traces and journals."""

    def __init__(
        self,
        *,
        orchestrator: Agent | None = None,
        workers: Sequence[MemberLike] = (),
        planner: MemberLike | None = None,
        worker: MemberLike | None = None,
        synthesizer: MemberLike | None = None,
        max_parallel: int | None = None,
        planning: PlanningMode = "full",
        max_iterations: int = 10,
        max_replans: int = 0,
        agent_factory: AgentFactory | None = None,
        max_new_agents: int = 5,
        review: Review | Judge | Sequence[Review | Judge] = (),
        prompts: Prompts = DEFAULT,
        plan_schema: JSONObject | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        self.orchestrator = None if orchestrator is None else an_agent("orchestrator", orchestrator)
        self.workers = named("workers", workers if worker is None else [*workers, worker])
        self.synthesizer = _synthesizer(synthesizer, orchestrator)
        self.max_parallel = limit_of("max_parallel", max_parallel)
        self.reviews = as_reviews(review)
        self._reviews = {
            "worker": [review for review in self.reviews if review.of == "outcome"],
            "synthesis": [review for review in self.reviews if review.of == "answer"],
        }
        self._prompts = prompts
        self.planner = Planner(
            member=_planner(planner, orchestrator),
            workers=self.workers,
            phase=self.planning_phase,
            mode=planning,
            max_iterations=at_least("max_iterations", 1, max_iterations),
            max_replans=at_least("max_replans", 0, max_replans),
            agent_factory=agent_factory,
            max_new_agents=at_least("max_new_agents", 1, max_new_agents),
            schema=None if plan_schema is None else OutputSchema("plan", plan_schema, strict=False),
            closing=self.synthesizer,
            wording=prompts,
        )
        judges = [member for review in self.reviews for member in review.members]
        self._members = (self.planner.member, *self.workers.values(), *judges, self.synthesizer)

    @property
    def members(self) -> Sequence[Member]:
        return self._members

    @property
    def makes_agents(self) -> bool:
        return self.planner.agent_factory is not None or super().makes_agents

    async def _execute(self, ctx: RunContext, task: str) -> str:
        planning = self.planner.begin(ctx.child(self.planning_phase), task)
        while plan := await planning.next():
            work = ctx.child(planning.scope)
            await work.carry_out(plan, partial(self._do, planning), limit=self.max_parallel)
        return await self._synthesise(ctx.child("synthesis"), task, ctx.record.outcomes)

    async def _do(
        self,
        planning: Planning,
        assignment: Assignment,
        ctx: RunContext,
        outputs: Mapping[str, str],
    ) -> str:
        def question(shown: Mapping[str, str]) -> str:
            given = {planning.assignment(name): output for name, output in shown.items()}
            return self._prompts.subtask(assignment, given)

        worker, task = planning.workers[assignment.worker], assignment.subtask
        output, objection = await self._ask(ctx, worker, "worker", task, outputs, question)
        if objection is not None:
            ctx.record.rejected(assignment.id, objection)
        return output

    async def _synthesise(self, ctx: RunContext, task: str, outcomes: Sequence[Outcome]) -> str:
        outputs = {outcome.id: outcome.output for outcome in outcomes if outcome.output is not None}
        if not outputs:
            raise WorkersFailedError(outcomes)

        def question(shown: Mapping[str, str]) -> str:
            told = with_outputs(outcomes, shown)
            return self._prompts.synthesis(task, told, ctx.record.shortfalls)

        member = self.synthesizer
        answer, objection = await self._ask(ctx, member, "synthesis", task, outputs, question)
        if objection is not None:
            ctx.record.rejected(None, objection)
        return answer

    async def _ask(
        self,
        ctx: RunContext,
        member: Member,
        phase: Literal["worker", "synthesis"],
        task: str,
        outputs: Mapping[str, str],
        question: Callable[[Mapping[str, str]], str],
    ) -> tuple[str, str | None]:
        """Ask a question that is made of outputs, until the answer passes its reviews, if ever."""
        work = await ctx.fit(member, outputs, question, phase=phase)

        async def do(feedback: str | None) -> str:
            asked = with_feedback(question(work.pieces), feedback)
            answers = phase == "synthesis"
            return await ctx.ask(member, asked, phase=phase, answers=answers, work=work)

        return await reviewed(self._reviews[phase], ctx, task, do)


def _planner(planner: MemberLike | None, orchestrator: Agent | None) -> Member:
    if planner is None and orchestrator is None:
        raise TypeError("give an orchestrator, an Agent that plans; or a planner")
    return as_member("planner", orchestrator if planner is None else planner)


def _synthesizer(synthesizer: MemberLike | None, orchestrator: Agent | None) -> Member:
    if synthesizer is not None:
        return as_member("synthesizer", synthesizer)
    if orchestrator is None:
        raise TypeError("give an orchestrator, an Agent that writes the answer; or a synthesizer")
    # The planner's own system prompt asks for a plan; the final answer must not heed it.
    return orchestrator.with_system_prompt(SYNTHESIS_ROLE)
