"""Plans of one run: the first, and those that follow from what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from pyagent_patterns.agent import Agent, Member
from pyagent_patterns.errors import DeclinedError, PlanError
from pyagent_patterns.plan import Assignment, InvalidPlan, NewAgent, Plan
from pyagent_patterns.result import Outcome
from pyagent_patterns.run import RunContext
from pyagent_providers.base import OutputSchema
from pyagent_providers.semconv import Phase
from pyagent_providers.types import JSONObject, JSONValue

from . import prompts

PlanningMode = Literal["full", "iterative"]
AgentFactory = Callable[[NewAgent], Agent]
_STALLS = 2  # steps without progress after which a planner is stopped


@dataclass(frozen=True, slots=True, kw_only=True)
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

    def assignment(self, name: str) -> Assignment:
        """The assignment of this id, of any plan so far."""
        return self._assignments[name]

    async def next(self) -> Plan | None:
        """What is to be done now, in view of what came of it so far; None when that is all.

        Raises PlanError when there is no plan at all, DeclinedError when a person declines one.
        """
        outcomes = self._ctx.record.outcomes
        if not self._made:
            return await self._plan(outcomes)
        if not self._goes_on(outcomes):
            return None
        try:
            plan = await self._plan(outcomes)
        except PlanError as error:
            self._ctx.record.fell_short(f"planning stopped: {error.faults[0]}")
            return None
        return plan if plan.assignments else None

    def _goes_on(self, outcomes: Sequence[Outcome]) -> bool:
        """Whether there is to be another plan."""
        planner, record = self._planner, self._ctx.record
        if planner.mode == "full":
            lost = any(outcome.output is None for outcome in outcomes)
            return lost and self._made <= planner.max_replans
        finished = {(o.worker, o.assignment.subtask) for o in outcomes if o.output is not None}
        self._stalls = 0 if finished - self._finished else self._stalls + 1
        self._finished = finished
        if self._stalls >= _STALLS:
            record.fell_short(f"planning stopped: {_STALLS} steps made no progress")
            return False
        if self._made >= planner.max_iterations:
            record.fell_short(f"planning stopped at max_iterations={planner.max_iterations}")
            return False
        return True

    async def _plan(self, outcomes: Sequence[Outcome]) -> Plan:
        """Ask for a plan; if it is not valid, once more with everything that is wrong."""
        self._made += 1
        question = self._question(outcomes)
        try:
            plan = await self._ask(question, outcomes)
        except InvalidPlan as invalid:
            again = prompts.repair(question, invalid.text, invalid.faults)
            try:
                plan = await self._ask(again, outcomes)
            except InvalidPlan as still:
                raise PlanError(self._planner.member.name, still.faults, still.text) from None
        plan = await self._let_through(plan, outcomes)
        self._hire(plan.agents)
        self._ctx.record.planned_on(plan.assignments)
        self._assignments |= {assignment.id: assignment for assignment in plan}
        return plan

    def _question(self, outcomes: Sequence[Outcome]) -> str:
        planner, words = self._planner, self._planner.wording
        workers, schema = tuple(self.workers.values()), self._schema
        if self._made == 1 and planner.mode == "full":
            question = words.planning(self._task, workers, schema)
        else:
            question = words.planning_on(self._task, workers, schema, outcomes)
        return prompts.new_agents(question, self._left) if self._left else question

    @property
    def _schema(self) -> OutputSchema:
        return self._planner.schema or Plan.schema(tuple(self.workers), new_agents=self._left > 0)

    @property
    def _left(self) -> int:
        """How many agents may still be defined."""
        if self._planner.agent_factory is None:
            return 0
        return self._planner.max_new_agents - (len(self.workers) - len(self._planner.workers))

    async def _ask(self, question: str, outcomes: Sequence[Outcome]) -> Plan:
        planner = self._planner
        answer = await self._ctx.ask(
            planner.member, question, phase=planner.phase, schema=self._schema
        )
        return self._read(answer, outcomes)

    def _read(self, answer: str, outcomes: Sequence[Outcome]) -> Plan:
        try:
            return Plan.parse(
                answer,
                tuple(self.workers),
                before={outcome.id: outcome.output is not None for outcome in outcomes},
                max_agents=self._left,
                may_be_empty=self._made > 1,
            )
        except InvalidPlan as invalid:
            self._ctx.record.plan_rejected(invalid)
            raise

    async def _let_through(self, plan: Plan, outcomes: Sequence[Outcome]) -> Plan:
        """The plan, as a person edited it where one is asked, and what it is expected to cost."""
        usd = await self._ctx.estimate(self._work_of(plan))
        wrong: Sequence[str] = ()
        while plan.assignments and self._ctx.gated("plan"):
            who = self._planner.member.name
            details: JSONObject = {
                "assignments": [cast(JSONObject, a.to_dict()) for a in plan],
                "agents": [{"name": a.name, "role": a.role} for a in plan.agents],
                "estimated_usd": None if usd is None else str(usd),
            }
            text = prompts.plan_for_reading(who, plan, usd, wrong)
            decision = await self._ctx.consult("plan", who, text, details)
            if not decision.approved:
                raise DeclinedError("plan", who, decision.reason, text)
            if decision.value is None:
                break
            try:
                plan = replace(self._read(_edited(decision.value), outcomes), agents=plan.agents)
                break
            except InvalidPlan as invalid:
                wrong = invalid.faults
        self._ctx.record.expected(usd)
        return plan

    def _work_of(self, plan: Plan) -> list[tuple[Member, str]]:
        """Who is given what, as far as that is known before, and who writes the answer."""
        known = [(self.workers[a.worker], a.subtask) for a in plan if a.worker in self.workers]
        if self._planner.closing is not None:
            known.append((self._planner.closing, self._task))
        return known

    def _hire(self, agents: Sequence[NewAgent]) -> None:
        for spec in agents:
            assert self._planner.agent_factory is not None  # noqa: S101 - else none are allowed
            self.workers[spec.name] = self._planner.agent_factory(spec)


def _edited(value: JSONValue) -> str:
    """A person's edit, a list of assignments or a whole plan, as a planner would write it."""
    return json.dumps({"assignments": value} if isinstance(value, list) else value)
