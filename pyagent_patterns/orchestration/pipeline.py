"""Pipeline: stages one after another, each going on from what the one before made.

task ─► stage ─► gate ─► stages side by side ─► stage ─► answer
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, TypeAlias, Unpack, cast

from pyagent_patterns.agent import Member, MemberLike, as_member
from pyagent_patterns.base import Options, Pattern
from pyagent_patterns.errors import RejectedError, StageError
from pyagent_patterns.plan import Assignment
from pyagent_patterns.result import Outcome, OutcomeStatus
from pyagent_patterns.run import RunContext

from . import prompts
from .checks import must_have_a_writer, must_not_wait_for_a_plan, named
from .review import Review, reviewed

StageLike: TypeAlias = "MemberLike | Sequence[MemberLike] | Review"
Sees = Literal["previous", "all"]


class Pipeline(Pattern):
    """Each stage goes on from the one before; the last one's output is the answer.

    A stage is an agent, a pattern or an async function `(prompt) -> str`; a list of those runs
    side by side, and what comes next is given all their outputs. A `Review` between stages is a
    gate: what was made before it is judged, sent back with reasons, and let through or not. Every
    stage is given the task and the output `previous` to it, or `all` before it. `options` are those
    of every pattern.

    A stage that fails ends the run with `StageError`, unless its `on_error` is "skip": then the
    next goes on from what was made before it. Work that does not pass its gate always does. Of
    several at the end, those that have an output make the answer, one after another.

    Raises TypeError or ValueError for stages that cannot work.
    """

    name = "pipeline"

    def __init__(
        self,
        stages: Sequence[StageLike],
        *,
        sees: Sees = "previous",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        self.stages = _stages(stages)
        if sees not in ("previous", "all"):
            raise ValueError(f"a stage sees the 'previous' output or 'all'; got {sees!r}")
        self.sees = sees
        must_have_a_writer(self)
        must_not_wait_for_a_plan(self)

    @property
    def members(self) -> Sequence[Member]:
        return [member for stage in self.stages for member in (*stage.team.values(), *stage.judges)]

    @property
    def answered_by(self) -> Member | None:
        [*last] = self.stages[-1].team.values()
        return last[0] if len(last) == 1 else None

    async def _execute(self, ctx: RunContext, task: str) -> str:
        plan = self._plan(task)
        ctx.record.plan_accepted(list(plan))
        outcomes = await ctx.carry_out(plan, partial(self._do, plan, task))
        last = [o for o in outcomes if plan[o.assignment] is self.stages[-1]]
        made = {o.worker: o.output for o in last if o.output is not None}
        if not made or any(o.status == "rejected" for o in last):
            [*_, lost] = (o for o in outcomes if o.status in _LOST)
            raise StageError(self.name, lost)
        return prompts.side_by_side(made) if len(made) > 1 else "".join(made.values())

    def _plan(self, task: str) -> dict[Assignment, Stage]:
        """Every stage as assignments that depend on those of the stages before."""
        plan: dict[Assignment, Stage] = {}
        before: tuple[str, ...] = ()
        for n, stage in enumerate(self.stages, 1):
            ids = {name: f"{n}-{name}" for name in stage.team}
            plan |= {Assignment(ids[name], name, task, before): stage for name in stage.team}
            before = (*before, *ids.values()) if self.sees == "all" else tuple(ids.values())
        return plan

    async def _do(
        self,
        plan: Mapping[Assignment, Stage],
        task: str,
        assignment: Assignment,
        ctx: RunContext,
        outputs: Mapping[str, str],
    ) -> str:
        stage = plan[assignment]
        worker = stage.team[assignment.worker]
        answers = stage is self.stages[-1] and self.answered_by is not None
        given = outputs or self._latest(plan, stage, ctx.record.outcomes)
        work = await ctx.fit(worker, given, partial(prompts.stage, task), phase="stage")

        async def do(feedback: str | None) -> str:
            asked = prompts.with_feedback(prompts.stage(task, work.pieces), feedback)
            return await ctx.ask(worker, asked, phase="stage", answers=answers, work=work)

        output, objection = await reviewed(stage.gates, ctx, task, do)
        if objection is not None:
            raise RejectedError(assignment.worker, output, objection)
        return output

    def _latest(
        self, plan: Mapping[Assignment, Stage], stage: Stage, outcomes: Sequence[Outcome]
    ) -> Mapping[str, str]:
        """What to go on from where the stage before has no output: those of the last that has."""
        for earlier in reversed(self.stages[: self.stages.index(stage)]):
            made = {
                o.id: o.output
                for o in outcomes
                if plan[o.assignment] is earlier and o.output is not None
            }
            if made:
                return made
        return {}


@dataclass(eq=False)
class Stage:
    """A team of members that work side by side, by name, and the gates after them."""

    team: dict[str, Member]
    gates: list[Review] = field(default_factory=list[Review])

    @property
    def judges(self) -> Sequence[Member]:
        return [judge for gate in self.gates for judge in gate.members]


def _stages(given: Sequence[StageLike]) -> list[Stage]:
    stages: list[Stage] = []
    for n, value in enumerate(given):
        if isinstance(value, Review):
            if not stages:
                raise ValueError("a pipeline cannot begin with a Review: nothing is made yet")
            stages[-1].gates.append(value)
        elif isinstance(value, list | tuple):
            several = cast("Sequence[MemberLike]", value)
            stages.append(Stage(named(f"stages[{n}]", several)))
        else:
            member = as_member(f"stages[{n}]", value)
            stages.append(Stage({member.name: member}))
    if not stages:
        raise ValueError("stages is empty; give at least one Agent to do the work")
    return stages


_LOST: Final[tuple[OutcomeStatus, ...]] = ("rejected", "failed", "empty", "refused")
