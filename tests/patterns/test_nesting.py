"""Patterns within patterns: one trace, one budget, one ledger, and every pattern in every role."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Any, cast

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from pydantic import BaseModel

from pyagent_patterns import (
    Agent,
    AgentError,
    Budget,
    BudgetExceeded,
    Hierarchical,
    Loop,
    OrchestratorWorkers,
    Parallel,
    Pattern,
    Pipeline,
    RateLimit,
    Result,
    RetryPolicy,
    Review,
    Route,
    Router,
    RunAborted,
    RunTimeoutError,
    Team,
    Timeouts,
    Traffic,
    Verdict,
    WorkersFailedError,
)
from pyagent_patterns.base import Member
from pyagent_patterns.events import TextDelta
from pyagent_patterns.journal import MemoryStore
from pyagent_patterns.testing import CapturedTrace, capture_trace
from pyagent_providers import LLM, Completion, Message, semconv
from pyagent_providers.errors import RateLimitError
from pyagent_providers.testing import ScriptedLLM, Step
from pyagent_providers.types import Request

from .brain import Brain
from .members import REFUSED, asked, says
from .teams import PRICE, QUICK, item, plan_text, questions

CALL = Decimal("0.00006")  # what any call of the models here costs


# Four levels


def thinks(name: str, llm: Callable[[str], LLM] = Brain, **options: Any) -> Agent:
    """An agent that does whatever it is asked for."""
    return Agent(name, llm(name), **options)


def company(
    *, llm: Callable[[str], LLM] = Brain, coder: Agent | None = None, **options: Any
) -> Hierarchical:
    """Hierarchical > Pipeline > Router > OrchestratorWorkers, and a second, smaller team.

    One call comes after another.
    """
    agent = partial(thinks, llm=llm)
    build = OrchestratorWorkers(
        name="build",
        orchestrator=agent("architect"),
        workers=[coder or agent("coder"), agent("tester")],
        max_parallel=1,
    )
    desk = Router([Route("build", build), agent("asker")], classifier=agent("clerk"), name="desk")
    backend = Pipeline([agent("analyst"), desk, agent("editor")], name="backend")
    front = Team("front", agent("chief"), [agent("designer")])
    return Hierarchical(manager=agent("boss"), teams=[backend, front], max_parallel=1, **options)


TREE = """\
pyagent.pattern.hierarchical
  pyagent.agent.boss manage
    chat boss
  pyagent.pattern.pipeline t1
    pyagent.agent.analyst stage 1-analyst
      chat analyst
    pyagent.pattern.router 2-desk
      pyagent.agent.clerk route
        chat clerk
      pyagent.pattern.orchestrator_workers build
        pyagent.agent.architect plan
          chat architect
        pyagent.agent.coder worker t1
          chat coder
        pyagent.agent.tester worker t2
          chat tester
        pyagent.agent.architect synthesis
          chat architect
    pyagent.agent.editor stage 3-editor
      chat editor
  pyagent.pattern.team t2
    pyagent.agent.chief plan
      chat chief
    pyagent.agent.designer worker t1
      chat designer
    pyagent.agent.chief synthesis
      chat chief
  pyagent.agent.boss synthesis
    chat boss"""


async def test_a_run_four_levels_deep_is_one_trace() -> None:
    with capture_trace() as trace:
        result = await company().run("the task")
    assert trace.tree() == TREE
    assert len({span.context.trace_id for span in trace.spans if span.context}) == 1
    assert {(span.attributes or {}).get(semconv.RUN_ID) for span in trace.spans} <= {
        result.run_id,
        None,  # of a chat span, which is the provider's
    }
    patterns = [span for span in trace.spans if span.name.startswith(semconv.PATTERN_SPAN)]
    assert [(span.attributes or {})[semconv.STATUS] for span in patterns] == ["completed"] * 5


async def test_costs_add_up_along_every_path() -> None:
    with capture_trace() as trace:
        result = await company().run("the task")
    assert result.cost_estimate == 12 * CALL
    assert result.cost_by("path") == {
        "boss": 2 * CALL,
        "backend/desk/build/architect": 2 * CALL,
        "front/chief": 2 * CALL,
        "backend/analyst": CALL,
        "backend/desk/clerk": CALL,
        "backend/desk/build/coder": CALL,
        "backend/desk/build/tester": CALL,
        "backend/editor": CALL,
        "front/designer": CALL,
    }
    assert_accounts_agree(result, trace)


async def test_an_assignments_outcome_includes_everything_below_it() -> None:
    result = await company().run("the task")
    assert {o.path: (o.status, o.cost, o.attempts) for o in result.outcomes} == {
        "backend": ("completed", 7 * CALL, 7),
        "backend/analyst": ("completed", CALL, 1),
        "backend/desk": ("completed", 5 * CALL, 5),
        "backend/desk/build": ("completed", 4 * CALL, 4),
        "backend/desk/build/coder": ("completed", CALL, 1),
        "backend/desk/build/tester": ("completed", CALL, 1),
        "backend/editor": ("completed", CALL, 1),
        "front": ("completed", 3 * CALL, 3),
        "front/designer": ("completed", CALL, 1),
    }
    for outcome in result.outcomes:
        below = [c for c in result.calls if f"{c.path}/".startswith(f"{outcome.path}/")]
        assert sorted(outcome.calls, key=id) == sorted(below, key=id)


async def test_an_assignment_began_when_the_first_of_its_calls_did_not_the_first_that_ended() -> (
    None
):
    inner = Parallel([says("slow", Step("late", delay=0.05)), says("quick", "soon")], name="inner")
    result = await Pipeline([inner]).run("the task")
    assert [call.agent for call in result.calls] == ["quick", "slow"]
    assert result.outcomes[0].started_at == result.calls[1].started_at


async def test_a_route_taken_deep_inside_is_in_the_result() -> None:
    result = await company().run("the task")
    assert result.metadata.get("routes") == [
        {
            "route": "build",
            "path": "backend/desk/build",
            "confidence": 0.75,
            "reason": "it is the first",
        }
    ]


def assert_accounts_agree(result: Result, trace: CapturedTrace) -> None:
    """Ledger, spans and metrics say the same of what a run has cost, by path and by agent."""
    by_path = {path: cost for path, cost in result.cost_by("path").items() if cost}
    assert sum(by_path.values()) == result.cost_estimate
    chats = [span for span in trace.spans if span.name.startswith("chat ")]
    assert added(chats, lambda chat: path_of(chat, trace)) == pytest.approx(as_floats(by_path))
    agents = [span for span in trace.spans if span.name.startswith(semconv.AGENT_SPAN)]
    assert added(agents, lambda agent: path_of(agent, trace)) == pytest.approx(as_floats(by_path))
    counted: dict[str, float] = {}
    for point in trace.metric(semconv.COST_COUNTER).points:
        name = str(point.attributes[semconv.AGENT_NAME])
        counted[name] = counted.get(name, 0) + point.total
    by_agent = {agent: cost for agent, cost in result.cost_by("agent").items() if cost}
    assert counted == pytest.approx(as_floats(by_agent))
    root = next(span for span in trace.spans if span.parent is None)
    shown = (root.attributes or {}).get(semconv.COST_USD, 0)  # none if nothing has a price
    assert shown == pytest.approx(float(result.cost_estimate))


def as_floats(costs: Mapping[str, Decimal]) -> dict[str, float]:
    return {name: float(cost) for name, cost in costs.items()}


def added(spans: Sequence[ReadableSpan], key: Callable[[ReadableSpan], str]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for span in spans:
        cost = (span.attributes or {}).get(semconv.COST_USD)
        if isinstance(cost, float) and cost:
            totals[key(span)] = totals.get(key(span), 0) + cost
    return totals


def path_of(span: ReadableSpan, trace: CapturedTrace) -> str:
    """The names of the patterns that a span is in, but the outermost, and of the agent."""
    by_id = {other.context.span_id: other for other in trace.spans if other.context}
    names: list[str] = []
    agent = ""
    above: ReadableSpan | None = span
    while above is not None:
        attributes = above.attributes or {}
        if above.name.startswith(semconv.PATTERN_SPAN):
            names.append(str(attributes[semconv.WORKFLOW_NAME]))
        elif above.name.startswith(semconv.AGENT_SPAN) and not agent:
            agent = str(attributes[semconv.AGENT_NAME])
        above = by_id.get(above.parent.span_id) if above.parent else None
    return "/".join([*reversed(names[:-1]), agent])


async def test_of_all_that_is_asked_at_every_depth_only_what_is_to_be_read_is_streamed() -> None:
    pieces = [event async for event in company().stream("the task") if isinstance(event, TextDelta)]
    assert {piece.phase for piece in pieces} == {"worker", "stage", "synthesis"}
    closing = {piece.path for piece in pieces if piece.closing}
    assert closing == {"boss"}


# One budget


@pytest.mark.parametrize("calls", range(1, 14))
async def test_one_budget_holds_at_every_depth_and_the_answer_is_written_from_what_there_is(
    calls: int,
) -> None:
    result, error = await outcome_of(company(), Budget(max_calls=calls))
    teams = [outcome for outcome in result.outcomes if "/" not in outcome.path]
    if error is None:
        assert (result.calls[-1].path, result.calls[-1].phase) == ("boss", "synthesis")
        assert (result.status == "completed") == (calls >= 12)
    else:  # no team could finish: there was nothing to answer from
        assert isinstance(error, BudgetExceeded)
        assert not any(team.output for team in teams)
    assert len(result.calls) <= calls


@pytest.mark.parametrize("ten_thousandths", [10, 40, 45, 50, 55, 60, 70, 100])
async def test_no_more_money_is_spent_than_the_budget_has(ten_thousandths: int) -> None:
    def crew() -> Hierarchical:
        def agent(name: str) -> Agent:
            return thinks(name, max_tokens=20)  # may cost three times what it does

        workers = [agent("a"), agent("b"), agent("c")]
        inner = OrchestratorWorkers(orchestrator=agent("lead"), workers=workers, name="inner")
        stages = Pipeline([inner, agent("editor")], name="stages")
        return Hierarchical(manager=agent("boss"), teams=[stages, agent("alone")], on_error="skip")

    limit = Decimal(ten_thousandths) / 10_000
    result, _ = await outcome_of(crew(), Budget(max_cost_usd=limit))
    assert result.cost_estimate <= limit


async def outcome_of(crew: Pattern, budget: Budget) -> tuple[Result, Exception | None]:
    """What a run came to within a budget."""
    try:
        return await crew.run("the task", budget=budget), None
    except (AgentError, WorkersFailedError) as error:
        return cast(Result, error.result), error


async def test_an_inner_budget_holds_inside_and_the_rest_goes_on() -> None:
    inner = Parallel(
        [thinks("a"), thinks("b"), thinks("c")], name="inner", budget=Budget(max_calls=2)
    )
    outer = Pipeline([inner, thinks("editor")])
    result = await outer.run("the task", budget=Budget(max_calls=10))
    assert sum(call.path.startswith("inner/") for call in result.calls) == 2
    assert result.calls[-1].path == "editor"
    assert result.status == "partial"


async def test_an_inner_budget_cannot_give_more_than_the_outer_has() -> None:
    inner = Parallel([thinks(n) for n in "abcdef"], name="inner", budget=Budget(max_calls=100))
    result = await Pipeline([inner, thinks("editor")]).run("the task", budget=Budget(max_calls=4))
    assert len(result.calls) == 4
    assert result.calls[-1].path == "editor"  # one was kept for it


async def test_a_scope_keeps_enough_for_its_own_answer_and_the_run_for_the_runs() -> None:
    """A team with three calls plans, asks one worker and answers; the manager has the last."""
    team = Team("team", thinks("lead"), [thinks("a"), thinks("b")], budget=Budget(max_calls=3))
    crew = Hierarchical(manager=thinks("boss"), teams=[team])
    result = await crew.run("the task", budget=Budget(max_calls=5))
    assert [(call.path, call.phase) for call in result.calls] == [
        ("boss", "manage"),
        ("team/lead", "plan"),
        ("team/a", "worker"),
        ("team/lead", "synthesis"),
        ("boss", "synthesis"),
    ]


async def test_a_pattern_that_writes_the_answer_may_spend_what_was_kept_for_it() -> None:
    inner = Pipeline([thinks("draft"), thinks("final")], name="inner")
    result = await Pipeline([thinks("first"), inner]).run("the task", budget=Budget(max_calls=3))
    assert [call.path for call in result.calls] == ["first", "inner/draft", "inner/final"]


# Time


async def test_the_time_of_an_inner_pattern_ends_only_that() -> None:
    slow = Loop(
        says("slow", Step("late", delay=30)),
        lambda work: True,
        name="slow loop",
        timeouts=Timeouts(run=0.05),
    )
    merge = says("merge", "what there is")
    result = await Parallel([slow, says("quick", "done")], merge=merge).run("the task")
    assert (result.output, result.status) == ("what there is", "partial")
    assert "took longer than 0.05 s" in str(result.outcomes[0].error)


async def test_the_time_of_the_run_ends_everything_at_every_depth() -> None:
    ended: list[str] = []

    async def slow(messages: Sequence[Message]) -> str:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append("slow")
        return ""

    crew = company(coder=Agent("coder", slow), timeouts=Timeouts(run=0.25))
    with capture_trace() as trace, pytest.raises(RunTimeoutError) as caught:
        await crew.run("the task")
    assert ended == ["slow"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
    result = caught.value.result
    assert result is not None
    assert {o.path: o.status for o in result.outcomes}["backend/analyst"] == "completed"
    assert {o.path: o.status for o in result.outcomes}["backend/desk/build/coder"] == "cancelled"
    assert "!" in next(line for line in trace.tree().splitlines() if "router" in line)


async def test_cancelling_the_run_cancels_it_at_every_depth() -> None:
    started = asyncio.Event()

    async def slow(messages: Sequence[Message]) -> str:
        started.set()
        await asyncio.sleep(30)
        return ""

    running = asyncio.create_task(company(coder=Agent("coder", slow)).run("the task"))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await running
    assert asyncio.all_tasks() == {asyncio.current_task()}
    result: Result = caught.value.result  # type: ignore[attr-defined]
    assert result.calls[-1].path == "backend/desk/build/coder"
    assert result.calls[-1].status == "cancelled"
    assert len(result.calls) == 5  # and those before it are on the bill


# Policies


def limited() -> list[Any]:
    return [RateLimitError("slow down", provider="p", model="m"), "in the end"]


async def test_an_inner_pattern_retries_as_the_run_does_unless_it_says_otherwise() -> None:
    once = RetryPolicy(max_attempts=1)

    async def inner(outer: RetryPolicy, own: RetryPolicy | None) -> str:
        within = Pipeline([says("a", *limited())], name="inner", retry=own)
        result = await Parallel([within, says("b", "beta")], retry=outer).run("the task")
        return result.outcomes[0].status

    assert await inner(QUICK, None) == "completed"
    assert await inner(once, None) == "failed"
    assert await inner(once, QUICK) == "completed"
    assert await inner(QUICK, once) == "failed"


async def test_an_inner_failure_is_what_the_outer_policy_makes_of_it() -> None:
    async def run(inner: Any, outer: Any) -> Result:
        within = Pipeline([says("a", REFUSED), says("b", "beta")], name="inner", on_error=inner)
        return await Pipeline([within, says("c", "gamma")], on_error=outer).run("the task")

    assert (await run("partial", "skip")).output == "gamma"  # the outer passes over the inner
    assert (await run("abort", "skip")).output == "gamma"  # also where that stopped at once
    assert (await run("skip", "partial")).output == "gamma"  # the inner passes over its own
    with pytest.raises(RunAborted):
        await run("partial", "abort")
    inherited = await run(None, "skip")
    assert [o.status for o in inherited.outcomes if o.path == "inner"] == ["completed"]


async def test_time_for_an_answer_is_inherited() -> None:
    slow = Pipeline([says("slow", Step("late", delay=30))], name="inner")
    outer = Parallel([slow, says("b", "beta")], timeouts=Timeouts(assignment=0.05))
    result = await outer.run("the task")
    assert [o.status for o in result.outcomes if o.path == "inner/slow"] == ["failed"]
    assert "within 0.05 s" in str(result.outcomes[0].error)


async def test_an_inner_pattern_keeps_to_the_rates_of_the_run_unless_it_has_its_own() -> None:
    async def at_once(outer: Traffic, inner: Traffic | None) -> int:
        llm = Counts()
        within = Parallel([Agent(name, llm) for name in "abcd"], name="inner", traffic=inner)
        await Parallel([within], traffic=outer).run("the task")
        return llm.most

    free, narrow = Traffic(), Traffic({"scripted": RateLimit(max_concurrent=1)})
    assert await at_once(free, None) == 4
    assert await at_once(narrow, None) == 1
    assert await at_once(free, narrow) == 1
    assert await at_once(narrow, free) == 4


class Counts(Brain):
    """How many calls were under way at once, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0

    async def _complete(self, request: Request) -> Completion:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.005)
        self.now -= 1
        return await super()._complete(request)


async def test_what_an_inner_pattern_fell_short_of_is_told_to_who_answers() -> None:
    looping = Loop(says("w", "x", "x"), lambda w: Verdict(False, "too short"), max_rounds=1)
    manager = says("boss", plan_text(item("loop")), "done")
    result = await Hierarchical(manager=manager, teams=[looping]).run("the task")
    assert result.status == "partial"
    assert "too short" in questions(manager)[-1]


async def test_who_stands_in_for_an_inner_pattern_is_given_its_work() -> None:
    spare = says("spare", "saved")
    inner = Pipeline([says("a", "alpha"), says("b", REFUSED)], name="inner", degrade_to=[spare])
    result = await Pipeline([inner, says("c", "gamma")]).run("the task")
    assert (result.output, result.status) == ("gamma", "partial")
    assert "alpha" in asked(spare)


class Number(BaseModel):
    number: int


async def test_the_answer_that_an_inner_pattern_writes_has_the_form_of_the_run() -> None:
    inner = Pipeline([says("a", "x"), says("b", "seven", '{"number": 7}')], name="inner")
    result = await Pipeline([says("first", "1"), inner], output_type=Number).run("the task")
    assert result.data == Number(number=7)


async def test_an_inner_patterns_own_form_holds_inside_and_is_not_the_runs() -> None:
    last = says("last", "all in all")
    inner = Pipeline([says("a", "seven", '{"number": 7}')], name="inner", output_type=Number)
    result = await Pipeline([inner, last]).run("the task")
    assert result.data is None
    assert '{"number": 7}' in asked(last)
    inner = Pipeline([says("a", "seven", "eight")], name="inner", output_type=Number)
    result = await Parallel([inner, says("b", "beta")]).run("the task")
    assert result.outcomes[0].status == "failed"
    assert "does not have the form" in str(result.outcomes[0].error)


async def test_an_answer_put_together_deep_inside_does_not_pass_for_the_form() -> None:
    inner = Parallel([says("a", '{"number": 1}'), says("b", '{"number": 2}')])
    with pytest.raises(AgentError, match="does not have the form"):
        await Pipeline([inner], output_type=Number).run("the task")


@pytest.mark.parametrize("kind", ["pipeline", "router", "parallel", "loop"])
def test_a_gate_that_would_never_open_is_refused(kind: str) -> None:
    """Nobody is to believe that they will be asked who will not be."""
    with pytest.raises(ValueError, match="makes no plan to approve"):
        PATTERNS[kind](thinks("a"), approve=["plan"])


@pytest.mark.parametrize("kind", ["stage", "merge", "merge of routes", "manager", "team"])
async def test_what_an_agent_reads_of_others_work_fits_its_context(kind: str) -> None:
    async def verbose(prompt: str) -> str:
        return "many words " * 2_000

    async def terse(prompt: str) -> str:
        return "few words"

    reader = thinks("reader", max_context_tokens=1_000, keep_recent=1)
    plan = plan_text(item("verbose", id="v"), item("terse", depends_on=["v"], id="t"))
    crew: Pattern = {
        "stage": lambda: Pipeline([[verbose, terse], reader]),
        "merge": lambda: Parallel([verbose, terse], merge=reader),
        "merge of routes": lambda: Router(
            [
                Route("v", verbose, when=lambda task: True),
                Route("t", terse, when=lambda task: True),
            ],
            top_k=2,
            merge=reader,
        ),
        "manager": lambda: Hierarchical(
            manager=says("boss", plan), teams=[verbose, terse], synthesizer=reader
        ),
        "team": lambda: Hierarchical(
            manager=says("boss", plan.replace("terse", "reader"), "done"), teams=[verbose, reader]
        ),
    }[kind]()
    result = await crew.run("the task")
    assert result.status == "completed"
    asked = [call for call in result.calls if call.agent == "reader"]
    assert len(asked) > 1  # it made itself summaries first


# Every pattern in every role

PATTERNS: dict[str, Callable[..., Pattern]] = {
    "orchestrator_workers": lambda worker, **options: OrchestratorWorkers(
        orchestrator=thinks("planner"), workers=[worker], **options
    ),
    "pipeline": lambda stage, **options: Pipeline([thinks("before"), stage], **options),
    "router": lambda route, **options: Router(
        [Route("it", route), thinks("other")], classifier=thinks("clerk"), **options
    ),
    "hierarchical": lambda team, **options: Hierarchical(
        manager=thinks("manager"), teams=[team], **options
    ),
    "parallel": lambda member, **options: Parallel(
        [member, thinks("beside")], merge=thinks("merge"), **options
    ),
    "loop": lambda worker, **options: Loop(worker, thinks("judge"), **options),
}


def broken(name: str, **options: Any) -> Agent:
    """An agent that gets no answer."""
    return Agent(name, ScriptedLLM([REFUSED] * 3, model=name, price=PRICE), **options)


ROLES: dict[str, Callable[[Callable[..., Pattern], Pattern], Pattern]] = {
    "member": lambda outer, inner: outer(inner),
    "tool": lambda outer, inner: outer(thinks("user", tools=[inner.as_tool()])),
    "fallback": lambda outer, inner: outer(broken("weak", fallback=inner)),
    "stand-in": lambda outer, inner: outer(broken("weak", on_error="abort"), degrade_to=[inner]),
}

PLACES: dict[str, Callable[[Member], Pattern]] = {
    "planner": lambda inner: OrchestratorWorkers(
        planner=inner, workers=[thinks("a")], synthesizer=thinks("writer")
    ),
    "synthesizer": lambda inner: OrchestratorWorkers(
        orchestrator=thinks("planner"), workers=[thinks("a")], synthesizer=inner
    ),
    "manager's synthesizer": lambda inner: Hierarchical(
        manager=thinks("manager"), teams=[thinks("a")], synthesizer=inner
    ),
    "gate": lambda inner: Pipeline([thinks("a"), Review(inner), thinks("b")]),
    "side by side": lambda inner: Pipeline([[thinks("a"), inner], thinks("b")]),
    "classifier": lambda inner: Router([thinks("a"), thinks("b")], classifier=inner),
    "merge of routes": lambda inner: Router(
        [
            Route("a", thinks("a"), when=lambda t: True),
            Route("b", thinks("b"), when=lambda t: True),
        ],
        top_k=2,
        merge=inner,
    ),
    "merge": lambda inner: Parallel([thinks("a"), thinks("b")], merge=inner),
    "judge": lambda inner: Loop(thinks("a"), inner),
    "lead's worker": lambda inner: Team("team", thinks("lead"), [inner]),
}


async def assert_it_works(outer: Pattern, *, status: str = "completed") -> None:
    """The inner pattern's leaf is asked, and every account of the run is right."""
    with capture_trace() as trace:
        result = await outer.run("the task")
    assert result.output
    assert result.status == status
    assert [call for call in result.calls if call.path == "inner/leaf"]
    assert_accounts_agree(result, trace)
    assert sum(span.parent is None for span in trace.spans) == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("inner", PATTERNS)
@pytest.mark.parametrize("outer", PATTERNS)
@pytest.mark.parametrize("role", ROLES)
async def test_any_pattern_serves_in_any_role_of_any_other(
    role: str, outer: str, inner: str
) -> None:
    within = PATTERNS[inner](thinks("leaf"), name="inner", description="is within")
    status = "partial" if role == "stand-in" else "completed"
    await assert_it_works(ROLES[role](PATTERNS[outer], within), status=status)


@pytest.mark.parametrize("inner", PATTERNS)
@pytest.mark.parametrize("place", PLACES)
async def test_any_pattern_serves_wherever_an_agent_does(place: str, inner: str) -> None:
    await assert_it_works(PLACES[place](PATTERNS[inner](thinks("leaf"), name="inner")))


@pytest.mark.parametrize("inner", PATTERNS)
async def test_any_pattern_stands_in_for_a_whole_run_that_failed(inner: str) -> None:
    within = PATTERNS[inner](thinks("leaf"), name="inner")
    result = await Pipeline([broken("weak")], degrade_to=[within]).run("the task")
    assert result.degraded_to == "inner"


# Runs beside each other, and runs that go on


async def test_two_runs_at_once_on_the_same_nested_objects_do_not_see_each_other() -> None:
    async def echo(messages: Sequence[Message]) -> str:
        await asyncio.sleep(0.005)
        text = messages[-1].content
        return "red" if "red" in text else "blue" if "blue" in text else "neither"

    inner = Parallel([Agent("a", echo), Agent("b", echo)], name="inner")
    looping = Loop(inner, lambda work: True, name="looping")
    outer = Pipeline([looping, Agent("c", echo)])
    red, blue = await asyncio.gather(outer.run("red"), outer.run("blue"))
    for result, own in ((red, "red"), (blue, "blue")):
        assert result.output == own
        assert [o.output for o in result.outcomes if o.path == "looping/inner/a"] == [own]
        assert len(result.calls) == 3
        assert len(result.outcomes) == 5


@pytest.mark.parametrize("asked_before", range(1, 13))
async def test_a_nested_run_that_goes_on_pays_for_nothing_twice(asked_before: int) -> None:
    """Cancelled at every call in turn, then run again with the same id."""
    sent: list[str] = []
    reached = asyncio.Event()

    class Stops(Brain):
        async def _complete(self, request: Request) -> Completion:
            sent.append(self.model)
            if len(sent) == asked_before:
                reached.set()
                await asyncio.sleep(30)
            return await super()._complete(request)

    store = MemoryStore()
    running = asyncio.create_task(company(llm=Stops).run("the task", run_id="r", durable=store))
    await reached.wait()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert len(sent) == asked_before
    with capture_trace() as trace:
        result = await company(llm=Stops).run("the task", run_id="r", durable=store)
    assert result.status == "completed"
    assert len(sent) == 12 + 1  # the call that was cut off is made again, and no other
    assert [call.replayed for call in result.calls].count(True) == asked_before - 1
    new = added(trace.spans, lambda span: span.name.partition(" ")[0])["chat"]
    assert new == pytest.approx(float((12 - asked_before + 1) * CALL))
    assert trace.metric(semconv.COST_COUNTER).total == pytest.approx(new)
