"""The tree of a run, drawn from its spans: exact text."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from pyagent_exporters import render
from pyagent_exporters.tree import clean, dollars
from pyagent_providers import semconv

from .spans import SAMPLE, Made, agent, pattern, recorded, sample


def test_the_documented_trace_is_drawn_as_documented() -> None:
    assert render(recorded(sample())) == SAMPLE


def test_the_order_in_which_spans_arrive_does_not_matter() -> None:
    spans = list(recorded(sample()))
    random.Random(7).shuffle(spans)
    assert render(spans) == SAMPLE


def test_spans_of_other_libraries_are_looked_through() -> None:
    inner = agent("a", "worker", 0.1, 1)
    wrapped = Made("my own step", 0, 2, {}, [inner, Made("GET /", 0, 1)])
    outer = Made("POST /ask", 0, 3, {}, [pattern("pipeline", 0, 2, wrapped, cost=0.5)])
    assert render(recorded(outer)) == (
        "Trace: pyagent.pattern.pipeline (2.0s, $0.50)\n└── pyagent.agent.a (0.9s, gpt-4o-mini)"
    )


def test_a_retried_worker_shows_its_attempts_and_a_failed_one_what_failed() -> None:
    run = pattern(
        "orchestrator_workers",
        0,
        9,
        agent("researcher", "worker", 0, 2.1, attempts=2),
        agent("coder", "worker", 3, 5, attempts=3, error="openai.RateLimitError"),
        status="partial",
        cost=0.01,
    )
    assert render(recorded(run)) == (
        "Trace: pyagent.pattern.orchestrator_workers (9.0s, $0.01, partial)\n"
        "├── pyagent.agent.researcher (2.1s, gpt-4o-mini, 2 attempts)\n"
        "└── pyagent.agent.coder (2.0s, gpt-4o-mini, 3 attempts) ✗ RateLimitError"
    )


def test_a_repaired_plan_shows_both_plans_and_why_the_first_was_rejected() -> None:
    run = replace(
        pattern(
            "orchestrator_workers",
            0,
            3,
            agent("planner", "plan", 0, 1, "gpt-4o"),
            agent("planner", "plan", 1, 2, "gpt-4o"),
            agent("a", "worker", 2, 3),
            plan=("a",),
        ),
        rejected=[["unknown worker 'z'", "t1 depends on itself"]],
    )
    assert render(recorded(run)) == (
        "Trace: pyagent.pattern.orchestrator_workers (3.0s)\n"
        "├── pyagent.agent.planner — planning (1.0s, gpt-4o)\n"
        "│   └── rejected: unknown worker 'z'; t1 depends on itself\n"
        "├── pyagent.agent.planner — planning (1.0s, gpt-4o)\n"
        "│   └── assignments: [a]\n"
        "└── pyagent.agent.a (1.0s, gpt-4o-mini)"
    )


def test_a_failed_run_says_what_failed_it() -> None:
    run = replace(
        pattern("orchestrator_workers", 0, 1, agent("p", "plan", 0, 1), cost=0.001),
        error="PlanError",
    )
    assert render(recorded(run)).splitlines()[0] == (
        "Trace: pyagent.pattern.orchestrator_workers (1.0s, $0.001) ✗ PlanError"
    )


def test_nested_patterns_are_drawn_where_they_ran() -> None:
    inner = pattern(
        "pipeline", 1, 3, agent("x", "stage", 1, 2), agent("y", "stage", 2, 3), cost=0.002
    )
    run = pattern(
        "hierarchical",
        0,
        5,
        agent("boss", "manage", 0, 1, "gpt-4o"),
        agent("team", "worker", 1, 3, None, inner),
        agent("other", "worker", 1.5, 4),
        cost=0.1,
    )
    assert render(recorded(run)) == (
        "Trace: pyagent.pattern.hierarchical (5.0s, $0.10)\n"
        "├── pyagent.agent.boss — managing (1.0s, gpt-4o)\n"
        "└── [parallel workers]\n"
        "    ├── pyagent.agent.team (2.0s)\n"
        "    │   └── pyagent.pattern.pipeline (2.0s, $0.002)\n"
        "    │       ├── pyagent.agent.x (1.0s, gpt-4o-mini)\n"
        "    │       └── pyagent.agent.y (1.0s, gpt-4o-mini)\n"
        "    └── pyagent.agent.other (2.5s, gpt-4o-mini)"
    )


def test_a_pattern_with_a_name_of_its_own_is_drawn_with_it() -> None:
    def named(kind: str, name: str, *children: Made) -> Made:
        made = pattern(kind, 0, 1, *children)
        own = {semconv.PATTERN: kind, semconv.WORKFLOW_NAME: name}
        return replace(made, attributes={**made.attributes, **own})

    run = named("pipeline", "pipeline", named("team", "back\x1b[31mend"))
    assert render(recorded(run)) == (
        "Trace: pyagent.pattern.pipeline (1.0s)\n└── pyagent.pattern.team backend (1.0s)"
    )


def test_a_managers_plan_is_drawn_below_it_and_fixed_stages_are_not_said_twice() -> None:
    stages = pattern("pipeline", 1, 3, agent("x", "stage", 1, 2), plan=("x",))
    run = replace(
        pattern(
            "hierarchical",
            0,
            5,
            agent("boss", "manage", 0, 0.5),
            agent("boss", "manage", 0.5, 1),
            stages,
            plan=("writing",),
        ),
        rejected=[["no worker 'sales'"]],
    )
    assert render(recorded(run)) == (
        "Trace: pyagent.pattern.hierarchical (5.0s)\n"
        "├── pyagent.agent.boss — managing (0.5s, gpt-4o-mini)\n"
        "│   └── rejected: no worker 'sales'\n"
        "├── pyagent.agent.boss — managing (0.5s, gpt-4o-mini)\n"
        "│   └── assignments: [writing]\n"
        "└── pyagent.pattern.pipeline (2.0s)\n"
        "    └── pyagent.agent.x (1.0s, gpt-4o-mini)"
    )


def test_stages_side_by_side_are_one_group() -> None:
    run = pattern(
        "pipeline",
        0,
        4,
        agent("a", "stage", 0, 1),
        agent("b", "stage", 1, 3),
        agent("judge", "evaluate", 1.2, 1.4),
        pattern("router", 1.1, 2, agent("c", "route", 1.1, 2)),
        agent("d", "stage", 3, 4),
    )
    lines = render(recorded(run)).splitlines()[1:]
    assert [line.partition(" (")[0].replace("pyagent.agent.", "") for line in lines] == [
        "├── a",
        "├── [parallel workers]",
        "│   ├── b",
        "│   ├── pyagent.pattern.router",
        "│   │   └── c — routing",
        "│   └── judge — evaluation",
        "└── d",
    ]


def test_workers_that_overlap_in_a_chain_are_one_group_and_a_later_pair_is_another() -> None:
    run = pattern(
        "orchestrator_workers",
        0,
        9,
        agent("a", "worker", 0, 2),
        agent("b", "worker", 1, 4),
        agent("c", "worker", 3, 5),
        agent("d", "worker", 5, 6),
        agent("e", "worker", 6, 8),
        agent("f", "worker", 7, 9),
    )
    lines = render(recorded(run)).splitlines()[1:]
    assert [line.partition(" (")[0].replace("pyagent.agent.", "") for line in lines] == [
        "├── [parallel workers]",
        "│   ├── a",
        "│   ├── b",
        "│   └── c",
        "├── d",
        "└── [parallel workers]",
        "    ├── e",
        "    └── f",
    ]


def test_a_replayed_answer_says_so() -> None:
    run = pattern("router", 0, 1, agent("a", "route", 0, 0, None, replayed=True), cost=0.0)
    assert render(recorded(run)) == (
        "Trace: pyagent.pattern.router (1.0s, $0.00)\n"
        "└── pyagent.agent.a — routing (0.0s, replayed)"
    )


@pytest.mark.parametrize(
    ("cost", "unpriced", "shown"),
    [
        (0.028, None, "$0.028"),
        (0.028, 2, "$0.028 + 2 unpriced"),
        (None, 3, "unpriced"),
        (None, None, None),
    ],
)
def test_what_has_no_price_is_said_and_is_never_zero(
    cost: float | None, unpriced: int | None, shown: str | None
) -> None:
    given = {"cost": cost, "unpriced": unpriced}
    run = pattern("pipeline", 0, 1, **{k: v for k, v in given.items() if v is not None})
    expected = f"1.0s, {shown}" if shown else "1.0s"
    assert render(recorded(run)) == f"Trace: pyagent.pattern.pipeline ({expected})"


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0.0, "$0.00"),
        (0.028, "$0.028"),
        (0.0284, "$0.028"),
        (0.5, "$0.50"),
        (0.123456, "$0.123"),
        (0.00421, "$0.0042"),
        (0.000123, "$0.00012"),
        (0.000001, "$0.000001"),
        (0.0000002, "<$0.000001"),
        (0.9996, "$1.00"),
        (12.345, "$12.34"),
        (1234567.0, "$1,234,567.00"),
    ],
)
def test_a_small_cost_never_reads_as_nothing(amount: float, shown: str) -> None:
    assert dollars(amount) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "0.0s"), (0.0001, "<1ms"), (0.012, "12ms"), (0.1, "0.1s"), (59.4, "59.4s"),
     (125.0, "2m 05s")],
)  # fmt: skip
def test_a_duration_reads_well_at_any_size(seconds: float, shown: str) -> None:
    assert render(recorded(pattern("router", 0, seconds))).endswith(f"({shown})")


HOSTILE = [
    ("\x1b[2J\x1b[31mcoder", "coder"),
    ("\x9b2Jcoder", "coder"),
    ("\x1b]0;title\x07coder", "coder"),
    ("\x1b]8;;http://evil\x1b\\coder\x1b]8;;\x1b\\", "coder"),
    ("\x1b7\x1bccoder", "coder"),
    ("co\u202ered\u2066oc\u2069der", "coredocder"),
    ("coder\n└── fake (0s)\r", "coder └── fake (0s)"),
    ("co\u200bd\ufeffe\x00\x07r\x7f", "coder"),
    ("\u2028coder\u2029", "coder"),
    ("\ud800coder", "coder"),
    ("\x1b", "?"),
]


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_text_from_a_model_cannot_move_the_cursor(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_every_string_of_a_span_is_cleaned() -> None:
    evil = "\x1b[1A\x1b[2Kevil\u202e\n"
    worker = Made(
        semconv.AGENT_SPAN + evil,
        0,
        1,
        {semconv.PHASE: "worker"},
        [Made("chat", 0, 1, {semconv.REQUEST_MODEL: evil})],
        error=evil,
    )
    run = replace(
        pattern(
            evil, 0, 2, agent("p", "plan", 0, 0.5), agent("p", "plan", 0.5, 0.9), worker,
            plan=(evil, evil), status=evil, cost=1.0,
        ),
        rejected=[[evil]],
    )  # fmt: skip
    text = render(recorded(run))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert len(text.splitlines()) == 6
    assert "evil (1.0s, evil) ✗ evil" in text


def test_a_very_long_plan_or_name_is_cut() -> None:
    run = pattern(
        "x" * 500, 0, 1, agent("p", "plan", 0, 1), plan=tuple("w" * 300 for _ in "a" * 50)
    )
    header, _, assignments = render(recorded(run)).splitlines()
    assert len(header) < 150
    assert assignments.endswith("…, … 30 more]")


def test_without_a_pattern_there_is_nothing_to_draw() -> None:
    assert render(recorded(Made("GET /", 0, 1))) == ""
    assert render([]) == ""
