"""What a worker on Temporal does: drive runs, each on a journal of workflows, and ask questions."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from typing import Any, Final, cast

from opentelemetry import context as otel_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from temporalio import activity
from temporalio.client import (
    AsyncActivityCancelledError,
    AsyncActivityHandle,
    Client,
    RPCTimeoutOrCancelledError,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ActivityError, ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from pyagent_patterns.asking import Asking, labels_of
from pyagent_patterns.errors import InputChanged, JournalError, RunSuspended
from pyagent_patterns.journal import Call, Called, Earlier, RunEnd, RunStart, Suspend, Work
from pyagent_patterns.question import Question
from pyagent_patterns.redacted import redacted_reply
from pyagent_providers.hostile import shown
from pyagent_providers.redaction import redacted
from pyagent_providers.types import JSONObject, JSONValue

from . import teams
from .teams import Team
from .temporal_workflows import (
    ASK,
    DRIVE,
    Answer,
    Asked,
    CallWorkflow,
    Driven,
    Past,
    Run,
    RunWorkflow,
    Signal,
    Wait,
    call_queue,
    call_workflow,
    run_workflow,
)

LIMIT: Final = 2 * 2**20  # bytes of one value: what Temporal takes unless it is set up otherwise


class Activities:
    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn(name=DRIVE)
    async def drive(self, run: Run, past: Past) -> Driven:
        """Execute the pattern from the top; what is on record is not done again."""
        journal = TemporalJournal(self._client, run, past)
        async with _heartbeat(run.lease, lambda: journal.traceparent_to_link):
            try:
                await self._check_late(run.lease)
                team = cast(Team, teams.load(run.team))
                with suppress(RunSuspended):
                    await team.run(json.loads(run.task), run_id=run.run_id, durable=journal)
                return journal.driven()
            except Exception as error:
                raise _failure(error) from None  # Temporal would keep what a cause says

    @activity.defn(name=ASK)
    async def ask(self, asked: Asked) -> None:
        """Put a question for a run that is driven anywhere. That it failed is an answer too.

        The `Answer` is not returned but sent from here, so that it is on record when it is counted
        in the metrics. The server refuses it if another worker has the question by now.
        """
        parent = {"traceparent": asked.traceparent or ""}
        token = otel_context.attach(TraceContextTextMapPropagator().extract(parent))
        try:
            await self._check_late(asked.lease)
            team = cast(Team, teams.load(asked.team))
            question = Question.from_dict(json.loads(asked.question), team.agents)
            asking = Asking(question, labels_of(question, {}), team.policy_at(question.path))
            what = f"the answer of {question.agent.name!r}"
            try:
                async with _heartbeat(asked.lease):
                    value = text(what, redacted_reply(await asking.ask()))
                await self._still_ours()  # no heartbeat of the SDK's may come after the answer
                with recording(what):
                    await self._attempt().complete(Answer(value, activity.info().attempt))
            finally:
                asking.count()
        except Exception as error:
            raise _failure(error) from None
        finally:
            otel_context.detach(token)
        activity.raise_complete_async()

    async def _check_late(self, lease: float) -> None:
        """A process that was frozen finds tasks that others have done meanwhile: raise for those.

        By the clock alone this cannot be known: that of Temporal may be another.
        """
        if time.time() - activity.info().started_time.timestamp() >= lease / 2:
            await self._still_ours()

    async def _still_ours(self) -> None:
        with recording("a late task"), suppress(AsyncActivityCancelledError):  # told again in time
            await self._attempt().heartbeat(*activity.info().heartbeat_details)

    def _attempt(self) -> AsyncActivityHandle:
        return self._client.get_async_activity_handle(task_token=activity.info().task_token)


class TemporalJournal:
    """One execution of a run, within the activity that drives it. It is its own store."""

    lost = None  # an execution whose place another one takes is cancelled, and nobody hears of it

    def __init__(self, client: Client, run: Run, past: Past) -> None:
        info = activity.info()
        # A worker that died has told it with its last heartbeat.
        told = cast("str | None", info.heartbeat_details[0] if info.heartbeat_details else None)
        self.first_traceparent = told or past.first_traceparent
        self.execution = past.execution + info.attempt
        self._client = client
        self._run = run
        self._known = set(past.known)
        self._traceparent: str | None = None
        self._end: RunEnd | None = None
        self._consults: dict[str, JSONValue] = {}

    async def open(self, start: RunStart) -> TemporalJournal:
        self._traceparent = start.traceparent
        return self

    @property
    def traceparent_to_link(self) -> str | None:
        """What later executions link to."""
        return self.first_traceparent or self._traceparent

    def driven(self) -> Driven:
        """What the run's workflow is told in the end. Raises JournalError if it is too large."""
        end = cast(RunEnd, self._end)
        result = None
        if end.status != "suspended":
            result = text(f"the result of run {self._run.run_id!r}", end.result)
        past = Past(self.execution, self.traceparent_to_link, sorted(self._known))
        wanted = {key: self._consults[key] for key in end.waiting_for if key in self._consults}
        asked = text(f"what run {self._run.run_id!r} waits for", wanted)
        return Driven(result, past, end.wake_at, list(end.waiting_for), asked)

    async def earlier(self, activity: str) -> Sequence[Earlier]:
        keys = [key for key in self._known if _activity(key) == activity]
        with recording(f"earlier calls of {activity!r}"):
            # A worker that died could not tell which calls it had made.
            begun = [] if activity != "ask" else await self._its_run().query(RunWorkflow.begun)
            keys = sorted({*keys, *begun})
            found = await asyncio.gather(*(self._earlier(key) for key in keys))
        given: dict[str, JSONObject] = json.loads(self._run.given)
        submitted = [Earlier(None, given[activity])] if activity in given else []
        return [*submitted, *(call for call in found if call is not None)]

    async def call(self, call: Call, work: Work) -> Called:
        if call.activity == "consult":
            self._consults[call.key] = call.input["input"]
        with recording(f"call {call.key!r}"):
            its = self._handle(call.key)
            if call.key in self._known:
                found = await self._still_there(its, call.key)
            else:
                found = None if await self._begin(call) else await its.describe()
            if found is not None and await found.memo_value("input_hash") != call.input_hash:
                raise InputChanged(self._run.run_id, call.key)
            on_record = found is not None and found.status == WorkflowExecutionStatus.COMPLETED
            by_us = (call.here or call.activity != "ask") and not on_record
            try:
                if by_us:
                    await self._do(its, call.key, work)
                answer = await its.result()
            except WorkflowFailureError as failure:
                what, said, _ = failed(failure.cause)
                which = f"call {call.key!r} of run {self._run.run_id!r}"
                raise JournalError(f"{which} could not be made: {what}: {said}") from failure
            except asyncio.CancelledError:
                if not _is_replaced():
                    with suppress(RPCError):
                        await its.cancel()
                raise
        self._known.add(call.key)
        return Called(
            json.loads(answer.value),
            "before" if on_record else "here" if by_us else "elsewhere",
            doubtful=answer.attempts > 1 or (by_us and found is not None),
        )

    async def signal(self, key: str, name: str) -> JSONValue:
        with recording(f"signal {name!r}"):
            try:
                taken: Signal | None = await self._its_run().execute_update(  # pyright: ignore[reportUnknownMemberType]
                    RunWorkflow.take, Wait(key, name)
                )
            except RPCTimeoutOrCancelledError as error:
                # An RPCError, or that this activity was cancelled.
                raise (error.__cause__ or error) from None
        if taken is None:
            raise Suspend(signals=(name,))
        if taken.name != name:
            raise InputChanged(self._run.run_id, key)
        return json.loads(taken.value)

    async def sleep(self, key: str, until: float) -> None:
        if time.time() < until:
            raise Suspend(until=until)

    async def end(self, end: RunEnd) -> None:
        self._end = end

    async def _earlier(self, key: str) -> Earlier | None:
        """A call as it is on record; None if it was announced and not made."""
        its = self._handle(key)
        if key in self._known:
            return Earlier(None, json.loads((await its.result()).value))
        found = await described(its)
        if found is None:
            return None
        if found.status == WorkflowExecutionStatus.COMPLETED:
            return Earlier(None, json.loads((await its.result()).value))
        async for event in its.fetch_history_events(page_size=1):
            begun = event.workflow_execution_started_event_attributes.input.payloads
            [asked] = await self._client.data_converter.decode(begun, [Asked])
            return Earlier(json.loads(cast(Asked, asked).question), None)
        return None

    async def _begin(self, call: Call) -> bool:
        """Start the call's workflow; False if there is one. One that came to nothing may again."""
        asked = None
        if call.activity == "ask":
            question = text(f"the input of call {call.key!r}", call.input)
            lease, here = self._run.lease, call.here
            asked = Asked(self._run.team, question, self._traceparent, lease, here)
            if here:
                await self._its_run().signal(RunWorkflow.begin, call.key)
        try:
            await self._client.start_workflow(
                CallWorkflow.run,
                asked,
                id=call_workflow(self._run.run_id, call.key),
                task_queue=call_queue(self._run.queue),
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                task_timeout=timedelta(seconds=self._run.lease),
                memo={"input_hash": call.input_hash},
                request_eager_start=True,  # in this process, if it has a place: it is quicker
            )
        except WorkflowAlreadyStartedError:
            return False
        return True

    async def _still_there(
        self, its: WorkflowHandle[CallWorkflow, Answer], key: str
    ) -> WorkflowExecutionDescription:
        found = await described(its)
        if found is None:
            raise JournalError(
                f"Temporal has deleted the record of call {key!r} of run {self._run.run_id!r}: the "
                "namespace's retention must be longer than a run lasts, waiting included"
            )
        return found

    async def _do(self, its: WorkflowHandle[CallWorkflow, Answer], key: str, work: Work) -> None:
        """Do what no other process can, and tell the call's workflow, which waits for it."""
        try:
            value = text(f"call {key!r}", await work())
        except Exception:
            await its.cancel()  # it came to nothing
            raise
        try:
            await its.signal(CallWorkflow.done, value)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:  # another execution was quicker
                raise

    def _its_run(self) -> WorkflowHandle[RunWorkflow, str]:
        its = run_workflow(self._run.run_id)
        return self._client.get_workflow_handle_for(RunWorkflow.run, its)

    def _handle(self, key: str) -> WorkflowHandle[CallWorkflow, Answer]:
        its = call_workflow(self._run.run_id, key)
        return self._client.get_workflow_handle_for(CallWorkflow.run, its)


def _activity(key: str) -> str:
    return key.rsplit("/", 1)[-1].rsplit(":", 1)[0]


def text(what: str, value: JSONValue) -> str:
    """The value as JSON. Raises JournalError, naming `what`, if Temporal would not take it."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise JournalError(f"{what} cannot be stored as JSON: {error}") from error
    size = len(json.dumps(text))  # as it is sent
    if size > LIMIT:
        raise JournalError(
            f"{what} is {size / 2**20:.1f} MB of JSON; Temporal takes at most {LIMIT // 2**20} MB: "
            "keep large data elsewhere and pass a reference to it"
        )
    return text


@contextmanager
def recording(what: str) -> Generator[None]:
    try:
        yield
    except RPCError as error:
        raise JournalError(f"Temporal cannot record or read {what}: {error}") from error


async def described(its: WorkflowHandle[Any, Any]) -> WorkflowExecutionDescription | None:
    """None if Temporal does not know the workflow."""
    try:
        return await its.describe()
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return None
        raise


def failed(cause: BaseException) -> tuple[str, str, str | None]:
    """What `_failure` told: the error's type and message, and the key that `InputChanged` has."""
    root = cause.__cause__ if isinstance(cause, ActivityError) else cause
    if isinstance(root, ApplicationError):
        key = str(root.details[0]) if root.details else None
        return root.type or "Exception", root.message, key
    return type(root).__name__, str(root), None


def _failure(error: Exception) -> ApplicationError:
    """The end of a run or a call; only while Temporal was out of reach is it tried again."""
    cause = error.__cause__
    out_of_reach = (
        isinstance(error, JournalError)
        and isinstance(cause, RPCError)
        and cause.status != RPCStatusCode.INVALID_ARGUMENT
    )
    return ApplicationError(
        redacted(shown(str(error))),
        *([error.key] if isinstance(error, InputChanged) else []),
        type=type(error).__name__,
        non_retryable=not out_of_reach,
    )


def _is_replaced() -> bool:
    """Whether the activity was cancelled because another worker goes on with it, or will."""
    details = activity.cancellation_details()
    return details is not None and not details.cancel_requested


@asynccontextmanager
async def _heartbeat(
    lease: float, tell: Callable[[], str | None] = lambda: None
) -> AsyncGenerator[None]:
    """Say, several times a lease, that this worker lives."""

    async def beat() -> None:
        while True:
            activity.heartbeat(tell())
            await asyncio.sleep(lease / 4)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
