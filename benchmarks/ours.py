"""OrchestratorWorkers as a user writes it; telemetry is what the process has set up."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pyagent_patterns.base import Agent
from pyagent_patterns.journal import Store
from pyagent_patterns.orchestration import OrchestratorWorkers
from pyagent_providers import LLM, OpenAILLM

from .fake_server import MODEL
from .measure import Run
from .prompts import PLANNER, TASK, WORKER
from .stub import StubLLM


@asynccontextmanager
async def team(base_url: str | None, workers: int, *, durable: bool = False) -> AsyncGenerator[Run]:
    """A planner and `workers` workers; without a base URL, on the stub.

    `durable` keeps every run in one journal file, in a temporary folder.
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

    with ExitStack() as stack:
        store: Store | None = None
        if durable:
            from pyagent_patterns.durable import Runs

            folder = stack.enter_context(TemporaryDirectory())
            store = stack.enter_context(Runs(Path(folder) / "runs.db"))

        async def run() -> None:
            result = await orchestrator.run(TASK, durable=store)
            if result.unpriced or not result.cost_estimate:
                raise RuntimeError(f"not everything was on: {result.unpriced} calls are unpriced")

        yield run
