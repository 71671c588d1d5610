"""The workflows that Temporal keeps, and what they and the workers' activities tell each other.

Values are JSON text within Temporal's own JSON: that would sort the names in an object, and the
order of a schema's properties is the order in which a model answers.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypedDict
from urllib.parse import quote

from temporalio import workflow
from temporalio.common import RetryPolicy

DRIVE: Final = "pyagent.drive"  # the names of the activities
ASK: Final = "pyagent.ask"


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it was submitted. `task` is JSON text; `lease` is in seconds.

    `given` is JSON text too: values on record before the first execution, by activity.
    """

    run_id: str
    team: str
    task: str
    queue: str
    lease: float
    given: str = "{}"


@dataclass(frozen=True, slots=True)
class Past:
    """What a run's executions tell the next. `known` are the keys of the calls on record."""

    execution: int
    first_traceparent: str | None
    known: list[str]


@dataclass(frozen=True, slots=True)
class Driven:
    """How an execution ended: with a result, which is JSON text, or suspended.

    `wanted` is what people are to decide, as JSON text, by the name of the signal that says it.
    """

    result: str | None
    past: Past
    wake_at: float | None
    waiting_for: list[str]
    wanted: str = "{}"


@dataclass(frozen=True, slots=True)
class Signal:
    """A value, which is JSON text, sent under a name."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Wait:
    """A run's wait for a signal, under the wait's key."""

    key: str
    name: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, as JSON text, that any worker can put; `traceparent` is the run's.

    `here`: only the process that drives the run may put it.
    """

    team: str
    question: str
    traceparent: str | None
    lease: float
    here: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A call's value, as JSON text. Each attempt but the last may have been paid for too."""

    value: str
    attempts: int


@workflow.defn(name="pyagent.run", sandboxed=False)
class RunWorkflow:
    """Has the run driven until it ends; while it is suspended, waits for what wakes it."""

    def __init__(self) -> None:
        self._sent: list[Signal] = []
        self._taken: dict[str, Signal] = {}
        self._begun: set[str] = set()

    @workflow.run
    async def run(self, run: Run) -> str:
        past = Past(0, None, [])
        while True:
            driven: Driven = await workflow.execute_activity(
                DRIVE, args=[run, past], result_type=Driven, **_until_done(run.lease)
            )
            if driven.result is not None:
                return driven.result
            past = driven.past
            await self._wake(driven)

    @workflow.signal(name="send")
    def send(self, signal: Signal) -> None:
        self._sent.append(signal)

    @workflow.signal(name="begin")
    def begin(self, key: str) -> None:
        """Of a question that only the run's own process may put, before it is put."""
        self._begun.add(key)

    @workflow.query(name="begun")
    def begun(self) -> list[str]:
        return sorted(self._begun)

    @workflow.update(name="take")
    def take(self, wait: Wait) -> Signal | None:
        """The first signal of the name that no other wait has taken; for one wait, always that."""
        if wait.key not in self._taken:
            found = next((signal for signal in self._sent if signal.name == wait.name), None)
            if found is None:
                return None
            self._sent.remove(found)
            self._taken[wait.key] = found
        return self._taken[wait.key]

    async def _wake(self, driven: Driven) -> None:
        def is_there() -> bool:
            return any(signal.name in driven.waiting_for for signal in self._sent)

        # Never 0: a worker whose clock is behind finds that it is not time yet.
        left = None if driven.wake_at is None else max(0.05, driven.wake_at - workflow.time())
        with suppress(TimeoutError):
            await workflow.wait_condition(is_there, timeout=left)


@workflow.defn(name="pyagent.call", sandboxed=False)
class CallWorkflow:
    """The record of one call. What only the run's own process can do, it tells when it is done."""

    def __init__(self) -> None:
        self._value: str | None = None

    @workflow.run
    async def run(self, asked: Asked | None) -> Answer:
        if asked is not None and not asked.here:
            answer: Answer = await workflow.execute_activity(
                ASK, asked, result_type=Answer, **_until_done(asked.lease)
            )
            return answer
        await workflow.wait_condition(lambda: self._value is not None)
        return Answer(self._value or "", 1)

    @workflow.signal(name="done")
    def done(self, value: str) -> None:
        if self._value is None:  # what is on record stays
            self._value = value


def run_workflow(run_id: str) -> str:
    """The id of a run's workflow: without a `/`, so that none is that of a call."""
    return quote(run_id, safe="")


def call_workflow(run_id: str, key: str) -> str:
    return f"{run_workflow(run_id)}/{key}"


def call_queue(queue: str) -> str:
    return f"{queue}.calls"


class _Options(TypedDict):
    start_to_close_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy
    cancellation_type: workflow.ActivityCancellationType


def _until_done(lease: float) -> _Options:
    """An activity takes as long as it takes; when its worker falls silent, another one does it.

    However often that happens: the pauses in between are for a server that is out of reach.
    """
    return {
        "start_to_close_timeout": timedelta(days=3650),  # Temporal wants one
        "heartbeat_timeout": timedelta(seconds=lease),
        "retry_policy": RetryPolicy(
            initial_interval=timedelta(milliseconds=50),
            maximum_interval=timedelta(milliseconds=500),
        ),
        "cancellation_type": workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    }
