"""What a run is submitted with holds for it in whichever process executes it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

pytest.importorskip("dbos")

from pyagent_patterns import Budget
from pyagent_patterns.durable.dbos import Cluster
from pyagent_patterns.durable.dbos.database import Address, Database
from pyagent_patterns.durable.dbos.run_table import RunTable
from pyagent_patterns.errors import InputChanged, PyAgentError, RunSuspended
from pyagent_patterns.testing import CapturedTrace, capture_trace
from pyagent_providers.telemetry import allow_tenants
from tests.durable import cluster_teams
from tests.durable.cluster_teams import approved, asked
from tests.durable.clusters import Process, until
from tests.durable.postgres import missing

if lacking := missing():
    pytest.skip(lacking, allow_module_level=True)

TEAMS = "tests.durable.cluster_teams"
AWS = "AKIA" + "Q3EXAMPLE7ABCDEF"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(cluster_teams.FOLDER, str(tmp_path))
    yield tmp_path
    allow_tenants(())


@pytest.fixture
def start(url: str) -> Iterator[Callable[..., Process]]:
    """Starts worker processes."""
    processes: list[Process] = []

    def new(path: Path | None = None) -> Process:
        processes.append(Process(url, path=path))
        processes[-1].await_ready()
        return processes[-1]

    yield new
    for process in processes:
        process.stop(signal.SIGKILL)


@asynccontextmanager
async def worker(url: str) -> AsyncIterator[Cluster]:
    """This process as a worker."""
    async with Cluster(url) as cluster:
        working = asyncio.create_task(cluster.work())
        yield cluster
        working.cancel()
        await asyncio.wait([working])


async def ended(cluster: Cluster, run_id: str) -> dict[str, object]:
    return dict(await cluster.result(run_id, timeout=30))


def whom(trace: CapturedTrace, pattern: str) -> set[tuple[object, object]]:
    """Tenant and user of every execution, as their spans tell."""
    spans = [span for span in trace.spans if span.name == f"pyagent.pattern.{pattern}"]
    told = [span.attributes or {} for span in spans]
    return {(each.get("pyagent.tenant"), each.get("user.id")) for each in told}


def tenants(trace: CapturedTrace, metric: str) -> list[object]:
    return [point.attributes.get("pyagent.tenant") for point in trace.metric(metric).points]


def everything(url: str) -> str:
    """All that the cluster's own tables have, as text."""
    with psycopg.connect(url) as connection:
        runs = connection.execute("SELECT * FROM pyagent.run").fetchall()
        return str([runs, connection.execute("SELECT * FROM pyagent.call").fetchall()])


async def test_a_submitted_run_is_seen_as_that_of_its_tenant_and_user(url: str) -> None:
    allow_tenants(["acme"])
    with capture_trace() as trace:
        async with Cluster(url) as cluster:
            run_id = await cluster.submit(f"{TEAMS}:each", "a", tenant="acme", user="u-42")
            await cluster.resume(run_id)
    assert whom(trace, "each") == {("acme", "u-42")}
    assert set(tenants(trace, "pyagent.cost.usd")) == {"acme"}  # one in each phase
    assert tenants(trace, "pyagent.runs") == ["acme"]


async def test_it_is_so_in_every_execution_also_if_the_first_left_nothing(url: str) -> None:
    async with Cluster(url) as cluster:
        run_id = await cluster.submit(f"{TEAMS}:approved", "a", tenant="acme")
    await executed_by_a_worker_that_died_at_once(url)
    with capture_trace() as trace:
        async with Cluster(url) as cluster:
            await cluster.signal(run_id, "yes", 1)
            await cluster.resume(run_id)
            assert (await cluster.status(run_id)).execution > 1
    assert whom(trace, "approved") == {("acme", None)}


async def executed_by_a_worker_that_died_at_once(url: str) -> None:
    """As it is left by one that died before anything of the run was recorded."""
    database = Database(Address(url))
    runs = RunTable(database)
    assert await runs.claim_due("died at once", 1)
    await runs.release("died at once")
    await database.close()


async def test_a_run_that_is_gone_on_with_for_somebody_else_is_theirs_from_then_on(
    url: str,
) -> None:
    with capture_trace() as trace:
        async with Cluster(url) as cluster:
            run_id = await cluster.submit(f"{TEAMS}:approved", "a", tenant="acme", user="u-42")
            with pytest.raises(RunSuspended):
                await approved.run("a", run_id=run_id, durable=cluster, tenant="globex")
            await cluster.signal(run_id, "yes", 1)
            await cluster.resume(run_id)
    assert whom(trace, "approved") == {("globex", None)}


async def test_a_submitted_run_is_told_its_inputs(url: str) -> None:
    async with worker(url) as cluster:
        run_id = await cluster.submit(f"{TEAMS}:ordered", "Pack", inputs={"item": "tent"})
        result = await ended(cluster, run_id)
    given = '{\n  "item": "tent",\n  "count": 1\n}'
    assert result["output"] == f"re: Pack\n\n<inputs>\n{given}\n</inputs>"


async def test_a_run_that_a_worker_took_up_is_known_by_its_pattern_s_name(url: str) -> None:
    async with worker(url) as cluster:
        run_id = await cluster.submit(f"{TEAMS}:named", "a")
        await ended(cluster, run_id)
        run = await cluster.status(run_id)
    assert (run.pattern, run.name) == ("pipeline", "the desk")


@pytest.mark.parametrize(
    ("inputs", "wrong"),
    [({"count": 2}, ValueError), ({"item": "tent", "count": "two"}, ValueError), (None, TypeError)],
)
async def test_inputs_that_do_not_fit_are_refused_before_the_run_is_queued(
    url: str, inputs: object, wrong: type[Exception]
) -> None:
    async with Cluster(url) as cluster:
        with pytest.raises(wrong, match="inputs"):
            await cluster.submit(f"{TEAMS}:ordered", "Pack", inputs=inputs)
        assert await cluster.list() == []


@pytest.mark.parametrize("item", ["tent", None])
async def test_a_worker_checks_the_inputs_where_who_submits_cannot(
    url: str, start: Callable[..., Process], folder: Path, item: str | None
) -> None:
    source = "from tests.durable.cluster_teams import ordered as team"
    (folder / "only_there.py").write_text(source)
    start(folder)
    async with Cluster(url) as cluster:
        run_id = await cluster.submit("only_there:team", "Pack", inputs={"item": item})
        if item is None:
            with pytest.raises(PyAgentError, match="inputs"):
                await ended(cluster, run_id)
        else:
            assert '"item": "tent"' in str((await ended(cluster, run_id))["output"])


async def test_a_budget_holds_in_the_process_that_takes_the_run_over(
    url: str, start: Callable[..., Process], folder: Path
) -> None:
    """Of four calls one was answered and one was in flight: it may have been paid for, so with
    that, asked again, and the last, the budget is used."""
    async with Cluster(url) as cluster:
        enough, too_little = [
            await cluster.submit(f"{TEAMS}:each", "a, hold", budget=Budget(max_calls=calls))
            for calls in (4, 3)
        ]
        first = start()
        await until(lambda: len(asked("hold")) == 2)
        await until(lambda: len(answered("a")) == 2)
        first.stop(signal.SIGKILL)
        (folder / "open").touch()
        start()
        assert (await ended(cluster, enough))["output"] == "re: last"
        with pytest.raises(PyAgentError, match=r"budget"):
            await ended(cluster, too_little)
    assert len(asked("last")) == 1


def answered(prompt: str) -> list[str]:
    lines = cluster_teams.log()
    return [line.prompt for line in lines if line.what == "answered" and line.prompt == prompt]


@pytest.mark.parametrize("has_died", [False, True])
async def test_a_budget_holds_in_the_first_execution_and_also_if_that_left_nothing(
    url: str, has_died: bool
) -> None:
    async with Cluster(url) as cluster:
        run_id = await cluster.submit(f"{TEAMS}:each", "a, b", budget=Budget(max_calls=1))
    if has_died:
        await executed_by_a_worker_that_died_at_once(url)
    async with worker(url) as cluster:
        with pytest.raises(PyAgentError, match="1 of 1"):
            await ended(cluster, run_id)


async def test_a_run_that_is_given_another_budget_has_that_from_then_on(url: str) -> None:
    async with Cluster(url) as cluster:
        run_id = await cluster.submit(f"{TEAMS}:approved", "a", budget=Budget(max_calls=1))
        with pytest.raises(RunSuspended):
            await approved.run("a", run_id=run_id, durable=cluster, budget=Budget(max_calls=2))
        await cluster.signal(run_id, "yes", 1)
        assert (await cluster.resume(run_id)).output == "re: final 1"


async def test_submitting_again_with_the_same_changes_nothing_and_with_another_is_refused(
    url: str,
) -> None:
    async with worker(url) as cluster:
        team, first = f"{TEAMS}:each", Budget(max_calls=9)
        await cluster.submit(team, "a", run_id="r", budget=first, tenant="acme")
        await cluster.submit(team, "a", run_id="r", budget=first, tenant="acme")
        with pytest.raises(InputChanged, match="'budget'"):
            await cluster.submit(team, "a", run_id="r", budget=Budget(max_calls=8), tenant="acme")
        with pytest.raises(InputChanged, match="'budget'"):
            await cluster.submit(team, "a", run_id="r", tenant="acme")
        with pytest.raises(InputChanged, match="'attribution'"):
            await cluster.submit(team, "a", run_id="r", budget=first)
        await ended(cluster, "r")
        await cluster.submit(team, "a", run_id="r", budget=first, tenant="acme")
    assert asked() == ["a", "last"]


async def test_no_secret_of_what_is_submitted_is_kept(url: str) -> None:
    async with worker(url) as cluster:
        run_id = await cluster.submit(
            f"{TEAMS}:ordered", "Pack", inputs={"item": AWS}, tenant=AWS, user=AWS
        )
        result = await ended(cluster, run_id)
    assert '"item": "[redacted: ' in str(result["output"])
    assert AWS not in everything(url)
