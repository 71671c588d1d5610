"""Loop: a worker does the task, a judge sends it back with reasons, until it is good enough.

task ─► work ─► judge ─► answer
         ▲        │
         └────────┘ reasons
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
from .checks import must_not_wait_for_a_plan
from .review import Judge, Review, reviewed


class Loop(Pattern):
    """An evaluator-optimiser: `worker` does the task until `judge` accepts it.

    The judge is an agent or pattern, told the `criteria`, or a function that is given the work and
    returns True, False or a `Verdict`. Work that is not accepted is done again with the reasons, at
    most `max_rounds` times. What is not accepted then, or can no longer be judged or done again, is
    the answer all the same, and the result is `partial` and says so. `options` are those of every
    pattern.

    Raises TypeError or ValueError for a loop that cannot work. A run raises `WorkersFailedError`
    when the worker gave no output.
    """

    name = "loop"

    def __init__(
        self,
        worker: MemberLike,
        judge: Judge,
        *,
        criteria: str = "",
        max_rounds: int = 3,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        self.worker = as_member("worker", worker)
        self.review = Review(judge, criteria=criteria, max_rounds=max_rounds)
        must_not_wait_for_a_plan(self)

    @property
    def members(self) -> Sequence[Member]:
        return (*self.review.members, self.worker)

    async def _execute(self, ctx: RunContext, task: str) -> str:
        plan = [Assignment(self.worker.name, self.worker.name, task)]
        ctx.record.plan_accepted(plan)
        [outcome] = await ctx.child("work").carry_out(plan, self._do)
        if outcome.output is None:
            raise WorkersFailedError([outcome])
        return outcome.output

    async def _do(self, assignment: Assignment, ctx: RunContext, outputs: Mapping[str, str]) -> str:
        async def do(feedback: str | None) -> str:
            question = prompts.with_feedback(assignment.subtask, feedback)
            return await ctx.ask(self.worker, question, phase="worker", answers=True)

        answer, objection = await reviewed([self.review], ctx, assignment.subtask, do)
        if objection is not None:
            ctx.record.rejected(assignment.id, objection)
            ctx.record.rejected(None, objection)  # as it is the answer, too
        return answer


def loop(
    worker: MemberLike,
    judge: Judge,
    *,
    criteria: str = "",
    max_rounds: int = 3,
    **options: Unpack[Options],
) -> Loop:
    """`Loop`, in a line: `loop(writer, editor, criteria="no jargon")`."""
    return Loop(worker, judge, criteria=criteria, max_rounds=max_rounds, **options)
