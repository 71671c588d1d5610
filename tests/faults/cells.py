"""One cell of the matrix, run: a one-agent team that meets a fault once, or every time."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyagent_patterns import Agent, AgentError, Result, RetryPolicy
from pyagent_patterns.events import CallSettled
from pyagent_patterns.ledger import CallRecord
from pyagent_patterns.testing import CapturedTrace, capture_trace
from pyagent_providers import LLM
from tests.failure.solo import Solo
from tests.faults.matrix import Mode

DEADLINE = 10.0  # seconds, for a whole run: only what hangs comes near it
TIMEOUT = 0.25  # seconds, of an adapter that meets silence

ATTEMPTS = 2
RETRY = RetryPolicy(max_attempts=ATTEMPTS, backoff=0, max_backoff=1)


@dataclass(frozen=True)
class Run:
    """What there is to see of a run that ended: its result, what it raised, its trace."""

    mode: Mode
    result: Result
    error: AgentError | None
    events: Sequence[CallSettled]
    trace: CapturedTrace

    @property
    def raised(self) -> BaseException | None:
        """What the adapter raised, beneath the agent's error."""
        return self.error and self.error.__cause__

    @property
    def told(self) -> Sequence[CallRecord]:
        return [event.call for event in self.events]

    @property
    def pauses(self) -> Sequence[float]:
        """The seconds waited between attempts."""
        return [event.retry_in for event in self.events if event.retry_in is not None]

    @property
    def chat_spans(self) -> Sequence[Mapping[str, Any]]:
        """The attributes of each attempt's span."""
        return [
            dict(span.attributes or {})
            for span in self.trace.spans
            if span.name.startswith("chat ")
        ]


def ask(
    llm: LLM,
    mode: Mode,
    *,
    on_retry: Callable[[], None] = lambda: None,
    connections: Callable[[], int] = lambda: 0,
) -> Run:
    """Put one question to the model, in an event loop of its own.

    `on_retry` is called between two attempts. Fails if the run outlasts the deadline, or leaves a
    task, or more than one of its `connections`: the last may be kept for the next call.
    """

    async def run() -> Run:
        before = asyncio.all_tasks()
        events: list[CallSettled] = []

        def observe(event: object) -> None:
            if isinstance(event, CallSettled):
                events.append(event)
                if event.retry_in is not None:
                    on_retry()

        agent = Agent("solo", llm, stream=mode == "stream")
        error: AgentError | None = None
        with capture_trace() as trace:
            async with asyncio.timeout(DEADLINE):
                try:
                    result = await Solo(agent, retry=RETRY).run("Hi", on_event=observe)
                except AgentError as failed:
                    error, result = failed, failed.result
        assert result is not None
        await eventually(lambda: connections() <= 1 and not tasks_beside(before))
        return Run(mode, result, error, events, trace)

    run_ended = asyncio.run(run(), debug=True)
    gc.collect()  # what was not closed warns, and a warning fails the test
    return run_ended


def tasks_beside(known: set[asyncio.Task[Any]]) -> Sequence[asyncio.Task[Any]]:
    """LiteLLM keeps one for its callbacks as long as the loop runs; that does not count."""
    return [task for task in asyncio.all_tasks() - known if "LoggingWorker" not in repr(task)]


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.002)
