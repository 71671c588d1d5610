"""One answer from what several did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyagent_patterns.agent import Member
from pyagent_patterns.result import Outcome
from pyagent_patterns.run import RunContext

from . import prompts


async def synthesise(
    ctx: RunContext, member: Member, task: str, outcomes: Sequence[Outcome]
) -> str:
    """Have the member write the answer to the task; it is told what is missing, too."""
    outputs = {outcome.id: outcome.output for outcome in outcomes if outcome.output is not None}

    def question(shown: Mapping[str, str]) -> str:
        told = prompts.with_outputs(outcomes, shown)
        return prompts.synthesis(task, told, ctx.record.shortfalls)

    work = await ctx.fit(member, outputs, question, phase="synthesis")
    return await ctx.ask(member, question(work.pieces), phase="synthesis", work=work)
