"""The floor: plan, workers in parallel, synthesis, as one writes it by hand on AsyncOpenAI.

Sensible code, the SDK's default client, and nothing to see it by: no spans, metrics or prices.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from openai import AsyncOpenAI, DefaultAioHttpClient

from .fake_server import MODEL
from .measure import Run
from .prompts import PLANNER, TASK, WORKER

PLAN_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "assignments": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "string"},
                    "worker": {"type": "string"},
                    "subtask": {"type": "string"},
                    "depends_on": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["id", "worker", "subtask", "depends_on"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["assignments"],
    "additionalProperties": False,
}


@asynccontextmanager
async def by_hand(base_url: str, workers: int, *, aiohttp: bool = False) -> AsyncGenerator[Run]:
    """The floor on the SDK's default client, or on its aiohttp transport."""
    names = [f"w{n + 1}" for n in range(workers)]
    async with AsyncOpenAI(
        base_url=base_url,
        api_key="sk-none",
        max_retries=0,
        http_client=DefaultAioHttpClient() if aiohttp else None,
    ) as client:
        yield lambda: run(client, names)


async def run(client: AsyncOpenAI, names: Sequence[str]) -> str:
    """One run; returns the synthesis."""
    listed = "\n".join(f"- {name}: does what an experienced engineer does" for name in names)
    planned = await client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": PLANNER},
            {"role": "user", "content": f"Task: {TASK}\n\nWorkers:\n{listed}"},
        ],
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "plan", "schema": PLAN_SCHEMA, "strict": True},
        },
    )
    assignments = json.loads(planned.choices[0].message.content or "")["assignments"]

    async def work(subtask: str) -> str:
        done = await client.chat.completions.create(
            model=MODEL,
            messages=[
                {"role": "system", "content": WORKER},
                {"role": "user", "content": subtask},
            ],
        )
        return done.choices[0].message.content or ""

    outputs = await asyncio.gather(*(work(each["subtask"]) for each in assignments))
    results = "\n\n".join(
        f"[{each['worker']}] {output}" for each, output in zip(assignments, outputs, strict=True)
    )
    merged = await client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": PLANNER},
            {"role": "user", "content": f"Task: {TASK}\n\nResults:\n{results}\n\nMerge them."},
        ],
    )
    return merged.choices[0].message.content or ""
