"""A result in a notebook: a tree with costs, in which nothing that a model wrote is markup."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from pyagent_patterns import WorkersFailedError
from pyagent_patterns.orchestration import Hierarchical, Parallel, Team
from pyagent_patterns.result import Result

from .streams import eventful, piecewise
from .teams import item, plan_text

HOSTILE = (
    "<script>alert(1)</script></div></details><img src=x onerror=y> \x1b[31m\u202egnol\u202c &amp;"
)


class Page(HTMLParser):
    """The elements that a page has, all of them closed, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page(result: Result) -> Page:
    return Page(result._repr_html_())


async def nested(answer: str) -> Result:
    team = Team(
        "backend",
        lead=piecewise("lead", plan_text(item("coder", answer)), answer),
        workers=[piecewise("coder", answer)],
    )
    manager = piecewise("manager", plan_text(item("backend")), answer)
    return await Hierarchical(manager=manager, teams=[team]).run("the task")


async def test_what_a_model_wrote_is_text_and_never_markup() -> None:
    shown = page(await nested(HOSTILE))
    assert shown.tags == {"div", "span", "b", "details", "summary"}
    assert shown.attributes == {"style", "open"}
    assert shown.text.count("<script>alert(1)</script></div></details>") == 4
    assert "gnol &amp;" in shown.text
    assert not {"\x1b", "\u202e"} & set(shown.text)


async def test_a_member_within_a_pattern_stands_below_it_and_the_costs_add_up() -> None:
    shown = page(await nested("done")).text
    assert "hierarchical completed" in shown
    assert "5 calls · 50+25 tokens · $0.0003" in shown
    assert "2 calls · 20+10 tokens · $0.00012 · 40%manager" in shown  # plans and answers
    assert "3 calls · 30+15 tokens · $0.00018 · 60%backend" in shown
    assert shown.index("backend") < shown.index("lead") < shown.index("coder")


async def test_what_failed_was_tried_again_or_skipped_is_told_with_the_reason() -> None:
    shown = page(await eventful().run("the task")).text
    assert "orchestrator_workers partial" in shown
    for line in (
        "RateLimitError failed",
        "3 attempts failed, the last with ServerError",
        "t3 skipped after t2",
        "it depends on t2, which did not complete",
        "it is salt",
        "the final answer",
    ):
        assert line in shown


async def test_a_run_that_came_to_nothing_can_be_shown_too() -> None:
    with pytest.raises(WorkersFailedError) as failed:
        await Parallel([piecewise("a", ValueError("it broke"))]).run("the task")
    assert failed.value.result is not None
    shown = page(failed.value.result).text
    assert "ValueError: it broke" in shown
    assert "unpriced" in shown
