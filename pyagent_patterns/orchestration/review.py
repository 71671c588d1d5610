"""Quality gates: a judge accepts what was done, or sends it back with reasons, a few times."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias, cast, get_args

from pyagent_patterns.agent import Member, on_one_line
from pyagent_patterns.errors import AgentError, AnswerError
from pyagent_patterns.form import Form, Unfit
from pyagent_patterns.run import RunContext
from pyagent_providers.types import JSONObject, JSONValue

from . import prompts


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge says: whether work is `accepted`, and the `reasons` if it is not."""

    accepted: bool
    reasons: str = ""


Check: TypeAlias = "Callable[[str], bool | Verdict | Awaitable[bool | Verdict]]"
Judge: TypeAlias = "Member | Check"
Reviewed = Literal["outcome", "answer"]
Work = Callable[[str | None], Awaitable[str]]
"""Does the work: at first with None, then with what was wrong with it."""


class Review:
    """A quality gate.

    `judge` is an agent or pattern, asked whether the work meets the `criteria`, or a function that
    is given the work and returns True, False or a `Verdict`. Work that is not accepted is done
    again with the reasons, at most `max_rounds` times. `of` says what an orchestrator's review
    judges: each "outcome" or the "answer".

    Raises TypeError or ValueError for what cannot be a review.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        criteria: str = "",
        max_rounds: int = 2,
        of: Reviewed = "answer",
    ) -> None:
        if not (isinstance(judge, Member) or callable(judge)) or isinstance(judge, type):
            raise TypeError(f"a review's judge must be an Agent or a function; got {judge!r}")
        if max_rounds < 1:
            raise ValueError(f"max_rounds must be at least 1; got {max_rounds!r}")
        if of not in get_args(Reviewed):
            raise ValueError(f"a review is of each 'outcome' or of the 'answer'; got {of!r}")
        self.judge = judge
        self.criteria = criteria
        self.max_rounds = max_rounds
        self.of: Reviewed = of

    @property
    def members(self) -> tuple[Member, ...]:
        return (self.judge,) if isinstance(self.judge, Member) else ()

    async def verdict(self, ctx: RunContext, task: str, work: str) -> Verdict:
        """What the judge says of this work. Raises AgentError when that is no verdict."""
        if not isinstance(self.judge, Member):
            return await _checked(ctx, self.judge, work)
        form, question = _verdict(), prompts.judging(task, work, self.criteria)
        try:
            return await _read(form, ctx, self.judge, form.asked(question))
        except Unfit as unfit:
            again = form.repair(question, unfit)
        try:
            return await _read(form, ctx, self.judge, again)
        except Unfit as unfit:
            raise AnswerError(self.judge.name, unfit.faults, unfit.text) from None


def as_reviews(given: Review | Judge | Sequence[Review | Judge]) -> tuple[Review, ...]:
    """The reviews; a judge alone is that of a review of the answer."""
    several = cast(
        "Sequence[Review | Judge]", given if isinstance(given, list | tuple) else [given]
    )
    return tuple(review if isinstance(review, Review) else Review(review) for review in several)


async def reviewed(
    reviews: Sequence[Review], ctx: RunContext, task: str, do: Work
) -> tuple[str, str | None]:
    """The work, done again until all reviews accept it; why one of them never did.

    What was done is not lost with a judge that gives no verdict, nor with who is to do it again.
    """
    work, reasons = await do(None), ""
    if not reviews:
        return work, None
    sent_back = dict.fromkeys(reviews, 0)
    try:
        while objection := await _objection(reviews, ctx, task, work):
            review, reasons = objection
            if sent_back[review] == review.max_rounds:
                return work, reasons
            sent_back[review] += 1
            work = await do(prompts.feedback(work, reasons))
    except AgentError as error:
        stopped = on_one_line(str(error))
        return work, f"{reasons}; then {stopped}" if reasons else stopped
    return work, None


async def _objection(
    reviews: Sequence[Review], ctx: RunContext, task: str, work: str
) -> tuple[Review, str] | None:
    """The first review that does not accept the work, and why."""
    for review in reviews:
        verdict = await review.verdict(ctx, task, work)
        if not verdict.accepted:
            return review, verdict.reasons or "no reason was given"
    return None


async def _read(form: Form, ctx: RunContext, judge: Member, question: str) -> Verdict:
    """Raises Unfit for an answer that is no verdict."""
    return cast(
        Verdict, form.read(await ctx.ask(judge, question, phase="evaluate", schema=form.schema))
    )


async def _checked(ctx: RunContext, check: Check, work: str) -> Verdict:
    """The verdict of the application's own function, which may look outside."""

    async def look() -> JSONValue:
        said = check(work)
        verdict = cast(object, await said if inspect.isawaitable(said) else said)
        if isinstance(verdict, bool):
            return {"accepted": verdict, "reasons": ""}
        if isinstance(verdict, Verdict):
            return {"accepted": verdict.accepted, "reasons": verdict.reasons}
        raise TypeError(f"the review {check!r} must return a bool or a Verdict; got {verdict!r}")

    said = cast(JSONObject, await ctx.call("review", look, input=work))
    return Verdict(cast(bool, said["accepted"]), cast(str, said["reasons"]))


@cache
def _verdict() -> Form:
    return Form(Verdict)
