"""The store of spans: runs are made of them, in whichever order they come, found and sorted."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from pyagent_exporters.errors import ExporterError
from pyagent_exporters.viewer import queries
from pyagent_exporters.viewer.runs import DIMENSIONS, RunQuery, RunSummary
from pyagent_exporters.viewer.schema import open_for_reading
from pyagent_exporters.viewer.spans import AttributeValue, Span, SpanEvent, SpanLink
from pyagent_exporters.viewer.store import SpanStore
from pyagent_patterns import Agent, Pipeline
from pyagent_patterns.errors import PyAgentError
from pyagent_patterns.testing import capture_trace
from pyagent_providers.errors import AuthenticationError
from pyagent_providers.testing import ScriptedLLM

from . import crews

NOW = time.time_ns()


@pytest.fixture(autouse=True)
def it_is_now() -> None:
    """A run that nothing came of since the suite began would be taken for lost."""
    global NOW
    NOW = time.time_ns()


SECOND = 10**9


def span(
    name: str,
    number: int,
    parent: int | None = None,
    *,
    trace: int = 1,
    start: float = 0.0,
    end: float | None = 1.0,
    error: str | None = None,
    **attributes: AttributeValue,
) -> Span:
    """Times are in seconds from `NOW`; an attribute's name has `__` for a dot."""
    return Span(
        trace_id=f"{trace:032x}",
        span_id=f"{number:016x}",
        parent_id=None if parent is None else f"{parent:016x}",
        name=name,
        start=NOW + round(start * SECOND),
        end=None if end is None else NOW + round(end * SECOND),
        status="unset" if error is None else "error",
        message=error or "",
        attributes={key.replace("__", "."): value for key, value in attributes.items()},
    )


def pattern(
    kind: str,
    number: int,
    parent: int | None = None,
    *,
    run: str,
    trace: int = 1,
    start: float = 0.0,
    end: float | None = 1.0,
    error: str | None = None,
    **attributes: AttributeValue,
) -> Span:
    return span(
        f"pyagent.pattern.{kind}",
        number,
        parent,
        trace=trace,
        start=start,
        end=end,
        error=error,
        pyagent__pattern=kind,
        pyagent__run__id=run,
        **attributes,
    )


def agent(
    name: str, number: int, parent: int | None = None, *, run: str, path: str = "", trace: int = 1
) -> Span:
    return span(
        f"pyagent.agent.{name}",
        number,
        parent,
        trace=trace,
        gen_ai__agent__name=name,
        pyagent__run__id=run,
        pyagent__path=path or name,
        pyagent__pattern="inner" if "/" in path else "outer",
    )


def chat(number: int, parent: int | None = None, *, trace: int = 1, cost: float = 0.5) -> Span:
    return span(
        "chat m",
        number,
        parent,
        trace=trace,
        gen_ai__operation__name="chat",
        gen_ai__request__model="m",
        pyagent__cost__usd=cost,
    )


def ids(runs: Sequence[RunSummary]) -> list[str]:
    return [run.run_id for run in runs]


TREE = [
    pattern("outer", 1, run="r", pyagent__status="completed", pyagent__tenant="acme"),
    agent("lead", 2, 1, run="r"),
    chat(3, 2),
    pattern("inner", 4, 1, run="r"),
    agent("worker", 5, 4, run="r", path="inner/worker"),
    chat(6, 5),
]


def test_whichever_order_spans_come_in_they_come_to_the_same_run() -> None:
    with SpanStore() as store:
        store.add(TREE)
        [expected] = store.runs().runs
        costs = {by: store.costs(by) for by in DIMENSIONS}
    assert (expected.pattern, expected.status, expected.spans) == ("outer", "completed", 6)
    for order in [*permutations(TREE)][::43]:
        with SpanStore() as store:
            for each in order:
                store.add([each])
            assert store.runs().runs == (expected,), [each.span_id[-1] for each in order]
            assert {by: store.costs(by) for by in DIMENSIONS} == costs


def test_a_pattern_within_does_not_pass_for_the_run_whose_own_span_has_not_come(
    store: SpanStore,
) -> None:
    store.add([TREE[5], TREE[4], TREE[3]])
    [run] = store.runs().runs
    assert (run.run_id, run.status, run.end, run.duration_seconds) == ("r", "running", None, None)
    store.add([TREE[2], TREE[1]])
    [run] = store.runs().runs
    assert (run.status, run.pattern, run.calls) == ("running", "outer", 2)
    store.add([TREE[0]])
    [run] = store.runs().runs
    assert (run.status, run.pattern, run.duration_seconds) == ("completed", "outer", 1.0)


def test_a_run_in_another_applications_trace_is_one_though_its_parent_never_comes(
    store: SpanStore,
) -> None:
    store.add([chat(3, 2), agent("lead", 2, 1, run="r"), pattern("outer", 1, 99, run="r")])
    [run] = store.runs().runs
    assert (run.run_id, run.status) == ("r", "completed")


def test_of_one_span_the_ended_version_stays(store: SpanStore) -> None:
    running = pattern("outer", 1, run="r", end=None)
    store.add([running])
    assert store.runs().runs[0].status == "running"
    store.add([replace(running, end=running.start + SECOND)])
    store.add([running])
    [run] = store.runs().runs
    assert (run.status, run.duration_seconds, run.spans) == ("completed", 1.0, 1)
    store.add([replace(running, end=running.start + 2 * SECOND), running])  # in one batch, too
    assert store.runs().runs[0].duration_seconds == 2.0


def test_a_run_nothing_comes_of_is_unknown_after_a_while(store: SpanStore) -> None:
    quiet = -queries.QUIET - 60
    store.add(
        [
            pattern("outer", 1, run="quiet", start=quiet, end=None),
            pattern("outer", 2, run="new", trace=2, end=None),
            pattern(
                *("outer", 3), run="told", trace=3, start=quiet, end=None, pyagent__status="running"
            ),
        ]
    )
    assert {run.run_id: run.status for run in store.runs().runs} == {
        "quiet": "unknown",
        "new": "running",
        "told": "running",  # whoever says so in words knows
    }
    assert ids(store.runs(RunQuery(status="unknown")).runs) == ["quiet"]
    assert ids(store.runs(RunQuery(status="running")).runs) == ["new", "told"]
    assert set(store.choices().statuses) == {"running", "unknown"}


@pytest.mark.parametrize(
    ("attributes", "error", "status"),
    [
        ({"pyagent__status": "partial"}, None, "partial"),
        ({"pyagent__status": "suspended"}, None, "suspended"),
        ({"pyagent__status": "cancelled"}, "CancelledError", "cancelled"),
        ({"pyagent__status": "made up"}, None, "completed"),
        ({}, None, "completed"),
        ({}, "it broke", "failed"),
        ({"error__type": "CancelledError"}, "CancelledError", "cancelled"),
    ],
)
def test_how_a_run_ended_is_what_its_span_says(
    store: SpanStore, attributes: dict[str, AttributeValue], error: str | None, status: str
) -> None:
    store.add([pattern("outer", 1, run="r", error=error, **attributes)])
    assert store.runs().runs[0].status == status


async def test_an_error_that_is_passed_on_to_the_run_is_counted_once(
    store: SpanStore,
) -> None:
    team = Pipeline([Agent("a", ScriptedLLM([AuthenticationError("no")]))])
    with capture_trace() as trace, pytest.raises(PyAgentError):
        await team.run("the task")
    store.add(crews.sent(trace.spans))
    [run] = store.runs().runs
    assert (run.status, run.errors) == ("failed", 1)


def test_a_trace_without_a_pattern_is_listed_by_its_root(store: SpanStore) -> None:
    store.add(
        [
            span("SELECT", 2, 1),
            replace(span("GET /", 1, user__id="u", session__id="s"), service="shop"),
        ]
    )
    [run] = store.runs().runs
    assert (run.run_id, run.name, run.pattern) == (f"{1:032x}", "GET /", "")
    assert (run.service, run.user, run.session, run.status) == ("shop", "u", "s", "completed")


def test_what_is_around_a_run_is_a_run_of_its_own_only_if_it_calls_a_model(
    store: SpanStore,
) -> None:
    store.add([pattern("outer", 2, 1, run="r"), span("GET /", 1)])
    assert ids(store.runs().runs) == ["r"]
    store.add([chat(7, 1)])
    assert set(ids(store.runs().runs)) == {"r", f"{1:032x}"}
    assert sum(row.calls for row in store.costs("model")) == 1


def test_two_runs_in_one_trace_are_two_whichever_comes_first() -> None:
    spans = [
        *(chat(5, 4), chat(3, 2)),
        *(pattern("a", 4, 1, run="r2"), pattern("b", 2, 1, run="r1"), span("GET /", 1)),
    ]
    for order in [*permutations(spans)][::17]:
        with SpanStore() as store:
            for each in order:
                store.add([each])
            assert {run.run_id: (run.pattern, run.calls) for run in store.runs().runs} == {
                "r1": ("b", 1),
                "r2": ("a", 1),
            }
            assert store.run(f"{1:032x}") is None  # which of them is not said


def test_a_call_whose_agent_has_not_come_is_the_only_runs_of_its_trace(store: SpanStore) -> None:
    store.add([chat(14, 13)])
    store.add([agent("lead", 2, 1, run="r")])
    store.add([chat(4, 3)])
    assert ids(store.runs().runs) == ["r"]
    assert [(row.key, row.calls) for row in store.costs("agent")] == [("", 2)]
    store.add([agent("worker", 3, 1, run="r"), agent("other", 13, 1, run="r")])
    assert {row.key: row.calls for row in store.costs("agent")} == {"worker": 1, "other": 1}


def test_a_run_is_found_by_its_id_its_traces_and_the_beginning_of_its_id(store: SpanStore) -> None:
    store.add([pattern("a", 1, run="abc1"), pattern("a", 2, run="abd2", trace=2, start=5, end=6)])
    one = store.run("abc1")
    assert one is not None
    assert one == store.run(f"{1:032x}")
    assert store.run("ab") is None
    assert store.find("ab") == ["abd2", "abc1"]
    assert store.find("abc") == ["abc1"]
    assert store.find("%") == store.find("nothing") == []


def test_spans_come_by_start_and_what_is_around_others_first(store: SpanStore) -> None:
    store.add([span("c", 1, 2), span("b", 2, 3), span("a", 3), span("late", 4, 3, start=0.5)])
    trace = store.run(f"{1:032x}")
    assert trace is not None
    assert [each.name for each in trace.spans] == ["a", "b", "c", "late"]


def test_a_ring_of_spans_and_one_that_is_its_own_parent_do_no_harm(store: SpanStore) -> None:
    store.add([span("a", 1, 2), span("b", 2, 1), span("self", 3, 3), chat(4, 3), chat(7, 7)])
    store.add([agent("x", 5, 6, run="r"), agent("y", 6, 5, run="r")])
    for run in store.runs().runs:
        assert store.run(run.run_id) is not None
    assert sum(row.calls for row in store.costs("agent")) == 2


def test_a_chain_of_thousands_of_spans_does_no_harm(store: SpanStore) -> None:
    chain = [span(f"s{n}", n, n - 1 if n > 1 else None) for n in range(1, 4001)]
    store.add(reversed(chain))
    trace = store.run(f"{1:032x}")
    assert trace is not None
    assert [each.name for each in trace.spans][:3] == ["s1", "s2", "s3"]
    assert trace.summary.spans == 4000


def test_a_whole_span_comes_back_as_it_was(store: SpanStore) -> None:
    given = replace(
        span("chat m", 1, texts=("a", "b"), truth=True, count=3, share=0.5, text="ü"),
        kind="client",
        events=(SpanEvent(name="e", time=5, attributes={"n": (1, 2)}),),
        links=(SpanLink(f"{2:032x}", f"{2:016x}"),),
        service="s",
    )
    store.add([given])
    trace = store.run(given.trace_id)
    assert trace is not None
    assert trace.spans == (given,)


def test_half_a_surrogate_pair_becomes_a_question_mark(store: SpanStore) -> None:
    store.add([replace(span("a\ud800", 1, key="\udfff"), service="\ud800")])
    [run] = store.runs(RunQuery(text="a?")).runs
    assert run.name == "a?"
    trace = store.run(run.run_id)
    assert trace is not None
    assert trace.spans[0].attributes == {"key": "?"}


def many(count: int = 12) -> list[Span]:
    return [
        pattern(
            *(("pipeline", "router")[n % 2], n),
            run=f"run{n:02}",
            trace=n,
            start=n,
            end=n + (n % 5) + 1,
            pyagent__tenant=("acme", "other")[n % 3 == 0],
            gen_ai__workflow__name=f"Team {n}",
        )
        for n in range(1, count + 1)
    ]


def test_runs_are_filtered_sorted_and_paged(store: SpanStore) -> None:
    store.add(many())
    calls = [chat(100 + n, n, trace=n, cost=n % 4) for n in range(1, 13)]
    store.add(replace(call, start=NOW + n * SECOND) for n, call in enumerate(calls, 1))
    newest = store.runs(RunQuery(limit=5))
    assert (ids(newest.runs), newest.total) == (
        ["run12", "run11", "run10", "run09", "run08"],
        12,
    )
    assert ids(store.runs(RunQuery(limit=5, offset=10)).runs) == ["run02", "run01"]
    assert ids(store.runs(RunQuery(descending=False, limit=1)).runs) == ["run01"]
    assert [r.cost for r in store.runs(RunQuery(sort="cost", limit=4)).runs] == [3, 3, 3, 2]
    longest = store.runs(RunQuery(sort="duration", limit=2)).runs
    assert [run.duration_seconds for run in longest] == [5.0, 5.0]
    assert store.runs(RunQuery(pattern="router")).total == 6
    assert store.runs(RunQuery(tenant="other")).total == 4
    assert store.runs(RunQuery(model="m")).total == 12
    assert store.runs(RunQuery(model="other")).total == 0
    assert ids(store.runs(RunQuery(since=NOW + 3 * SECOND, until=NOW + 5 * SECOND)).runs) == [
        "run04",
        "run03",
    ]
    assert ids(store.runs(RunQuery(text=" TEAM 7 ")).runs) == ["run07"]
    assert ids(store.runs(RunQuery(text="run07")).runs) == ["run07"]
    assert store.runs(RunQuery(text="100%_'\"")).total == 0
    choices = store.choices()
    assert choices.patterns == ("pipeline", "router")
    assert (choices.models, choices.tenants) == (("m",), ("acme", "other"))
    assert choices.statuses == ("completed",)


def test_errors_are_found_by_their_words_and_counted_where_they_began(store: SpanStore) -> None:
    store.add(
        [
            pattern("a", 1, run="r", error="WorkersFailedError"),
            replace(agent("w", 2, 1, run="r"), status="error", message="no answer"),
            replace(chat(3, 2), status="error", message="429 slow down"),
        ]
    )
    [run] = store.runs(RunQuery(text="slow DOWN")).runs
    assert run.errors == 1


def test_a_run_that_waits_has_not_failed(store: SpanStore) -> None:
    store.add([pattern("a", 1, run="r", error="RunSuspended", pyagent__status="suspended")])
    [run] = store.runs().runs
    assert (run.status, run.errors) == ("suspended", 0)


@pytest.mark.parametrize("sort", ["start", "cost", "duration", "tokens"])
def test_the_list_is_read_off_an_index(store: SpanStore, sort: str) -> None:
    for descending in (True, False):
        query = RunQuery(sort=sort, descending=descending)  # pyright: ignore[reportArgumentType]
        plan = explained(store, queries.listing(query))
        assert f"USING INDEX run_by_{sort.replace('start', 'begun')}" in plan
        assert "TEMP B-TREE" not in plan


def test_filters_and_spans_of_a_run_are_read_off_indexes(store: SpanStore) -> None:
    by_time = explained(store, queries.counting(RunQuery(since=1, until=2)))
    assert "run_by_begun" in by_time
    assert "call_by_run (run=? AND model=?)" in explained(
        store, queries.listing(RunQuery(model="m"))
    )
    costs = explained(store, queries.costing("agent", None, RunQuery(since=1)))
    assert "run_by_begun" in costs
    assert "call_by_run (run=?)" in costs


def explained(store: SpanStore, statement: queries.Statement) -> str:
    db = open_for_reading(store.path)
    rows = db.execute("EXPLAIN QUERY PLAN " + statement.sql, statement.values).fetchall()
    db.close()
    return "\n".join(row["detail"] for row in rows)


def test_versions_grow_with_every_change_and_only_for_the_runs_that_change(
    store: SpanStore,
) -> None:
    assert store.version() == store.version("r1") == 0
    store.add([pattern("a", 1, run="r1")])
    first = store.version()
    assert first == store.version("r1") > 0
    store.add([pattern("a", 2, run="r2", trace=2)])
    assert store.version() == store.version("r2") > first
    assert store.version("r1") == first


def test_put_makes_a_run_of_just_these_spans(store: SpanStore) -> None:
    ended = pattern("a", 1, run="r", pyagent__status="suspended")
    store.put("r", [ended, chat(2, 1), chat(3, 1)])
    version = store.version("r")
    store.put("r", [ended, chat(2, 1), chat(3, 1)])
    assert store.version("r") == version  # nothing changed
    store.put("r", [replace(ended, end=None), chat(2, 1)])  # it goes on again
    [run] = store.runs().runs
    assert (run.status, run.spans, run.calls) == ("running", 2, 1)
    assert store.version("r") > version
    store.put("r", [])
    assert store.runs().total == 0


def test_runs_that_ended_long_ago_are_deleted_and_those_under_way_are_not(store: SpanStore) -> None:
    store.add(
        [
            pattern("outer", 1, run="old", start=-90, end=-60),
            chat(11, 1),
            pattern("outer", 2, run="long", trace=2, start=-90, end=-10),
            pattern(
                "outer", 3, run="told", trace=3, start=-90, end=None, pyagent__status="running"
            ),
            pattern("outer", 4, run="quiet", trace=4, start=-90, end=None),
            agent("a", 5, 55, run="heard of", trace=5),
            pattern(
                *("outer", 6), run="waits", trace=6, start=-90, end=-60, pyagent__status="suspended"
            ),
        ]
    )
    version = store.version()
    assert store.prune(older_than=30) == 2
    assert set(ids(store.runs().runs)) == {"long", "told", "heard of", "waits"}
    assert store.costs("model") == ()
    assert store.run("old") is None
    assert store.version() > version
    assert store.prune(older_than=30) == 0


def test_what_lies_around_runs_goes_with_the_last_of_them(store: SpanStore) -> None:
    store.add(
        [
            span("GET /", 1, start=-100, end=-1),
            pattern("outer", 2, 1, run="first", start=-99, end=-60),
            pattern("outer", 3, 1, run="second", start=-60, end=-20),
        ]
    )
    assert store.prune(older_than=40) == 1
    assert spans_in(store) == ["GET /", "pyagent.pattern.outer"]
    assert store.prune(older_than=10) == 1
    assert spans_in(store) == []


def spans_in(store: SpanStore) -> list[str]:
    with closing(open_for_reading(store.path)) as db:
        return [name for (name,) in db.execute("SELECT name FROM span ORDER BY name")]


def test_the_place_of_deleted_runs_is_used_anew(tmp_path: Path) -> None:
    def runs(first: int) -> list[Span]:
        return [
            made
            for n in range(first, first + 200)
            for made in (
                pattern("outer", n, run=f"r{n}", trace=n, start=-90, end=-60),
                *(chat(n * 100 + m, n, trace=n) for m in range(1, 5)),
            )
        ]

    def pages() -> int:
        with closing(open_for_reading(tmp_path / "kept.db")) as db:
            return db.execute("PRAGMA page_count").fetchone()[0]

    with SpanStore(tmp_path / "kept.db") as store:
        store.add(runs(1))
        once = pages()
        for again in range(1, 4):
            assert store.prune(older_than=30) == 200
            store.add(runs(1 + 200 * again))
        assert pages() < once * 1.2


def test_a_large_run_that_grew_is_not_deleted_by_what_it_was(store: SpanStore) -> None:
    store.add(
        [
            pattern("outer", 1, run="r", start=-90, end=-60),
            *(chat(n, 1) for n in range(2, 2_003)),
        ]
    )
    store.add([pattern("outer", 3_000, run="r", trace=2, start=-9, end=-1)])
    assert store.prune(older_than=30) == 0
    assert store.prune(older_than=0.5) == 1


def test_a_large_run_is_worked_out_when_it_is_read(store: SpanStore) -> None:
    root = pattern("a", 1, run="r", end=None)
    store.add([root, *(chat(n, 1, cost=1.0) for n in range(2, 3002))])
    for n in range(3002, 3010):
        store.add([chat(n, 1, cost=1.0)])
    assert store.runs().runs[0].cost == 3008
    store.add([chat(3010, 1, cost=1.0)])
    [row] = store.costs("model")
    assert row.cost == 3009
    store.add([replace(root, end=root.start + SECOND)])
    trace = store.run("r")
    assert trace is not None
    assert (trace.summary.status, len(trace.spans)) == ("completed", 3010)


def test_a_store_is_there_again_with_all_it_had(tmp_path: Path) -> None:
    path = tmp_path / "viewer.db"
    with SpanStore(path) as store:
        store.add([*many(), *(chat(n, 1) for n in range(20, 2100))])
        store.add([chat(5000, 1)])
        before, version = store.runs(), store.version()
    assert path.stat().st_mode & 0o777 == 0o600
    with SpanStore(path) as store:
        assert store.runs() == before
        assert store.version() == version
        store.add([chat(5001, 1)])
        assert store.version() > version


def test_a_store_that_was_closed_before_a_large_run_was_read_works_it_out(tmp_path: Path) -> None:
    path = tmp_path / "viewer.db"
    with SpanStore(path) as store:
        store.add([pattern("a", 1, run="r"), *(chat(n, 1, cost=1.0) for n in range(2, 3000))])
        store.add([chat(5000, 1, cost=1.0)])
    with SpanStore(path) as store:
        assert store.runs().runs[0].cost == 2999


def test_a_temporary_store_is_gone_when_it_is_closed() -> None:
    store = SpanStore()
    assert store.path.exists()
    store.runs()
    store.close()
    store.close()
    assert not store.path.parent.exists()
    for use in (lambda: store.add([chat(1)]), store.runs):
        with pytest.raises(ExporterError, match="is closed"):
            use()


def test_a_database_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x)")
    before = path.read_bytes()
    with pytest.raises(ExporterError, match="of something else; name another file"):
        SpanStore(path)
    assert path.read_bytes() == before
    text = tmp_path / "notes.db"
    text.write_text("these are no database, but my notes\n" * 50)
    with pytest.raises(ExporterError, match="cannot be used"):
        SpanStore(text)
    with pytest.raises(ExporterError, match="its folder must exist"):
        SpanStore(tmp_path / "none" / "viewer.db")


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "viewer.db"
    SpanStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(ExporterError, match="has format 2; this version of pyagent-sdk knows"):
        SpanStore(path)


def test_many_threads_read_and_write_at_once(store: SpanStore) -> None:
    errors: list[Exception] = []

    def work(of: int) -> None:
        try:
            for n in range(20):
                number = of * 1000 + n + 1
                store.add([pattern("a", number, run=f"r{number}", trace=number)])
                assert store.run(f"r{number}") is not None
                store.runs(RunQuery(text="r"))
                store.costs("agent")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.runs().total == 120


def test_what_fails_while_it_is_stored_is_not_stored_by_half(store: SpanStore) -> None:
    store.add([pattern("a", 1, run="r")])
    too_late = replace(pattern("a", 2, run="r2", trace=2), start=2**63)
    with pytest.raises(OverflowError):
        store.add([pattern("a", 3, run="r3", trace=3), too_late])
    assert ids(store.runs().runs) == ["r"]
    store.add([pattern("a", 4, run="r4", trace=4)])
    assert store.runs().total == 2
