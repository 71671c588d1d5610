"""Runs of a journal as the viewer shows them: what their results say, also before there are any."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from pyagent_exporters.viewer.runs import DIMENSIONS
from pyagent_exporters.viewer.spans import Span
from pyagent_exporters.viewer.store import SpanStore
from pyagent_patterns import Agent, OrchestratorWorkers, Parallel, Pipeline
from pyagent_patterns.cli.following import Following
from pyagent_patterns.cli.recorded import spans_of
from pyagent_patterns.durable import RunDetail, Runs
from pyagent_patterns.errors import JournalError, PyAgentError, RunSuspended
from pyagent_patterns.result import CostKey
from pyagent_patterns.testing import capture_trace
from pyagent_providers.testing import ScriptedLLM, Step
from pyagent_providers.types import Completion, Request, ToolCall, Usage
from tests.patterns.teams import item, plan_text, scripted

from . import crews

PLAN = plan_text(item("a", id="x"), item("b", id="y", depends_on=["x"]))
CALL = Decimal("0.0000007025")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def two_workers(
    planner: Sequence[str], a: Sequence[str], b: Sequence[str | Step]
) -> OrchestratorWorkers:
    return OrchestratorWorkers(
        orchestrator=crews.agent("planner", *planner),
        workers=[crews.agent("a", *a), crews.agent("b", *b)],
    )


def shape(spans: Sequence[Span]) -> list[tuple[str, ...]]:
    """What is to be the same in a recorded run and in its own spans: names, places, parents."""
    by_id = {span.span_id: span for span in spans}

    def line(span: Span) -> tuple[str, ...]:
        above = by_id.get(span.parent_id or "")
        told = (span.path, span.phase, span.task_id, " ".join(span.depends_on), span.model)
        return (above.name if above else "", span.name, *(text or "" for text in told))

    return sorted(line(span) for span in spans)


def without_dependencies(lines: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Of a pattern within, its own span does not tell on what its assignment depends."""
    return [
        (*line[:5], "", line[6]) if line[1].startswith("pyagent.pattern.") else line
        for line in lines
    ]


@pytest.mark.parametrize("name", crews.EVERY)
async def test_a_recorded_run_has_the_spans_and_costs_of_the_run_itself(
    file: Path, store: SpanStore, name: str
) -> None:
    with capture_trace() as trace, Runs(file) as runs:
        result = await crews.EVERY[name]().run("the task", durable=runs, tenant="acme")
        detail = await runs.get(result.run_id)
    spans = spans_of(detail)
    shown = [span for span in spans if span.role != "other"]
    assert without_dependencies(shape(shown)) == shape(crews.sent(trace.spans))
    store.put(result.run_id, spans)
    [run] = store.runs().runs
    assert (run.run_id, run.pattern, run.tenant) == (result.run_id, result.pattern, "acme")
    assert run.status == result.status
    assert (run.cost, run.unpriced, run.calls) == (
        result.cost_estimate,
        result.unpriced,
        len(result.calls),
    )
    assert run.cost == detail.run.cost
    for by in DIMENSIONS:
        assert sum(row.cost for row in store.costs(by)) == result.cost_estimate
    keys: tuple[CostKey, ...] = ("agent", "phase", "provider", "path")
    for by in keys:
        assert {row.key: row.cost for row in store.costs(by)} == result.cost_by(by)


@pytest.mark.parametrize("name", ["orchestrator_workers", "pipeline", "hierarchical"])
async def test_a_recorded_run_has_the_plans_of_the_run_itself(file: Path, name: str) -> None:
    def plans(spans: Sequence[Span]) -> list[tuple[str | None, object]]:
        return sorted((span.workflow, span.plan) for span in spans if span.role == "pattern")

    with capture_trace() as trace, Runs(file) as runs:
        result = await crews.EVERY[name]().run("the task", durable=runs)
        recorded = plans(spans_of(await runs.get(result.run_id)))
    assert recorded == plans(crews.sent(trace.spans))


async def test_what_was_said_is_in_the_spans_whatever_telemetry_captures(file: Path) -> None:
    with Runs(file) as runs:
        await crews.with_tools().run("the task", run_id="r", durable=runs)
        spans = spans_of(await runs.get("r"))
    [root] = [span for span in spans if span.parent_id is None]
    assert text_of(root, "gen_ai.input.messages") == "the task"
    assert text_of(root, "gen_ai.output.messages") == "found"
    first, second = [s for s in spans if s.name == "chat finder-model"]
    wish = json.loads(str(first.attributes["gen_ai.output.messages"]))[0]["parts"][0]
    assert (wish["type"], wish["name"]) == ("tool_call", "look")
    assert text_of(second, "gen_ai.output.messages") == "found"
    told = json.loads(str(second.attributes["gen_ai.input.messages"]))
    assert [turn["role"] for turn in told] == ["user", "assistant", "tool", "tool"]
    [look] = [span for span in spans if span.tool == "look"]
    assert look.attributes["gen_ai.tool.call.arguments"] == '{"what": "cat"}'
    assert look.attributes["gen_ai.tool.call.result"] == "seen cat"
    [helper] = [span for span in spans if span.tool == "helper"]
    assert helper.attributes["gen_ai.tool.call.result"] == "helped"


def text_of(span: Span, attribute: str) -> str:
    [message] = json.loads(str(span.attributes[attribute]))
    return message["parts"][0]["content"]


async def test_the_spans_of_a_run_have_the_same_ids_each_time(file: Path) -> None:
    with Runs(file) as runs:
        await crews.hierarchical().run("the task", run_id="r", durable=runs)
        once, again = spans_of(await runs.get("r")), spans_of(await runs.get("r"))
    assert once == again
    assert len({span.span_id for span in once}) == len(once)
    assert all(len(s.trace_id) == 32 and len(s.span_id) == 16 for s in once)


async def cut_off(team: OrchestratorWorkers, runs: Runs) -> None:
    """Run until b is asked, then stop as a process does that is told to."""
    running = asyncio.create_task(team.run("the task", run_id="r", durable=runs))
    while not scripted(team.workers["b"]).requests:
        await asyncio.sleep(0.002)
    running.cancel()
    await asyncio.wait([running])


async def test_an_interrupted_run_is_unknown_and_one_that_went_on_is_whole(
    file: Path, store: SpanStore
) -> None:
    with Runs(file) as runs:
        await cut_off(two_workers([PLAN], ["alpha"], [Step("never", delay=60)]), runs)
        detail = await runs.get("r")
        store.put("r", spans_of(detail))
        [run] = store.runs().runs
        assert (run.status, run.cost, run.calls) == ("unknown", detail.run.cost, 2)
        [lost] = [span for span in spans_of(detail) if span.status == "error"]
        assert (lost.agent, lost.message) == (
            "b",
            "interrupted: it was begun, and its end is not on record",
        )
        [root] = [span for span in spans_of(detail) if span.role == "pattern"]
        assert root.plan == (("x", "a"), ("y", "b"))
        result = await two_workers(["done"], [], ["beta"]).run("the task", run_id="r", durable=runs)
        store.put("r", spans_of(await runs.get("r")))
    [run] = store.runs().runs
    assert (run.status, run.cost, run.errors) == ("completed", result.cost_estimate, 0)
    assert run.cost == 4 * CALL


async def test_what_a_fork_was_given_is_replayed_and_costs_nothing_anew(
    file: Path, store: SpanStore
) -> None:
    with Runs(file) as runs:
        await two_workers([PLAN, "done"], ["alpha"], ["beta"]).run(
            "the task", run_id="r", durable=runs
        )
        fork = await runs.fork("r", from_key="synthesis/ask:0")
        await two_workers(["done again"], [], []).run("the task", run_id=fork, durable=runs)
        for run_id in ("r", fork):
            store.put(run_id, spans_of(await runs.get(run_id)))
    costs = {run.run_id: (run.cost, run.calls) for run in store.runs().runs}
    assert costs == {"r": (4 * CALL, 4), fork: (CALL, 1)}
    trace = store.run(fork)
    assert trace is not None
    replayed = [span for span in trace.spans if span.replayed]
    assert [(span.agent, span.cost) for span in replayed] == [
        ("planner", CALL),
        ("a", CALL),
        ("b", CALL),
    ]


async def test_a_run_that_waits_for_a_person_is_suspended_and_shows_what_it_waits_for(
    file: Path, store: SpanStore
) -> None:
    def team(*script: str) -> OrchestratorWorkers:
        return OrchestratorWorkers(
            orchestrator=crews.agent("planner", *script),
            workers=[crews.agent("a", "alpha"), crews.agent("b", "beta")],
            approve=["plan"],
        )

    with Runs(file) as runs:
        with pytest.raises(RunSuspended):
            await team(PLAN).run("the task", run_id="r", durable=runs)
        detail = await runs.get("r")
        store.put("r", spans_of(detail))
        [run] = store.runs().runs
        assert (run.status, run.cost) == ("suspended", CALL)
        assert run.duration_seconds is not None
        [consult] = [span for span in spans_of(detail) if span.name == "consult"]
        assert "beta" not in str(consult.attributes)
        assert '"kind": "plan"' in str(consult.attributes["gen_ai.tool.call.arguments"])
        await runs.signal("r", detail.wanted[0].key, True)
        result = await team("done").run("the task", run_id="r", durable=runs)
        store.put("r", spans_of(await runs.get("r")))
    [run] = store.runs().runs
    assert (run.status, run.cost) == ("completed", result.cost_estimate)


async def test_a_failed_run_says_why(file: Path, store: SpanStore) -> None:
    team = Pipeline([Agent("a", ScriptedLLM([""], price=crews.PRICE))])
    with Runs(file) as runs:
        with pytest.raises(PyAgentError) as failed:
            await team.run("the task", run_id="r", durable=runs)
        store.put("r", spans_of(await runs.get("r")))
    trace = store.run("r")
    assert trace is not None
    assert (trace.summary.status, trace.summary.errors) == ("failed", 1)
    assert failed.value.result is not None
    assert trace.summary.cost == failed.value.result.cost_estimate
    assert trace.spans[0].message
    assert {span.error_type for span in trace.spans if span.role != "pattern"} == {
        *("AgentError", "EmptyAnswerError"),
    }


class Held(ScriptedLLM):
    """Answers when it is let go."""

    def __init__(self, answer: str | Completion) -> None:
        super().__init__([answer], price=crews.PRICE)
        self.asked, self.let_go = asyncio.Event(), asyncio.Event()

    async def _complete(self, request: Request) -> Completion:
        self.asked.set()
        await self.let_go.wait()
        return await super()._complete(request)


async def test_while_a_run_goes_on_the_store_fills(file: Path, store: SpanStore) -> None:
    a, b = Held("alpha"), Held("beta")
    team = OrchestratorWorkers(
        orchestrator=crews.agent("planner", PLAN, "done"), workers=[Agent("a", a), Agent("b", b)]
    )
    with Runs(file) as running, Runs(file) as watched:  # two processes, so to speak
        following = Following(watched, store, journal=file)
        assert await following.look() == 0
        run = asyncio.create_task(team.run("the task", run_id="r", durable=running))
        await a.asked.wait()
        assert await following.look() == 1
        trace = store.run("r")
        assert trace is not None
        assert (trace.summary.status, trace.summary.calls) == ("running", 1)
        open_now = [span.name for span in trace.spans if span.end is None]
        assert open_now == [
            "pyagent.pattern.orchestrator_workers",
            "pyagent.agent.a",
            "chat scripted",
        ]
        assert trace.spans[0].plan == (("x", "a"), ("y", "b"))
        version = store.version("r")
        a.let_go.set()
        await b.asked.wait()
        await following.look()
        assert store.version("r") > version
        assert store.runs().runs[0].cost == 2 * CALL
        b.let_go.set()
        result = await run
        await following.look()
        [summary] = store.runs().runs
        assert (summary.status, summary.cost) == ("completed", result.cost_estimate)
        trace = store.run("r")
        assert trace is not None
        assert all(span.end is not None for span in trace.spans)


async def test_a_tool_that_is_being_called_goes_on(file: Path) -> None:
    called, let_go = asyncio.Event(), asyncio.Event()

    async def wait(what: str) -> str:
        """Wait."""
        called.set()
        await let_go.wait()
        raise ValueError(f"no {what}")

    wish = Completion(
        text="", tool_calls=(ToolCall("c", "wait", '{"what": "x"}'),), usage=Usage(input_tokens=1)
    )
    team = Pipeline([crews.agent("a", wish, "found", tools=[wait])])
    with Runs(file) as runs:
        run = asyncio.create_task(team.run("the task", run_id="r", durable=runs))
        await called.wait()
        open_now = [s.name for s in spans_of(await runs.get("r")) if s.end is None]
        assert open_now == ["pyagent.pattern.pipeline", "pyagent.agent.a", "execute_tool wait"]
        let_go.set()
        await run
        [tool] = [s for s in spans_of(await runs.get("r")) if s.role == "tool"]
    assert (tool.status, tool.message, tool.error_type) == (
        "error",
        "ValueError: no x",
        "ValueError",
    )


async def test_one_of_two_tools_that_ends_is_seen_to_have_ended(
    file: Path, store: SpanStore
) -> None:
    both = asyncio.Barrier(3)
    let_go, done = asyncio.Event(), asyncio.Event()

    async def quick(what: str) -> str:
        """Wait a little."""
        await both.wait()
        await done.wait()
        return what

    async def slow(what: str) -> str:
        """Wait."""
        await both.wait()
        await let_go.wait()
        return what

    calls = tuple(ToolCall(name, name, '{"what": "x"}') for name in ("quick", "slow"))
    wish = Completion(text="", tool_calls=calls, usage=Usage(input_tokens=1))
    team = Pipeline([crews.agent("a", wish, "found", tools=[quick, slow])])

    def unended() -> list[str]:
        trace = store.run("r")
        return [s.tool for s in trace.spans if s.tool and s.end is None] if trace else []

    with Runs(file) as runs:
        following = Following(runs, store)
        run = asyncio.create_task(team.run("the task", run_id="r", durable=runs))
        async with asyncio.timeout(10):
            await both.wait()
            await following.look()
            assert unended() == ["quick", "slow"]
            done.set()
            while unended() != ["slow"]:
                await following.look()
        let_go.set()
        await run


async def test_a_pattern_within_is_over_when_what_needs_it_has_begun(file: Path) -> None:
    held = Held("beta")
    inner = Parallel([crews.agent("p", "1"), crews.agent("q", "2")], merge=crews.agent("m", "3"))
    inner.name = "inner"
    plan = plan_text(item("inner", id="x"), item("b", id="y", depends_on=["x"]))
    team = OrchestratorWorkers(
        orchestrator=crews.agent("planner", plan, "done"), workers=[inner, Agent("b", held)]
    )
    with Runs(file) as runs:
        run = asyncio.create_task(team.run("the task", run_id="r", durable=runs))
        await held.asked.wait()
        spans = spans_of(await runs.get("r"))
        [within] = [span for span in spans if span.workflow == "inner"]
        assert within.end is not None
        assert (within.task_id, within.name) == ("x", "pyagent.pattern.parallel")
        held.let_go.set()
        await run


async def test_runs_are_followed_the_newest_first_and_those_that_end_to_their_end(
    file: Path, store: SpanStore
) -> None:
    order: list[str] = []

    class Watched(SpanStore):
        def put(self, run_id: str, spans: Sequence[Span]) -> None:
            order.append(run_id)
            super().put(run_id, spans)

    async def run(run_id: str) -> None:
        await crews.pipeline().run("the task", run_id=run_id, durable=runs)

    with Runs(file) as runs, Watched() as watched:
        for n in range(55):
            await run(f"r{n:02}")
        following = Following(runs, watched, journal=file)
        assert await following.look() == 55
        assert order == [f"r{n:02}" for n in reversed(range(55))]
        assert await following.look() == 0
        order.clear()
        await run("new")
        assert await following.look() == 1
        assert order == ["new"]
        assert watched.runs().total == 56


async def test_a_run_that_ends_among_many_newer_ones_is_not_forgotten(
    file: Path, store: SpanStore
) -> None:
    held = Held("alpha")
    with Runs(file) as runs:
        following = Following(runs, store, journal=file)
        old = asyncio.create_task(
            Pipeline([Agent("a", held)]).run("the task", run_id="old", durable=runs)
        )
        await held.asked.wait()
        await following.look()
        for n in range(55):
            await crews.pipeline().run("the task", run_id=f"r{n}", durable=runs)
        await following.look()
        held.let_go.set()
        await old
        await following.look()
    trace = store.run("old")
    assert trace is not None
    assert trace.summary.status == "completed"


async def test_a_journal_that_cannot_be_read_is_tried_again_and_said_once(
    store: SpanStore, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        looks = 0

        async def get(self, run_id: str) -> RunDetail:
            raise AssertionError

        async def list(self, **filters: object) -> list[object]:
            self.looks += 1
            raise JournalError("it is locked")

    broken = Broken()
    following = Following(broken, store)  # pyright: ignore[reportArgumentType]
    task = asyncio.create_task(following.follow(every=0.01))
    with caplog.at_level(logging.WARNING):
        await until(lambda: broken.looks > 3)
    task.cancel()
    await asyncio.wait([task])
    assert caplog.messages == ["the runs cannot be read just now: it is locked"]


async def test_a_run_that_cannot_be_shown_does_not_hide_the_others(
    file: Path, store: SpanStore, caplog: pytest.LogCaptureFixture
) -> None:
    with Runs(file) as runs:
        for run_id in ("r1", "r2", "r3"):
            await crews.pipeline().run("the task", run_id=run_id, durable=runs)
        with sqlite3.connect(file) as db:
            db.execute("UPDATE call SET value = '[]' WHERE run = 'r2'")
        following = Following(runs, store)
        with caplog.at_level(logging.WARNING):
            assert await following.look() == 2
            assert await following.look() == 0
    assert {run.run_id for run in store.runs().runs} == {"r1", "r3"}
    assert len(caplog.messages) == 1
    assert "run 'r2' cannot be shown" in caplog.messages[0]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_run_is_called_what_its_pattern_is(file: Path) -> None:
    team = Pipeline([crews.agent("a", "done")], name="desk")
    with Runs(file) as runs:
        await team.run("a task", run_id="r", durable=runs)
        [run, *_] = spans_of(await runs.get("r"))
    assert (run.name, run.workflow) == ("pyagent.pattern.pipeline", "desk")
