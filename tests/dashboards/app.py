"""A process that runs the scenes and shows its metrics; told by lines on its standard input.

`round` runs everything once, `stuck` begins a run that never ends. Each is answered by a line of
JSON: what the runs cost, by each thing that a cost metric tells of, in US dollars.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from decimal import Decimal

from pyagent_exporters import configure
from pyagent_patterns import Result
from pyagent_patterns.ledger import CostKey
from tests.dashboards import scenes

KEYS: tuple[CostKey, ...] = ("agent", "phase", "model", "provider")


def costs(results: Sequence[Result]) -> dict[str, dict[str, str]]:
    """What was spent, in all and by each key."""
    total = sum((result.cost_estimate for result in results), Decimal(0))
    spent = {"total": {"": str(total)}}
    for key in KEYS:
        by: dict[str, Decimal] = {}
        for result in results:
            for name, usd in result.cost_by(key).items():
                by[name] = by.get(name, Decimal(0)) + usd
        spent[key] = {name: str(usd) for name, usd in by.items() if usd}
    return spent


async def main() -> None:
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    begun: set[asyncio.Task[None]] = set()
    with configure(prometheus=0, service_name="bookshop", tenants=scenes.TENANTS) as handle:
        print(handle.prometheus_url, flush=True)
        while command := (await commands.readline()).decode().strip():
            if command == "stuck":
                begun.add(asyncio.create_task(scenes.stuck()))
                await asyncio.sleep(0.05)
                print("{}", flush=True)
            else:
                print(json.dumps(costs(await scenes.everything())), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
