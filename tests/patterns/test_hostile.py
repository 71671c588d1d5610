"""Whatever a model writes cannot move a cursor where this SDK shows it."""

from __future__ import annotations

import logging

import pytest

from pyagent_patterns import AgentError, PlanError
from pyagent_providers.errors import ContentRefusedError
from pyagent_providers.hostile import shown

from .teams import item, plan_text, team

EVIL = "\x1b[2J\x1b]0;owned\x07red\u202eder\x9b31m"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain text", "plain text"),
        ("Zeilen\n\tund Tabs: größer, 中文, 🙂", "Zeilen\n\tund Tabs: größer, 中文, 🙂"),
        (EVIL, "redder"),
        ("a\x00b\rc\x08d", "abcd"),
        ("half \ud800", "half "),
    ],
)
def test_escapes_controls_and_invisible_characters_are_dropped(text: str, safe: str) -> None:
    assert shown(text) == safe


async def test_results_errors_and_logs_show_no_escape_sequence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "pyagent")
    plan = plan_text(item("a", EVIL, id="x"), item("a", "fine", id="y"))
    refused = ContentRefusedError(EVIL, provider="p", model="m")
    result = await team([plan], {"a": [EVIL, refused]}, final=EVIL).run("the task")
    with pytest.raises(PlanError) as no_plan:
        await team([EVIL, EVIL], {"a": []}).run("the task")
    with pytest.raises(AgentError) as no_answer:
        await team([plan], {"a": ["x", "y"]}, final=refused).run("the task")
    assert result.output == EVIL  # the value itself is untouched
    everything = f"{result}{no_plan.value}{no_answer.value}{caplog.text}"
    assert "redder" in everything
    assert not set(everything) & set("\x1b\x07\x9b\u202e")
