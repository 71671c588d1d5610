"""Plans of one run: the first, and those that follow from what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, cast, get_args

from pyagent_patterns.agent import Agent, Member, on_one_line
from pyagent_patterns.context import Fitted
from pyagent_patterns.errors import AgentError, AgentFactoryError, DeclinedError, PlanError
from pyagent_patterns.estimate import Work
from pyagent_patterns.plan import Assignment, InvalidPlan, NewAgent, Plan
from pyagent_patterns.run import RunContext
from pyagent_providers.base import OutputSchema
from pyagent_providers.semconv import Phase
from pyagent_providers.types import JSONObject, JSONValue

from . import prompts

PlanningMode = Literal["full", "iterative"]
AgentFactory = Callable[[NewAgent], Agent]
_STALLS: Final = 2  # steps without progress after which a planner is stopped
_EDITS: Final = 5  # of one plan, after which it is taken as declined


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Planner:
    """How a pattern plans: who does, for whom, and how often.

    In "full" planning one plan is for the whole task; after failures there are at most
    `max_replans` more. In "iterative" planning each plan is a step, at most `max_iterations`.
    `agent_factory` makes agents that the planner defines, at most `max_new_agents` in a run.
    `closing` writes the answer: its cost is part of what a plan is expected to cost.
    """

    member: Member
    workers: Mapping[str, Member]
    phase: Phase = "plan"
    mode: PlanningMode = "full"
    max_iterations: int = 10
    max_replans: int = 0
    agent_factory: AgentFactory | None = None
    max_new_agents: int = 0
    schema: OutputSchema | None = None
    closing: Member | None = None
    wording: prompts.Prompts = prompts.DEFAULT

    def __post_init__(self) -> None:
        if self.mode not in get_args(PlanningMode):
            raise ValueError(f"planning must be 'full' or 'iterative'; got {self.mode!r}")

    def begin(self, ctx: RunContext, task: str) -> Planning:
        """Plan this task, in a scope for it."""
        return Planning(self, ctx, task)


class Planning:
    """The plans of one run, one after another; `workers` are all who can be assigned work."""

    def __init__(self, planner: Planner, ctx: RunContext, task: str) -> None:
        self._planner = planner
        self._ctx = ctx
        self._task = task
        self._made = 0
        self._stalls = 0
        self._finished: set[tuple[str, str]] = set()
        self._assignments: dict[str, Assignment] = {}
        self.workers: dict[str, Member] = dict(planner.workers)

    @property
    def scope(self) -> str:
        """A name for the scope of the last plan's work; ids may be used again in the next."""
        return "work" if self._made == 1 else f"work-{self._made}"

    def assignment(self, name: str) -> Assignment:
        """The assignment of this id, of any plan so far."""
        return self._assignments[name]

    async def next(self) -> Plan | None:
        """What is to be done now, in view of what came of it so far; None when that is all.

        Raises PlanError or AgentError when there is no plan and nothing is done, DeclinedError
        when a person declines one, AgentFactoryError for an agent that could not be made.
        """
        if self._made and not self._goes_on():
            return None
        self._made += 1
        try:
            plan = await self._plan()
        except (PlanError, AgentError) as error:
            if not self._finished:
                raise
            why = error.faults[0] if isinstance(error, PlanError) else on_one_line(str(error))
            self._ctx.record.fell_short(f"planning stopped: {why}")
            return None
        return plan if plan.assignments else None

    def _goes_on(self) -> bool:
        """Whether there is to be another plan."""
        planner, record = self._planner, self._ctx.record
        if planner.mode == "full" and self._made > planner.max_replans:
            return False
        outcomes = record.outcomes
        before = self._finished
        self._finished = {
            (outcome.worker, outcome.assignment.subtask)
            for outcome in outcomes
            if outcome.output is not None
        }
        if planner.mode == "full":
            return any(outcome.output is None for outcome in outcomes)
        self._stalls = 0 if self._finished - before else self._stalls + 1
        if self._stalls >= _STALLS:
            record.fell_short(f"planning stopped: {_STALLS} steps made no progress")
            return False
        if self._made >= planner.max_iterations:
            record.fell_short(f"planning stopped at max_iterations={planner.max_iterations}")
            return False
        return True

    async def _plan(self) -> Plan:
        """Ask for a plan; if it is not valid, once more with everything that is wrong."""
        schema = self._planner.schema or Plan.schema(
            tuple(self.workers), new_agents=self._agents_left > 0
        )
        question, work = await self._question(schema)
        try:
            plan = await self._ask(question, schema, work)
        except InvalidPlan as invalid:
            again = prompts.repair(question, invalid.text, invalid.faults)
            try:
                plan = await self._ask(again, schema, work)
            except InvalidPlan as still:
                raise PlanError(self._planner.member.name, still.faults, still.text) from None
        self._hire(plan.agents)
        plan = await self._let_through(plan)
        self._ctx.record.planned_on(plan.assignments)
        self._assignments |= {assignment.id: assignment for assignment in plan}
        return plan

    async def _question(self, schema: OutputSchema) -> tuple[str, Fitted]:
        """What the planner is asked, and what of the work so far is in it."""
        planner, outcomes = self._planner, self._ctx.record.outcomes
        words, workers, left = planner.wording, tuple(self.workers.values()), self._agents_left

        def question(shown: Mapping[str, str]) -> str:
            told = prompts.with_outputs(outcomes, shown)
            if planner.mode == "iterative":
                asked = words.next_step(self._task, workers, schema, told)
            elif self._made == 1:
                asked = words.planning(self._task, workers, schema)
            else:
                asked = words.replanning(self._task, workers, schema, told)
            return prompts.with_new_agents(asked, left) if left else asked

        outputs = {outcome.id: outcome.output for outcome in outcomes if outcome.output is not None}
        work = await self._ctx.fit(planner.member, outputs, question, phase=planner.phase)
        return question(work.pieces), work

    @property
    def _agents_left(self) -> int:
        """How many agents may still be defined."""
        if self._planner.agent_factory is None:
            return 0
        return self._planner.max_new_agents - (len(self.workers) - len(self._planner.workers))

    async def _ask(self, question: str, schema: OutputSchema, work: Fitted) -> Plan:
        member, phase = self._planner.member, self._planner.phase
        answer = await self._ctx.ask(member, question, phase=phase, schema=schema, work=work)
        return self._read(answer)

    def _read(self, answer: str) -> Plan:
        """Raises InvalidPlan."""
        outcomes = self._ctx.record.outcomes
        try:
            plan = Plan.parse(
                answer,
                tuple(self.workers),
                before={outcome.id: outcome.output is not None for outcome in outcomes},
                max_agents=self._agents_left,
                may_be_empty=self._made > 1,
            )
            if self._planner.mode == "full" and (faults := self._done_again(plan)):
                raise InvalidPlan(faults, answer)
        except InvalidPlan as invalid:
            self._ctx.record.plan_rejected(invalid)
            raise
        return plan

    def _done_again(self, plan: Plan) -> list[str]:
        """Assignments of finished work: after a failure only what failed is planned anew."""
        return [
            f"assignment {a.id!r}: {a.worker!r} has finished that subtask already; leave it out"
            for a in plan
            if (a.worker, a.subtask) in self._finished
        ]

    def _hire(self, agents: Sequence[NewAgent]) -> None:
        """Make the agents that the planner defines, so that they can be priced and asked."""
        for wanted in agents:
            self.workers[wanted.name] = self._made_of(wanted)

    def _made_of(self, wanted: NewAgent) -> Agent:
        factory, planner = self._planner.agent_factory, self._planner.member.name
        assert factory is not None  # noqa: S101 - without one a plan with agents is not valid
        try:
            made = cast(object, factory(wanted))
        except Exception as error:
            why = f"it raised {type(error).__name__}: {error}"
            raise AgentFactoryError(planner, wanted.name, why) from error
        if not isinstance(made, Agent):
            raise AgentFactoryError(planner, wanted.name, f"it returned {made!r}, not an Agent")
        if made.name != wanted.name:
            why = f"it named it {made.name!r}; the plan gives work to {wanted.name!r}"
            raise AgentFactoryError(planner, wanted.name, why)
        self._ctx.admit(made)
        return made

    async def _let_through(self, plan: Plan) -> Plan:
        """The plan, as a person edited it where one is asked; notes what it is to cost."""
        if not plan.assignments:
            return plan
        usd = await self._ctx.estimate(self._work_of(plan))
        if self._ctx.gated("plan"):
            shown, plan = plan, await self._approved(plan, usd)
            if plan is not shown:
                usd = await self._ctx.estimate(self._work_of(plan))
        self._ctx.record.expected(usd)
        return plan

    async def _approved(self, plan: Plan, usd: Decimal | None) -> Plan:
        """The plan that a person approves: this one, or what they made of it."""
        planner, text = self._planner.member.name, ""
        faults: Sequence[str] = []
        for _ in range(_EDITS):
            details: JSONObject = {
                "assignments": [cast(JSONObject, a.to_dict()) for a in plan],
                "agents": [
                    {"name": a.name, "role": a.role, "prompt": a.prompt} for a in plan.agents
                ],
                "estimated_usd": None if usd is None else str(usd),
                "faults": list(faults),
            }
            text = prompts.plan_for_reading(planner, plan, usd, faults)
            who = f"{self._ctx.record.path}{planner}"
            decision = await self._ctx.consult("plan", who, text, details)
            if not decision.approved:
                raise DeclinedError("plan", planner, decision.reason, text)
            if decision.value is None:
                return plan
            try:
                edited = self._read(_written(decision.value))
            except InvalidPlan as invalid:
                faults = invalid.faults
            else:
                self._hire(edited.agents)
                return edited
        why = f"{_EDITS} edits of it could not be run, the last since {faults[0]}"
        raise DeclinedError("plan", planner, why, text)

    def _work_of(self, plan: Plan) -> list[Work]:
        """Who is given what, as far as that is known before; with the first plan, the answer."""
        known = self._assignments | {assignment.id: assignment for assignment in plan}

        def worker(name: str) -> Member:
            return self.workers[known[name].worker]

        work = [
            Work(worker(a.id), a.subtask, [worker(name) for name in a.depends_on]) for a in plan
        ]
        if self._planner.closing is not None and self._made == 1:
            outputs = [piece.member for piece in work]
            work.append(Work(self._planner.closing, self._task, outputs))
        return work


def _written(value: JSONValue) -> str:
    """A person's edit, a list of assignments or a whole plan, as a planner would write it."""
    if isinstance(value, str):
        return value
    return json.dumps({"assignments": value} if isinstance(value, list | tuple) else value)
