"""What the kill suite asks of Temporal alone: workers that go on with each other's runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

pytest.importorskip("temporalio", reason="the extra [temporal] is not installed")

from . import provider, teams
from .engines_temporal import TemporalEngine
from .processes import Child, nursery
from .suite import Suite, Tally, many


@pytest_asyncio.fixture
async def temporal(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncGenerator[Suite]:
    why = TemporalEngine.missing()
    if why is not None:
        pytest.skip(why)
    tally = Tally(engine="temporal", test=request.node.name.removeprefix("test_"))
    name = f"{TemporalEngine.__module__}:{TemporalEngine.__name__}"
    with TemporalEngine.stores(tmp_path) as new_store:
        async with nursery(name) as processes:
            yield Suite(TemporalEngine, processes, new_store, tmp_path, tally)


async def test_a_worker_of_several(temporal: Suite) -> None:
    """Of three workers one after another is killed: the others go on with its runs and calls."""
    address, wanted = temporal.new_store(), many(15)
    run_ids = [f"r{number}" for number in range(12)]

    async def at_random(child: Child) -> None:
        if await child.says("START"):
            await asyncio.sleep(temporal.chance.uniform(0, 3))
            if temporal.tally.kills < wanted:
                child.kill()

    async def worker() -> Mapping[str, Any]:
        while True:
            child = await temporal.start(
                address, "run_many", team="diamond", run_ids=run_ids, latency=(0.5, 2.0)
            )
            reported = await temporal.watch(child, at_random)
            if reported is not None:
                return reported["runs"]

    async with asyncio.TaskGroup() as workers:  # one that fails ends all
        tasks = [workers.create_task(worker()) for _ in range(3)]
    reports = [task.result() for task in tasks]
    assert reports[0] == reports[1] == reports[2]
    for run_id, ended in reports[0].items():
        expected = provider.expected(run_id, teams.DIAMOND)
        await settle(temporal, address, run_id, ended, expected)
    assert temporal.tally.kills > 0
    temporal.tally.others = 3 - len(run_ids)  # each process that ended had all the runs
    temporal.check()


async def settle(
    suite: Suite, address: str, run_id: str, ended: Mapping[str, Any], expected: str
) -> None:
    """Judge a run. Here its result lists all that was paid again, not the last process's alone."""
    recorded = await suite.settle(address, run_id, ended, expected)
    sent = [entry.call for entry in suite.log.of(run_id) if entry.what == "START"]
    assert {teams.key(call) for call in sent if sent.count(call) > 1} <= set(ended["doubtful"])
    assert recorded.cost == sum(provider.cost(run_id, call) for call in set(sent))
