"""A secret in every place that a run has is afterwards nowhere: every byte is searched."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pyagent_exporters.json_logs import JsonFormatter
from pyagent_exporters.tree import render
from pyagent_patterns import Agent, NewAgent, OrchestratorWorkers, Pattern, Review, tool
from pyagent_patterns.durable import FileSession, Runs
from pyagent_patterns.errors import PlanError, PyAgentError, RunSuspended
from pyagent_patterns.orchestration import Pipeline
from pyagent_patterns.people import Decision, Wanted
from pyagent_patterns.result import Result
from pyagent_patterns.session import Turn
from pyagent_patterns.tools import Tool
from pyagent_providers import content
from pyagent_providers.errors import OverloadedError
from pyagent_providers.redaction import redact, redacted
from pyagent_providers.telemetry import Telemetry, using
from pyagent_providers.testing import ScriptedLLM
from tests.cli.commands import pyagent
from tests.patterns.crews import agent, item, new, with_agents
from tests.patterns.teams import QUICK, plan_text
from tests.patterns.tools import Box, wishes

from .secrets import SECRETS, standing

SHORT = ("openai", "github", "aws id", "google", "bearer", "jwt", "url password", "hugging face")


@dataclass
class Planted:
    """Secrets by where they were put, each another one."""

    kinds: Iterator[str]
    found: dict[str, str] = field(default_factory=dict)

    def __call__(self, place: str) -> str:
        kind = next(self.kinds)
        text, secret = standing(kind)
        self.found[f"{place} ({kind})"] = secret
        return text

    def name(self, place: str) -> str:
        """One that can pass for a name."""
        _, secret = standing("github")
        self.found[place] = secret
        return secret


def kinds(first: str) -> Iterator[str]:
    """All kinds in turn, from that one on, for ever."""
    names = list(SECRETS)
    at = names.index(first)
    while True:
        yield names[at % len(names)]
        at += 1


@dataclass
class Seen:
    """All that left the process, or was kept, in bytes."""

    parts: dict[str, bytes]

    def leaks(self, planted: Planted) -> list[tuple[str, str]]:
        return [
            (place, where)
            for place, secret in planted.found.items()
            for where, seen in self.parts.items()
            # Also half of it; and as JSON has it within JSON.
            for form in {secret, secret[: len(secret) // 2 + 4], json.dumps(secret)[1:-1]}
            if form.encode() in seen
        ]


class Watching:
    """Everything that can be seen of runs, turned on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "runs.db"
        self._spans, self._events = InMemorySpanExporter(), InMemoryLogRecordExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.loggers = LoggerProvider(shutdown_on_exit=False)
        self.loggers.add_log_record_processor(SimpleLogRecordProcessor(self._events))
        self._log, self._json = io.StringIO(), io.StringIO()
        self.handlers = [logging.StreamHandler(self._log), logging.StreamHandler(self._json)]
        self.handlers[0].setFormatter(
            logging.Formatter("%(message)s %(worker)s", defaults={"worker": ""})
        )
        self.handlers[1].setFormatter(JsonFormatter())
        self.results: list[Result] = []

    async def seen(self) -> Seen:
        return await asyncio.to_thread(self._seen)  # the command has an event loop of its own

    def _seen(self) -> Seen:
        spans = self._spans.get_finished_spans()
        events = self._events.get_finished_logs()
        shown = [pyagent("show", run, "--full", "--db", str(self.file)) for run in self._runs()]
        parts = {
            "spans": encode_spans(spans).SerializeToString(),
            "events": encode_logs(events).SerializeToString(),
            "console": render(spans).encode(),
            "log": self._log.getvalue().encode(),
            "json log": self._json.getvalue().encode(),
            "pyagent show": "".join(said.output for said in shown).encode(),
            "html": "".join(result._repr_html_() for result in self.results).encode(),
        }
        assert parts["spans"]
        files = {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        return Seen(parts | files)

    def _runs(self) -> list[str]:
        if not self.file.exists():
            return []
        listed = json.loads(pyagent("runs", "--json", "--db", str(self.file)).output)
        return [run["run_id"] for run in listed]


@pytest.fixture
def watching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watching]:
    monkeypatch.setenv(content.VARIABLE, "SPAN_AND_EVENT")
    watching, logger = Watching(tmp_path), logging.getLogger("pyagent")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    for handler in watching.handlers:
        logger.addHandler(handler)
    with using(Telemetry(tracer_provider=watching.tracers, logger_provider=watching.loggers)):
        yield watching
    logger.setLevel(level)
    for handler in watching.handlers:
        logger.removeHandler(handler)


def crew(plant: Planted) -> Pattern:
    """A team in which every part says something secret."""

    @tool(effect="read", name="look_up")
    async def look_up(what: str) -> str:
        """Looks something up."""
        return f"found: {plant('tool result')}"

    look_up = Tool(
        name=look_up.name,
        description=f"Looks something up with {plant('tool description')}",
        parameters=look_up.parameters,
        run=look_up.run,
        effect="read",
    )

    @tool(effect="idempotent")
    async def fail(what: str) -> str:
        """Fails."""
        try:
            raise OSError(plant("tool error's cause"))
        except OSError as error:
            raise ValueError(f"no: {plant('tool error')}") from error

    async def answer(arguments: object) -> str:
        return f"the server says {plant('result of a server')}"

    served = Tool(name="served", description="", parameters={"type": "object"}, run=answer)
    broken = OverloadedError(f"come back: {plant('provider error')}", provider="p", model="m")
    broken.__cause__ = RuntimeError(plant("provider error's cause"))
    worker = agent(
        "worker",
        broken,
        wishes(
            ("look_up", {"what": plant("tool argument")}),
            ("fail", {"what": "x"}),
            ("served", {}),
            (plant.name("made-up tool"), {}),
        ),
        f"I found {plant('answer')}",
        f"better: {plant('second answer')}",
        tools=[look_up, fail],
        mcp=[Box(lambda: [served])],
        description=f"is good at {plant('description')}",
        system_prompt=f"You have {plant('system prompt')}",
        stream=True,
    )
    poet = agent("poet", f"a rose, {plant('answer of a made agent')}")
    planner = agent(
        "planner",
        plan_text(item(plant.name("unknown worker, a plan fault"), plant("refused subtask"))),
        with_agents(
            new("poet", plant("role of a made agent"), plant("prompt of a made agent")),
            items=[
                item("worker", plant("subtask"), id="look"),
                item("poet", f"then {plant('second subtask')}", id="sing"),
            ],
        ),
    )
    no = json.dumps({"accepted": False, "reasons": f"there is {plant('reasons')}"})
    yes = json.dumps({"accepted": True, "reasons": ""})
    judge = agent("judge", no, yes, yes)

    def made(wanted: NewAgent) -> Agent:
        return poet

    return OrchestratorWorkers(
        planner=planner,
        workers=[worker],
        synthesizer=agent("writer", f"all in all {plant('final answer')}", "again"),
        agent_factory=made,
        review=Review(judge, of="outcome", criteria=plant("criteria")),
        approve=["plan"],
        retry=QUICK,
        max_parallel=1,
    )


@pytest.mark.parametrize("first", SHORT)
@pytest.mark.parametrize("durable", [True, False], ids=["durable", "in memory"])
async def test_what_is_secret_in_a_run_is_nowhere_afterwards(
    watching: Watching, first: str, durable: bool
):
    plant = Planted(kinds(first))
    session = FileSession(watching.folder / "talk.db", "s")
    await session.add("before", Turn(plant("earlier task"), plant("earlier answer")))

    async def human(wanted: Wanted) -> Decision:
        return Decision(approved=True, reason=f"because {plant('reason of a person')}")

    team = crew(plant)
    with Runs(watching.file) as runs:
        result = await team.run(
            f"Do it with {plant('task')}",
            inputs={"key": plant("inputs")},
            durable=runs if durable else None,
            run_id="r",
            session=session,
            human=human,
            tenant=f"t-{plant('tenant')}".replace("\n", " "),
            user=f"u-{plant('user')}".replace("\n", " "),
        )
    watching.results.append(result)
    assert result.status == "completed"
    assert len(plant.found) >= 28
    assert (await watching.seen()).leaks(plant) == []


async def test_a_run_that_fails_tells_nothing_either(watching: Watching):
    plant = Planted(kinds("openai"))
    planner = agent("planner", f"no plan, but {plant('first')}", f"{plant('second')}")
    team = OrchestratorWorkers(orchestrator=planner, workers=[agent("a")], retry=QUICK)
    with Runs(watching.file) as runs, pytest.raises(PlanError) as failed:
        await team.run(f"Do it: {plant('task')}", durable=runs, run_id="r")
    assert failed.value.result is not None
    watching.results.append(failed.value.result)
    bad = OverloadedError(f"no: {plant('provider error')}", provider="p", model="m")
    alone = Pipeline([agent("a", bad)], name="alone")
    with Runs(watching.file) as runs, pytest.raises(PyAgentError) as failed:
        await alone.run("go", durable=runs, run_id="r2")
    assert failed.value.result is not None
    watching.results.append(failed.value.result)
    assert (await watching.seen()).leaks(plant) == []


async def test_what_is_sent_to_a_run_that_waits_is_kept_without_secrets(watching: Watching):
    plant = Planted(kinds("anthropic"))
    team = Pipeline([agent("a", f"draft {plant('answer')}")], approve=["answer"])
    with Runs(watching.file) as runs:
        with pytest.raises(RunSuspended) as waits:
            await team.run("go", durable=runs, run_id="r")
        [key] = waits.value.waiting_for
        await runs.signal("r", key, {"approvd": plant("no decision, which is logged")})
        decision = {"approved": True, "value": f"mine: {plant('edit')}", "reason": plant("why")}
        await runs.signal("r", key, decision)
        result = await runs.resume("r", team)
    watching.results.append(result)
    assert result.output.startswith("mine: ")
    assert "no decision" not in plant.found or (await watching.seen()).parts["log"]
    assert (await watching.seen()).leaks(plant) == []


async def test_large_values_beside_the_journal_have_no_secrets(watching: Watching):
    plant = Planted(kinds("openai"))
    long = "word " * 100_000
    team = Pipeline([agent("a", f"{long}{plant('answer')} {long}")])
    with Runs(watching.file) as runs:
        await team.run(f"{long} {plant('task')}", durable=runs, run_id="r")
    assert list((watching.folder / "runs.db.values").iterdir())
    assert (await watching.seen()).leaks(plant) == []


async def test_a_secret_across_the_limit_of_captured_content_leaves_no_half(watching: Watching):
    plant = Planted(kinds("anthropic"))
    secret = plant("prompt")
    for cut in (1, 10, 40, len(secret) - 1):
        prompt = " " * (content.PART_LIMIT - cut) + secret
        await ScriptedLLM([f"{prompt}"]).complete(prompt)
    assert b"sk-ant" not in (await watching.seen()).parts["spans"]


async def test_the_applications_own_patterns_hold_everywhere_too(watching: Watching):
    take_back = redact(r"case-\d+", "case number")
    try:
        with Runs(watching.file) as runs:
            team = Pipeline([agent("a", "case-77 is closed")], name="desk")
            result = await team.run("close case-77", durable=runs, run_id="r", user="case-78")
        watching.results.append(result)
        seen = await watching.seen()
    finally:
        take_back()
    assert [where for where, part in seen.parts.items() if b"case-7" in part] == []
    assert result.output == "[redacted: case number] is closed"


async def test_without_a_store_a_run_goes_on_with_what_was_really_said(watching: Watching):
    text, secret = standing("github")
    last = agent("b", f"it was {text}")
    result = await Pipeline([agent("a", f"use {text}"), last]).run(f"keep {text}")
    assert secret in result.output
    assert isinstance(last.llm, ScriptedLLM)
    assert secret in last.llm.requests[0].messages[-1].content
    assert redacted(result.output) not in ("", result.output)


async def test_a_persons_answer_that_is_no_decision_is_not_quoted_up_to_half_of_a_secret(
    watching: Watching,
):
    plant = Planted(kinds("anthropic"))
    secret = plant("no decision")

    async def human(wanted: Wanted) -> object:
        return {"said": "word " * 34 + secret}

    team = Pipeline([agent("a", "draft")], approve=["answer"])
    with pytest.raises(ValueError, match="gave no decision"):
        await team.run("go", human=human)  # type: ignore[arg-type]
    assert b"sk-ant" not in (await watching.seen()).parts["spans"]
