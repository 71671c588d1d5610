"""What the kill suite asks of clusters alone: take-over by the clock, and a thousand that wait."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("dbos")

from pyagent_patterns.durable.dbos import Cluster
from tests.durable import cluster_teams
from tests.durable.cluster_teams import asked, log
from tests.durable.clusters import Process, until
from tests.durable.postgres import LocalPostgres, missing

from .suite import many

if lacking := missing():
    pytest.skip(lacking, allow_module_level=True)

TEAMS = "tests.durable.cluster_teams"


@pytest.fixture
def url() -> Iterator[str]:
    with LocalPostgres(sync=False) as server:
        yield server.new_database()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cluster_teams.FOLDER, str(tmp_path))
    return tmp_path


async def test_of_two_workers_one_is_killed_and_the_other_takes_over_within_five_seconds(
    url: str, folder: Path
) -> None:
    """Ten times of ten; what had been answered is not asked again."""
    workers = [Process(url), Process(url)]
    try:
        for process in workers:
            process.await_ready()
        async with Cluster(url) as cluster:
            for n in range(many(10)):
                held = f"hold{n}"
                await cluster.submit(f"{TEAMS}:each", f"{n}., {held}", run_id=f"r{n}")
                await until(
                    lambda held=held, n=n: (
                        asked(held)
                        and any(
                            line.what == "answered" and line.prompt == f"{n}." for line in log()
                        )
                    )
                )
                await asyncio.sleep(0.1)  # for the answer to be on record
                owner = log()[-1].process
                killed = next(process for process in workers if process.pid == owner)
                killed.send(signal.SIGKILL)
                moment = time.monotonic()
                workers[workers.index(killed)] = Process(url)
                await until(lambda held=held: len(asked(held)) == 2)
                assert time.monotonic() - moment <= 5
                killed.stop()
            for process in workers:
                process.stop(signal.SIGKILL)
            workers = [Process(url)]
            (folder / "open").touch()
            for n in range(many(10)):
                result = await cluster.result(f"r{n}", timeout=60)
                assert result["output"] == "re: last"
        again = {prompt for prompt, times in Counter(asked()).items() if times > 1}
        assert all("hold" in prompt or prompt == "last" for prompt in again)
    finally:
        for process in workers:
            process.stop(signal.SIGKILL)


async def test_a_thousand_suspended_runs_are_nobody_s_and_are_woken_by_another_worker(
    url: str,
) -> None:
    count = many(1000)
    first = Process(url)
    second = None
    try:
        async with Cluster(url) as cluster:
            await asyncio.gather(
                *(
                    cluster.submit(f"{TEAMS}:approved", f"{n}.", run_id=f"r{n}")
                    for n in range(count)
                )
            )
            async with asyncio.timeout(300):
                while await cluster.list(status="running", limit=1):
                    await asyncio.sleep(0.1)
            first.stop(signal.SIGKILL)
            runs = await cluster.list()
            assert {(run.status, run.is_owned, run.due) for run in runs} == {
                ("suspended", False, False)
            }
            await asyncio.gather(*(cluster.signal(f"r{n}", "yes", n) for n in range(count)))
            second = Process(url)
            outputs = [(await cluster.result(f"r{n}", timeout=300))["output"] for n in range(count)]
        assert outputs == [f"re: final {n}" for n in range(count)]
        assert set(Counter(asked()).values()) == {1}
        assert len(asked()) == 2 * count
    finally:
        first.stop(signal.SIGKILL)
        if second is not None:
            second.stop(signal.SIGKILL)
