"""The rows of a run: what each says, how deep it stands, and where its bar lies."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pyagent_exporters.viewer import run_page
from pyagent_exporters.viewer.runs import RunTrace
from pyagent_exporters.viewer.spans import Span
from pyagent_exporters.viewer.waterfall import End, Row
from pyagent_patterns import Agent, OrchestratorWorkers
from pyagent_providers import semconv
from pyagent_providers.testing import ScriptedLLM
from tests.exporters.spans import START, Made, agent, pattern, recorded
from tests.patterns.streams import PATTERNS, eventful
from tests.patterns.teams import PRICE, item, plan_text

from .real_runs import as_viewed, only_run, trace_of


def rows(trace: RunTrace, *, whole: bool = False) -> list[Row]:
    return [row for each in run_page.view(trace, whole=whole).executions for row in each.rows]


def made(*roots: Made) -> list[Row]:
    return rows(only_run(as_viewed(recorded(*roots))))


async def test_rows_stand_in_order_of_start_each_below_who_asked_for_it() -> None:
    trace = await trace_of(eventful())
    lines = [f"{'  ' * row.depth}{row.name} {' '.join(row.badges)}".rstrip() for row in rows(trace)]
    assert lines == [
        "orchestrator_workers",
        "  planner plan",
        "    chat",
        "  planner plan",
        "    chat",
        "  finder worker t1 4 calls",
        "    chat",
        "    chat attempt 2",
        "    look_up tool",
        "    chat",
        "    look_up tool",
        "    chat",
        "  breaker worker t2 3 calls",
        "    chat",
        "    chat attempt 2",
        "    chat attempt 3",
        "  planner synthesis",
        "    chat",
    ]


async def test_a_row_says_what_went_wrong_where_it_went_wrong() -> None:
    by_name = {
        (row.name, row.span and row.span.task_id): row for row in rows(await trace_of(eventful()))
    }
    run, breaker = by_name["orchestrator_workers", None], by_name["breaker", "t2"]
    assert (run.state, breaker.state, breaker.error) == ("partial", "failed", "AgentError")
    assert [note.kind for note in run.notes] == ["rejected"]
    assert "not JSON" in run.notes[0].text
    assert [note.kind for note in breaker.notes] == ["problem"]
    assert "3 attempts failed" in breaker.notes[0].text
    finder = by_name["finder", "t1"]
    assert (finder.state, finder.notes) == ("ok", ())


def test_a_failure_that_is_passed_on_is_told_only_where_it_happened() -> None:
    run = pattern("p", 0, 1, agent("w", "worker", 0, 1, error="Boom"))
    run.error = "Boom"
    told = {row.name: [note.text for note in row.notes] for row in made(run) if row.notes}
    assert told == {"w": ["Boom"]}


async def test_figures_of_a_row_are_those_of_all_calls_below_it() -> None:
    first, *_ = found = rows(await trace_of(eventful()))
    calls = [row for row in found if row.role == "chat" and row.figures.priced]
    assert first.figures.cost == sum(row.figures.cost for row in calls) > 0
    assert first.figures.input_tokens == sum(row.figures.input_tokens for row in calls)
    assert first.figures.calls == len([row for row in found if row.role == "chat"])


async def test_a_call_that_nobody_knows_the_price_of_is_counted_and_not_free() -> None:
    llm = ScriptedLLM([plan_text(item("a")), "the answer"], model="planner-model", price=PRICE)
    unpriced = Agent("a", ScriptedLLM(["done"], model="a-model-of-ours"))
    team = OrchestratorWorkers(orchestrator=Agent("planner", llm), workers=[unpriced])
    found = rows(await trace_of(team))
    assert (found[0].figures.unpriced, found[0].figures.cost) == (1, Decimal("0.00012"))
    [call] = [row for row in found if row.model == "a-model-of-ours"]
    assert (call.figures.unpriced, call.figures.priced) == (1, 0)


@pytest.mark.parametrize("name", PATTERNS)
async def test_the_ends_of_rows_fit_their_beginnings(name: str) -> None:
    found = rows(await trace_of(PATTERNS[name]()))
    deep = 0
    for row in found:
        assert row.depth == deep
        deep += 1 - len(row.ends)
    assert deep == 0
    assert all(row.is_open == row.has_children for row in found)


def test_bars_lie_on_the_axis_where_their_spans_lie_in_time() -> None:
    run, planner, _, worker, _ = made(
        pattern("p", 0, 10, agent("planner", "plan", 0, 2.5), agent("w", "worker", 2.5, 10))
    )
    assert (run.bar.start, run.bar.length) == (0, 1000)
    assert (planner.bar.start, planner.bar.length) == (0, 250)
    assert (worker.bar.start, worker.bar.length) == (250, 750)
    assert worker.seconds == pytest.approx(7.5)


def test_a_span_too_short_to_see_is_drawn_so_that_it_is_seen_within_the_axis() -> None:
    *_, last, _ = made(pattern("p", 0, 100, agent("w", "worker", 99.9999, 100)))
    assert last.bar.length >= 2
    assert last.bar.start + last.bar.length <= 1000


def test_the_path_is_drawn_on_the_rows_that_the_run_waited_for() -> None:
    found = made(pattern("p", 0, 10, agent("slow", "worker", 0, 10), agent("fast", "worker", 0, 4)))
    drawn = [(row.name, row.bar.path) for row in found if row.bar.path]
    assert drawn == [("chat gpt-4o-mini", "M0 10H1000")]
    assert [row.on_path for row in found] == pytest.approx([0, 0, 10, 0, 0])


def test_a_replayed_answer_costs_nothing_anew_and_says_so() -> None:
    once = agent("planner", "plan", 0, 0.1, None, replayed=True)
    once.attributes = {**once.attributes, "pyagent.cost.usd": 0.25, "gen_ai.operation.name": "plan"}
    run, planner = made(pattern("p", 0, 1, once))
    assert "replayed" in planner.badges
    assert planner.paid_before == Decimal("0.25")
    assert (run.figures.cost, run.figures.calls) == (0, 0)


def test_the_wait_for_the_first_chunk_is_part_of_the_bar() -> None:
    streamed = Made(
        "chat m", 0, 10,
        {"gen_ai.operation.name": "chat", "gen_ai.response.time_to_first_chunk": 4.0},
    )  # fmt: skip
    _, call = made(Made("pyagent.pattern.p", 0, 10, {}, [streamed]))
    assert call.bar.waited == 400


def test_another_applications_spans_are_rows_too() -> None:
    inner = Made("SELECT users", 1, 2)
    found = made(Made("GET /users", 0, 3, {}, [Made("handler", 0.5, 2.5, {}, [inner])]))
    assert [(row.name, row.depth, row.is_open) for row in found] == [
        ("GET /users", 0, True), ("handler", 1, True), ("SELECT users", 2, False),
    ]  # fmt: skip


def test_a_report_of_the_same_call_by_another_instrumentation_is_not_counted_again() -> None:
    facts = {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 7, "gen_ai.usage.cost": 0.5,
    }  # fmt: skip
    twice = Made("chat m", 0, 1, facts, [Made("openai.chat", 0, 1, facts)])
    run, *_ = made(pattern("p", 0, 1, twice))
    assert (run.figures.calls, run.figures.cost, run.figures.input_tokens) == (1, Decimal("0.5"), 7)


def test_what_is_too_deep_to_indent_is_still_there() -> None:
    spans = [
        Span(trace_id="t", span_id=str(n), parent_id=str(n - 1) if n else None, name=f"s{n}",
             start=START + n, end=START + 10_000 - n)
        for n in range(3_000)
    ]  # fmt: skip
    found = rows(only_run(spans))
    assert [row.name for row in found] == [f"s{n}" for n in range(3_000)]
    assert sum(len(row.ends) for row in found) == 3_000


def long_run(agents: int = 150) -> RunTrace:
    """Agents, each with a call that was refused, and its second attempt."""
    workers: list[Made] = []
    for n in range(agents):
        asked = {semconv.OPERATION_NAME: "chat", semconv.REQUEST_MODEL: "m"}
        refused = Made("chat m", n, n + 0.4, asked, error="Busy")
        answered = Made("chat m", n + 0.4, n + 1, asked)
        worker = agent(f"w{n}", "worker", n, n + 1, None, refused, answered)
        worker.attributes = {**worker.attributes, semconv.AGENT_NAME: f"w{n}"}
        workers.append(worker)
    return only_run(as_viewed(recorded(pattern("p", 0, agents, *workers))))


def test_of_a_long_run_what_agents_did_is_left_out_and_counted() -> None:
    run, *agents = rows(long_run())
    assert len(agents) == 150
    assert {(row.role, row.is_open, row.depth) for row in agents} == {("agent", False, 1)}
    assert [row.ends for row in agents[:-1]] == [(End(row.key, 0, 2),) for row in agents[:-1]]
    assert agents[-1].ends == (End(agents[-1].key, 0, 2), End(run.key, 150, 0))
    assert run_page.view(long_run()).retries == 150
    assert len(rows(long_run())[0].bar.path) == 0
    assert sum(row.on_path for row in agents) == pytest.approx(150)


def test_what_is_left_out_is_there_when_it_is_asked_for_as_it_stands_in_the_whole() -> None:
    trace = long_run()
    whole = rows(trace, whole=True)
    assert len(whole) == 451
    at = next(n for n, row in enumerate(whole) if row.name == "w70")
    below = run_page.rows_below(trace, whole[at].key)
    assert below is not None
    assert [row.badges for row in below] == [(), ("attempt 2",)]
    assert [(r.key, r.bar, r.depth, r.on_path) for r in below] == [
        (r.key, r.bar, r.depth, r.on_path) for r in whole[at + 1 : at + 3]
    ]
    assert run_page.rows_below(trace, below[0].key) is None
    assert run_page.rows_below(trace, "nowhere") is None


def test_of_very_many_agents_the_first_have_rows_and_the_others_when_they_are_asked_for() -> None:
    trace = long_run(agents=250)
    run, *agents = rows(trace)
    assert [row.name for row in agents] == [f"w{n}" for n in range(200)]
    assert agents[-1].ends == (End(agents[-1].key, 0, 2), End(run.key, 200, 50))
    assert (run.is_open, run.figures.calls) == (True, 500)
    others = run_page.rows_below(trace, run.key)
    assert others is not None
    assert [row.name for row in others] == [f"w{n}" for n in range(200, 250)]
    assert {(row.depth, row.ends) for row in others} == {
        (1, (End(row.key, 0, 2),)) for row in others
    }
    assert len(rows(trace, whole=True)) == 751
