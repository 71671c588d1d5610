"""Pipeline: stages one after another, each going on from what the one before made.

task ─► stage ─► gate ─► stages side by side ─► stage ─► answer
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeAlias, Unpack, cast

from pyagent_patterns.agent import Member, MemberLike, as_member
from pyagent_patterns.base import Options, Pattern
from pyagent_patterns.errors import RejectedError, StageError
from pyagent_patterns.plan import Assignment
from pyagent_patterns.run import RunContext

from . import prompts
from .checks import named
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

    A stage that fails, or does not pass its gate, ends the run with `StageError`, unless its
    `on_error` is "skip": then the next goes on without it.

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

    @property
    def members(self) -> Sequence[Member]:
        return [
            member
            for stage in self.stages
            for members in (
                [member for gate in stage.gates for member in gate.members],
                stage.members.values(),
            )
            for member in members
        ]

    async def _execute(self, ctx: RunContext, task: str) -> str:
        plan = self._plan(task)
        ctx.record.plan_accepted(list(plan))
        outcomes = await ctx.carry_out(plan, partial(self._do, plan, task))
        last = [o for o in outcomes if plan[o.assignment] is self.stages[-1]]
        made = {o.worker: o.output for o in last if o.output is not None}
        if len(made) < len(last):
            lost = (o for o in outcomes if o.output is None and o.status != "skipped")
            raise StageError(self.name, next(lost, last[0]))
        return prompts.side_by_side(made) if len(made) > 1 else made[last[0].worker]

    def _plan(self, task: str) -> dict[Assignment, Stage]:
        """Every stage as assignments that depend on those of the stages before."""
        plan: dict[Assignment, Stage] = {}
        before: tuple[str, ...] = ()
        for n, stage in enumerate(self.stages, 1):
            ids = {name: f"{n}-{name}" for name in stage.members}
            plan |= {Assignment(ids[name], name, task, before): stage for name in stage.members}
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
        worker = stage.members[assignment.worker]
        question = prompts.stage(task, outputs)
        answers = stage is self.stages[-1] and len(stage.members) == 1

        async def do(feedback: str | None) -> str:
            asked = prompts.with_feedback(question, feedback)
            return await ctx.ask(worker, asked, phase="stage", answers=answers)

        output, objection = await reviewed(stage.gates, ctx, task, do)
        if objection is not None:
            raise RejectedError(assignment.worker, objection)
        return output


@dataclass(eq=False)
class Stage:
    """Members that work side by side, and the gates after them."""

    members: dict[str, Member]
    gates: list[Review] = field(default_factory=list[Review])


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
