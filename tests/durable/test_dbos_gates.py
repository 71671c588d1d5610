"""Tools and people in the runs of a cluster: any worker asks the questions, any process decides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("dbos", reason="the extra [dbos] is not installed")

from pyagent_patterns.durable.dbos import Cluster, Limit
from pyagent_patterns.errors import RunSuspended

from .kills import patterns, provider
from .kills.log import Log, LogReader
from .postgres import missing
from .test_gates import decide, decision, planned, replanned

if lacking := missing():
    pytest.skip(lacking, allow_module_level=True)


@pytest.fixture(autouse=True)
def log(tmp_path: Path) -> Iterator[LogReader]:
    provider.world = provider.World(Log(tmp_path / "log"), lambda call: 0.0)
    yield LogReader(tmp_path / "log")
    provider.world = None


async def test_an_agent_with_tools_is_asked_through_a_queue_and_its_tools_are_called_once(
    url: str, log: LogReader
) -> None:
    async with Cluster(url, limits=[Limit("stub", concurrency=4)]) as cluster:
        result = await patterns.tooled.run("r1", run_id="r1", durable=cluster)
        again = await patterns.tooled.run("r1", run_id="r1", durable=cluster)
    effects = [entry.call for entry in log.all() if entry.what == "EFFECT"]
    assert len(effects) == len(set(effects)) == 7
    assert again.output == result.output
    assert result.output == (await patterns.tooled.run("r1")).output


async def test_what_people_are_asked_is_on_record_and_they_decide_it_by_a_signal(url: str) -> None:
    async with Cluster(url) as cluster:
        for _ in range(4):  # a plan, then two at once, one by one, and the answer
            with pytest.raises(RunSuspended) as suspended:
                await patterns.people.run("r1", run_id="r1", durable=cluster)
            several = (await cluster.get("r1")).wanted
            assert {wanted.key for wanted in several} == set(suspended.value.waiting_for)
            await cluster.signal("r1", several[-1].key, decision(several[-1]).to_dict())
        result = await patterns.people.run("r1", run_id="r1", durable=cluster)
    assert result.output == (await patterns.people.run("r1", human=decide)).output


async def test_in_a_fork_a_plan_that_is_another_is_not_let_through_by_the_old_approval(
    url: str,
) -> None:
    async with Cluster(url) as cluster:
        with pytest.raises(RunSuspended):
            await planned().run("r1", run_id="r1", durable=cluster)
        [wanted] = (await cluster.get("r1")).wanted
        await cluster.signal("r1", wanted.key, True)
        await planned().run("r1", run_id="r1", durable=cluster)
        same = await cluster.resume(await cluster.fork("r1"), planned())
        assert [outcome.id for outcome in same.outcomes] == ["a", "b"]
        fork = await cluster.fork("r1")
        with pytest.raises(RunSuspended):
            await cluster.resume(fork, replanned())
        [wanted] = (await cluster.get(fork)).wanted
        assert "x worker" in wanted.text
