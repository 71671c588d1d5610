"""Every test of the suite, on every engine there is; and the table of what was found.

PYAGENT_KILLS=20 makes every test smaller: at most so many kills, or runs, in each.
PYAGENT_KILLS_ENGINES=local,dbos names the engines; without it, all that this machine can run.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Final, cast

import pytest
import pytest_asyncio

from .engines import KNOWN, Row, load
from .processes import nursery
from .suite import Suite, Tally, total

_WANTED: Final = os.environ.get("PYAGENT_KILLS_ENGINES", ",".join(KNOWN)).split(",")
_TALLIES: Final[list[Tally]] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "suite" in metafunc.fixturenames:
        metafunc.parametrize("engine_name", _WANTED)


@pytest_asyncio.fixture
async def suite(
    engine_name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncGenerator[Suite]:
    """The suite on one engine; the test is skipped if the engine cannot pass it, or cannot run."""
    place = KNOWN[engine_name]
    engine = load(place)
    if engine is None:
        pytest.skip(f"pyagent-sdk[{engine_name}] is not installed")
    row = cast(Row, request.node.originalname.removeprefix("test_"))
    why = engine.missing() or engine.lacks.get(row)
    if why is not None:
        pytest.skip(why)
    tally = Tally(engine=engine_name, test=row)
    with engine.stores(tmp_path) as new_store:
        async with nursery(place) as processes:
            suite = Suite(engine, processes, new_store, tmp_path, tally)
            try:
                yield suite
            finally:
                _TALLIES.extend(suite.parts or [tally])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _TALLIES:
        return
    write = terminalreporter.write_line
    terminalreporter.section("kill suite")
    write(f"{'':39}{'':>6}{'':>8}{'paid again':^27}")
    write(
        f"{'engine and test':39}{'runs':>6}{'kills':>7}"
        f"{'in flight':>11}{'window':>8}{'seen':>6}{'lost':>6}{'stuck':>7}{'ms to store':>13}"
    )
    engines = dict.fromkeys(tally.engine for tally in _TALLIES)
    totals = [total(e, [t for t in _TALLIES if t.engine == e]) for e in engines]
    for t in (*_TALLIES, *totals):
        write(
            f"{t.engine + ' ' + t.test:39}{t.runs:>6}{t.kills:>7}"
            f"{t.flight:>11}{t.window:>8}{t.seen:>6}{t.lost:>6}{t.stuck:>7}"
            f"{_milliseconds(t.storing)}"
        )
    write("in flight: killed before the provider answered; window: answered and not yet stored;")
    write("seen: the pattern had the answer")
    write("ms to store: from answered to seen, half of the calls and 95 % of them")


def _milliseconds(seconds: Sequence[float]) -> str:
    if len(seconds) < 20:
        return ""
    cuts = quantiles(seconds, n=20)
    return f"{1000 * cuts[9]:>7.1f}{1000 * cuts[-1]:>6.1f}"
