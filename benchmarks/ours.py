"""OrchestratorWorkers as a user writes it; telemetry is what the process has set up."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pyagent_patterns.base import Agent
from pyagent_patterns.journal import Store
from pyagent_patterns.orchestration import OrchestratorWorkers
from pyagent_providers import LLM, OpenAILLM

from .fake_server import MODEL
from .measure import Run
from .prompts import PLANNER, TASK, WORKER
from .stub import StubLLM


@asynccontextmanager
async def team(
    base_url: str | None, workers: int, *, durable: str | None = None
) -> AsyncGenerator[Run]:
    """A planner and `workers` workers; without a base URL, on the stub.

    `durable` is where every run is kept: a PostgreSQL database by its URL, or a journal file.
    """

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

    async with _kept(durable) as store:

        async def run() -> None:
            result = await orchestrator.run(TASK, durable=store)
            if result.unpriced or not result.cost_estimate:
                raise RuntimeError(f"not everything was on: {result.unpriced} calls are unpriced")

        yield run


@asynccontextmanager
async def _kept(durable: str | None) -> AsyncGenerator[Store | None]:
    if durable is None:
        yield None
    elif durable.startswith("postgresql:"):
        from pyagent_patterns.durable.dbos import Cluster

        async with Cluster(durable) as cluster:
            await cluster.join()
            yield cluster
    else:
        from pyagent_patterns.durable import Runs

        with Runs(durable) as runs:
            yield runs
