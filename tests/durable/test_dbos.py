"""Runs on a cluster: submitted, taken over, limited, woken, and never paid for twice unnoticed."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path

import pytest

pytest.importorskip("dbos")

from pyagent_patterns import Budget
from pyagent_patterns.durable.dbos import Cluster, Limit
from pyagent_patterns.durable.dbos.database import Address, Database
from pyagent_patterns.durable.dbos.run_table import RunTable
from pyagent_patterns.durable.submission import Submission
from pyagent_patterns.errors import (
    AgentError,
    BudgetExceeded,
    InputChanged,
    JournalError,
    LeaseLost,
    PyAgentError,
    RunBusyError,
    RunCancelled,
    RunSuspended,
    UnknownRunError,
)
from pyagent_patterns.journal import RunEnd
from pyagent_patterns.run import RunContext
from pyagent_patterns.testing import capture_trace
from pyagent_providers import semconv
from pyagent_providers.types import JSONObject
from tests.durable import cluster_teams
from tests.durable.cluster_teams import Approved, Each, agent, asked, each, log
from tests.durable.clusters import ROOT, Process, until
from tests.durable.postgres import LocalPostgres, missing

if lacking := missing():
    pytest.skip(lacking, allow_module_level=True)

TEAMS = "tests.durable.cluster_teams"
QUESTION = Decimal("0.00006")


@pytest.fixture
def url(server: LocalPostgres) -> str:
    return server.new_database(password="s3cret")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cluster_teams.FOLDER, str(tmp_path))
    return tmp_path


@pytest.fixture
def start(url: str) -> Iterator[Callable[..., Process]]:
    """Starts worker processes, to be awaited with `await_ready`."""
    processes: list[Process] = []

    def new(*options: str, path: Path | None = None) -> Process:
        processes.append(Process(url, *options, path=path))
        return processes[-1]

    yield new
    for process in processes:
        process.stop(signal.SIGKILL)


@asynccontextmanager
async def worker(url: str, *limits: Limit) -> AsyncIterator[Cluster]:
    """This process as a worker."""
    async with Cluster(url, limits=limits) as cluster:
        working = asyncio.create_task(cluster.work())
        yield cluster
        working.cancel()
        await asyncio.wait([working])


async def ended(cluster: Cluster, run_id: str) -> dict[str, object]:
    return dict(await cluster.result(run_id, timeout=30))


async def status(cluster: Cluster, run_id: str, wanted: str) -> None:
    async with asyncio.timeout(20):
        while (run := await cluster.status(run_id)).status != wanted:
            assert run.status == "running", run.error
            await asyncio.sleep(0.02)


async def test_a_submitted_run_is_executed_by_a_worker_and_its_result_is_the_run_s(
    url: str,
) -> None:
    async with worker(url) as cluster:
        run_id = await cluster.submit(f"{TEAMS}:each", "a, b")
        result = await ended(cluster, run_id)
        assert (result["output"], result["status"]) == ("re: last", "completed")
        assert result["cost_estimate"] == str(3 * QUESTION)
        run = await cluster.status(run_id)
        assert (run.status, run.pattern, run.team, run.task) == (
            *("completed", "each", f"{TEAMS}:each", "a, b"),
        )
        assert (run.cost, run.calls, run.execution, run.is_owned) == (3 * QUESTION, 3, 1, False)
        assert [run.run_id for run in await cluster.list()] == [run_id]
        keys = {call.key for call in (await cluster.get(run_id)).calls}
        assert keys == {"each/a/ask:0", "each/b/ask:0", "last/ask:0"}


async def test_a_run_may_be_submitted_where_its_team_cannot_be_imported(
    url: str, start: Callable[..., Process], folder: Path
) -> None:
    source = "from tests.durable.cluster_teams import each as team"
    (folder / "only_on_workers.py").write_text(source)
    process = start(path=folder)
    process.await_ready()
    async with Cluster(url) as cluster:
        run_id = await cluster.submit("only_on_workers:team", "a")
        assert (await ended(cluster, run_id))["output"] == "re: last"
    assert {line.process for line in log()} == {process.pid}


async def test_submitting_again_changes_nothing_and_another_task_is_refused(url: str) -> None:
    async with Cluster(url) as cluster:
        assert await cluster.submit("m:team", "a", run_id="r") == "r"
        assert await cluster.submit("m:team", "a", run_id="r") == "r"
        assert len(await cluster.list()) == 1
        with pytest.raises(InputChanged, match="'r'"):
            await cluster.submit("m:team", "b", run_id="r")


async def test_the_runs_of_a_killed_worker_go_on_elsewhere_within_five_seconds(
    url: str, start: Callable[..., Process], folder: Path
) -> None:
    first = start()
    first.await_ready()
    async with Cluster(url) as cluster:
        await cluster.submit(f"{TEAMS}:each", "a, b, hold", run_id="r")
        await until(lambda: sorted(line.prompt for line in log() if line.what == "answered") == [
            "a", "b"
        ] and asked("hold"))  # fmt: skip
        second = start()
        second.await_ready()
        first.stop(signal.SIGKILL)
        killed = time.monotonic()
        await until(lambda: len(asked("hold")) == 2)
        assert time.monotonic() - killed < 5
        (folder / "open").touch()
        result = await ended(cluster, "r")
    assert result["resumed"] == {"execution": 2, "replayed": 2, "doubtful": ["each/hold/ask:0"]}
    assert sorted(asked()) == ["a", "b", "hold", "hold", "last"]
    assert result["cost_estimate"] == str(4 * QUESTION)  # what is on record


async def test_a_worker_that_is_told_to_stop_loses_no_answer_that_is_being_paid_for(
    url: str, start: Callable[..., Process]
) -> None:
    first = start()
    first.await_ready()
    async with Cluster(url) as cluster:
        await cluster.submit(f"{TEAMS}:each", "300ms", run_id="r")
        await until(lambda: asked("300ms"))
        first.stop(signal.SIGTERM)
        assert (await cluster.status("r")).due
        assert asked() == ["300ms"]
        second = start()
        result = await ended(cluster, "r")
        second.stop(signal.SIGTERM)
        assert "takes over" not in second.output  # it was handed over
    assert result["resumed"] == {"execution": 2, "replayed": 1, "doubtful": []}
    assert asked() == ["300ms", "last"]


async def test_it_loses_no_answer_that_it_is_getting_for_another_worker_s_run_either(
    url: str, start: Callable[..., Process]
) -> None:
    workers = [start("15", "stub=1"), start("15", "stub=1")]
    for process in workers:
        process.await_ready()
    async with Cluster(url) as cluster:
        await cluster.submit(f"{TEAMS}:each", "700ms", run_id="r")
        await until(lambda: asked("700ms"))
        [taker] = [process for process in workers if process.pid == log()[0].process]
        taker.stop(signal.SIGTERM)
        result = await ended(cluster, "r")
    assert asked() == ["700ms", "last"]
    assert "'doubtful': ['" not in str(result["resumed"])


async def test_a_frozen_worker_loses_its_runs_after_the_lease_and_then_changes_nothing(
    url: str, start: Callable[..., Process], folder: Path
) -> None:
    frozen = start("2")
    frozen.await_ready()
    async with Cluster(url) as cluster:
        await cluster.submit(f"{TEAMS}:each", "hold", run_id="r")
        await until(lambda: asked("hold"))
        frozen.send(signal.SIGSTOP)
        awake = start("2")
        awake.await_ready()
        await until(lambda: len(asked("hold")) == 2)
        (folder / "open").touch()
        frozen.send(signal.SIGCONT)
        result = await ended(cluster, "r")
        assert result["resumed"] == {"execution": 2, "replayed": 0, "doubtful": ["each/hold/ask:0"]}
        # The woken worker is one like any other again.
        awake.stop(signal.SIGKILL)
        await cluster.submit(f"{TEAMS}:each", "after", run_id="s")
        await ended(cluster, "s")
    assert [line.process for line in log() if line.prompt == "after"] == [frozen.pid] * 2
    assert asked().count("last") == 2  # one for each run


async def test_a_restart_of_the_server_ends_nothing(
    server: LocalPostgres, url: str, start: Callable[..., Process], folder: Path
) -> None:
    process = start()
    process.await_ready()
    async with Cluster(url) as cluster:
        await cluster.submit(f"{TEAMS}:each", "hold, a", run_id="r")
        await until(lambda: asked("hold"))
        server.restart()
        (folder / "open").touch()
        result = await ended(cluster, "r")
    assert result["output"] == "re: last"
    assert sorted(asked()) == ["a", "hold", "last"]


async def test_a_limit_holds_for_all_workers_together_whichever_set_it(
    url: str, start: Callable[..., Process]
) -> None:
    setter = start("15", "stub=2")
    setter.await_ready()
    other = start()
    other.await_ready()
    words = ", ".join(f"{60 + 20 * n}ms" for n in range(12))
    async with Cluster(url) as cluster:
        for run_id in ("r", "s"):
            await cluster.submit(f"{TEAMS}:each", words, run_id=run_id)
        results = [await ended(cluster, run_id) for run_id in ("r", "s")]
    going_on, most = 0, 0
    for line in log():
        going_on += 1 if line.what == "asked" else -1
        most = max(most, going_on)
    assert most <= 2
    assert {line.process for line in log()} == {setter.pid, other.pid}
    assert len(asked()) == 26
    assert {result["cost_estimate"] for result in results} == {str(13 * QUESTION)}
    assert {str(result["resumed"]) for result in results} == {"None"}


async def test_a_rate_limit_holds_questions_back(url: str) -> None:
    async with worker(url, Limit("stub", per_minute=2)) as cluster:
        await cluster.submit(f"{TEAMS}:each", "a, b, c", run_id="r")
        await until(lambda: len(asked()) == 2)
        await asyncio.sleep(0.3)
        assert len(asked()) == 2
        await cluster.cancel("r")


async def test_a_queued_question_of_a_killed_worker_is_asked_by_another(
    url: str, start: Callable[..., Process], folder: Path
) -> None:
    """It was taken from the queue by a worker that does not execute its run."""
    first = start("15", "stub=1")
    first.await_ready()
    async with Cluster(url) as cluster:
        await cluster.submit(f"{TEAMS}:each", "a", run_id="warm")
        await ended(cluster, "warm")  # the limit is set
        second = start()
        second.await_ready()
        await cluster.submit(f"{TEAMS}:each", "hold", run_id="r")
        await until(lambda: asked("hold"))
        [taker] = [line.process for line in log() if line.prompt == "hold"]
        (first if taker == first.pid else second).stop(signal.SIGKILL)
        await until(lambda: len(asked("hold")) == 2)
        (folder / "open").touch()
        assert (await ended(cluster, "r"))["output"] == "re: last"
        [doubtful] = (await cluster.get("r")).doubtful
        assert (doubtful.key, doubtful.begun) == ("each/hold/ask:0", 2)


async def test_a_question_that_no_other_worker_can_ask_is_asked_by_the_run_s_own(
    url: str, start: Callable[..., Process]
) -> None:
    """Other workers refuse it, since the team is nowhere to be imported from."""
    other = start()
    other.await_ready()
    async with Cluster(url, limits=[Limit("stub", concurrency=4)]) as cluster:
        words = ", ".join(str(n) for n in range(6))
        result = await Each(agent).run(words, durable=cluster)
    assert result.output == "re: last"
    assert {line.process for line in log()} == {os.getpid()}
    assert len(asked()) == 7


async def test_a_budget_is_remembered_and_what_was_spent_before_counts(
    url: str, folder: Path
) -> None:
    words = "a, b, hold"
    async with Cluster(url, limits=[Limit("stub")]) as cluster:
        budget = Budget(max_calls=4)  # one for each word, and the last
        run = asyncio.create_task(each.run(words, run_id="r", durable=cluster, budget=budget))
        await until(lambda: len(log()) == 5)  # all are asked, and all but one are answered
        await asyncio.sleep(0.1)
        run.cancel()
        await asyncio.wait([run])
        (folder / "open").touch()
        # The one that was cut off may have been billed, so it counts beside its second time.
        with pytest.raises(BudgetExceeded, match="4 of 4 calls are made") as stopped:
            await each.run(words, run_id="r", durable=cluster)
    assert stopped.value.result is not None
    assert [call.replayed for call in stopped.value.result.calls] == [True, True, False]
    assert (len(asked("hold")), asked("last")) == (2, [])


async def test_a_run_under_a_budget_makes_its_calls_in_its_own_process(
    url: str, start: Callable[..., Process]
) -> None:
    start().await_ready()
    async with Cluster(url, limits=[Limit("stub", concurrency=4)]) as cluster:
        words = ", ".join(str(n) for n in range(6))
        await each.run(words, durable=cluster, budget=Budget(max_cost_usd=1))
    assert {line.process for line in log()} == {os.getpid()}


async def test_a_run_that_is_executed_here_is_kept_and_gives_the_same_again_unpaid(
    url: str,
) -> None:
    async with Cluster(url) as cluster:
        with capture_trace() as before:
            first = await each.run("a, b", run_id="r", durable=cluster)
        with capture_trace() as after:
            again = await each.run("a, b", run_id="r", durable=cluster)
    assert len(asked()) == 3
    assert (again.output, again.cost_estimate) == (first.output, first.cost_estimate)
    assert again.resumed is not None
    assert (again.resumed.replayed, again.resumed.doubtful) == (3, ())
    assert after.metric(semconv.COST_COUNTER).points == ()
    counted = sum(point.total for point in before.metric(semconv.COST_COUNTER).points)
    assert counted == pytest.approx(float(first.cost_estimate))
    [link] = after.spans[0].links
    assert link.context.span_id == before.spans[0].context.span_id


async def test_a_question_asked_by_another_worker_is_a_child_of_the_run_s_span(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one asked by its data: here it is this process too, which forgot the run's own means."""
    from pyagent_patterns.durable.dbos import questions

    async def execute(self: object, its: str, given: JSONObject) -> JSONObject:
        return await asyncio.create_task(questions._by_data(given), context=caught.copy())

    monkeypatch.setattr(questions.Questions, "execute", execute)
    async with Cluster(url, limits=[Limit("stub")]) as cluster:
        with capture_trace() as trace:
            caught = contextvars.copy_context()
            result = await each.run("a", run_id="r", durable=cluster)
    assert trace.tree() == (
        "pyagent.pattern.each\n"
        "  pyagent.agent.it worker a\n"
        "    chat stub-model\n"
        "  pyagent.agent.it synthesis\n"
        "    chat stub-model"
    )
    assert [call.cost for call in result.calls] == [QUESTION] * 2
    counted = sum(point.total for point in trace.metric(semconv.COST_COUNTER).points)
    assert counted == pytest.approx(float(2 * QUESTION))


async def test_a_run_that_goes_on_is_not_begun_a_second_time(
    url: str, start: Callable[..., Process], folder: Path
) -> None:
    start().await_ready()
    async with Cluster(url) as cluster:
        await cluster.submit(f"{TEAMS}:each", "hold", run_id="r")
        await until(lambda: asked("hold"))
        with pytest.raises(RunBusyError, match="run 'r' is going on"):
            await each.run("hold", run_id="r", durable=cluster)
        running = asyncio.create_task(each.run("also hold", run_id="s", durable=cluster))
        await until(lambda: asked("also hold"))
        with pytest.raises(RunBusyError, match="run 's' is going on"):
            await each.run("also hold", run_id="s", durable=cluster)
        (folder / "open").touch()
        await running


async def test_a_signal_wakes_a_suspended_run_on_any_worker(
    url: str, start: Callable[..., Process]
) -> None:
    first = start()
    first.await_ready()
    async with Cluster(url) as cluster:
        await cluster.submit(f"{TEAMS}:approved", "it", run_id="r")
        await status(cluster, "r", "suspended")
        run = await cluster.status("r")
        assert (run.waiting_for, run.is_owned, run.due) == (("yes",), False, False)
        first.stop()
        await cluster.signal("r", "other")
        assert not (await cluster.status("r")).due
        await cluster.signal("r", "yes", {"by": "ann"})
        assert (await cluster.status("r")).due
        start()
        result = await ended(cluster, "r")
    assert result["output"] == "re: final {'by': 'ann'}"
    assert asked() == ["draft it", "final {'by': 'ann'}"]


async def test_a_signal_may_come_before_the_wait_and_is_taken_once(url: str) -> None:
    async with worker(url) as cluster:
        await cluster.submit(f"{TEAMS}:approved", "hold", run_id="r")
        await until(asked)
        await cluster.signal("r", "yes", 1)
        await cluster.signal("r", "yes", 2)
        (cluster_teams.folder() / "open").touch()
        assert (await ended(cluster, "r"))["output"] == "re: final 1"
        with pytest.raises(JournalError, match="run 'r' is completed; it takes no signals"):
            await cluster.signal("r", "yes", 3)


async def test_a_signal_that_comes_while_the_run_is_being_suspended_is_not_missed(url: str) -> None:
    """Between its look for the signal and its record that it waits: on the tables themselves."""
    database = Database(Address(url))
    await database.prepare()
    runs = RunTable(database)
    await runs.submit(Submission(run_id="r", team="m:team", task="task"))
    [claim] = await runs.claim_due("worker", 1)
    assert await runs.take_signal(claim, "signal:0", "yes") is None
    await runs.signal("r", "yes", 1)
    end = RunEnd(status="suspended", waiting_for=("yes",))
    await runs.end(claim, end, calls=1, going_on=False)
    [again] = await runs.claim_due("worker", 1)
    assert again.execution == 2
    with pytest.raises(LeaseLost):
        await runs.end(claim, end, calls=1, going_on=False)
    await database.close()


async def test_closing_the_cluster_ends_a_run_that_is_executed_here(url: str) -> None:
    async with Cluster(url) as cluster:
        running = asyncio.create_task(each.run("300ms", run_id="r", durable=cluster))
        await until(lambda: asked("300ms"))
    with pytest.raises(JournalError, match="the cluster was closed"):
        await running
    async with Cluster(url) as cluster:
        result = await each.run("300ms", run_id="r", durable=cluster)
    assert result.resumed is not None
    assert (result.resumed.replayed, result.resumed.doubtful) == (1, ())


async def test_a_run_wakes_when_its_time_has_come(url: str) -> None:
    async with worker(url) as cluster:
        await cluster.submit(f"{TEAMS}:sleeping", "it", run_id="r")
        result = await ended(cluster, "r")
    assert result["output"] == "slept"
    assert asked() == ["draft it"]


async def test_a_hundred_suspended_runs_hold_no_task(url: str) -> None:
    async with worker(url) as cluster:
        for n in range(100):
            await cluster.submit(f"{TEAMS}:approved", f"{n}", run_id=f"r{n}")
        async with asyncio.timeout(60):
            while await cluster.list(status="running"):
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.1)
        assert len(asyncio.all_tasks()) < 10
        for n in range(100):
            await cluster.signal(f"r{n}", "yes", n)
        outputs = [(await ended(cluster, f"r{n}"))["output"] for n in range(100)]
    assert outputs == [f"re: final {n}" for n in range(100)]
    assert len(asked()) == 200


async def test_a_call_that_is_no_question_is_not_done_twice(url: str) -> None:
    done: list[str] = []

    class Diced(Approved):
        async def _execute(self, ctx: RunContext, task: str) -> str:
            async def roll() -> int:
                done.append("rolled")
                return 4

            first = await ctx.call("roll", roll)
            return f"{first} {await ctx.wait_signal('yes')}"

    async with Cluster(url) as cluster:
        with pytest.raises(RunSuspended):
            await Diced(agent).run("t", run_id="r", durable=cluster)
        await cluster.signal("r", "yes", "ok")
        result = await Diced(agent).run("t", run_id="r", durable=cluster)
        assert result.output == "4 ok"
        calls = {call.key: call.value for call in (await cluster.get("r")).calls}
    assert done == ["rolled"]
    assert calls == {"roll:0": {"value": 4}, "signal:1": {"value": "ok"}}


async def test_a_changed_question_is_refused_by_its_key(url: str) -> None:
    class Edited(Each):
        async def _execute(self, ctx: RunContext, task: str) -> str:
            return await ctx.child("last").ask(self._agent, "edited", phase="synthesis")

    async with Cluster(url) as cluster:
        output = (await each.run("a", run_id="r", durable=cluster)).output
        with pytest.raises(InputChanged, match="'last/ask:0'"):
            await Edited(agent).run("a", run_id="r", durable=cluster)
        kept = await cluster.get("r")  # the edit does not undo what it has
        assert (kept.run.status, kept.run.is_owned, kept.output) == ("completed", False, output)
        with pytest.raises(InputChanged, match="'task'"):
            await each.run("b", run_id="r", durable=cluster)


async def test_a_failure_is_recorded_and_raised_with_its_text(url: str) -> None:
    async with worker(url) as cluster:
        await cluster.submit(f"{TEAMS}:approved", "fail", run_id="r")
        await cluster.submit("no.such.module:team", "a", run_id="s")
        await cluster.submit(f"{TEAMS}:nothing", "a", run_id="t")
        with pytest.raises(PyAgentError, match=r"agent 'it' .* it is out of order") as raised:
            await ended(cluster, "r")
        assert not isinstance(raised.value, AgentError)
        with pytest.raises(PyAgentError, match=r"'no.such.module:team' cannot be imported"):
            await ended(cluster, "s")
        with pytest.raises(PyAgentError, match="has no 'nothing'"):
            await ended(cluster, "t")
        run = await cluster.status("r")
        assert (run.status, run.cost, run.calls) == ("failed", 0, 1)
        assert "out of order" in (run.error or "")


async def test_a_cancelled_run_stops_where_it_is_executed(
    url: str, start: Callable[..., Process], folder: Path
) -> None:
    start().await_ready()
    async with Cluster(url) as cluster:
        await cluster.submit(f"{TEAMS}:each", "hold", run_id="r")
        await until(lambda: asked("hold"))
        await cluster.cancel("r")
        with pytest.raises(RunCancelled, match="'r'"):
            await ended(cluster, "r")
        await asyncio.sleep(0.3)
        with pytest.raises(JournalError, match="run 'r' is cancelled already"):
            await cluster.cancel("r")
        await cluster.submit(f"{TEAMS}:each", "a", run_id="s")
        await ended(cluster, "s")
        (folder / "open").touch()
        await asyncio.sleep(0.3)
    assert asked("last") == ["last"]  # of the other run


async def test_a_run_that_is_not_there_is_said_to_be_unknown(url: str) -> None:
    async with Cluster(url) as cluster:
        for look in (cluster.status, cluster.result, cluster.cancel):
            with pytest.raises(UnknownRunError, match="no run 'nobody'"):
                await look("nobody")
        with pytest.raises(UnknownRunError):
            await cluster.signal("nobody", "yes")


async def test_waiting_for_a_result_has_an_end(url: str) -> None:
    async with Cluster(url) as cluster:
        await cluster.submit("m:team", "a", run_id="r")
        with pytest.raises(TimeoutError):
            await cluster.result("r", timeout=0.2)


async def test_what_cannot_be_meant_is_refused_before_anything_is_stored(url: str) -> None:
    with pytest.raises(ValueError, match="a database URL reads postgresql://"):
        Cluster("runs.db")
    with pytest.raises(ValueError, match="concurrency of 'openai' must be at least 1"):
        Limit("openai", concurrency=0)
    async with Cluster(url) as cluster:
        with pytest.raises(ValueError, match="task is empty"):
            await cluster.submit("m:team", " ")
        with pytest.raises(ValueError, match=r"package\.module:object"):
            await cluster.submit("team", "a")
        assert await cluster.list() == []


async def test_the_password_is_in_no_error_and_no_log(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    nowhere = url.replace("127.0.0.1:", "127.0.0.1:1").replace("/db", "/x")
    for bad in (
        "postgresql://ann:s3cret@127.0.0.1:1/db",
        url.rpartition("/")[0] + "/absent",
        "postgresql://ann:s3cret@127.0.0.1/db?s3cret",
    ):
        with pytest.raises(JournalError) as raised:
            async with Cluster(bad) as cluster:
                await cluster.list()
        error: BaseException | None = raised.value
        while error is not None:
            assert "s3cret" not in str(error)
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for bad in (nowhere, "postgresql://ann:s3cret@[db", "postgres://ann@db:s3cret/x"):
        with suppress(ValueError):
            assert "s3cret" not in repr(Cluster(bad))
    async with Cluster(url) as cluster:
        assert "s3cret" not in repr(cluster)
        await each.run("a", durable=cluster)
    assert "s3cret" not in caplog.text


def test_a_worker_is_silent_and_leaves_the_application_s_telemetry_alone(url: str) -> None:
    program = textwrap.dedent(f"""
        import asyncio, sys
        from opentelemetry import trace, _logs, metrics
        from pyagent_patterns.durable.dbos import Cluster
        from tests.durable.cluster_teams import each

        async def main():
            async with Cluster({url!r}) as cluster:
                await each.run("a", durable=cluster)

        before = trace._TRACER_PROVIDER, _logs._internal._LOGGER_PROVIDER
        asyncio.run(main())
        assert (trace._TRACER_PROVIDER, _logs._internal._LOGGER_PROVIDER) == before == (None, None)
        assert "opentelemetry.sdk" not in sys.modules
    """)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_dbos_the_error_says_what_to_install() -> None:
    program = "import sys; sys.modules['dbos'] = None; import pyagent_patterns.durable.dbos"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr.endswith(
        'ImportError: a cluster needs DBOS: pip install "pyagent-sdk[dbos]"\n'
    )


async def test_a_process_is_one_worker_at_most(url: str) -> None:
    async with Cluster(url) as one, Cluster(url) as two:
        await one.join()
        with pytest.raises(RuntimeError, match="DBOS runs in this process already"):
            await two.join()
        assert (await each.run("a", durable=one)).output == "re: last"
