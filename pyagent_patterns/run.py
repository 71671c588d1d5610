"""What a pattern sees of a run: scopes, and what can be asked for in them.

Scopes (`child`), questions (`ask`), an assigned graph (`carry_out`, `dag`), what else a `Scope`
has, and the run's record (`record`). It never sees a clock, an asyncio task or a span. Every
question goes through `door.put`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Generic, Protocol, TypeVar, cast

from pyagent_providers.base import OutputSchema
from pyagent_providers.semconv import Phase
from pyagent_providers.types import JSONObject, JSONValue, Message

from . import door, schedule
from .agent import Agent, Member
from .asking import Labels, agent_span
from .budget import Budget
from .context import Fitted
from .errors import AgentError, AnswerError, RunAborted, ScopeError
from .estimate import Past, Work, expected_cost
from .fitting import Fitting, check_that_it_fits
from .form import Form, Unfit
from .keys import segment
from .people import Decision, Gate, WantedKind
from .plan import Assignment
from .policy import OnError, Policy
from .purse import Closing, Purse
from .question import Assigned, Question, Reply
from .result import Outcome
from .schedule import Failed, Node, Settled
from .scope import Scope
from .session import Conversation, messages_of
from .telemetry import PatternSpan
from .tools import Tool

T = TypeVar("T")
Do = Callable[[Assignment, "RunContext", Mapping[str, str]], Awaitable[str]]


@dataclass(frozen=True, slots=True, eq=False)
class Task(Generic[T]):
    """A task of `RunContext.dag`: called with a scope of its own and its dependencies' results."""

    depends_on: tuple[str, ...]
    work: Callable[[RunContext, Mapping[str, T]], Awaitable[T]]


class Within(Member, Protocol):
    """What a scope needs of a pattern that works within another's run."""

    async def answer_within(self, scope: RunContext, task: str, *, answers: bool) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inner:
    """What of a pattern holds in its part of another's run, beside what holds there already."""

    pattern: str
    name: str
    policy: Callable[[Policy], Policy]
    labels: Labels
    past: Past
    last: Member | None
    budget: Budget | None
    closing: Closing | None
    form: Form | None
    gates: frozenset[Gate]
    answers: bool


class RunContext(Scope):
    """A scope as a pattern sees it: with scopes below it, graphs in them, and whom to ask."""

    __slots__ = ()

    def child(self, name: str, *, budget: Budget | None = None) -> RunContext:
        """A scope below this one; a `budget` holds in it beside those above.

        Raises ScopeError when the name is taken.
        """
        scope = self._child(name, self._task)
        if budget is not None:
            scope._purse = Purse([budget], of_scope=True, above=self._purse)
        return scope

    def inside(self, inner: Inner, span: PatternSpan) -> RunContext:
        """This scope, for a pattern within the run.

        Its plan and outcomes are beside the run's. Its budget holds in it beside those above, and
        keeps enough for its own answer.
        """
        run, purse = self._run, self._purse
        answers = inner.answers and run.answers
        path = f"{run.path}{inner.name}/"
        task_id = None if self._task is None else self._task.id
        within = replace(
            run,
            record=self.record.within(inner.pattern, path, span, task_id),
            policy=inner.policy(run.policy),
            labels=inner.labels,
            past=inner.past,
            last=inner.last,
            path=path,
            answers=answers,
            form=(run.form if answers else None) or inner.form,
            conversation=run.conversation if answers else Conversation(),
            gates=inner.gates | (run.gates & {"tools"}),
        )
        if inner.budget is not None or (purse is not None and not answers):
            budgets = [] if inner.budget is None else [inner.budget]
            purse = Purse(budgets, inner.closing, of_scope=True, above=purse, closes=answers)
        return RunContext(within, self._path, None, purse)

    async def carry_out(
        self, assignments: Iterable[Assignment], do: Do, *, limit: int | None = None
    ) -> Sequence[Outcome]:
        """Do assignments, each as soon as what it depends on is done; what became of each.

        `do` is given the outputs that it depends on, by id; also those of assignments that were
        done before. At most `limit` run at once.
        """
        plan = {assignment.id: assignment for assignment in assignments}
        before = self.record.outputs

        def task(assignment: Assignment) -> Task[str]:
            async def work(scope: RunContext, outputs: Mapping[str, str]) -> str:
                self.record.started(assignment)
                wanted = {d: before[d] for d in assignment.depends_on if d in before}
                return await do(assignment, scope, {**wanted, **outputs})

            return Task(tuple(d for d in assignment.depends_on if d in plan), work)

        await self.dag(
            {name: task(assignment) for name, assignment in plan.items()},
            limit=limit,
            on_settled=lambda name, how: self.record.settled(plan[name], how),
        )
        outcomes = [outcome for outcome in self.record.outcomes if outcome.id in plan]
        self._run.past.learn(outcomes)
        return outcomes

    def admit(self, agent: Agent) -> None:
        """Check an agent that joins the run, before it is asked.

        Raises ConfigurationError if a model of its cannot be called, BudgetError if a budget
        cannot hold for one.
        """
        for joining in agent.agents:
            for llm in joining.llms:
                llm.check()
                if self._purse is not None:
                    self._purse.check(llm)

    async def estimate(self, work: Sequence[Work]) -> Decimal | None:
        """US dollars that this work may cost; None if nobody knows.

        Recorded where a person is shown it.
        """
        if not self.gated("plan"):
            return expected_cost(work, self._run.past)

        async def look() -> JSONValue:
            usd = expected_cost(work, self._run.past)
            return None if usd is None else str(usd)

        said = await self.call("estimate", look)
        return None if said is None else Decimal(cast(str, said))

    async def dag(
        self,
        tasks: Mapping[str, Task[T]],
        *,
        limit: int | None = None,
        on_settled: Callable[[str, Settled[T]], None] = lambda name, settled: None,
    ) -> dict[str, Settled[T]]:
        """Run tasks, each in a scope of its name, as soon as what they depend on is done.

        An agent that fails fails its task; what depends on it is skipped, the others go on. They
        also go on while a task waits for a signal or a time.
        """

        async def work(name: str, scope: RunContext, results: Mapping[str, T]) -> T:
            try:
                return await tasks[name].work(scope, results)
            except RunAborted as aborted:  # this one failed; only the others are cut off
                on_settled(name, Failed(aborted.failure))
                raise

        nodes = {
            name: Node(
                task.depends_on,
                partial(work, name, self._child(name, Assigned(name, task.depends_on))),
            )
            for name, task in tasks.items()
        }
        return await schedule.run_graph(
            nodes,
            survive=AgentError,
            pass_over=_is_passed_over,
            limit=limit,
            on_settled=on_settled,
        )

    async def ask(
        self,
        member: Member,
        prompt: str,
        *,
        phase: Phase,
        schema: OutputSchema | None = None,
        answers: bool | None = None,
        work: Fitted | None = None,
    ) -> str:
        """Ask an agent, or have a pattern do a task; the text of its answer, or of its fallback's.

        `answers` says that this writes the pattern's answer: a budget keeps enough for it, and it
        is held to the `output_type`. By default that is so in the phase "synthesis", and for the
        pattern's last member except when it plans. `work` is what of the prompt was made to `fit`.

        A question on record is answered from there, unpaid. Raises AgentError when every attempt
        failed, RunAborted when that is the policy then, InputChanged when the record has another
        input under the same key.
        """
        if answers is None:
            answers = self._writes_the_answer(member, phase)
        with self._calling:
            try:
                form = self._run.form if answers else None
                if form is None or not isinstance(member, Agent):
                    return await self._ask(member, prompt, phase, schema, answers, _now(), work)
                return await self._ask_for(form, member, prompt, phase, work)
            except AgentError as error:
                then = self._on_error(member)
                if then == "abort":
                    raise RunAborted(error) from error
                error.passed_over = then == "skip"
                raise

    async def fit(
        self,
        member: Member,
        pieces: Mapping[str, str],
        build: Callable[[Mapping[str, str]], str],
        *,
        phase: Phase,
    ) -> Fitted:
        """Pieces of work as they fit in a prompt to this member, which `build` makes of them.

        The oldest are summarised, by the member itself, where an agent's `max_context_tokens` asks
        for it; a tool then gives it the whole of each.
        """
        if not isinstance(member, Agent) or member.max_context_tokens is None:
            return Fitted(pieces, {})
        form = self._run.form if self._writes_the_answer(member, phase) else None
        with self._calling:
            return await self._fitting(member, phase).pieces(pieces, build, form)

    def _writes_the_answer(self, member: Member, phase: Phase) -> bool:
        """Whether that is so by default."""
        last = member is self._run.last and phase in ("worker", "stage")
        return phase == "synthesis" or last

    async def _ask_for(
        self, form: Form, agent: Agent, prompt: str, phase: Phase, work: Fitted | None
    ) -> str:
        """Ask for an answer of that form; if it does not have it, once more with what is wrong."""
        question = form.asked(prompt)
        text = await self._ask(agent, question, phase, form.schema, True, _now(), work)
        try:
            form.read(text)
            return text
        except Unfit as unfit:
            question = form.repair(prompt, unfit)
        text = await self._ask(agent, question, phase, form.schema, True, _now(), work)
        try:
            form.read(text)
            return text
        except Unfit as unfit:
            raise AnswerError(agent.name, unfit.faults, unfit.text) from None

    async def _ask(
        self,
        member: Member,
        prompt: str,
        phase: Phase,
        schema: OutputSchema | None,
        answers: bool,
        began: float,
        work: Fitted | None = None,
    ) -> str:
        """Ask the member, once more where that is the policy, then its fallback."""
        if not isinstance(member, Agent):
            scope = RunContext(self._run, f"{self._key(member.name)}/", self._task, self._purse)
            return await cast(Within, member).answer_within(scope, prompt, answers=answers)
        agent = member
        try:
            return await self._ask_agent(agent, prompt, phase, schema, answers, began, work)
        except AgentError as error:
            if error.kind in ("timeout", "budget"):  # no other agent has more time or money
                raise
            failure = error
        # An agent with tools is asked once more where it was: what they did must not be done again.
        uses_tools = agent.uses_tools or (work and work.tools)
        if self._on_error(agent) == "retry" and not uses_tools:
            try:
                return await self._ask_agent(agent, prompt, phase, schema, answers, began, work)
            except AgentError as error:
                failure = error
        if agent.fallback is None:
            raise failure
        return await self._ask(agent.fallback, prompt, phase, schema, answers, began, work)

    def _on_error(self, member: Member) -> OnError:
        """What becomes of a question that the member gives no answer to."""
        own = member.on_error if isinstance(member, Agent) else None
        return own or self._run.policy.on_error

    async def _ask_agent(
        self,
        agent: Agent,
        prompt: str,
        phase: Phase,
        schema: OutputSchema | None,
        answers: bool,
        began: float,
        work: Fitted | None,
    ) -> str:
        run, record = self._run, self._run.record
        limit = (agent.timeouts or run.policy.timeouts).assignment
        history, compressed = (), () if work is None else tuple(work.full)
        if run.conversation.turns:
            history = await self._history(agent, prompt, phase, answers)
            if history and history != messages_of(run.conversation.turns):
                compressed = ("history", *compressed)
        question = Question(
            run_id=record.run_id,
            pattern=record.pattern,
            step=record.next_step(),
            agent=agent,
            prompt=prompt,
            phase=phase,
            schema=schema or agent.output_schema,
            task=self._task,
            path=f"{run.path}{agent.name}",
            closing=answers,
            seconds=None if limit is None else max(0.0, limit + began - _now()),
            history=history,
            compressed=compressed,
            tenant=run.tenant,
        )
        tools = () if work is None else work.tools
        if agent.uses_tools or tools:
            reply = await self._converse(question, limit, began, tools)
        else:
            check_that_it_fits(question)
            reply = await door.put(run, self._purse, self._key("ask"), question)
        return cast(str, reply.text)

    async def _history(
        self, agent: Agent, prompt: str, phase: Phase, answers: bool
    ) -> tuple[Message, ...]:
        """The conversation so far, as this agent is shown it."""
        shown = agent.use_history
        if shown is None:
            shown = answers or phase in ("plan", "manage", "route")
        return await self._fitting(agent, phase).history(prompt) if shown else ()

    def _fitting(self, agent: Agent, phase: Phase) -> Fitting:
        async def ask(clerk: Agent, prompt: str) -> str:
            return await self._ask(clerk, prompt, phase, None, False, _now())

        return Fitting(agent, self._run.conversation, ask)

    async def _converse(
        self, question: Question, limit: float | None, began: float, tools: Sequence[Tool]
    ) -> Reply:
        """Ask an agent that has tools: as many questions as it takes, in one span."""
        from . import tool_loop  # loaded when an agent has some

        waited = 0.0  # for people, which is not the agent's time

        def seconds_left() -> float | None:
            return None if limit is None else max(0.0, limit + began + waited - _now())

        def has_waited(seconds: float) -> None:
            nonlocal waited
            waited += seconds

        again = self._on_error(question.agent) == "retry"

        async def put(asked: Question) -> Reply:
            nonlocal again
            check_that_it_fits(asked)
            try:
                return await once(asked)
            except AgentError as error:
                if not again or error.kind in ("timeout", "budget"):
                    raise
            again = False
            return await once(replace(asked, step=self.record.next_step()))

        async def once(asked: Question) -> Reply:
            asked = replace(asked, seconds=seconds_left())
            return await door.put(self._run, self._purse, self._key("ask"), asked)

        exchange = tool_loop.Exchange(
            record=self.record,
            put=put,
            scope=lambda name: _ToolScope(self, self._key(name), has_waited),
            together=schedule.together,
            seconds_left=seconds_left,
            toolsets=self._run.toolsets,
            shorten=self._fitting(question.agent, question.phase).turns,
            tools=tools,
        )
        with agent_span(question, self._run.labels_of(question), replayed=False) as span:
            reply = await tool_loop.converse(exchange, question, span)
            if all(call.replayed for call in span.calls):
                span.replayed()
        return reply

    def _child(self, name: str, task: Assigned | None) -> RunContext:
        if name in self._children:
            raise ScopeError(f"scope {self._path + name!r} exists already; scopes need own names")
        self._children.add(name)
        return RunContext(self._run, f"{self._path}{segment(name)}/", task, self._purse)


class _ToolScope(RunContext):
    """The scope of one tool call."""

    __slots__ = ("_has_waited",)

    def __init__(self, around: RunContext, key: str, has_waited: Callable[[float], None]) -> None:
        super().__init__(around._run, f"{key}/", around._task, around._purse)
        self._has_waited = has_waited

    @property
    def replayed(self) -> bool:
        """Whether all that the tool gave was on record."""
        return self.record.is_replay(self._path)

    async def give(self, member: Member, task: str) -> str:
        """Have a member of the run do it."""
        return await self.ask(member, task, phase="worker", answers=False)

    async def consult(self, kind: WantedKind, who: str, text: str, details: JSONObject) -> Decision:
        asked = _now()
        try:
            return await super().consult(kind, who, text, details)
        finally:
            self._has_waited(_now() - asked)

    async def begun_before(self, what: JSONObject) -> bool:
        """Note that this is begun; whether another execution of the run had noted it."""
        mark = uuid.uuid4().hex  # an execution that was frozen may go on beside its successor

        async def ours() -> JSONValue:
            return mark

        noted = await self._recorded(self._key("begin"), "begin", what, ours)
        return noted.value["value"] != mark


def _now() -> float:
    """By the clock that the event loop keeps its time limits by."""
    return asyncio.get_running_loop().time()


def _is_passed_over(error: Exception) -> bool:
    return isinstance(error, AgentError) and error.passed_over
