"""Two runs beside each other: what is the same, what differs, and what only one has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from pyagent_exporters.viewer.comparison import Comparison, compare
from pyagent_exporters.viewer.runs import RunTrace
from pyagent_exporters.viewer.spans import Span
from pyagent_exporters.viewer.store import SpanStore

from .test_app import a_call


def answering(text: str, spans: Sequence[Span]) -> list[Span]:
    """The same, where the call's answer was captured."""
    *above, call = spans
    said = [{"role": "assistant", "parts": [{"type": "text", "content": text}]}]
    captured = {**call.attributes, "gen_ai.output.messages": json.dumps(said)}
    return [*above, replace(call, attributes=captured)]


def working_on(task: str, after: tuple[str, ...], spans: Sequence[Span]) -> list[Span]:
    """The same, where the agent was given an assignment."""
    pattern, agent, call = spans
    given = {**agent.attributes, "pyagent.task.id": task, "pyagent.task.depends_on": after}
    return [pattern, replace(agent, attributes=given), call]


def compared(left: Sequence[Span], right: Sequence[Span]) -> Comparison:
    traces: list[RunTrace] = []
    for spans in (left, right):
        with SpanStore() as store:
            store.add(spans)
            trace = store.run(str(spans[0].attributes["pyagent.run.id"]))
            assert trace is not None
            traces.append(trace)
    return compare(*traces)


def test_a_difference_has_its_size_and_its_direction() -> None:
    both = compared(a_call(1, cost=0.5), a_call(2, cost=0.75))
    figures = {figure.name: figure for figure in both.figures}
    assert (figures["Cost"].difference, figures["Cost"].trend) == ("+$0.2500 (+50%)", "more")
    assert not figures["Model calls"].differs
    back = {f.name: f for f in compared(a_call(2, cost=0.75), a_call(1, cost=0.5)).figures}
    assert (back["Cost"].difference, back["Cost"].trend) == ("−$0.2500 (−33%)", "less")


def test_an_agent_of_one_run_only_stands_beside_nothing() -> None:
    both = compared(a_call(1, agent="old", cost=0.1), a_call(2, agent="new", cost=0.9))
    assert [(its.agent, its.left is None, its.right is None) for its in both.agents] == [
        ("new", True, False),
        ("old", False, True),
    ]


def test_an_assignment_that_waits_for_others_now_has_changed() -> None:
    both = compared(working_on("t1", (), a_call(1)), working_on("t1", ("t0",), a_call(2)))
    assert [pair.mark for pair in both.tasks] == ["changed"]
    both = compared(working_on("t1", (), a_call(1)), working_on("t2", (), a_call(2)))
    assert [pair.mark for pair in both.tasks] == ["left", "right"]


def test_answers_stand_line_beside_line() -> None:
    left = answering("one\ntwo\nthree", a_call(1))
    right = answering("one\n2\nthree\nfour", a_call(2))
    [pair] = compared(left, right).answers
    assert [(line.left, line.right, line.mark) for line in pair.lines] == [
        ("one", "one", "same"),
        ("two", "2", "changed"),
        ("three", "three", "same"),
        (None, "four", "right"),
    ]


def test_an_answer_that_was_not_captured_is_not_an_empty_one() -> None:
    [pair] = compared(answering("said", a_call(1)), a_call(2)).answers
    assert (pair.left, pair.right, pair.mark, pair.lines) == ("said", None, "left", ())
    assert compared(a_call(1), a_call(2)).answers == ()


def test_long_answers_are_shown_but_not_line_by_line() -> None:
    long = "\n".join(map(str, range(500)))
    [pair] = compared(answering(long, a_call(1)), answering("short", a_call(2))).answers
    assert pair.mark == "changed"
    assert pair.lines == ()
    assert pair.left is not None
    assert pair.left.endswith("499")


def test_what_was_answered_is_escaped_in_its_lines_too() -> None:
    [pair] = compared(answering("<b>\n</b>", a_call(1)), answering("<i>\u202e", a_call(2))).answers
    shown = "".join(f"{line.left}{line.right}" for line in pair.lines)
    assert "<b>" not in shown
    assert "<i>" not in shown
    assert "\u202e" not in shown
