"""Runs of a cluster as the viewer shows them: like those of a journal file."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

pytest.importorskip("dbos")

from pyagent_exporters.viewer.store import SpanStore
from pyagent_patterns.cli.following import Following
from pyagent_patterns.durable.dbos import Cluster
from pyagent_patterns.errors import RunSuspended
from tests.durable import cluster_teams
from tests.durable.cluster_teams import approved, each
from tests.durable.postgres import LocalPostgres, missing

if lacking := missing():
    pytest.skip(lacking, allow_module_level=True)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostgres]:
    with LocalPostgres(sync=False) as server:
        yield server


async def test_runs_of_a_cluster_are_followed(
    server: LocalPostgres, store: SpanStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cluster_teams.FOLDER, str(tmp_path))
    async with Cluster(server.new_database()) as cluster:
        following = Following(cluster, store)
        result = await each.run("a, b", run_id="r", durable=cluster)
        with pytest.raises(RunSuspended):
            await approved.run("t", run_id="waits", durable=cluster)
        assert await following.look() == 2
        assert await following.look() == 0
        forked = await cluster.fork("r")
        await cluster.resume(forked, each)
        await following.look()
    runs = {run.run_id: run for run in store.runs().runs}
    assert {run_id: run.status for run_id, run in runs.items()} == {
        "r": "completed",
        "waits": "suspended",
        forked: "completed",
    }
    assert runs["r"].cost == result.cost_estimate == 3 * Decimal("0.00006")
    assert runs[forked].cost == 0  # all of it was on record
    assert {row.key: row.cost for row in store.costs("phase")}["worker"] >= Decimal("0.00012")
