"""Two thousand runs, a hundred at once, of a provider that fails: none leaks, all are counted."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from pyagent_patterns import Agent, Budget, OrchestratorWorkers, Result, RetryPolicy, Timeouts
from pyagent_patterns.errors import PyAgentError
from pyagent_patterns.traffic import Traffic
from pyagent_providers import ModelPrice, OpenAILLM, Usage
from pyagent_providers.telemetry import Telemetry, using

from .faulty_server import Books

RUNS, AT_ONCE, WARM_UP = 2000, 100, 500
WORKERS = ("researcher", "writer", "critic")
PRICE = ModelPrice(input="2.50", output="10")

# To keep the result of each run would take more than this. What is seen is less than a tenth.
MOST_GROWTH = 4 * 1024**2
# Python objects that may stay of each run; its result alone is seventy. Exact, where memory is not.
MOST_OBJECTS_A_RUN = 2

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads Linux's /proc")


def test_two_thousand_runs_against_a_faulty_provider_leave_nothing_behind() -> None:
    files = open_files()
    with faulty_provider() as (url, books), telemetry() as spans:
        ledger = Ledger()
        before, after = asyncio.run(soak(url, ledger))
    compare(ledger, Books(**json.loads(books[0])))
    assert spans.calls == ledger.calls
    assert spans.runs == RUNS
    assert after.tasks == 0
    assert after.sockets <= before.sockets + AT_ONCE
    assert open_files() == files
    objects = (after.objects - before.objects) / (RUNS - WARM_UP)
    assert objects <= MOST_OBJECTS_A_RUN, f"{objects:.1f} objects stay of each run"
    grown = after.memory - before.memory
    assert grown <= MOST_GROWTH, f"grew by {grown / 1024**2:.1f} MB, from {before} to {after}"


async def soak(url: str, ledger: Ledger) -> tuple[Footprint, Footprint]:
    """What the process takes when it is warm, and at the end."""
    team = crew(url)
    await many(team, WARM_UP, ledger)
    before = await Footprint.now()
    await many(team, RUNS - WARM_UP, ledger)
    return before, await Footprint.now()


async def many(team: OrchestratorWorkers, runs: int, ledger: Ledger) -> None:
    """So many runs, a hundred at once; some are cancelled on the way."""
    numbers = iter(range(runs))
    chance = random.Random(runs)

    async def some() -> None:
        for _ in numbers:
            impatient = chance.randrange(20) == 0
            try:
                async with asyncio.timeout(chance.uniform(0, 4) if impatient else None):
                    ledger.add(await team.run("the task"))
            except TimeoutError as late:
                ledger.add(late.__cause__.result)  # pyright: ignore
            except PyAgentError as error:
                ledger.add(error.result)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())


def crew(url: str) -> OrchestratorWorkers:
    llm = OpenAILLM("gpt-soak", base_url=url, api_key="k", price=PRICE)
    return OrchestratorWorkers(
        orchestrator=Agent("planner", llm, max_tokens=100),
        workers=[
            Agent(name, llm, max_tokens=100, stream=name == "writer", description=name)
            for name in WORKERS
        ],
        retry=RetryPolicy(max_attempts=4, backoff=0.01),
        timeouts=Timeouts(call=4.0),
        budget=Budget(max_cost_usd="0.10", max_calls=9, max_seconds=60),
        traffic=Traffic(),
    )


@dataclass
class Ledger:
    """The runs' ledgers added up, without keeping anything of them."""

    calls: int = 0
    cancelled: int = 0
    cut_short: int = 0
    estimated: int = 0
    not_billed: int = 0
    usage: Usage = field(default_factory=Usage)
    told: Decimal = Decimal(0)
    statuses: dict[str, int] = field(default_factory=dict)
    seen: bytearray = field(default_factory=lambda: bytearray(RUNS * 50))

    def add(self, result: Result | None) -> None:
        assert result is not None
        self.statuses[result.status] = self.statuses.get(result.status, 0) + 1
        self.usage += result.usage
        for call in result.calls:
            self.calls += 1
            self.cancelled += call.status == "cancelled"
            self.cut_short += call.status == "cancelled" or call.error == "RequestTimeoutError"
            self.estimated += call.price_source == "estimate"
            self.not_billed += call.price_source == "not-billed"
            if call.usage is not None:
                assert call.response_id is not None
                assert call.cost is not None
                self.told += call.cost
                assert not self.seen[int(call.response_id)], "an answer was counted twice"
                self.seen[int(call.response_id)] = 1


def compare(ledger: Ledger, books: Books) -> None:
    """Each answer is in the ledger as the provider charges it, or as one that was cut off."""
    # A call that is cancelled may not have been sent yet, or its refusal was not heard.
    assert ledger.calls - ledger.cancelled <= books.requests <= ledger.calls
    told = [tokens for number, tokens in books.answers.items() if ledger.seen[int(number)]]
    assert len(told) == sum(ledger.seen)
    charged = Usage(
        input_tokens=sum(read for read, _ in told), output_tokens=sum(wrote for _, wrote in told)
    )
    assert charged == ledger.usage
    assert PRICE.cost(charged) == ledger.told
    assert ledger.calls == len(told) + ledger.estimated + ledger.not_billed
    assert ledger.not_billed <= books.refused
    untold = books.cut_off + len(books.answers) - len(told)
    assert untold <= ledger.estimated <= untold + ledger.cut_short
    assert ledger.statuses["completed"] > RUNS * 0.8


@dataclass(frozen=True)
class Footprint:
    """What the process takes; `memory` in bytes, `tasks` beside the current one."""

    memory: int
    objects: int
    sockets: int
    tasks: int

    @classmethod
    async def now(cls) -> Footprint:
        await asyncio.sleep(0.2)  # what is closed takes a turn of the loop
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            memory=pages * os.sysconf("SC_PAGE_SIZE"),
            objects=sys.getallocatedblocks(),
            sockets=sum(file.startswith("socket:") for file in open_files()),
            tasks=len(asyncio.all_tasks()) - 1,
        )


def open_files() -> Sequence[str]:
    files: list[str] = []
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            files.append(os.readlink(fd))
    return sorted(files)


@contextmanager
def faulty_provider() -> Iterator[tuple[str, list[str]]]:
    """Its URL, and a list that has its books after the block."""
    books: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-m", "tests.soak.faulty_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), books
        books.append(process.communicate(timeout=30)[0])


class Spans(SpanExporter):
    """Counts spans and forgets them."""

    def __init__(self) -> None:
        self.calls = self.runs = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.calls += sum(span.name.startswith("chat ") for span in spans)
        self.runs += sum(span.name.startswith("pyagent.pattern.") for span in spans)
        return SpanExportResult.SUCCESS


@contextmanager
def telemetry() -> Iterator[Spans]:
    """The OpenTelemetry SDK, as an application has it."""
    spans = Spans()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(spans, max_queue_size=100_000))
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    with using(Telemetry(tracer_provider=tracers, meter_provider=meters)):
        yield spans
    tracers.shutdown()
    meters.shutdown()
