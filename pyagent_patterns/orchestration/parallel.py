"""Parallel: the same task to several at once, and one answer of theirs.

task ─► all members, side by side ─► merge ─► answer
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack

from pyagent_patterns.agent import Member, MemberLike, as_member
from pyagent_patterns.base import Options, Pattern
from pyagent_patterns.errors import WorkersFailedError
from pyagent_patterns.plan import Assignment
from pyagent_patterns.run import RunContext

from . import prompts
from .checks import must_have_a_writer, must_not_wait_for_a_plan, named
from .synthesis import synthesise


class Parallel(Pattern):
    """Every member does the task; `merge` makes one answer of theirs.

    Without `merge` the outputs stand one after another, each under its member's name. A member
    that fails is missing, and the merge is told. `options` are those of every pattern.

    Raises TypeError or ValueError for members that cannot work. A run raises
    `WorkersFailedError` when none gave an output.
    """

    name = "parallel"

    def __init__(
        self,
        members: Sequence[MemberLike],
        *,
        merge: MemberLike | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        self.side_by_side = named("members", members)
        self.merge = None if merge is None else as_member("merge", merge)
        must_have_a_writer(self)
        must_not_wait_for_a_plan(self)

    @property
    def members(self) -> Sequence[Member]:
        return [*self.side_by_side.values(), *([] if self.merge is None else [self.merge])]

    @property
    def answered_by(self) -> Member | None:
        return self.merge

    async def _execute(self, ctx: RunContext, task: str) -> str:
        plan = [Assignment(name, name, task) for name in self.side_by_side]
        ctx.record.plan_accepted(plan)
        outcomes = await ctx.child("work").carry_out(plan, self._do)
        outputs = {o.worker: o.output for o in outcomes if o.output is not None}
        if not outputs:
            raise WorkersFailedError(outcomes)
        if self.merge is None:
            return prompts.side_by_side(outputs)
        return await synthesise(ctx.child("merge"), self.merge, task, outcomes)

    async def _do(self, assignment: Assignment, ctx: RunContext, outputs: Mapping[str, str]) -> str:
        member = self.side_by_side[assignment.worker]
        return await ctx.ask(member, assignment.subtask, phase="worker", answers=False)


def parallel(
    *members: MemberLike, merge: MemberLike | None = None, **options: Unpack[Options]
) -> Parallel:
    """`Parallel`, in a line: `parallel(a, b, c, merge=editor)`."""
    return Parallel(members, merge=merge, **options)
