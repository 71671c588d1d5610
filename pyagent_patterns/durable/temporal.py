"""Runs on Temporal: a run is a workflow, and every question it asks is a workflow of its own.

    async with TemporalCluster("localhost:7233") as cluster:
        run_id = await cluster.submit("package.module:team", "the task")
        result = await cluster.result(run_id)

while other processes, which can import the team, `work`. It needs
`pip install "pyagent-sdk[temporal]"`.

Proven is what stands here, with any number of workers of which any may die at any time. There is
no list of runs, no fork and no limit per provider; Temporal's own tools show what there is.
Temporal takes values of up to 2 MB, and deletes what has ended after the namespace's retention.
That must be longer than any run lasts, waiting included: a run whose record is gone fails, and
pays for nothing again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from types import TracebackType
from typing import Final, Self, Unpack, cast

from pyagent_patterns.errors import (
    InputChanged,
    JournalError,
    PyAgentError,
    RunCancelled,
    UnknownRunError,
)
from pyagent_patterns.people import Wanted
from pyagent_providers.redaction import redacted_json
from pyagent_providers.types import JSONObject, JSONValue

try:
    from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowHistory
    from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
    from temporalio.exceptions import CancelledError, WorkflowAlreadyStartedError
    from temporalio.service import RPCError, RPCStatusCode
    from temporalio.worker import Worker
except ImportError as missing:
    raise ImportError(
        'runs on Temporal need its SDK: pip install "pyagent-sdk[temporal]"'
    ) from missing

from .submission import HowSubmitted, Submission
from .temporal_journal import Activities, described, failed, recording, text
from .temporal_workflows import (
    CallWorkflow,
    Driven,
    Run,
    RunWorkflow,
    Signal,
    call_queue,
    run_workflow,
)

__all__ = ["TemporalCluster"]

LEASE: Final = 5.0
_GRACE: Final = timedelta(seconds=30)  # for calls in flight when a worker is told to stop


class TemporalCluster:
    """Runs in a namespace of the Temporal server at `address` (`host:port`), and their workers.

    A worker that is silent for `lease` seconds loses what it does to another one; a run has the
    lease with which it is submitted. Clusters of one `task_queue` share their workers. Use it as an
    async context manager; every method raises JournalError when the server cannot be used.
    """

    def __init__(
        self,
        address: str,
        *,
        namespace: str = "default",
        task_queue: str = "pyagent",
        lease: float = LEASE,
    ) -> None:
        if not lease > 0:
            raise ValueError(f"lease must be a number of seconds above 0; got {lease!r}")
        self._address = address
        self._namespace = namespace
        self._queue = task_queue
        self._lease = lease
        self._connected: Client | None = None

    def __repr__(self) -> str:
        return f"TemporalCluster({self._address!r}, namespace={self._namespace!r})"

    async def __aenter__(self) -> Self:
        try:
            self._connected = await Client.connect(self._address, namespace=self._namespace)
        except RuntimeError as error:
            raise JournalError(
                f"no Temporal server answers at {self._address!r}: {error}"
            ) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connected = None  # the SDK closes the connection when nothing refers to it

    async def work(self, *, runs: int = 100, calls: int = 100) -> None:
        """Be a worker until cancelled: drive at most so many runs, and make so many calls, at once.

        Then calls in flight have 30 seconds to end, and the runs go on in other workers.
        """
        activities = Activities(self._client)
        at_once = timedelta(milliseconds=1)  # a heartbeat that waited could come after its end
        # What waits for a dead worker, since that had its workflow in memory, is soon for all.
        sticky = timedelta(seconds=self._lease / 5)
        # Two queues: runs that wait for their calls must not take the calls' places.
        make_calls = Worker(
            self._client,
            task_queue=call_queue(self._queue),
            workflows=[CallWorkflow],
            activities=[activities.ask],
            max_concurrent_activities=calls,
            max_heartbeat_throttle_interval=at_once,
            sticky_queue_schedule_to_start_timeout=sticky,
            graceful_shutdown_timeout=_GRACE,
        )
        drive_runs = Worker(
            self._client,
            task_queue=self._queue,
            workflows=[RunWorkflow],
            activities=[activities.drive],
            max_concurrent_activities=runs,
            max_heartbeat_throttle_interval=at_once,
            sticky_queue_schedule_to_start_timeout=sticky,
        )
        async with make_calls, drive_runs:
            await asyncio.Event().wait()

    async def submit(self, team: str, task: str, **how: Unpack[HowSubmitted]) -> str:
        """Have a run driven by whichever worker has a place; its id.

        `team` names the pattern for the workers, as `package.module:object`; `run_id`, `inputs`,
        `budget`, `tenant` and `user` are as for `Pattern.run`, and hold in whichever process
        drives the run. Inputs are checked where the team can be imported here, else by the worker.
        Submitting a run again under its id changes nothing.

        Raises TypeError or ValueError for a task, inputs, a tenant or a user that are none,
        ValueError for such a name that is not one, InputChanged when the id is that of another run.
        """
        submitted = Submission.of(team, task, **how)
        run_id, given = submitted.run_id, submitted.on_record
        run = Run(
            *(run_id, team, text("the task", submitted.task), self._queue, self._lease),
            text("how a run is to go", given),
        )
        input_hash = hashlib.sha256(f"{team}\0{run.task}".encode()).hexdigest()
        its = self._handle(run_id)
        with recording(f"run {run_id!r}"):
            try:
                await self._client.start_workflow(
                    RunWorkflow.run,
                    run,
                    id=its.id,
                    task_queue=self._queue,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                    task_timeout=timedelta(seconds=self._lease),
                    memo={"input_hash": input_hash, "given": given},
                )
            except WorkflowAlreadyStartedError:
                known = await its.describe()
                if await known.memo_value("input_hash") != input_hash:
                    raise InputChanged(run_id, "task") from None
                submitted.check_same(await known.memo_value("given", {}))
        return run_id

    async def result(self, run_id: str, *, timeout: float | None = None) -> JSONObject:  # noqa: ASYNC109
        """Wait for a run to end: `Result.to_dict()` of its result.

        Raises PyAgentError with the text of what the run raised (InputChanged if it was that),
        RunCancelled, UnknownRunError, and TimeoutError when it has not ended after `timeout`
        seconds. A failed run goes on from its record after
        `temporal workflow reset --type FirstWorkflowTask`.
        """
        async with self._known(run_id) as its:
            try:
                async with asyncio.timeout(timeout):
                    return json.loads(await its.result())
            except WorkflowFailureError as failure:
                raise _error(run_id, failure.cause) from failure

    async def signal(self, run_id: str, name: str, value: JSONValue = None) -> None:
        """Send a run a value under a name. It is kept until the run waits for it.

        A run that is suspended for it goes on at once, on any worker. Raises UnknownRunError, and
        JournalError for a run that has ended.
        """
        sent = Signal(name, text(f"signal {name!r}", redacted_json(value)))
        async with self._known(run_id) as its:
            await its.signal(RunWorkflow.send, sent)

    async def wanted(self, run_id: str) -> Sequence[Wanted]:
        """What people are asked and the run waits for: a signal named `key` decides it.

        Raises UnknownRunError.
        """
        async with self._known(run_id) as its:
            history = await its.fetch_history()
        driven = await self._last(history)
        asked: Mapping[str, JSONObject] = {} if driven is None else json.loads(driven.wanted)
        return [Wanted.of_record(run_id, key, given) for key, given in asked.items()]

    async def cancel(self, run_id: str) -> None:
        """End a run for good, and the calls it waits for, within the lease.

        Raises UnknownRunError, and JournalError for a run that has ended.
        """
        async with self._known(run_id) as its:
            await its.cancel()

    async def _last(self, history: WorkflowHistory) -> Driven | None:
        """How the run's last execution ended; None while there is one."""
        for event in reversed(history.events):
            if event.HasField("activity_task_scheduled_event_attributes"):
                return None
            if event.HasField("activity_task_completed_event_attributes"):
                given = event.activity_task_completed_event_attributes.result.payloads
                [driven] = await self._client.data_converter.decode(given, [Driven])
                return cast(Driven, driven)
        return None

    @asynccontextmanager
    async def _known(self, run_id: str) -> AsyncGenerator[WorkflowHandle[RunWorkflow, str]]:
        """The run's workflow. What does not find it open says whether there is one at all."""
        its = self._handle(run_id)
        with recording(f"run {run_id!r}"):
            try:
                yield its
            except RPCError as error:
                if error.status != RPCStatusCode.NOT_FOUND:
                    raise
                found = await described(its)
                if found is None:
                    raise UnknownRunError(run_id, f"Temporal at {self._address!r}") from None
                status = "running" if found.status is None else found.status.name.lower()
                raise JournalError(f"run {run_id!r} is {status} already") from None

    def _handle(self, run_id: str) -> WorkflowHandle[RunWorkflow, str]:
        return self._client.get_workflow_handle_for(RunWorkflow.run, run_workflow(run_id))

    @property
    def _client(self) -> Client:
        if self._connected is None:
            raise RuntimeError("a TemporalCluster is a context manager: use `async with`")
        return self._connected


def _error(run_id: str, cause: BaseException) -> PyAgentError:
    if isinstance(cause, CancelledError):
        return RunCancelled(run_id)
    what, said, key = failed(cause)
    if what == InputChanged.__name__ and key is not None:
        return InputChanged(run_id, key)
    return PyAgentError(f"run {run_id!r} failed with {what}: {said}")
