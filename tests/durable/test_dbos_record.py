"""What a cluster has on record: gone on with by hand, forked, found, cleared away."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

pytest.importorskip("dbos")

from pyagent_patterns.durable.dbos import Cluster
from pyagent_patterns.errors import (
    JournalError,
    RunBusyError,
    RunCancelled,
    RunSuspended,
    UnknownRunError,
)
from pyagent_patterns.run import RunContext
from tests.durable import cluster_teams
from tests.durable.cluster_teams import Approved, Each, agent, approved, asked, each, named
from tests.durable.clusters import until
from tests.durable.postgres import missing

if lacking := missing():
    pytest.skip(lacking, allow_module_level=True)

TEAMS = "tests.durable.cluster_teams"
QUESTION = Decimal("0.00006")


class Edited(Each):
    """`Each`, whose last question has been edited."""

    last = "the last"

    async def _execute(self, ctx: RunContext, task: str) -> str:
        each = ctx.child("each")
        for word in task.split(", "):
            await each.child(word).ask(self._agent, word, phase="worker")
        return await ctx.child("last").ask(self._agent, self.last, phase="synthesis")


edited = Edited(agent)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cluster_teams.FOLDER, str(tmp_path))
    return tmp_path


def questions(url: str) -> list[str]:
    """The ids of all questions that the database has."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT workflow_uuid FROM pyagent_dbos.workflow_status")
        return sorted(row[0] for row in rows)


async def test_a_fork_pays_only_what_was_edited_and_leaves_the_old_run_as_it_was(url: str) -> None:
    async with Cluster(url) as cluster:
        first = await each.run("a, b", run_id="r", durable=cluster)
        forked = await cluster.fork("r")
        assert (await cluster.status(forked)).forked_from == "r"
        result = await cluster.resume(forked, edited)
        assert result.output == "re: the last"
        assert [call.replayed for call in result.calls] == [True, True, False]
        again = await cluster.resume(forked, edited)
        assert (again.output, again.cost_estimate) == (result.output, 3 * QUESTION)
        assert sorted(asked()) == ["a", "b", "last", "the last"]

        copied = {call.key: call.copied for call in (await cluster.get(forked)).calls}
        assert copied == {"each/a/ask:0": True, "each/b/ask:0": True, "last/ask:0": False}
        old = await cluster.get("r")
        assert (old.output, old.run.execution) == (first.output, 1)


async def test_a_fork_asks_again_from_a_key_and_what_had_failed(url: str) -> None:
    async with Cluster(url) as cluster:
        await each.run("a, fail", run_id="r", durable=cluster)
        await cluster.resume(await cluster.fork("r"), each)
        assert sorted(asked()) == ["a", "fail", "fail", "last"]
        forked = await cluster.fork("r", from_key="each/a/ask:0")
        await cluster.resume(await cluster.fork(forked), each)  # nothing has been made in between
        assert sorted(asked()) == ["a", "a", *["fail"] * 3, "last"]
        with pytest.raises(LookupError, match="no finished call 'nope'; it has 'each/"):
            await cluster.fork("r", from_key="nope")
        with pytest.raises(UnknownRunError):
            await cluster.fork("nobody")


async def test_a_fork_takes_signals_and_other_calls_from_the_record_too(url: str) -> None:
    class Diced(Approved):
        name = "diced"
        sides = 6

        async def _execute(self, ctx: RunContext, task: str) -> str:
            async def roll() -> int:
                note.append(self.sides)
                return self.sides

            first = await ctx.child("first").call("roll", roll)
            second = await ctx.child("second").call("roll", roll, input=self.sides)
            return f"{first} {second} {await ctx.wait_signal('yes')}"

    note: list[int] = []
    diced = Diced(agent)
    async with Cluster(url) as cluster:
        with pytest.raises(RunSuspended):
            await diced.run("t", run_id="r", durable=cluster)
        await cluster.signal("r", "yes", "ok")
        assert (await cluster.resume("r", diced)).output == "6 6 ok"
        diced.sides = 8
        forked = await cluster.fork("r")
        assert (await cluster.resume(forked, diced)).output == "6 8 ok"
        assert (await cluster.resume(forked, diced)).output == "6 8 ok"
    assert note == [6, 6, 8]


async def test_a_fork_that_is_cut_off_goes_on_with_both_its_records(url: str, folder: Path) -> None:
    holding = Edited(agent)
    holding.last = "hold"
    async with Cluster(url) as cluster:
        await each.run("a", run_id="r", durable=cluster)
        forked = await cluster.fork("r")
        running = asyncio.create_task(cluster.resume(forked, holding))
        await until(lambda: asked("hold"))
        running.cancel()
        await asyncio.wait([running])
        (folder / "open").touch()
        result = await cluster.resume(forked, holding)
        assert result.resumed is not None
        assert (result.resumed.replayed, result.resumed.doubtful) == (1, ("last/ask:0",))
        assert asked() == ["a", "last", "hold", "hold"]


async def test_a_run_is_gone_on_with_by_the_team_that_its_record_names(url: str) -> None:
    async with Cluster(url) as cluster:
        await cluster.submit(f"{TEAMS}:each", "a", run_id="r")
        await cluster.submit("no.such.module:team", "a", run_id="s")
        assert await cluster.team_of("r") is each
        assert (await cluster.resume("r")).output == "re: last"
        with pytest.raises(LookupError, match="cannot be imported"):
            await cluster.resume("s")
        with pytest.raises(UnknownRunError):
            await cluster.resume("nobody")
        await Each(agent).run("a", run_id="t", durable=cluster)
        with pytest.raises(LookupError, match="does not say where its team is; pass the team"):
            await cluster.resume("t")


async def test_a_run_that_another_process_executes_is_not_gone_on_with(
    url: str, folder: Path
) -> None:
    async with Cluster(url) as cluster:
        running = asyncio.create_task(each.run("hold", run_id="r", durable=cluster))
        await until(lambda: asked("hold"))
        with pytest.raises(RunBusyError):
            await cluster.resume("r")
        (folder / "open").touch()
        await running


async def test_workers_leave_alone_what_only_its_own_program_can_go_on_with(url: str) -> None:
    """Its team stands at the top of no module; a worker that took it could only fail it."""
    own = Approved(agent)
    async with Cluster(url) as cluster:
        with pytest.raises(RunSuspended):
            await own.run("it", run_id="r", durable=cluster)
        await cluster.signal("r", "yes", 1)
        working = asyncio.create_task(cluster.work())
        run_id = await cluster.submit(f"{TEAMS}:each", "a")
        await cluster.result(run_id, timeout=20)
        working.cancel()
        run = await cluster.status("r")
        assert (run.status, run.due) == ("suspended", True)
        assert (await cluster.resume("r", own)).output == "re: final 1"


async def test_a_run_is_found_by_the_beginning_of_its_id(url: str) -> None:
    async with Cluster(url) as cluster:
        for run_id in ("ab", "abc", "a%c"):
            await cluster.submit("m:team", "a", run_id=run_id)
        assert await cluster.find("abc") == "abc"
        assert await cluster.find("ab") == "ab"
        assert await cluster.find("a%") == "a%c"
        with pytest.raises(LookupError, match="3 runs begin with 'a'"):
            await cluster.find("a")
        with pytest.raises(UnknownRunError):
            await cluster.find("x")


async def test_what_ended_long_ago_is_cleared_away_with_its_questions(url: str) -> None:
    async with Cluster(url) as cluster:
        await each.run("a", run_id="ended", durable=cluster)
        with pytest.raises(RunSuspended):
            await Approved(agent).run("b", run_id="waits", durable=cluster)
        await cluster.submit("m:team", "a", run_id="to be done")
        await cluster.submit("m:team", "a", run_id="cancelled")
        await cluster.cancel("cancelled")

        assert await cluster.prune(older_than=3600) == 0
        assert len(questions(url)) == 3
        assert await cluster.prune(older_than=0) == 2
        assert {run.run_id for run in await cluster.list()} == {"waits", "to be done"}
        assert questions(url) == ["waits/draft/ask:0"]

        assert await cluster.prune(older_than=0, status=("suspended",)) == 1
        assert questions(url) == []
        assert (await each.run("a, b", run_id="ended", durable=cluster)).status == "completed"
        assert sorted(asked()) == ["a", "a", "b", "draft b", "last", "last"]


async def test_a_run_that_is_being_cleared_away_is_not_gone_on_with_nor_lost_to_the_next_one(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends in between: a run without its questions must not be paid for again."""
    from pyagent_patterns.durable.dbos.run_table import RunTable

    async def dies(*arguments: object) -> None:
        raise JournalError("the server is gone")

    async with Cluster(url) as cluster:
        await each.run("a", run_id="r", durable=cluster)
        with monkeypatch.context() as patched:
            patched.setattr(RunTable, "delete", dies)
            with pytest.raises(JournalError, match="the server is gone"):
                await cluster.prune(older_than=0)
        with pytest.raises(RunCancelled):
            await each.run("a", run_id="r", durable=cluster)
        assert await cluster.prune(older_than=0) == 1
        assert await cluster.list() == []


async def test_a_process_that_leaves_loses_no_call_of_any_kind_that_is_being_made(url: str) -> None:
    class Slow(Approved):
        name = "slow"

        async def _execute(self, ctx: RunContext, task: str) -> str:
            async def look() -> str:
                looked.append(task)
                await asyncio.sleep(0.2)
                return task

            first = await ctx.child("first").call("look", look)
            return f"{first} {await ctx.wait_signal('yes')}"

    looked: list[str] = []
    async with Cluster(url) as cluster:
        running = asyncio.create_task(Slow(agent).run("it", run_id="r", durable=cluster))
        await until(lambda: looked)
    with pytest.raises((JournalError, RunSuspended)):  # it may just have come to its wait
        await running
    async with Cluster(url) as cluster:
        await cluster.signal("r", "yes", 1)
        result = await Slow(agent).run("it", run_id="r", durable=cluster)
        assert (result.output, result.resumed and result.resumed.doubtful) == ("it 1", ())
    assert looked == ["it"]


async def test_a_run_is_known_by_its_pattern_s_name_and_a_fork_too(url: str) -> None:
    async with Cluster(url) as cluster:
        await cluster.submit(f"{TEAMS}:named", "a", run_id="r")
        assert (await cluster.status("r")).name == ""
        await cluster.resume("r")
        forked = await cluster.fork("r")
        seen = [(run.pattern, run.name) for run in await cluster.list()]
        assert seen == [("pipeline", "the desk")] * 2
        assert (await cluster.status(forked)).name == "the desk"


async def test_a_database_of_before_runs_had_names_is_used_as_it_is(url: str) -> None:
    async with Cluster(url) as cluster:
        await named.run("a", run_id="old", durable=cluster)
        with pytest.raises(RunSuspended):
            await approved.run("a", run_id="waits", durable=cluster)
    with psycopg.connect(url) as connection:
        connection.execute("ALTER TABLE pyagent.run DROP COLUMN name")
    async with Cluster(url) as cluster, Cluster(url):
        assert (await cluster.status("old")).name == "pipeline"
        await cluster.signal("waits", "yes", 1)
        await cluster.resume("waits", Approved(agent, name="the approved"))
        assert (await cluster.status("waits")).name == "the approved"
