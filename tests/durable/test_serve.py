"""A process that serves a store goes on with what becomes due, and does nothing in between."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pyagent_patterns import Pattern, Result
from pyagent_patterns.durable import Runs
from pyagent_patterns.durable.bell import Bell, ring
from pyagent_patterns.errors import InputChanged, RunSuspended
from pyagent_patterns.run import RunContext


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


class Order(Pattern):
    """Waits for payment, or as many seconds as its task says."""

    name = "order"
    members = ()

    async def _execute(self, ctx: RunContext, task: str) -> str:
        if task.startswith("wait "):
            await ctx.sleep(float(task.removeprefix("wait ")))
            return "rested"
        return f"{task}: {await ctx.wait_signal('paid')}"


ORDER = Order()


@asynccontextmanager
async def serving(file: Path) -> AsyncGenerator[Callable[[str], asyncio.Future[object]]]:
    """Serve in this process; what is yielded gives a run's outcome when there is one."""
    ended: dict[str, asyncio.Future[object]] = {}

    def outcome_of(run_id: str) -> asyncio.Future[object]:
        return ended.setdefault(run_id, asyncio.get_running_loop().create_future())

    def on_end(run_id: str, outcome: Result | Exception) -> None:
        if not isinstance(outcome, RunSuspended):
            outcome_of(run_id).set_result(outcome)

    with Runs(file) as runs:
        task = asyncio.create_task(runs.serve(ORDER, on_end=on_end))
        await asyncio.sleep(0.05)
        yield outcome_of
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not (file.parent / "runs.db.bell").exists()


async def suspend(file: Path, task: str, run_id: str) -> None:
    with Runs(file) as runs, pytest.raises(RunSuspended):
        await ORDER.run(task, run_id=run_id, durable=runs)


async def test_a_signal_of_another_process_is_heard_at_once(file: Path) -> None:
    await suspend(file, "a book", "r")
    async with serving(file) as outcome_of, asyncio.timeout(10):
        program = f"""
            import asyncio
            from pyagent_patterns.durable import Runs
            with Runs({str(file)!r}) as runs:
                asyncio.run(runs.signal("r", "paid", 12))
        """
        await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", textwrap.dedent(program)], check=True
        )
        result = await outcome_of("r")
        assert isinstance(result, Result)
        assert result.output == "a book: 12"


async def test_a_time_that_comes_is_kept_also_of_runs_suspended_later(file: Path) -> None:
    async with serving(file) as outcome_of, asyncio.timeout(10):
        await suspend(file, "wait 0.1", "r")
        assert isinstance(await outcome_of("r"), Result)


async def test_a_run_whose_process_died_is_taken_over(file: Path) -> None:
    program = f"""
        import asyncio, os
        from pyagent_patterns.durable import Runs
        from pyagent_patterns.journal import RunStart

        async def die():
            await Runs({str(file)!r}).open(RunStart(run_id="r", pattern="order", task="wait 0"))
            os._exit(9)

        asyncio.run(die())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)])
    async with serving(file) as outcome_of, asyncio.timeout(10):
        assert isinstance(await outcome_of("r"), Result)


async def test_serving_costs_nothing_while_nothing_happens(file: Path) -> None:
    for number in range(20):
        await suspend(file, "a book", f"r{number}")
    async with serving(file):
        await asyncio.sleep(0.05)
        before = resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.sleep(0.3)
        after = resource.getrusage(resource.RUSAGE_SELF)
    switches = (after.ru_nvcsw + after.ru_nivcsw) - (before.ru_nvcsw + before.ru_nivcsw)
    assert switches < 10  # of the threads: none wakes up to look


async def test_a_run_that_cannot_go_on_is_tried_once(file: Path) -> None:
    await suspend(file, "a book", "r")
    with Runs(file) as runs:
        await runs.signal("r", "paid", 1)
        ended: list[str] = []

        class Edited(Order):
            async def _execute(self, ctx: RunContext, task: str) -> str:
                raise InputChanged("r", "signal:0")

        task = asyncio.create_task(
            runs.serve(Edited(), on_end=lambda run_id, outcome: ended.append(run_id))
        )
        await asyncio.sleep(0.1)
        ring(file.with_name("runs.db.bell"))
        await asyncio.sleep(0.1)
        assert ended == ["r"]
        task.cancel()
        await asyncio.wait([task])


async def test_a_bell_is_heard_over_a_long_path_and_dead_listeners_are_cleared(
    tmp_path: Path,
) -> None:
    folder = tmp_path / ("x" * 120) / "bell"
    folder.parent.mkdir()
    ring(folder)  # nobody listens
    with Bell(folder) as one, Bell(folder) as other:
        (folder / "dead.sock").touch()
        ring(folder)
        async with asyncio.timeout(5):
            await one.wait(None)
            await other.wait(None)
        assert not (folder / "dead.sock").exists()
        await one.wait(0.01)  # not rung since
    assert not folder.exists()
