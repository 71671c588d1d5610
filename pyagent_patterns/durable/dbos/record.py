"""The questions of runs on record: DBOS workflows, as any process may read and change them.

A worker does so by the DBOS it has, any other process by DBOS's client.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import quote, unquote

from dbos import DBOS, DBOSClient, Serializer, WorkflowStatus

from pyagent_providers.redaction import redacted
from pyagent_providers.types import JSONObject

from .database import Address
from .run_table import encode

SCHEMA: Final = "pyagent_dbos"
APPLICATION: Final = "pyagent"
_OVER: Final = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A question on record. `value` is None while there is none. Times are Unix time.

    If it is `queued`, some worker will answer it; `refused`: the worker that was to ask it could
    not.
    """

    input_hash: str
    question: JSONObject
    value: JSONObject | None
    queued: bool
    refused: bool
    started_at: float
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class Taken:
    """A question that a worker has taken from a queue."""

    run_id: str
    key: str
    queue: str


class Record:
    """What there is of DBOS in this process; the client is made when it is first wanted."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._client: DBOSClient | None = None
        self.is_worker = False  # DBOS is launched

    async def questions(self, run_id: str) -> dict[str, Found]:
        """Every question of the run, by key."""
        prefix = call_id(run_id, "")
        rows = await self._dbos().list_workflows_async(workflow_id_prefix=prefix)
        return {row.workflow_id.removeprefix(prefix): _found(row) for row in rows}

    async def question(self, run_id: str, key: str) -> Found | None:
        rows = await self._dbos().list_workflows_async(workflow_ids=[call_id(run_id, key)])
        return _found(rows[0]) if rows else None

    async def over(self, ids: Sequence[str]) -> dict[str, JSONObject | None]:
        """The values of those of the workflows that are over; None where there is none."""
        rows = await self._dbos().list_workflows_async(
            workflow_ids=list(ids), status=list(_OVER), load_input=False
        )
        return {row.workflow_id: _value(row) for row in rows}

    async def forget(self, run_id: str, key: str) -> None:
        """Take a question that has no value off the record, to be put again."""
        await self._dbos().delete_workflows_async([call_id(run_id, key)])

    async def forget_all(self, run_ids: Sequence[str]) -> None:
        """Take every question of these runs off the record."""
        if not run_ids:  # that would be the questions of all
            return
        if ids := await self._ids(run_ids):
            await self._dbos().delete_workflows_async(ids)

    async def withdraw(self, run_id: str) -> None:
        """What still waits in a queue is not to be asked any more."""
        if ids := await self._ids([run_id], status="ENQUEUED"):
            await self._dbos().cancel_workflows_async(ids)

    async def taken_by(self, worker: str) -> list[Taken]:
        """The questions that a worker has taken from the queues and not answered."""
        rows = await self._dbos().list_workflows_async(
            executor_id=worker, status="PENDING", load_input=False, load_output=False
        )
        # What was in no queue is seen to by whoever goes on with its run.
        queued = [(row.workflow_id, row.queue_name) for row in rows if row.queue_name is not None]
        return [Taken(*_run_and_key(its), queue) for its, queue in queued]

    async def put_back(self, taken: Taken) -> None:
        its = call_id(taken.run_id, taken.key)
        await self._dbos().resume_workflows_async([its], queue_name=taken.queue)

    async def close(self) -> None:
        if self._client is not None:
            await asyncio.to_thread(self._client.destroy)

    async def _ids(self, run_ids: Sequence[str], status: str | None = None) -> list[str]:
        rows = await self._dbos().list_workflows_async(
            workflow_id_prefix=[call_id(run_id, "") for run_id in run_ids],
            status=status,
            load_input=False,
            load_output=False,
        )
        return [row.workflow_id for row in rows]

    def _dbos(self) -> DBOSClient | type[DBOS]:
        if self.is_worker:
            return DBOS
        if self._client is None:
            self._client = DBOSClient(
                system_database_url=self._address.url,
                dbos_system_schema=SCHEMA,
                serializer=JSON,
                system_database_pool_size=2,
                application_name=APPLICATION,
                lazy=True,
            )
        return self._client


def call_id(run_id: str, key: str) -> str:
    """The workflow's id. No two runs share one, whatever their ids are."""
    return f"{quote(run_id, safe='')}/{key}"


class _JSON(Serializer):
    """Never pickle: what is stored is read, and no code."""

    def serialize(self, data: Any) -> str:
        if isinstance(data, BaseException):
            data = {"error": redacted(f"{type(data).__name__}: {data}")}
        return encode(data)

    def deserialize(self, serialized_data: str) -> Any:
        data = cast("dict[str, object] | None", json.loads(serialized_data))
        if data is not None and list(data) == ["error"]:
            return RuntimeError(data["error"])
        return data

    def name(self) -> str:
        return "pyagent_json"


JSON: Final = _JSON()


def _found(row: WorkflowStatus) -> Found:
    given = cast("dict[str, Any]", row.input)["args"][0]
    value = _value(row)
    return Found(
        input_hash=given["input_hash"],
        question=given["question"],
        value=value,
        queued=row.queue_name is not None and row.status in ("ENQUEUED", "PENDING"),
        refused=value is None and row.status == "SUCCESS",
        started_at=(row.created_at or 0) / 1000,
        ended_at=None if row.completed_at is None else row.completed_at / 1000,
    )


def _value(row: WorkflowStatus) -> JSONObject | None:
    if row.status != "SUCCESS" or "refused" in cast(JSONObject, row.output):
        return None
    return cast(JSONObject, row.output)


def _run_and_key(its: str) -> tuple[str, str]:
    run_id, _, key = its.partition("/")
    return unquote(run_id), key
