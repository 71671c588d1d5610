"""Real runs to look at: teams on scripted models, their clock stretched to that of real ones.

A scripted model answers in milliseconds; each run's spans are stretched in time and moved to where
in the last days it is to be, and nothing else is changed.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pyagent_exporters.viewer.otlp_in import PROTOBUF, decode
from pyagent_exporters.viewer.spans import Span
from pyagent_exporters.viewer.store import SpanStore
from pyagent_patterns import (
    Agent,
    Hierarchical,
    OrchestratorWorkers,
    Pattern,
    Pipeline,
    RetryPolicy,
    Route,
    Router,
    Team,
)
from pyagent_providers import ModelPrice
from pyagent_providers.errors import AuthenticationError, RateLimitError
from pyagent_providers.telemetry import Telemetry, using
from pyagent_providers.testing import Answer, ScriptedLLM, Step
from pyagent_providers.types import Usage

_QUICK: Final = RetryPolicy(max_attempts=3, backoff=0, max_backoff=1)
_MODELS: Final[Mapping[str, tuple[str, ModelPrice | None]]] = {
    "gpt-4o": ("openai", ModelPrice(input="2.5", output="10")),
    "gpt-4o-mini": ("openai", ModelPrice(input="0.15", output="0.6")),
    "claude-sonnet-4-20250514": ("anthropic", ModelPrice(input="3", output="15")),
    "gemini-2.5-flash": ("gcp.gemini", ModelPrice(input="0.3", output="2.5")),
    "smollm2-135m": ("local", None),
}
_TENANTS: Final = ("acme", "globex", "initech", None)
_PEOPLE: Final = ("ada", "grace", "edsger", None)
_STRETCH: Final = 40
_AT_ONCE: Final = 4
_MINUTE: Final = 60 * 10**9


@dataclass(frozen=True, slots=True)
class Job:
    """A team with the task it is given, and whether that fails."""

    team: Pattern
    task: str
    fails: bool = False


def fill(store: SpanStore, *, runs: int = 60, days: float = 6, seed: int = 7) -> None:
    """Put that many runs, spread over that many days until now, into a store."""
    random_ = random.Random(seed)
    now = time.time_ns()
    jobs = [_job(random_, n) for n in range(runs)]
    recorded = record(
        [(job, random_.choice(_TENANTS), random_.choice(_PEOPLE)) for job in jobs],
    )
    for n, spans in enumerate(recorded):
        age = (n / runs) ** 2 * days * 1440 * _MINUTE + random_.random() * 20 * _MINUTE
        store.add(moved(spans, end=now - int(age) - _MINUTE))
    going_on = moved(record([(_launch(random_), "acme", "ada")])[0], end=now)
    store.add(going_on[: len(going_on) // 2])  # those that have ended: a span comes when it ends


def record(runs: Sequence[tuple[Job, str | None, str | None]]) -> list[list[Span]]:
    """The spans of real runs of these jobs, each for a tenant and a user."""

    async def work() -> list[Sequence[ReadableSpan]]:
        some = asyncio.Semaphore(_AT_ONCE)

        await _run(_desk(random.Random(0)), None, None)  # the first loads what is loaded once

        async def one(run: tuple[Job, str | None, str | None]) -> Sequence[ReadableSpan]:
            async with some:
                return await _run(*run)

        return await asyncio.gather(*map(one, runs))

    return [spans_of(finished) for finished in asyncio.run(work())]


def spans_of(finished: Sequence[ReadableSpan]) -> list[Span]:
    """The SDK's spans, as the viewer receives them."""
    body = encode_spans(finished).SerializeToString()
    return list(decode(body, content_type=PROTOBUF).spans)


def moved(spans: Sequence[Span], *, end: int, stretch: int = _STRETCH) -> list[Span]:
    """The same spans, going on `stretch` times as long and until `end` (Unix nanoseconds)."""
    last = max(span.end or span.start for span in spans)

    def then(moment: int) -> int:
        return end - (last - moment) * stretch

    return [
        replace(
            span,
            start=then(span.start),
            end=None if span.end is None else then(span.end),
            events=tuple(replace(event, time=then(event.time)) for event in span.events),
        )
        for span in spans
    ]


async def _run(job: Job, tenant: str | None, user: str | None) -> Sequence[ReadableSpan]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(
        resource=Resource.create({"service.name": "newsroom"}), shutdown_on_exit=False
    )
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with using(Telemetry(tracer_provider=provider)):
        try:
            await job.team.run(job.task, tenant=tenant, user=user)
        except Exception:
            if not job.fails:
                raise
    return exporter.get_finished_spans()


def _job(random_: random.Random, number: int) -> Job:
    makers = (_launch, _desk, _market, _article, _broken, _desk, _half_done, _market)
    return makers[number % len(makers)](random_)


def _llm(model: str, answers: Sequence[Answer | Step]) -> ScriptedLLM:
    provider, price = _MODELS[model]
    return ScriptedLLM(answers, model=model, provider=provider, price=price)


def _said(random_: random.Random, text: str, *, thousands: float = 1.0, when: str = "") -> Step:
    usage = Usage(
        input_tokens=int(random_.uniform(700, 4200) * thousands),
        output_tokens=int(random_.uniform(120, 1300) * thousands),
    )
    return Step(text, usage=usage, delay=random_.uniform(0.012, 0.12), when=when)


def _limited() -> RateLimitError:
    return RateLimitError("429: 30,000 tokens a minute are used up", provider="openai", status=429)


def _plan(*items: tuple[str, str, str, Sequence[str]]) -> str:
    return json.dumps(
        {
            "assignments": [
                {"id": id_, "worker": worker, "subtask": subtask, "depends_on": list(after)}
                for id_, worker, subtask, after in items
            ]
        }
    )


def _market(random_: random.Random, *, is_partial: bool = False) -> Job:
    """Research in parallel, then figures, then a text; a partial one has no figures."""
    topic = random_.choice(("heat pumps", "e-bikes", "rye bread", "rooftop solar"))
    plan = _plan(
        ("t1", "researcher", f"Who sells {topic} in Europe, and how many?", ()),
        ("t2", "researcher", f"What do buyers of {topic} complain about?", ()),
        ("t3", "analyst", "Growth, margins and who gains share.", ("t1",)),
        ("t4", "writer", "Two pages for the board.", ("t2", "t3")),
    )
    found: list[Answer | Step] = [
        _said(random_, f"Seven makers of {topic} share four fifths of the market.", thousands=2),
        _said(random_, "Late deliveries, loud fans, and nobody answers the phone.", thousands=2),
    ]
    if random_.random() < 0.6:
        found.insert(0, _limited())
    growth: list[Answer | Step] = [_said(random_, "9 % a year; margins fall from 31 % to 27 %.")]
    if is_partial:
        growth = [_limited(), _limited(), _limited()]
    planner = _llm(
        "gpt-4o",
        [
            _said(random_, plan),
            _said(
                random_,
                f"# The market for {topic}\n\nIt grows by 9 % a year.\n"
                "Seven makers share four fifths of it.\n\n"
                f"What to do: {random_.choice(('enter by autumn.', 'wait for the subsidy.'))}",
                thousands=1.5,
            ),
        ],
    )
    team = OrchestratorWorkers(
        name="market_report",
        orchestrator=Agent("planner", planner),
        workers=[
            Agent("researcher", _llm("gpt-4o-mini", found), description="finds sources"),
            Agent("analyst", _llm("claude-sonnet-4-20250514", growth), description="does sums"),
            Agent(
                "writer",
                _llm("gpt-4o", [_said(random_, "The board should know three things …")]),
                description="writes for people in a hurry",
            ),
        ],
        retry=_QUICK,
    )
    return Job(team, f"A report on {topic}.")


def _desk(random_: random.Random) -> Job:
    """A small model chooses who answers; now and then it is a local one, which has no price."""
    route = random_.choice(("billing", "technical"))
    choice = {"routes": [{"route": route, "confidence": 0.9}], "reason": "it says so"}
    clerk = _llm("gpt-4o-mini", [_said(random_, json.dumps(choice), thousands=0.3)])
    local = random_.random() < 0.25
    biller = "smollm2-135m" if local else "gpt-4o-mini"
    desk = Router(
        [
            Route(
                "billing",
                Agent("biller", _llm(biller, [_said(random_, "The second charge is undone.")])),
                description="invoices, refunds, prices",
            ),
            Route(
                "technical",
                Agent(
                    "engineer",
                    _llm(
                        "claude-sonnet-4-20250514",
                        [_said(random_, "Update the driver; the fault is known.", thousands=1.4)],
                    ),
                ),
                description="faults and error messages",
            ),
        ],
        classifier=Agent("clerk", clerk),
        name="support_desk",
        retry=_QUICK,
    )
    return Job(desk, "I was charged twice, and now it says error 0x80070005.")


def _article(random_: random.Random) -> Job:
    """An outline, a text, two checks side by side, an editor."""

    def agent(name: str, model: str, text: str, thousands: float = 1.0) -> Agent:
        return Agent(name, _llm(model, [_said(random_, text, thousands=thousands)]))

    line = Pipeline(
        [
            agent("outliner", "gemini-2.5-flash", "1. Rivers 2. Rock 3. Vents 4. Sums 5. So what"),
            agent("writer", "gpt-4o", "The sea is salty because rivers are, a little.", 1.8),
            [
                agent("fact_checker", "gemini-2.5-flash", "Four claims hold, one is doubtful."),
                agent("stylist", "gpt-4o-mini", "Cut the second paragraph."),
            ],
            agent("editor", "gpt-4o", "Rivers carry salt to the sea; the sun takes the water."),
        ],
        sees="all",
        name="article",
        retry=_QUICK,
    )
    return Job(line, "An article on why the sea is salty.")


def _launch(random_: random.Random) -> Job:
    """Two teams with leads of their own under one manager."""

    def worker(name: str, model: str, text: str, thousands: float = 1.0) -> Agent:
        llm = _llm(model, [_said(random_, text, thousands=thousands)])
        return Agent(name, llm, description=f"is good at {name}")

    def lead(name: str, plan: str, summary: str) -> Agent:
        return Agent(name, _llm("gpt-4o", [_said(random_, plan), _said(random_, summary)]))

    engineering = Team(
        "engineering",
        lead(
            "tech_lead",
            _plan(("e1", "coder", "The vault.", ()), ("e2", "tester", "Break it.", ("e1",))),
            "The vault is built, and held.",
        ),
        [
            worker("coder", "claude-sonnet-4-20250514", "class Vault: ...", 2.5),
            worker("tester", "gpt-4o-mini", "41 tests, one failed and is mended."),
        ],
        description="designs and builds software",
    )
    marketing = Team(
        "marketing",
        lead(
            "marketing_lead",
            _plan(("m1", "analyst", "The others.", ()), ("m2", "copywriter", "A page.", ("m1",))),
            "A page, and a price below the others'.",
        ),
        [
            worker("analyst", "gemini-2.5-flash", "Three rivals; none is for families."),
            worker("copywriter", "gpt-4o", "One vault for all of you."),
        ],
        description="finds out who needs it, and tells them",
    )
    plan = _plan(
        ("engineering", "engineering", "Build it.", ()),
        ("marketing", "marketing", "Sell it.", ()),
    )
    company = Hierarchical(
        manager=lead("manager", plan, "It can be launched in May."),
        teams=[engineering, marketing],
        name="product_launch",
        retry=_QUICK,
    )
    return Job(company, "Plan the launch of a password manager for families.")


def _half_done(random_: random.Random) -> Job:
    return _market(random_, is_partial=True)


def _broken(random_: random.Random) -> Job:
    """One whose key is refused."""
    refused = AuthenticationError("401: this key was revoked", provider="openai", status=401)
    team = OrchestratorWorkers(
        name="market_report",
        orchestrator=Agent("planner", _llm("gpt-4o", [refused])),
        workers=[Agent("researcher", _llm("gpt-4o-mini", []))],
        retry=_QUICK,
    )
    return Job(team, "A report on kites.", fails=True)
