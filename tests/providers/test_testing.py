"""ScriptedLLM: answers from its script, and fails loudly when the script does not fit."""

from __future__ import annotations

import pytest

from pyagent_providers import Completion, Message, Usage
from pyagent_providers.errors import RateLimitError
from pyagent_providers.testing import ScriptedLLM, Step


async def test_steps_are_taken_in_order_and_a_fitting_condition_comes_first() -> None:
    llm = ScriptedLLM(["first", Step("about Italy", when="Italy"), "second"])
    questions = ["What?", "And Italy?", "Italy again?"]
    answers = [(await llm.complete(question)).text for question in questions]
    assert answers == ["first", "about Italy", "second"]
    llm.assert_done()


async def test_an_unexpected_question_is_an_error_that_shows_it() -> None:
    llm = ScriptedLLM([Step("Rome", when="Italy")])
    with pytest.raises(AssertionError, match="unexpected question") as caught:
        await llm.complete("And France?")
    assert "And France?" in str(caught.value)
    assert "Italy" in str(caught.value)


def test_a_step_that_nobody_used_is_an_error_at_the_end_of_the_block() -> None:
    with pytest.raises(AssertionError, match="1 scripted steps were not used"), ScriptedLLM(["x"]):
        pass


def test_an_error_inside_the_block_is_not_hidden_by_unused_steps() -> None:
    with pytest.raises(ZeroDivisionError), ScriptedLLM(["x"]):
        raise ZeroDivisionError


async def test_steps_can_be_completions_and_errors() -> None:
    whole = Completion(text="whole", usage=Usage(input_tokens=7), model="m")
    llm = ScriptedLLM([whole, RateLimitError("slow down")])
    assert (await llm.complete("a")).usage == whole.usage
    with pytest.raises(RateLimitError):
        await llm.complete("b")
    assert llm.requests[1].messages == (Message("user", "b"),)


async def test_a_stream_gives_the_text_and_then_the_completion() -> None:
    pieces = [piece async for piece in ScriptedLLM(["hello"]).stream("hi")]
    assert pieces[0] == "hello"
    assert isinstance(pieces[1], Completion)
    assert pieces[1].text == "hello"
