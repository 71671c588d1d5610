"""`worker` and `submit`: runs on many machines, by way of one PostgreSQL database."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from typing import cast

import typer

from pyagent_patterns.durable.submission import HowSubmitted

from .arguments import ProviderLimit
from .screen import Screen
from .stores import cluster_at
from .words import total


async def work(screen: Screen, database_url: str, limits: Sequence[ProviderLimit]) -> None:
    """Do the work of submitted runs until the process is told to stop, and hand them over."""
    loop, this = asyncio.get_running_loop(), asyncio.current_task()

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGTERM)  # a second one ends the process at once
        if this is not None:
            this.cancel()

    async with cluster_at(screen, database_url, limits) as cluster:
        loop.add_signal_handler(signal.SIGTERM, stop)
        screen.note("this worker takes runs; Ctrl-C ends it")
        with suppress(asyncio.CancelledError):  # by either: the hand-over is how it is to end
            await cluster.work()
        screen.note("handing over: answers that are being paid for are awaited")


async def submit(
    screen: Screen, team: str, task: str, how: HowSubmitted, database_url: str, *, wait: bool
) -> None:
    """Hand in a run; with `wait`, its answer when a worker has done it."""
    async with cluster_at(screen, database_url) as cluster:
        try:
            run_id = await cluster.submit(team, task, **how)
        except (TypeError, ValueError) as error:
            raise typer.BadParameter(str(error)) from None
        if not wait:
            screen.line(run_id)
            return
        screen.note(f"run {run_id} is handed in")
        result = await cluster.result(run_id)
        screen.answer(cast(str, result["output"]))
        cost, unpriced = Decimal(cast(str, result["cost_estimate"])), cast(int, result["unpriced"])
        screen.note(f"\n{result['status']}  {total(cost, unpriced)}", "bold")
