"""`Pattern.stream`: every event of a run, in order, and a run that ends when its reader does."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from decimal import Decimal

import pytest

from pyagent_patterns import Agent, Budget, WorkersFailedError
from pyagent_patterns.base import Pattern
from pyagent_patterns.events import (
    ApprovalGiven,
    ApprovalWanted,
    AssignmentStarted,
    BudgetSpent,
    CallSettled,
    Event,
    OutcomeSettled,
    PlanAccepted,
    PlanRejected,
    RunDone,
    RunStarted,
    StepEnded,
    StepStarted,
    TextDelta,
    ToolEnded,
    ToolStarted,
)
from pyagent_patterns.orchestration import Parallel, Pipeline
from pyagent_patterns.people import Wanted
from pyagent_providers.testing import ScriptedLLM, Step
from pyagent_providers.types import Completion, Request

from .streams import PATTERNS, Piecewise, busy, eventful, piecewise, pipeline
from .teams import PRICE, QUICK


@pytest.fixture(autouse=True)
async def _nothing_left() -> AsyncGenerator[None]:
    """Every test leaves no task behind, and nothing that the loop complains about."""
    loop, complaints = asyncio.get_running_loop(), list[str]()
    loop.set_exception_handler(lambda _, context: complaints.append(str(context)))
    yield
    gc.collect(1)  # what is lately lost says so now
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert complaints == []


async def yes(wanted: Wanted) -> bool:
    return True


async def read(stream: AsyncGenerator[Event]) -> list[Event]:
    return [event async for event in stream]


def brief(event: Event) -> str:
    """An event in a line, without what differs each time."""
    match event:
        case RunStarted():
            return f"run {event.pattern}: {event.task}"
        case StepStarted():
            return f"ask {event.step} {event.phase} {event.agent} {event.task_id}"
        case TextDelta():
            return f"text {event.agent}{' closing' if event.closing else ''}: {event.text}"
        case CallSettled():
            return f"call {event.call.agent} {event.call.status}{_again(event)}"
        case BudgetSpent():
            spent = event.budgets[0]
            return f"spent {spent.usd} of {spent.budget.max_cost_usd}, {spent.calls} calls"
        case StepEnded():
            return f"end {event.step} {event.agent}: {event.output if event.error is None else '!'}"
        case ToolStarted():
            return f"tool {event.tool} {event.arguments}"
        case ToolEnded():
            return f"tool {event.tool} {'gave' if event.error is None else 'failed'}"
        case PlanAccepted():
            return f"plan {', '.join(a.id for a in event.assignments)}"
        case PlanRejected():
            return f"no plan: {event.text}"
        case AssignmentStarted():
            return f"begin {event.assignment.id}"
        case OutcomeSettled():
            return f"outcome {event.outcome.id} {event.outcome.status}"
        case ApprovalWanted():
            return f"wanted {event.wanted.kind}"
        case ApprovalGiven():
            return f"given {event.wanted.kind} {event.decision.approved}"
        case RunDone():
            return f"done {event.result.status}"


def _again(event: CallSettled) -> str:
    return "" if event.retry_in is None else ", once more"


PLAN = (
    '{"assignments": [{"worker": "finder", "subtask": "find", "id": "t1", "depends_on": []}, '
    '{"worker": "breaker", "subtask": "break", "id": "t2", "depends_on": ["t1"]}, '
    '{"worker": "writer", "subtask": "write", "id": "t3", "depends_on": ["t2"]}]}'
)


async def test_a_run_tells_everything_that_happens_in_the_order_in_which_it_does() -> None:
    team = eventful(approve=["plan", "answer"])
    events = await read(team.stream("the task", human=yes, budget=Budget(max_calls=50)))
    assert [brief(event) for event in events if not isinstance(event, BudgetSpent)] == [
        "run orchestrator_workers: the task",
        "ask 1 plan planner None",
        "call planner ok",
        "end 1 planner: no plan",
        "no plan: no plan",
        "ask 2 plan planner None",
        "call planner ok",
        f"end 2 planner: {PLAN}",
        "wanted plan",
        "given plan True",
        "plan t1, t2, t3",
        "begin t1",
        "ask 3 worker finder t1",
        "call finder failed, once more",
        "text finder: let ",
        "text finder: me ",
        "text finder: look",
        "call finder ok",
        "end 3 finder: let me look",
        'tool look_up {"word": "salt"}',
        "tool look_up gave",
        "ask 4 worker finder t1",
        "call finder ok",
        "end 4 finder: ",
        'tool look_up {"word": "nothing"}',
        "tool look_up failed",
        "ask 5 worker finder t1",
        "text finder: it ",
        "text finder: is ",
        "text finder: salt",
        "call finder ok",
        "end 5 finder: it is salt",
        "outcome t1 completed",
        "begin t2",
        "ask 6 worker breaker t2",
        "call breaker failed, once more",
        "call breaker failed, once more",
        "call breaker failed",
        "end 6 breaker: !",
        "outcome t2 failed",
        "outcome t3 skipped",
        "ask 7 synthesis planner None",
        "text planner closing: the ",
        "text planner closing: final ",
        "text planner closing: answer",
        "call planner ok",
        "end 7 planner: the final answer",
        "wanted answer",
        "given answer True",
        "done partial",
    ]


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
async def test_every_pattern_tells_its_beginning_its_steps_its_answer_and_its_end(
    pattern: Callable[[], Pattern],
) -> None:
    events = await read(pattern().stream("the task"))
    first, *_, last = events
    assert isinstance(first, RunStarted)
    assert isinstance(last, RunDone)
    assert last.result.output == "the final answer"
    assert sum(isinstance(event, RunDone) for event in events) == 1
    assert len({event.run_id for event in events}) == 1
    begun = [event.step for event in events if isinstance(event, StepStarted)]
    ended = [event.step for event in events if isinstance(event, StepEnded)]
    assert sorted(begun) == sorted(ended) == list(range(1, len(begun) + 1))
    settled = [event.call for event in events if isinstance(event, CallSettled)]
    assert tuple(settled) == last.result.calls
    answered = max(event.step for event in events if isinstance(event, TextDelta) and event.closing)
    pieces = [e.text for e in events if isinstance(e, TextDelta) and e.step == answered]
    assert pieces == ["the ", "final ", "answer"]
    started = [e.assignment.id for e in events if isinstance(e, AssignmentStarted)]
    assert sorted(started) == sorted(o.id for o in last.result.outcomes)


async def test_what_a_pattern_within_writes_is_no_piece_of_the_runs_own_answer() -> None:
    inner = Pipeline([piecewise("a", "one"), piecewise("b", "two")], name="inner")
    events = await read(Pipeline([inner, piecewise("c", "three")]).stream("the task"))
    deltas = [event for event in events if isinstance(event, TextDelta)]
    assert [(d.path, d.text, d.closing) for d in deltas] == [
        ("inner/a", "one", False),
        ("inner/b", "two", False),
        ("c", "three", True),
    ]


async def test_an_answer_that_breaks_off_begins_anew_with_the_next_attempt() -> None:
    class BreaksOff(Piecewise):
        async def _stream(self, request: Request) -> AsyncIterator[str | Completion]:
            if not self.requests:
                self.requests.append(request)
                yield "half an ans"
                raise busy()
            async for piece in super()._stream(request):
                yield piece

    team = Pipeline([Agent("a", BreaksOff(["whole"], price=PRICE))], retry=QUICK)
    events = await read(team.stream("the task"))
    told = [brief(e) for e in events if isinstance(e, TextDelta | CallSettled)]
    assert told == [
        "text a closing: half an ans",
        "call a failed, once more",
        "text a closing: whole",
        "call a ok",
    ]


async def test_a_budget_tells_what_is_spent_after_each_call_and_what_is_set_aside() -> None:
    team = pipeline()
    events = await read(team.stream("the task", budget=Budget(max_cost_usd="0.5", max_calls=3)))
    told = [e.budgets for e in events if isinstance(e, BudgetSpent)]
    assert [(spent.usd, spent.tokens, spent.calls) for (spent,) in told] == [
        (Decimal("0.00006"), 15, 1),
        (Decimal("0.00012"), 30, 2),
    ]
    assert {(spent.reserved_usd, spent.reserved_calls) for (spent,) in told} == {(0, 0)}
    assert {spent.budget.max_calls for (spent,) in told} == {3}
    kinds = [type(e) for e in events]
    assert all(kinds[n - 1] is CallSettled for n, kind in enumerate(kinds) if kind is BudgetSpent)


async def test_budgets_within_are_told_after_the_runs_and_a_run_without_tells_none() -> None:
    inner = Pipeline([piecewise("a", "one")], name="inner", budget=Budget(max_calls=2))
    team = Pipeline([inner, piecewise("b", "two")])
    events = await read(team.stream("the task", budget=Budget(max_calls=5)))
    told = [e.budgets for e in events if isinstance(e, BudgetSpent)]
    assert [[s.budget.max_calls for s in budgets] for budgets in told] == [[5, 2], [5]]
    events = await read(pipeline().stream("the task"))
    assert not any(isinstance(event, BudgetSpent) for event in events)


async def test_what_ends_the_run_is_raised_at_the_reader_after_all_events() -> None:
    team = Parallel([piecewise("a", ValueError("it broke"))])
    seen: list[Event] = []

    async def read_all() -> None:
        async for event in team.stream("the task"):
            seen.append(event)

    with pytest.raises(WorkersFailedError) as failed:
        await read_all()
    assert isinstance(seen[-1], OutcomeSettled)
    assert failed.value.result is not None
    assert len(failed.value.result.calls) == 1


async def test_a_task_that_is_none_is_refused_at_the_first_read() -> None:
    stream = pipeline().stream("  ")
    with pytest.raises(ValueError, match="task is empty"):
        await anext(stream)


async def test_an_observer_is_told_the_same_events_but_for_the_last() -> None:
    told: list[Event] = []
    events = await read(pipeline().stream("the task", on_event=told.append))
    assert told == events[:-1]


async def test_two_streams_of_one_team_do_not_mix() -> None:
    answers = [Step("first", when="say one"), Step("second", when="say two")]
    team = Pipeline([piecewise("a", *answers)])
    one, two = await asyncio.gather(read(team.stream("say one")), read(team.stream("say two")))
    for events, output in (one, "first"), (two, "second"):
        last = events[-1]
        assert isinstance(last, RunDone)
        assert last.result.output == output
        assert {event.run_id for event in events} == {last.run_id}
        assert "".join(e.text for e in events if isinstance(e, TextDelta)) == output


async def test_a_slow_reader_loses_nothing_and_does_not_hold_the_run_up() -> None:
    team, told = pipeline(), list[Event]()
    stream = team.stream("the task", on_event=told.append)
    events = [await anext(stream)]
    while not any(isinstance(e, StepEnded) and e.agent == "b" for e in told):
        await asyncio.sleep(0)  # the run goes on to its end unread
    events += [event async for event in stream]
    assert events[:-1] == told


class Watched:
    """A run that counts what it sends and what is settled of it, to be abandoned somewhere."""

    def __init__(self) -> None:
        self.team = eventful()
        self.told: list[Event] = []

    def stream(self) -> AsyncGenerator[Event]:
        return self.team.stream("the task", on_event=self.told.append)

    @property
    def sent(self) -> int:
        agents = {id(agent.llm): agent.llm for agent in self.team.agents}
        return sum(len(llm.requests) for llm in agents.values() if isinstance(llm, ScriptedLLM))

    @property
    def settled(self) -> int:
        return sum(isinstance(event, CallSettled) for event in self.told)


async def test_a_reader_may_stop_at_any_event_and_every_call_that_was_sent_is_settled() -> None:
    everything = await read(Watched().stream())
    for stop in range(1, len(everything)):
        watched = Watched()
        async with aclosing(watched.stream()) as stream:
            for _ in range(stop):
                await anext(stream)
        assert watched.sent == watched.settled
        told = len(watched.told)
        await asyncio.sleep(0)
        assert len(watched.told) == told  # nothing goes on


async def test_a_reader_may_be_cancelled_at_any_time() -> None:
    turns, was_cancelled = 0, True
    while was_cancelled:
        turns += 1
        watched = Watched()
        reader = asyncio.create_task(read(watched.stream()))
        for _ in range(turns):
            await asyncio.sleep(0)
        was_cancelled = reader.cancel()
        await asyncio.wait([reader])
        assert watched.sent == watched.settled
    assert turns > 20


async def test_another_task_may_close_a_stream_that_nobody_is_reading() -> None:
    watched = Watched()
    stream = watched.stream()
    for _ in range(20):
        await anext(stream)
    await asyncio.create_task(stream.aclose())
    assert watched.sent == watched.settled
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_stream_that_is_forgotten_ends_its_run() -> None:
    watched = Watched()
    before = asyncio.all_tasks()
    stream = watched.stream()
    for _ in range(20):
        await anext(stream)
    del stream
    gc.collect()
    while asyncio.all_tasks() != before:
        await asyncio.sleep(0)
    assert watched.sent == watched.settled


async def test_a_stream_that_is_never_read_begins_no_run() -> None:
    watched = Watched()
    stream = watched.stream()
    await stream.aclose()
    assert (watched.sent, watched.told) == (0, [])


async def test_a_run_that_waits_for_a_person_can_be_abandoned() -> None:
    async def never(wanted: Wanted) -> bool:
        await asyncio.Event().wait()
        return True

    team = eventful(approve=["plan"])
    async with aclosing(team.stream("the task", human=never)) as stream:
        async for event in stream:
            if isinstance(event, ApprovalWanted):
                break
