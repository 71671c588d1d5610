"""No HTTP: the answers of a model that answers at once, and the hand-written run on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pyagent_providers import LLM, Completion, Request, Usage

from .fake_server import ANSWER, MODEL, plan_json
from .measure import Run


class StubLLM(LLM):
    """Plans for `workers` workers when asked for JSON, else answers; both at once."""

    def __init__(self, workers: int) -> None:
        super().__init__(MODEL, provider="openai")
        self._plan = _completion(plan_json(workers, workers))
        self._answer = _completion(ANSWER)

    async def _complete(self, request: Request) -> Completion:
        return self._answer if request.schema is None else self._plan


def _completion(text: str) -> Completion:
    return Completion(
        text=text,
        usage=Usage(input_tokens=412, output_tokens=38, cache_read_tokens=128),
        model=f"{MODEL}-2024-07-18",
        finish_reason="stop",
        response_id="chatcmpl-Bx1dYV0Jq2s6k3TtYc9mWq7rZ8aLe",
    )


@asynccontextmanager
async def by_hand(workers: int) -> AsyncGenerator[Run]:
    """Plan, workers in parallel, synthesis by hand: ours less this is what ours adds."""

    async def answer() -> str:
        return ANSWER

    async def run() -> str:
        await answer()
        await asyncio.gather(*(answer() for _ in range(workers)))
        return await answer()

    yield run
