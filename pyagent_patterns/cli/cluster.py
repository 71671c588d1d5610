"""`worker` and `submit`: runs on many machines, by way of one PostgreSQL database."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from decimal import Decimal
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

import typer

from .arguments import ProviderLimit
from .going_on import USAGE
from .screen import Screen
from .words import total

if TYPE_CHECKING:
    from pyagent_patterns.durable.dbos import Cluster


async def work(screen: Screen, database_url: str, limits: Sequence[ProviderLimit]) -> None:
    """Do the work of submitted runs until the process is told to stop."""
    async with _cluster(screen, database_url, limits) as cluster:
        this = asyncio.current_task()
        if this is not None:  # as for Ctrl-C: what is being answered is still recorded
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
        screen.note("this worker takes runs; Ctrl-C ends it")
        await cluster.work()


async def submit(screen: Screen, team: str, task: str, database_url: str, *, wait: bool) -> None:
    """Hand in a run; with `wait`, its answer when a worker has done it."""
    async with _cluster(screen, database_url, ()) as cluster:
        try:
            run_id = await cluster.submit(team, task)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        if not wait:
            screen.line(run_id)
            return
        screen.note(f"run {run_id} is handed in")
        result = await cluster.result(run_id)
        screen.answer(cast(str, result["output"]))
        cost, unpriced = Decimal(cast(str, result["cost_estimate"])), cast(int, result["unpriced"])
        screen.note(f"\n{result['status']}  {total(cost, unpriced)}", "bold")


def _cluster(screen: Screen, database_url: str, limits: Sequence[ProviderLimit]) -> Cluster:
    if find_spec("dbos") is None:
        screen.error('runs on many machines need DBOS: pip install "pyagent-sdk[dbos]"')
        raise typer.Exit(USAGE)
    from pyagent_patterns.durable.dbos import Cluster, Limit

    try:
        return Cluster(
            database_url,
            limits=[
                Limit(
                    provider=limit.provider,
                    concurrency=limit.concurrency,
                    per_minute=limit.per_minute,
                )
                for limit in limits
            ],
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
