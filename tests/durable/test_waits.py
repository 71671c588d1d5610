"""Waiting for a signal or a time: nothing of the run is left, and whoever comes goes on with it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from pyagent_patterns import Agent, Pattern
from pyagent_patterns.durable import Runs
from pyagent_patterns.errors import InputChanged, JournalError, NoStoreError, RunSuspended
from pyagent_patterns.run import RunContext, Task
from pyagent_providers.testing import ScriptedLLM


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


class Approved(Pattern):
    """Drafts, waits for a person, and finishes; beside it goes on what does not depend on that."""

    name = "approved"

    def __init__(self, *answers: str) -> None:
        super().__init__()
        self.author = Agent("writer", ScriptedLLM(answers))

    @property
    def members(self) -> tuple[Agent, ...]:
        return (self.author,)

    async def _execute(self, ctx: RunContext, task: str) -> str:
        async def draft(scope: RunContext, given: Mapping[str, str]) -> str:
            return await scope.ask(self.author, "draft", phase="worker")

        async def approve(scope: RunContext, given: Mapping[str, str]) -> str:
            return json.dumps(await scope.wait_signal("approve"))

        async def beside(scope: RunContext, given: Mapping[str, str]) -> str:
            await scope.call("pause", lambda: asyncio.sleep(0.02))
            return await scope.ask(self.author, "beside", phase="worker")

        done = await ctx.dag(
            {
                "draft": Task((), draft),
                "approve": Task(("draft",), approve),
                "beside": Task(("draft",), beside),
            }
        )
        return " ".join(how.value for how in done.values())


class Sleeper(Pattern):
    """Waits a while."""

    name = "sleeper"
    members = ()

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    async def _execute(self, ctx: RunContext, task: str) -> str:
        await ctx.sleep(self.seconds)
        return "rested"


async def test_a_run_waits_for_a_signal_without_being_there(file: Path) -> None:
    with Runs(file) as runs:
        with pytest.raises(RunSuspended, match="until the signal 'approve'") as suspended:
            await Approved("a draft", "beside").run("t", run_id="r", durable=runs)
        assert suspended.value.waiting_for == ("approve",)
        assert suspended.value.result is not None
        assert len(suspended.value.result.calls) == 2  # what did not depend on it was finished
        assert asyncio.all_tasks() == {asyncio.current_task()}
        run = (await runs.get("r")).run
        assert (run.status, run.is_owned, run.due) == ("suspended", False, False)
        assert await runs.resume_all(Approved()) == {}

        with pytest.raises(RunSuspended):  # too early: it waits again, and pays nothing
            await runs.resume("r", Approved())

        await runs.signal("r", "approve", {"by": "Ada"})
        assert (await runs.get("r")).run.due
        outcomes = await runs.resume_all(Approved())
        [result] = outcomes.values()
        assert not isinstance(result, Exception)
        assert result.output == 'a draft {"by": "Ada"} beside'
        assert all(call.replayed for call in result.calls)


async def test_a_signal_may_come_first_and_each_is_taken_once(file: Path) -> None:
    class Twice(Pattern):
        name = "twice"
        members = ()

        async def _execute(self, ctx: RunContext, task: str) -> str:
            return f"{await ctx.wait_signal('go')} {await ctx.wait_signal('go')}"

    with Runs(file) as runs:
        with pytest.raises(RunSuspended):
            await Twice().run("t", run_id="r", durable=runs)
        for number in (1, 2, 3):
            await runs.signal("r", "go", number)
        for _ in range(2):  # the second time from the record
            assert (await runs.resume("r", Twice())).output == "1 2"
        with pytest.raises(JournalError, match="completed; it takes no signals"):
            await runs.signal("r", "go", 4)


async def test_a_signal_under_another_name_wakes_nobody(file: Path) -> None:
    with Runs(file) as runs:
        with pytest.raises(RunSuspended):
            await Approved("a draft", "beside").run("t", run_id="r", durable=runs)
        await runs.signal("r", "reject")
        assert not (await runs.get("r")).run.due


async def test_a_wait_that_was_renamed_is_named(file: Path) -> None:
    class Waits(Pattern):
        name = "waits"
        members = ()

        def __init__(self, signal: str) -> None:
            super().__init__()
            self.signal = signal

        async def _execute(self, ctx: RunContext, task: str) -> str:
            return str(await ctx.wait_signal(self.signal))

    with Runs(file) as runs:
        with pytest.raises(RunSuspended):
            await Waits("go").run("t", run_id="r", durable=runs)
        await runs.signal("r", "go")
        await runs.resume("r", Waits("go"))
        with pytest.raises(InputChanged, match="'signal:0'"):
            await runs.resume("r", Waits("come"))


async def test_a_signal_from_another_process_wakes_a_run_of_a_module(
    file: Path, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(
        textwrap.dedent("""
            from pyagent_patterns import Pattern

            class Order(Pattern):
                name = "order"
                members = ()
                async def _execute(self, ctx, task):
                    return f"{task}: {await ctx.wait_signal('paid')}"

            order = Order()
        """)
    )

    def python(program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=True,
        )
        return done.stdout.strip()

    suspended = python("""
        import asyncio, shop
        try:
            asyncio.run(shop.order.run("a book", run_id="r", durable="runs.db"))
        except Exception as error:
            print(type(error).__name__)
    """)
    assert suspended == "RunSuspended"
    woken = python("""
        import asyncio
        from pyagent_patterns.durable import Runs

        async def main():
            with Runs("runs.db") as runs:
                await runs.signal("r", "paid", 12)
                print((await runs.resume_all())["r"].output)

        asyncio.run(main())
    """)
    assert woken == "a book: 12"


async def test_a_sleep_suspends_until_its_time_has_come(file: Path) -> None:
    with Runs(file) as runs:
        began = time.time()
        with pytest.raises(RunSuspended, match="UTC") as suspended:
            await Sleeper(0.15).run("t", run_id="r", durable=runs)
        assert suspended.value.wake_at == pytest.approx(began + 0.15, abs=0.1)
        assert await runs.resume_all(Sleeper(0.15)) == {}
        await asyncio.sleep(0.2)
        [result] = (await runs.resume_all(Sleeper(0.15))).values()
        assert not isinstance(result, Exception)
        assert result.output == "rested"


async def test_without_a_store_a_sleep_is_waited_out_and_a_signal_cannot_be(file: Path) -> None:
    assert (await Sleeper(0.01).run("t")).output == "rested"
    with pytest.raises(NoStoreError, match=r"durable='runs.db'"):
        await Approved("a draft", "beside").run("t")
