"""What one process measures of the viewer: 100,000 spans in, what pages ask, and the pages.

python -m benchmarks.viewer
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pyagent_exporters.viewer.runs import DIMENSIONS, RunQuery
from pyagent_exporters.viewer.spans import AttributeValue, Span
from pyagent_exporters.viewer.store import SpanStore

from . import pages

RUNS = 5_000
AGENTS = 7  # of a run
CALLS = 2  # of each of its agents, but one of the first: 21 spans with the run's own
BATCH = 512  # spans that an exporter sends at once
LARGE = 2_000  # spans of the one large run
_START = 1_790_000_000_000_000_000
_MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4", "gemini-2.5-pro")
_PATTERNS = ("orchestrator_workers", "pipeline", "router")
_QUERIES = (
    RunQuery(),
    RunQuery(sort="cost"),
    RunQuery(sort="duration", descending=False),
    RunQuery(sort="tokens", offset=4_000),
    RunQuery(status="failed"),
    RunQuery(text="gemini"),
    RunQuery(text="no such text"),
    RunQuery(model="gpt-4o", tenant="tenant-1", pattern="router", sort="cost"),
    RunQuery(since=_START, until=_START + 10**15),
)


def main() -> None:
    """Print the measurements as JSON, by name: milliseconds, and spans a second."""
    chance = random.Random(1)
    spans = [span for n in range(RUNS) for span in _run(chance, n, AGENTS, CALLS)]
    large = list(_run(chance, RUNS, agents=LARGE // 3, calls=CALLS))
    run_id = large[-1].run_id or ""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "traces.db"
        figures = _of_store(file, spans, large, run_id)
        if pages.missing() is None:
            figures |= pages.measured(file, {"list page": "/", "run page": f"/runs/{run_id}"})
    print(json.dumps(figures))


def _of_store(
    file: Path, spans: Sequence[Span], large: Sequence[Span], run_id: str
) -> dict[str, float]:
    with SpanStore(file) as store:
        started = time.perf_counter()
        for at in range(0, len(spans), BATCH):
            store.add(spans[at : at + BATCH])
        seconds = time.perf_counter() - started
        store.add(large)
        return {
            "spans a second": len(spans) / seconds,
            "list": max(_milliseconds(lambda q=query: store.runs(q)) for query in _QUERIES),
            "costs": max(
                _milliseconds(lambda b=by, k=bucket: store.costs(b, bucket=k))
                for by in DIMENSIONS
                for bucket in (None, "day")
            ),
            "choices": _milliseconds(store.choices),
            "large run": _milliseconds(lambda: store.run(run_id)),
        }


def _milliseconds(ask: Callable[[], object]) -> float:
    """The median of five."""
    taken: list[float] = []
    for _ in range(5):
        started = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - started)
    return sorted(taken)[2] * 1e3


def _run(chance: random.Random, number: int, agents: int, calls: int) -> Iterator[Span]:
    """The spans of a run, as an exporter sends them: what ended first comes first."""
    trace_id, run_id, root = f"{number + 1:032x}", f"run-{number:06}", f"{number + 1:016x}"
    pattern, start = chance.choice(_PATTERNS), _START + number * 10**10

    def span(
        span_id: str, parent_id: str | None, name: str, at: int, **rest: AttributeValue
    ) -> Span:
        attributes = {key.replace("__", "."): value for key, value in rest.items()}
        return Span(
            trace_id=trace_id,
            span_id=span_id,
            parent_id=parent_id,
            name=name,
            start=start + at,
            end=start + at + 10**7 if parent_id else start + 10**9,
            attributes=attributes,
        )

    for n in range(agents):
        agent = f"{chance.getrandbits(64) | 1:016x}"
        for call in range(calls if n else 1):
            model = chance.choice(_MODELS)
            cost = chance.randrange(10**6) / 1e7
            yield span(
                f"{chance.getrandbits(64) | 1:016x}",
                agent,
                f"chat {model}",
                n * 10**8 + call,
                gen_ai__operation__name="chat",
                gen_ai__provider__name="openai",
                gen_ai__request__model=model,
                gen_ai__usage__input_tokens=chance.randrange(5_000),
                gen_ai__usage__output_tokens=500,
                pyagent__cost__usd=cost,
                gen_ai__usage__cost=cost,
                pyagent__price__source="user",
            )
        yield span(
            agent,
            root,
            f"pyagent.agent.worker-{n}",
            n * 10**8,
            gen_ai__operation__name="invoke_agent",
            gen_ai__agent__name=f"worker-{n}",
            pyagent__phase="worker",
            pyagent__pattern=pattern,
            pyagent__run__id=run_id,
            pyagent__path=f"worker-{n}",
            pyagent__task__id=f"t{n}",
        )
    yield span(
        root,
        None,
        f"pyagent.pattern.{pattern}",
        0,
        gen_ai__operation__name="invoke_workflow",
        gen_ai__workflow__name=pattern,
        pyagent__pattern=pattern,
        pyagent__run__id=run_id,
        pyagent__tenant=f"tenant-{chance.randrange(4)}",
        pyagent__status=chance.choice(("completed", "completed", "failed")),
    )


if __name__ == "__main__":
    main()
