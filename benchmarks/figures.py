"""The figures: what is run for each, what comes out, and the target it is held against."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from . import pages
from .fake_server import FakeServer
from .killed import Fate, Outcome
from .measure import Sample
from .sample import Contender

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = (
    "openai",
    "anthropic",
    "google.genai",
    "litellm",
    "genai_prices",
    "opentelemetry.sdk",
)
LATENCY = 0.05  # seconds the server takes over each call


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """The median of one figure over its rounds, and the smallest and largest of them.

    A figure without a target stands beside the others for comparison. One that was skipped has no
    values: its note says why.
    """

    name: str
    unit: str
    values: Sequence[float]
    target: float | None = None
    note: str = ""

    @property
    def median(self) -> float | None:
        return statistics.median(self.values) if self.values else None

    @property
    def met(self) -> bool | None:
        if self.target is None or self.median is None:
            return None
        return self.median <= self.target


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the servers are, and how long to go on."""

    server: FakeServer
    sink: FakeServer
    rounds: int
    scale: float  # of the number of runs in a sample
    say: Callable[[str], None]

    def runs(self, count: int) -> int:
        return max(1, round(count * self.scale))

    def interleaved(
        self, contenders: Sequence[Contender], rounds: int, *options: object
    ) -> dict[Contender, list[Sample]]:
        """A, B, C, A, B, C ...: what disturbs the machine disturbs all of them alike."""
        samples: dict[Contender, list[Sample]] = {contender: [] for contender in contenders}
        for done in range(rounds):
            for contender in contenders:
                self.say(f"round {done + 1} of {rounds}: {contender}")
                samples[contender].append(self._sample(contender, options))
        return samples

    def _sample(self, contender: Contender, options: Sequence[object]) -> Sample:
        process = subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.sample", contender),
                *("--otlp", self.sink.otlp_endpoint),
                *map(str, options),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if process.returncode:
            raise RuntimeError(f"the sample of {contender!r} failed:\n{process.stderr[-4000:]}")
        return Sample(**json.loads(process.stdout))


def cpu_at_one_run(bench: Bench) -> Iterator[Figure]:
    """CPU per call, one run after the other."""
    yield from _cpu_per_call(
        bench,
        "CPU per call, one run",
        bench.runs(60),
        at_once=1,
        warm_up=5,
        targets={"ours": 0.90, "ours-otlp": 0.97},
    )


def cpu_at_100_runs(bench: Bench) -> Iterator[Figure]:
    """CPU per call, 100 runs at once."""
    yield from _cpu_per_call(
        bench,
        "CPU per call, 100 runs at once",
        100 * bench.runs(3),
        at_once=100,
        warm_up=1,
        targets={"ours": 0.45, "ours-otlp": 0.48},
    )


def _cpu_per_call(
    bench: Bench,
    name: str,
    runs: int,
    *,
    at_once: int,
    warm_up: int,
    targets: dict[Contender, float],
) -> Iterator[Figure]:
    contenders: tuple[Contender, ...] = ("floor", "ours", "ours-otlp", "floor-aiohttp")
    url = bench.server.base_url(assignments=4, workers=4, latency=LATENCY)
    samples = bench.interleaved(
        contenders,
        bench.rounds,
        *("--base-url", url, "--runs", runs, "--at-once", at_once, "--warm-up", warm_up),
    )
    cpu = {each: _cpu_us_per_call(samples[each]) for each in contenders}
    yield Figure(name=f"{name}: floor", unit="us", values=cpu["floor"])
    for contender in contenders[1:]:
        yield Figure(
            name=f"{name}: {contender}",
            unit="x floor",
            values=[a / b for a, b in zip(cpu[contender], cpu["floor"], strict=True)],
            target=targets.get(contender),
            note=f"{statistics.median(cpu[contender]):.0f} us{_dropped(samples[contender], 13)}",
        )


def stub(bench: Bench) -> Iterator[Figure]:
    """CPU per call that the SDK adds to a model that answers at once, without HTTP."""
    samples = bench.interleaved(
        ("floor", "ours-bare", "ours"),
        bench.rounds,
        *("--stub", "--runs", bench.runs(1000), "--warm-up", 50),
    )
    floor = _cpu_us_per_call(samples["floor"])
    rows: tuple[tuple[Contender, str, float], ...] = (
        ("ours-bare", "stub LLM: added, no OTel SDK", 60),
        ("ours", "stub LLM: added, everything on", 160),
    )
    for contender, name, target in rows:
        ours = _cpu_us_per_call(samples[contender])
        yield Figure(
            name=name,
            unit="us",
            values=[a - b for a, b in zip(ours, floor, strict=True)],
            target=target,
            note=f"floor {statistics.median(floor):.1f} us{_dropped(samples[contender], 13)}",
        )


def wide(bench: Bench) -> Iterator[Figure]:
    """Wall time added to the server's own three latencies by a run of 32 workers."""
    url = bench.server.base_url(assignments=32, workers=32, latency=LATENCY)
    samples = bench.interleaved(
        ("floor", "ours"),
        bench.rounds,
        *("--base-url", url, "--workers", 32, "--calls", 34, "--runs", bench.runs(30)),
    )
    added = {
        each: [(sample.median_run_seconds - 3 * LATENCY) * 1e3 for sample in samples[each]]
        for each in samples
    }
    yield Figure(name="32 workers at 50 ms: added, floor", unit="ms", values=added["floor"])
    yield Figure(
        name="32 workers at 50 ms: added, ours", unit="ms", values=added["ours"], target=45
    )


def very_wide(bench: Bench) -> Iterator[Figure]:
    """One cold run with 1,024 worker calls in flight, each of 1.5 s."""
    server = bench.server
    samples = bench.interleaved(
        ("floor", "ours"),
        min(3, bench.rounds),
        *("--base-url", server.base_url(assignments=1024, workers=32, latency=1.5)),
        *("--prime", server.base_url(assignments=4, workers=4, latency=0)),
        *("--workers", 32, "--calls", 1026, "--runs", 1, "--warm-up", 0),
    )
    for contender, each in samples.items():
        of_ours = contender == "ours"
        name = f"1,024 in flight at 1.5 s: {contender}"
        yield Figure(
            name=f"{name}, wall",
            unit="s",
            values=[sample.wall_seconds for sample in each],
            target=6.5 if of_ours else None,
            note=_dropped(each, 2053),
        )
        yield Figure(
            name=f"{name}, CPU",
            unit="s",
            values=[sample.cpu_seconds for sample in each],
            target=2.5 if of_ours else None,
        )
        yield Figure(
            name=f"{name}, added memory",
            unit="MB",
            values=[sample.added_rss_bytes / 1e6 for sample in each],
            target=60 if of_ours else None,
        )


_IMPORT = """
import sys, time
sys.path.insert(0, {root!r})
started = time.perf_counter()
import pyagent_patterns, pyagent_providers
print((time.perf_counter() - started) * 1e3)
print(*(name for name in {forbidden!r} if name in sys.modules))
"""


def importing(bench: Bench) -> Iterator[Figure]:
    """The import alone, in a fresh isolated interpreter with its byte code already written."""
    code = _IMPORT.format(root=str(ROOT), forbidden=FORBIDDEN)
    milliseconds: list[float] = []
    loaded: set[str] = set()
    for _ in range(1 + 3 * bench.rounds):
        out = subprocess.run(
            [sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True
        ).stdout.splitlines()
        milliseconds.append(float(out[0]))
        loaded.update(out[1].split())
    yield Figure(name="import", unit="ms", values=milliseconds[1:], target=120)
    yield Figure(
        name="import: modules loaded that must not be",
        unit="",
        values=[len(loaded)],
        target=0,
        note=" ".join(sorted(loaded)),
    )


_START = """
import asyncio, sys, tempfile, time
sys.path.insert(0, {root!r})
import pyagent_patterns, pyagent_providers
started = time.perf_counter()
from pyagent_patterns.durable import Runs
imported = time.perf_counter()
from pyagent_patterns.journal import RunEnd, RunStart

async def main():
    started = time.perf_counter()
    with Runs(folder + "/runs.db") as runs:
        journal = await runs.open(RunStart(run_id="r", pattern="p", task="t"))
        print((time.perf_counter() - started) * 1e3)
        await journal.end(RunEnd(status="completed"))

with tempfile.TemporaryDirectory() as folder:
    print((imported - started) * 1e3)
    asyncio.run(main())
"""


def durable(bench: Bench) -> Iterator[Figure]:
    """What keeping every run in a journal file adds, on a model that answers at once."""
    with tempfile.TemporaryDirectory() as folder:
        place = f"{folder}/runs.db"
        yield from _kept(bench, "durable", place, runs=100, at_once=100, target_ms=2, rate=3000)
    code = _START.format(root=str(ROOT))
    imports: list[float] = []
    starts: list[float] = []
    for _ in range(1 + 3 * bench.rounds):
        run = [sys.executable, "-I", "-c", code]
        out = subprocess.run(run, check=True, capture_output=True, text=True).stdout.splitlines()
        imports.append(float(out[0]))
        starts.append(float(out[1]))
    yield Figure(name="durable: added import", unit="ms", values=imports[1:], target=100)
    yield Figure(name="durable: start, a new file", unit="ms", values=starts[1:], target=50)


def cluster(bench: Bench) -> Iterator[Figure]:
    """What keeping every run in PostgreSQL adds; the server is on this machine and takes part."""
    sys.path.insert(0, str(ROOT / "examples"))
    from local_postgres import LocalPostgres

    with LocalPostgres() as server:
        place = server.new_database()
        yield from _kept(bench, "cluster", place, runs=30, at_once=20, target_ms=10, rate=200)


def _kept(
    bench: Bench, name: str, place: str, *, runs: int, at_once: int, target_ms: float, rate: int
) -> Iterator[Figure]:
    options = ("--stub", "--durable", place)
    several = at_once * bench.runs(5)
    one = bench.interleaved(
        ("ours-bare", "ours-durable"),
        bench.rounds,
        *(*options, "--runs", bench.runs(runs), "--warm-up", 5),
    )
    many = bench.interleaved(
        ("ours-durable",),
        bench.rounds,
        *(*options, "--runs", several, "--at-once", at_once, "--warm-up", 1),
    )
    wall = {each: [s.wall_seconds / s.calls for s in one[each]] for each in one}
    added = [a - b for a, b in zip(wall["ours-durable"], wall["ours-bare"], strict=True)]
    yield Figure(
        name=f"{name}: added wall time per call, one run",
        unit="ms",
        values=[seconds * 1e3 for seconds in added],
        target=target_ms,
    )
    each = [s.wall_seconds / s.calls for s in many["ours-durable"]]
    yield Figure(
        name=f"{name}: wall time per call, {at_once} runs at once",
        unit="ms",
        values=[seconds * 1e3 for seconds in each],
        target=1000 / rate,
        note=f"{1 / statistics.median(each):.0f} calls/s; the target is {rate}",
    )


def killed(bench: Bench) -> Iterator[Figure]:
    """What a collector that dies halfway through costs, as a multiple of one that lives."""
    url = bench.server.base_url(assignments=4, workers=4, latency=LATENCY)
    fates = get_args(Fate)
    outcomes: dict[Fate, list[Outcome]] = {fate: [] for fate in fates}
    for done in range(bench.rounds):
        for fate in fates:
            bench.say(f"round {done + 1} of {bench.rounds}: {fate}")
            outcomes[fate].append(_outcome(fate, url, bench.runs(400)))
    healthy = [outcome.cpu_seconds for outcome in outcomes["healthy"]]
    for fate in fates[1:]:
        ends = outcomes[fate]
        lost = sum(end.export_failures for end in ends), sum(end.dropped for end in ends)
        yield Figure(
            name=f"collector {fate} halfway: CPU",
            unit="x alive",
            values=[end.cpu_seconds / base for end, base in zip(ends, healthy, strict=True)],
            target=1.05,
            note=f"{lost[0]} failed exports, {lost[1]} spans dropped",
        )
        yield Figure(
            name=f"collector {fate} halfway: failed runs",
            unit="",
            values=[end.failed for end in ends],
            target=0,
        )


def _outcome(fate: Fate, url: str, runs: int) -> Outcome:
    process = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.killed", fate),
            *("--base-url", url, "--runs", str(runs)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise RuntimeError(f"the sample of {fate!r} failed:\n{process.stderr[-4000:]}")
    return Outcome(**json.loads(process.stdout))


def viewer(bench: Bench) -> Iterator[Figure]:
    """The viewer with 100,000 spans: what pages ask of its store, and the pages in a browser."""
    samples: list[dict[str, float]] = []
    for _ in range(min(3, bench.rounds)):
        run = [sys.executable, "-m", "benchmarks.viewer"]
        out = subprocess.run(run, check=True, capture_output=True, text=True, cwd=ROOT).stdout
        samples.append(json.loads(out))
    asked = (
        ("list", "a page of the list of runs", 200),
        ("costs", "costs by any dimension", 200),
        ("choices", "what there is to filter by", 200),
        ("large run", "a run of 2,000 spans", 150),
    )
    for key, name, target in asked:
        values = [sample[key] for sample in samples]
        yield Figure(name=f"viewer: {name}", unit="ms", values=values, target=target)
    rates = [sample["spans a second"] for sample in samples]
    yield Figure(
        name="viewer: storing a span",
        unit="us",
        values=[1e6 / rate for rate in rates],
        target=200,
        note=f"{statistics.median(rates):.0f} spans/s; the target is 5000",
    )
    lacking = pages.missing()
    for page, target in (("list page", 200), ("run page", 500)):
        for moment in ("DOMContentLoaded", "ready"):
            key = f"{page}: {moment}"
            yield Figure(
                name=f"viewer: {key}",
                unit="ms",
                values=[sample[key] for sample in samples] if lacking is None else (),
                target=target,
                note=f"skipped: {lacking}" if lacking else "",
            )


FIGURES: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "import": importing,
    "stub": stub,
    "cpu": cpu_at_one_run,
    "cpu100": cpu_at_100_runs,
    "wide": wide,
    "verywide": very_wide,
    "durable": durable,
    "cluster": cluster,
    "killed": killed,
    "viewer": viewer,
}


def _cpu_us_per_call(samples: Sequence[Sample]) -> list[float]:
    return [sample.cpu_seconds / sample.calls * 1e6 for sample in samples]


def _dropped(samples: Sequence[Sample], spans_per_run: int) -> str:
    """Says so when spans did not reach the exporter: dropped ones would make ours look cheap."""
    missing = sum(
        sample.runs * spans_per_run - sample.spans_exported
        for sample in samples
        if sample.spans_exported is not None
    )
    return f"; {missing} SPANS DROPPED" if missing else ""
