"""A process that is no worker looks at the questions of runs, by DBOS's own client."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from dbos import DBOSClient, WorkflowStatus

from .dbos_calls import APPLICATION, JSON, SCHEMA, call_id, value_of
from .dbos_database import Address
from .views import CallView


class Looking:
    """The client, made when it is first wanted."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._client: DBOSClient | None = None

    async def questions(self, run_id: str, doubts: Mapping[str, int]) -> list[CallView]:
        prefix = call_id(run_id, "")
        rows = await self._connected().list_workflows_async(workflow_id_prefix=prefix)
        keyed = [(row.workflow_id.removeprefix(prefix), row) for row in rows]
        return [_view(row, key, 1 + doubts.get(key, 0)) for key, row in keyed]

    async def cancel_queued(self, run_id: str) -> None:
        """What still waits in a queue is not to be asked any more."""
        client = self._connected()
        rows = await client.list_workflows_async(
            workflow_id_prefix=call_id(run_id, ""),
            status="ENQUEUED",
            load_input=False,
            load_output=False,
        )
        if rows:
            await client.cancel_workflows_async([row.workflow_id for row in rows])

    async def close(self) -> None:
        if self._client is not None:
            await asyncio.to_thread(self._client.destroy)

    def _connected(self) -> DBOSClient:
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


def _view(row: WorkflowStatus, key: str, begun: int) -> CallView:
    inputs = cast("dict[str, Any]", row.input)
    value = value_of(row)
    return CallView(
        key=key,
        activity="ask",
        input=inputs["args"][0]["question"],
        state="begun" if value is None else "done",
        begun=begun,
        copied=False,
        value=value,
        started_at=(row.created_at or 0) / 1000,
        ended_at=None if row.completed_at is None else row.completed_at / 1000,
    )
