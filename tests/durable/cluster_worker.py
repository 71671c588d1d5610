"""A worker process for the tests of clusters: prints `ready`, and works until it is told to stop.

python -m tests.durable.cluster_worker URL [LEASE [PROVIDER=CONCURRENCY]]
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress

from pyagent_patterns.durable.dbos import Cluster, Limit


async def main(url: str, lease: str = "15", limit: str = "") -> None:
    provider, _, concurrency = limit.partition("=")
    limits = [Limit(provider, concurrency=int(concurrency))] if limit else []
    async with Cluster(url, limits=limits, lease=float(lease)) as cluster:
        await cluster.join()
        working = asyncio.create_task(cluster.work())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
        print("ready", flush=True)
        with suppress(asyncio.CancelledError):
            await working


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
