"""OrchestratorWorkers as a user writes it; telemetry is what the process has set up."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pyagent_patterns.base import Agent
from pyagent_patterns.orchestration import OrchestratorWorkers
from pyagent_providers import LLM, OpenAILLM

from .fake_server import MODEL
from .measure import Run
from .prompts import PLANNER, TASK, WORKER
from .stub import StubLLM


@asynccontextmanager
async def team(base_url: str | None, workers: int) -> AsyncGenerator[Run]:
    """A planner and `workers` workers; without a base URL, on the stub."""

    def llm() -> LLM:
        if base_url is None:
            return StubLLM(workers)
        return OpenAILLM(MODEL, base_url=base_url, api_key="sk-none")

    orchestrator = OrchestratorWorkers(
        orchestrator=Agent("planner", llm(), system_prompt=PLANNER),
        workers=[
            Agent(f"w{n + 1}", llm(), system_prompt=WORKER, description=f"engineer {n + 1}")
            for n in range(workers)
        ],
    )

    async def run() -> None:
        result = await orchestrator.run(TASK)
        if result.unpriced or not result.cost_estimate:
            raise RuntimeError(f"not everything was on: {result.unpriced} calls are unpriced")

    yield run
