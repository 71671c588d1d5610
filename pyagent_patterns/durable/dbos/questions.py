"""Questions as DBOS workflows: one for each, under the id `run/key`, which DBOS starts only once.

Where no limit is set, a question is asked at once, in the process that executes its run. Where one
is, it goes through a queue that all workers share, and any worker that can import the team asks it.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, cast

from dbos import DBOS, DBOSConfig, SetWorkflowID
from dbos import error as dbos_error
from opentelemetry import context as otel_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pyagent_patterns.asking import Asking, labels_of
from pyagent_patterns.durable import teams
from pyagent_patterns.durable.teams import Team
from pyagent_patterns.journal import Work
from pyagent_patterns.question import Question
from pyagent_patterns.redacted import redacted_reply
from pyagent_providers.types import JSONObject

from .database import FORMAT, Database
from .record import APPLICATION, JSON, SCHEMA, Record, call_id
from .run_table import encode, stored_json

logger = logging.getLogger("pyagent")

POLL: Final = 0.2  # seconds between two looks at a queue, or at an answer from elsewhere
_QUEUE: Final = "pyagent-"  # and the provider's name
_CONNECTIONS: Final = 8  # and as many threads: more only wait for one another


@dataclass(frozen=True, slots=True)
class Limit:
    """How hard all workers together may press one provider; None: as hard as they like.

    `provider` is the name that telemetry has, such as "openai"; `concurrency` counts questions at
    a time, `per_minute` those begun within any minute. A question that is tried again keeps its
    place and counts once.
    """

    provider: str
    concurrency: int | None = None
    per_minute: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("concurrency", self.concurrency), ("per_minute", self.per_minute)):
            if value is not None and value < 1:
                raise ValueError(f"{name} of {self.provider!r} must be at least 1; got {value}")


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of a question: its value, None if no worker that was to ask it could.

    `here` says whether this process asked it, `twice` that it did and another one too, `queued`
    that it went through a queue.
    """

    value: JSONObject | None
    here: bool
    twice: bool
    queued: bool


class _Here:
    """A question that this process can ask, with the run's own context around it."""

    __slots__ = ("context", "task", "value", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.context = contextvars.copy_context()
        self.task: asyncio.Task[JSONObject] | None = None
        self.value: JSONObject | None = None

    async def do(self) -> JSONObject:
        return await self.work()


class Questions:
    """DBOS in this process, of which there can be one. Between `launch` and `close`."""

    def __init__(
        self, database: Database, record: Record, worker: str, limits: Sequence[Limit]
    ) -> None:
        self._database = database
        self._record = record
        self._worker = worker
        self._limits = limits
        self._here: dict[str, _Here] = {}
        self._awaited: dict[str, asyncio.Future[JSONObject | None]] = {}
        self._look_now = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._leaving = False
        self._queues: frozenset[str] = frozenset()

    async def launch(self) -> None:
        """Start DBOS. Raises RuntimeError if this process has one already."""
        global _current
        # In a thread: it waits for every transaction, also one that waits for this event loop.
        with self._database.explaining():
            await asyncio.to_thread(DBOS.migrate, self._database.address.url, schema=SCHEMA)
        await self._add_index()
        # Its records go where the application's do, not to a handler of its own.
        logging.getLogger("dbos").addHandler(_NULL)
        DBOS(config=self._config())
        if DBOS.executor_id != self._worker:  # it gave the one there is, made by somebody else
            raise RuntimeError(
                "DBOS runs in this process already, and there can be only one; let another process "
                "be the worker"
            )
        _current = self
        try:
            with self._database.explaining():
                DBOS.launch()  # here and not in a thread: it takes this loop for its workflows
                self._record.is_worker = True
                for limit in self._limits:
                    await _set(limit)
                await self.refresh_limits()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        global _current
        if self._looking is not None:
            self._looking.cancel()
        self._record.is_worker = False
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as thread:  # the loop's own are DBOS's, and end with it
            await loop.run_in_executor(thread, DBOS.destroy)
        loop.set_default_executor(ThreadPoolExecutor())
        _current = None

    async def refresh_limits(self) -> None:
        """Learn which providers have a limit; any worker may have set one."""
        queues = await DBOS.list_queues_async()
        self._queues = frozenset(queue.name for queue in queues)

    async def ask(
        self, run_id: str, key: str, given: JSONObject, work: Work, *, queue: bool
    ) -> Answered | None:
        """Put a question that is not on record; None if it is after all, or is no more.

        `work` asks it, `given` is the same for another process. Without `queue` it is asked
        here and at once, whatever the limits are.
        """
        its = call_id(run_id, key)
        queued = queue and _queue_for(given) in self._queues
        try:
            async with self._asking(its, work, queued=queued) as here:
                with SetWorkflowID(its, workflow_id_reuse_policy="reject"):
                    if queued:
                        await DBOS.enqueue_workflow_async(_queue_for(given), _ask, given)
                        return await self._answered(its, here)
                    handle = await DBOS.start_workflow_async(_ask, given)
                value = await handle.get_result()
                ours = value is here.value
                return Answered(value, here=ours, twice=not ours, queued=False)
        except dbos_error.DBOSException:
            return None

    async def wait(self, run_id: str, key: str, work: Work) -> Answered:
        """The answer to a question that is in a queue."""
        its = call_id(run_id, key)
        async with self._asking(its, work, queued=True) as here:
            return await self._answered(its, here)

    async def settle(self, seconds: float, is_busy: Callable[[], bool]) -> None:
        """Wait until what this process asks is answered and on record, but not longer.

        And until the process is not `is_busy` with other calls. From now on what is in a queue
        stays there.
        """
        self._leaving = True
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not is_busy() and not any(here.task for here in self._here.values()):
                with self._database.explaining():
                    if not await self._record.taken_by(self._worker):
                        return
            await asyncio.sleep(0.02)

    async def execute(self, its: str, given: JSONObject) -> JSONObject:
        """The body of the workflow: by the run's own means if it is here, else by the data."""
        here = self._here.get(its)
        if here is None:
            return await self._ask_for_another(its, given)
        here.task = asyncio.create_task(here.do(), context=here.context)
        value = await here.task
        stored_json(f"call {its!r}", value)
        here.value = value
        self._look_now.set()
        return value

    async def _ask_for_another(self, its: str, given: JSONObject) -> JSONObject:
        """Ask for a run that goes on in another process."""
        if self._leaving:
            await DBOS.resume_workflows_async([its], queue_name=_queue_for(given))
            await asyncio.Event().wait()  # what this would give is not wanted any more
        return await _by_data(given)

    @asynccontextmanager
    async def _asking(self, its: str, work: Work, *, queued: bool) -> AsyncGenerator[_Here]:
        """The block in which this process can ask the question by the run's own means."""
        here = self._here[its] = _Here(work)
        try:
            yield here
        except asyncio.CancelledError:  # the run was, and this question with it
            if here.task is not None:
                here.task.cancel()
            if queued and not self._leaving:  # it would count against the limit, or still be asked
                with suppress(Exception):  # the cancellation says more
                    await asyncio.wait_for(DBOS.cancel_workflow_async(its), timeout=5)
            raise
        finally:
            del self._here[its]

    async def _answered(self, its: str, here: _Here) -> Answered:
        """Wait for a queued question's answer, from whichever process it comes."""
        future = asyncio.get_running_loop().create_future()
        self._awaited[its] = future
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), context=contextvars.Context())
        try:
            value = await future
        finally:
            del self._awaited[its]
        asked = here.value is not None
        ours = asked and value == json.loads(encode(here.value))
        return Answered(value, here=ours, twice=asked and not ours, queued=True)

    async def _look(self) -> None:
        """Ask the database for everything that is awaited, at once."""
        while self._awaited:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), POLL)
            if self._look_now.is_set():
                self._look_now.clear()
                await asyncio.sleep(0.01)  # its outcome is just being written
            try:
                values = await self._record.over(list(self._awaited))
            except Exception:  # the database may be back at the next look
                logger.warning("cannot look for answers from other workers", exc_info=True)
                continue
            for its, value in values.items():
                future = self._awaited.get(its)
                if future is not None and not future.done():
                    future.set_result(value)

    async def _add_index(self) -> None:
        """So that the questions of one run are found without reading those of all."""
        found = await self._database.row("SELECT to_regclass('pyagent_dbos.pyagent_id') AS index")
        if found is None or found["index"] is None:
            await self._database.rows(
                "CREATE INDEX IF NOT EXISTS pyagent_id"
                " ON pyagent_dbos.workflow_status (workflow_uuid text_pattern_ops)"
            )

    def _config(self) -> DBOSConfig:
        return {
            "name": APPLICATION,
            "system_database_url": self._database.address.url,
            "dbos_system_schema": SCHEMA,
            # By default a hash of the code, with which every deploy would strand what is queued.
            "application_version": f"pyagent-{FORMAT}",
            "executor_id": self._worker,
            "serializer": JSON,
            "sys_db_pool_size": _CONNECTIONS,
            # A question is two round trips less. One that meets a dead connection is tried again.
            "db_engine_kwargs": {"pool_pre_ping": False},
            "max_executor_threads": _CONNECTIONS,
            "run_migrations": False,  # done before
            "use_listen_notify": False,
            "notification_listener_polling_interval_sec": POLL,  # for nothing, but its end waits
            "log_level": "WARNING",
            "enable_otlp": False,
        }


_NULL: Final = logging.NullHandler()
_current: Questions | None = None


@DBOS.workflow(name="pyagent.ask", max_recovery_attempts=None)
async def _ask(given: JSONObject) -> JSONObject:
    its = DBOS.workflow_id
    if _current is None or its is None:
        raise RuntimeError("this process is not a worker any more")
    return await _current.execute(its, given)


async def _set(limit: Limit) -> None:
    rate = limit.per_minute
    await DBOS.register_queue_async(
        _QUEUE + limit.provider,
        global_concurrency=limit.concurrency,
        limiter=None if rate is None else {"limit": rate, "period": 60},
        polling_interval_sec=POLL,
        on_conflict="always_update",
    )


def _queue_for(given: JSONObject) -> str:
    return _QUEUE + cast(str, cast(JSONObject, given["question"])["provider"])


async def _by_data(given: JSONObject) -> JSONObject:
    try:
        team = cast(Team, teams.load(cast(str, given["team"] or "?")))
        question = Question.from_dict(cast(JSONObject, given["question"]), team.agents)
    except Exception as error:  # importing runs code: whatever it raises, another may ask
        return {"refused": f"{type(error).__name__}: {error}"}
    asking = Asking(question, labels_of(question, {}), team.policy_at(question.path))
    carrier = {"traceparent": given["traceparent"] or ""}
    token = otel_context.attach(TraceContextTextMapPropagator().extract(carrier))
    try:
        return redacted_reply(await asking.ask())
    finally:
        asking.count()
        otel_context.detach(token)
