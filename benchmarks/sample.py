"""One measured sample in a process of its own: `python -m benchmarks.sample CONTENDER`.

Prints one JSON object. The CPU time is user + system of the whole process, exporter threads
included, and what a contender's telemetry still holds is flushed inside the measured block.
Imports, set-up and a warm-up stay outside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal, get_args

from .fake_server import allow_many_connections
from .measure import Run, measure

if TYPE_CHECKING:
    from .otel import OTelSDK

Contender = Literal[
    "floor",  # by hand on AsyncOpenAI
    "floor-aiohttp",  # the same on the SDK's aiohttp transport
    "ours",  # spans, metrics, prices and ledger, into null exporters
    "ours-otlp",  # the same, by OTLP over HTTP to a local sink
    "ours-bare",  # no OpenTelemetry SDK configured
    "ours-durable",  # the same, every run kept in a journal file, or a PostgreSQL database
]


async def _main(arguments: argparse.Namespace) -> None:
    telemetry = _telemetry(arguments.contender, arguments.otlp)
    if arguments.prime:
        # What is loaded on first use must not count as memory of the measured runs.
        async with _contender(arguments.contender, arguments.prime, 4, stub=False) as run:
            await run()
    async with _contender(
        arguments.contender,
        arguments.base_url,
        arguments.workers,
        stub=arguments.stub,
        durable=arguments.durable,
    ) as run:
        sample = await measure(
            run,
            telemetry,
            runs=arguments.runs,
            at_once=arguments.at_once,
            warm_up=arguments.warm_up,
            calls_per_run=arguments.calls,
        )
    if telemetry is not None:
        telemetry.shutdown()
    json.dump(asdict(sample), sys.stdout)


def _contender(
    name: Contender, base_url: str, workers: int, *, stub: bool, durable: str | None = None
) -> AbstractAsyncContextManager[Run]:
    """Imports only what the contender needs."""
    if name.startswith("ours"):
        from . import ours

        return ours.team(
            None if stub else base_url, workers, durable=durable if name == "ours-durable" else None
        )
    if stub:
        from . import stub as stubbed

        return stubbed.by_hand(workers)
    from . import floor

    return floor.by_hand(base_url, workers, aiohttp=name == "floor-aiohttp")


def _telemetry(name: Contender, otlp: str) -> OTelSDK | None:
    if name not in ("ours", "ours-otlp"):
        return None
    from .otel import OTelSDK

    return OTelSDK.null() if name == "ours" else OTelSDK.otlp(otlp)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=get_args(Contender))
    parser.add_argument("--base-url", default="")
    parser.add_argument("--otlp", default="")
    parser.add_argument("--stub", action="store_true", help="no HTTP: an LLM that answers at once")
    parser.add_argument("--durable", help="where ours-durable keeps its runs: a path or a URL")
    parser.add_argument("--workers", type=int, default=4, help="worker agents")
    parser.add_argument("--calls", type=int, default=6, help="calls to a model in one run")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--warm-up", type=int, default=5, help="rounds before measuring")
    parser.add_argument("--prime", default="", help="a base URL for one small run before that")
    allow_many_connections()
    asyncio.run(_main(parser.parse_args()))
