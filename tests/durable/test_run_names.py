"""A run's record says what its pattern is called, also in a file that had no place for that."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from pyagent_patterns import Agent, Loop, Pattern
from pyagent_patterns.durable import Runs
from pyagent_patterns.errors import RunSuspended
from pyagent_patterns.run import RunContext
from pyagent_providers.testing import ScriptedLLM

AWS = "AKIA" + "Q3EXAMPLE7ABCDEF"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


class Waits(Pattern):
    """Waits for the signal `go`."""

    name = "waits"
    members = ()

    async def _execute(self, ctx: RunContext, task: str) -> str:
        return str(await ctx.wait_signal("go"))


def desk(name: str | None = None, *, asks: bool = False) -> Loop:
    clerk = Agent("clerk", ScriptedLLM(["done"]))
    return Loop(clerk, lambda work: True, name=name, approve=["answer"] if asks else [])


async def waiting(file: Path, team: Loop) -> None:
    """Have a run `waits` of the team on record that waits for a person."""
    with pytest.raises(RunSuspended):
        await team.run("x", run_id="waits", durable=file)


def without_names(file: Path) -> None:
    """As a file was before runs had names."""
    db = sqlite3.connect(file)
    db.execute("ALTER TABLE run DROP COLUMN name")
    db.close()


async def test_a_run_and_its_fork_are_called_what_their_pattern_is(file: Path) -> None:
    with Runs(file) as runs:
        await desk("front desk").run("x", run_id="named", durable=runs)
        await desk().run("x", run_id="not named", durable=runs)
        await runs.fork("named")
        seen = sorted((run.pattern, run.name) for run in await runs.list())
    assert seen == [("loop", "front desk"), ("loop", "front desk"), ("loop", "loop")]


async def test_a_run_that_is_gone_on_with_is_called_what_its_pattern_is_by_then(
    file: Path,
) -> None:
    with Runs(file) as runs:
        with pytest.raises(RunSuspended):
            await Waits(name="front desk").run("x", run_id="waits", durable=runs)
        await runs.signal("waits", "go")
        await runs.resume("waits", Waits(name="help desk"))
        assert (await runs.get("waits")).run.name == "help desk"


async def test_a_secret_in_a_name_is_not_kept(file: Path) -> None:
    await desk(f"desk {AWS}").run("x", run_id="r", durable=file)
    with Runs(file) as runs:
        assert (await runs.get("r")).run.name.startswith("desk [redacted: ")
    assert AWS.encode() not in file.read_bytes()


async def test_a_file_of_before_runs_had_names_is_read_gone_on_with_and_added_to(
    file: Path,
) -> None:
    await waiting(file, team := desk("front desk", asks=True))
    without_names(file)
    with Runs(file) as runs:
        assert [run.name for run in await runs.list()] == ["loop"]
        await desk("help desk").run("x", run_id="new", durable=runs)
        await runs.resume("waits", team, human=lambda wanted: True)
        names = {run.run_id: run.name for run in await runs.list()}
    assert names == {"new": "help desk", "waits": "front desk"}


async def test_two_that_open_such_a_file_at_once_both_can(file: Path) -> None:
    await waiting(file, desk("front desk", asks=True))
    without_names(file)
    with Runs(file) as one, Runs(file) as other:
        found = await asyncio.gather(*(runs.get("waits") for runs in (one, other)))
    assert [detail.run.name for detail in found] == ["loop", "loop"]
