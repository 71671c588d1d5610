"""Router: a classifier chooses who does the task.

task ─► classify ─► route, or several side by side ─► merge ─► answer
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Unpack

from pyagent_patterns.agent import Member, MemberLike, as_member
from pyagent_patterns.base import Options, Pattern
from pyagent_patterns.errors import RouteError, WorkersFailedError
from pyagent_patterns.plan import Assignment
from pyagent_patterns.run import RunContext

from . import prompts
from .checks import at_least, must_have_a_writer, must_not_wait_for_a_plan
from .routes import Choice, Classifier, NoRoute, RouteLike, as_routes, by_rule, read_choices
from .synthesis import synthesise


class Router(Pattern):
    """A classifier chooses one of several routes, or up to `top_k`, and they do the task.

    `routes` are `Route`s, agents or patterns, or a mapping of names to them; what a route is for is
    its description, else its member's. The `classifier` is an agent, a pattern, an async function
    `(prompt) -> str` or a `Classifier`, such as `EmbeddingClassifier`. A route whose `when` says
    yes to the task is taken without asking; with such rules alone no classifier is needed. A name
    is matched exactly, after trimming; in another case only where that is unambiguous. An answer
    that names a route that there is not is sent back once; then, or where none fits, the `default`
    route is taken.

    Several routes run side by side; `merge`, an agent, a pattern or a function, makes one answer of
    theirs, without it they stand one after another. `options` are those of every pattern.

    `result.metadata["routes"]` has the routes taken, with confidence and reason.

    Raises TypeError or ValueError for routes that cannot work. A run raises `RouteError` where
    there is no route and no default.
    """

    name = "router"

    def __init__(
        self,
        routes: Sequence[RouteLike] | Mapping[str, MemberLike],
        *,
        classifier: MemberLike | Classifier | None = None,
        default: str | None = None,
        top_k: int = 1,
        merge: MemberLike | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        self.routes = as_routes(routes)
        if classifier is None and not all(route.when for route in self.routes.values()):
            raise TypeError("give a classifier, or every route a rule: Route(..., when=...)")
        if default is not None and default not in self.routes:
            raise ValueError(f"default {default!r} is no route; there are {list(self.routes)}")
        self.classifier = (
            classifier
            if classifier is None or isinstance(classifier, Classifier)
            else as_member("classifier", classifier)
        )
        self.default = default
        self.top_k = at_least("top_k", 1, top_k)
        if merge is not None and top_k == 1:
            raise ValueError("there is nothing to merge of one route; give top_k=2 or more")
        self.merge = None if merge is None else as_member("merge", merge)
        must_have_a_writer(self)
        must_not_wait_for_a_plan(self)

    @property
    def members(self) -> Sequence[Member]:
        first = [self.classifier] if isinstance(self.classifier, Member) else []
        last = [self.merge] if self.merge is not None else []
        return [*first, *(route.member for route in self.routes.values()), *last]

    @property
    def answered_by(self) -> Member | None:
        return self.members[-1] if self.top_k == 1 else self.merge

    async def _execute(self, ctx: RunContext, task: str) -> str:
        choices = await self._choose(ctx.child("route"), task)
        for choice in choices:
            ctx.record.routed(choice.route, choice.confidence, choice.reason)
        plan = [Assignment(choice.route, choice.route, task) for choice in choices]
        ctx.record.plan_accepted(plan)
        work = partial(self._do, only=len(plan) == 1)
        outcomes = await ctx.child("work").carry_out(plan, work)
        outputs = {o.worker: o.output for o in outcomes if o.output is not None}
        if not outputs:
            raise WorkersFailedError(outcomes)
        if len(plan) == 1 or self.merge is None:
            return prompts.side_by_side(outputs) if len(outputs) > 1 else "".join(outputs.values())
        return await synthesise(ctx.child("merge"), self.merge, task, outcomes)

    async def _choose(self, ctx: RunContext, task: str) -> Sequence[Choice]:
        """By rule, by the classifier, by the classifier told what was wrong, by default."""
        if ruled := await by_rule(ctx, self.routes, task):
            return ruled[: self.top_k]
        if isinstance(self.classifier, Classifier):
            chosen = await self.classifier.choose(ctx, self.routes, task)
            for choice in chosen:
                if choice.route not in self.routes:
                    raise RouteError(self.name, choice.route, tuple(self.routes))
            return self._or_default(chosen[: self.top_k], "it found none")
        if self.classifier is None:
            return self._or_default([], "there is none, and no rule says yes")
        schema = Choice.schema(tuple(self.routes))
        purposes = {name: route.purpose for name, route in self.routes.items()}
        question = asked = prompts.routing(task, purposes, self.top_k, schema)
        answer = ""
        for _ in range(2):
            answer = await ctx.ask(self.classifier, asked, phase="route", schema=schema)
            try:
                return self._or_default(read_choices(answer, self.routes)[: self.top_k], answer)
            except NoRoute as fault:
                asked = prompts.repair_route(question, answer, str(fault))
        return self._or_default([], answer)

    def _or_default(self, choices: Sequence[Choice], answer: str) -> Sequence[Choice]:
        if choices:
            return choices
        if self.default is None:
            raise RouteError(self.name, answer, tuple(self.routes))
        return [Choice(self.default, None, "no route was chosen, so the default is taken")]

    async def _do(
        self, assignment: Assignment, ctx: RunContext, outputs: Mapping[str, str], *, only: bool
    ) -> str:
        member = self.routes[assignment.worker].member
        return await ctx.ask(member, assignment.subtask, phase="worker", answers=only)
