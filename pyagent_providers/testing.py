"""Test doubles for code that asks models: scripted answers, at no cost and without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeAlias

from .base import LLM
from .pricing import ModelPrice
from .types import Completion, Message, Request, Usage

Answer: TypeAlias = "str | Completion | Exception"

_USAGE = Usage(input_tokens=10, output_tokens=5)


@dataclass(frozen=True, slots=True)
class Step:
    """One scripted call.

    `answer` is the text, a whole `Completion`, or an exception to raise. `when` limits the step
    to a question that contains this text. `usage` applies to an answer given as text. `delay`
    is how long the model takes, in seconds.
    """

    answer: Answer
    when: str = ""
    usage: Usage | None = _USAGE
    delay: float = 0.0


class ScriptedLLM(LLM):
    """A model that answers from a script, each step once.

    A call takes the first step left whose `when` is in the question, else the first without a
    `when`. A call that none fits raises AssertionError, saying what was asked and what was left.
    `assert_done`, or leaving the `with` block, raises AssertionError when steps remain.
    `requests` are the calls made.

        with ScriptedLLM(["Paris", Step("Rome", when="Italy")]) as llm:
            ...
    """

    def __init__(
        self,
        steps: Sequence[Answer | Step],
        *,
        model: str = "scripted",
        provider: str = "scripted",
        price: ModelPrice | None = None,
    ) -> None:
        super().__init__(model, provider=provider, price=price)
        self._steps = [step if isinstance(step, Step) else Step(step) for step in steps]
        self.requests: list[Request] = []

    async def _complete(self, request: Request) -> Completion:
        self.requests.append(request)
        step = self._take(request.messages)
        if step.delay:
            await asyncio.sleep(step.delay)
        if isinstance(step.answer, Exception):
            raise step.answer
        if isinstance(step.answer, Completion):
            return step.answer
        return Completion(
            text=step.answer, usage=step.usage, model=self.model, finish_reason="stop"
        )

    def assert_done(self) -> None:
        """Raise AssertionError when a step was never used."""
        if self._steps:
            raise AssertionError(f"{len(self._steps)} scripted steps were not used: {self._steps}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:  # else it would hide what really went wrong
            self.assert_done()

    def _take(self, messages: Sequence[Message]) -> Step:
        question = "\n".join(message.content for message in messages)
        meant = [step for step in self._steps if step.when and step.when in question]
        for step in meant or [step for step in self._steps if not step.when]:
            self._steps.remove(step)
            return step
        left = f"left are {self._steps}" if self._steps else "the script is used up"
        raise AssertionError(f"unexpected question to {self!r}; {left}. It was:\n{question}")
