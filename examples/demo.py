"""The main job, live: a planner, four workers and a synthesis on a real language model.

    python examples/demo.py                                the model runs on this machine, offline
    python examples/demo.py --model openai/gpt-4o-mini     a provider that you have a key for
    python examples/demo.py --task "Explain why bees matter."

It ends by writing `pyagent-demo-report.html`: the run as a page, with all that was said in it.

Nothing is canned: the model writes the plan, the work and the answer. (The local one is a toy:
its plan is held to a tight schema, which gives the first words of each subtask.)
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from local_model import LocalModel, LocalModelError
from pyagent_exporters import configure
from pyagent_exporters.viewer import report
from pyagent_patterns import events
from pyagent_patterns.base import Agent, Result
from pyagent_patterns.errors import PyAgentError
from pyagent_patterns.orchestration import OrchestratorWorkers
from pyagent_providers import LLM, AnthropicLLM, GeminiLLM, LiteLLM, ModelPrice, OpenAILLM
from pyagent_providers.errors import ProviderError
from pyagent_providers.types import JSONObject

TASK = "Explain why a town should plant more trees."
REPORT = Path("pyagent-demo-report.html")
LOCAL = "local/smollm2-135m-instruct"
SEED = 42
LOCAL_PRICE = ModelPrice(input="0.10", output="0.40")
PROVIDERS: dict[str, Callable[[str], LLM]] = {
    "openai": OpenAILLM,
    "anthropic": AnthropicLLM,
    "gemini": GeminiLLM,
    "litellm": LiteLLM,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the process's exit status."""
    options = _options(arguments)
    say = Screen()
    try:
        with _model(options.model, say) as model:
            team = team_for(model, options.task)
            _run(team, model, options.task, say)
    except (LocalModelError, ProviderError, PyAgentError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: stopped", file=sys.stderr)
        return 130
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The language model to run on, and what to tell about it."""

    llm: LLM
    author: str  # who wrote the prose
    price: str | None  # what the user assumed; None leaves it to the provider and price tables
    is_toy: bool


@contextmanager
def _model(name: str, say: Screen) -> Iterator[Model]:
    """The model called `name`; the local one runs for as long as the block."""
    if name != LOCAL:
        provider, _, model = name.partition("/")
        yield Model(
            llm=PROVIDERS[provider](model),
            author=f"{model} ({provider})",
            price=None,
            is_toy=False,
        )
        return
    # A proxy that the environment names could not reach this machine's loopback.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    say.progress("model", "SmolLM2-135M-Instruct starts on this machine")
    with LocalModel() as server:
        say.progress("model", f"listens on {server.base_url}")
        yield Model(
            # A slow machine is no fault here: nobody else is waiting for the model.
            llm=OpenAILLM(server.name, base_url=server.base_url, price=LOCAL_PRICE, timeout=600),
            author=(
                "SmolLM2-135M-Instruct, a 135M-parameter toy running on this machine: it is "
                "fluent, and makes things up"
            ),
            price=(
                f"at ${LOCAL_PRICE.input} per million input tokens and ${LOCAL_PRICE.output} per "
                "million output tokens, which is made up: what a local model costs is for its "
                "owner to say"
            ),
            is_toy=True,
        )


# The team


def team_for(model: Model, task: str) -> OrchestratorWorkers:
    """Three specialists, and a mayor who goes by what they say; a reporter writes the answer."""

    def agent(name: str, system_prompt: str, description: str = "") -> Agent:
        if not model.is_toy:
            return Agent(name, model.llm, system_prompt=system_prompt, description=description)
        return Agent(
            name,
            model.llm,
            system_prompt=system_prompt,
            description=description,
            max_tokens=500,
            temperature=0.3,
            seed=SEED,
        )

    def worker(name: str, description: str) -> Agent:
        return agent(name, f"You are a {name}. Answer in three plain sentences.", description)

    planner = "You plan work. Every subtask is one short instruction about the topic of the task."
    return OrchestratorWorkers(
        orchestrator=agent("planner", planner + (WORKED_EXAMPLE if model.is_toy else "")),
        workers=[
            worker("scientist", "explains how it works in nature: air, water, plants and animals"),
            worker("teacher", "explains what it does for people: body, mind and mood"),
            worker("neighbour", "suggests what anyone can do about it, at home and in the street"),
            worker("mayor", "draws the conclusion from what the others wrote"),
        ],
        synthesizer=agent(
            "reporter",
            f"You are a reporter. Tell people about {topic_of(task)} in four plain sentences.",
        ),
        max_parallel=4,
        plan_schema=toy_plan_schema(task) if model.is_toy else None,
    )


# What a toy needs to make a plan. Left to itself it makes one that goes in circles, or copies
# its example whole. So the schema fixes who works at which position, lets an assignment depend
# on earlier ones only, and has each subtask name the topic. The rest of the words, and which
# dependencies, are the model's.

WORKED_EXAMPLE = "\n\nTask: Explain why a town needs parks.\nPlan: " + json.dumps(
    {
        "assignments": [
            {"id": id, "worker": worker, "subtask": subtask, "depends_on": depends_on}
            for id, worker, subtask, depends_on in (
                ("t1", "scientist", "Describe how parks help animals in the middle of a town.", []),
                ("t2", "teacher", "Explain how parks help people to feel calm and healthy.", []),
                ("t3", "neighbour", "Suggest how anyone can care for parks in a street.", []),
                ("t4", "mayor", "Conclude why parks are good for everyone.", ["t1", "t2", "t3"]),
            )
        ]
    }
)


def toy_plan_schema(task: str) -> JSONObject:
    """A plan's JSON Schema so tight that any answer which follows it is a plan about `task`."""
    topic = topic_of(task)
    field = "(nature|animals|plants)"
    care = "(help|protect|care for|enjoy)"
    assignments = [
        _assignment("t1", "scientist", f"(Explain|Describe) how {topic} (help|need) {field}", [[]]),
        _assignment("t2", "teacher", f"(Explain|Describe) how {topic} help people", [[]]),
        _assignment(
            "t3", "neighbour", f"Suggest how (people|anyone) can {care} {topic}", [[], ["t1"]]
        ),
        _assignment(
            "t4",
            "mayor",
            f"(Conclude|Explain) why {topic}",
            [["t1", "t2"], ["t2", "t3"], ["t1", "t2", "t3"]],
        ),
    ]
    return {
        "type": "object",
        "properties": {
            "assignments": {
                "type": "array",
                "prefixItems": assignments,
                "minItems": len(assignments),
                "maxItems": len(assignments),
            }
        },
        "required": ["assignments"],
        "additionalProperties": False,
    }


def _assignment(id: str, worker: str, opening: str, depends_on: list[list[str]]) -> JSONObject:
    """The schema of one assignment: a subtask with this opening, one of these dependencies."""
    few_words = "( [a-z]{1,14}){3,10}"
    return {
        "type": "object",
        "properties": {
            "id": {"const": id},
            "worker": {"const": worker},
            "subtask": {"type": "string", "pattern": rf"^{opening}{few_words}\.$"},
            "depends_on": {"enum": depends_on},
        },
        "required": ["id", "worker", "subtask", "depends_on"],
        "additionalProperties": False,
    }


def topic_of(task: str) -> str:
    """What a task is about: its last word that could be a name for it, "trees" in `TASK`."""
    words = re.findall(r"[a-z]{3,}", task.lower())
    fillers = {"matter", "matters", "are", "important", "good", "useful", "for", "people"}
    return next((word for word in reversed(words) if word not in fillers), "it")


# The run


def _run(team: OrchestratorWorkers, model: Model, task: str, say: Screen) -> None:
    say.line(f"\n{say.bold('Task')}  {task}\n")
    # Whoever runs the demo wants to see what was said in it; a choice of theirs stays.
    os.environ.setdefault("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    trace = io.StringIO()
    with TemporaryDirectory() as folder:
        spans = Path(folder, "trace.jsonl")
        with configure(console=trace, file=spans, service_name="pyagent-demo"):
            result = asyncio.run(team.run(task, on_event=lambda event: _show(event, say)))
        page = report.of_file(spans, result.run_id)
    _report(result, model, say)
    say.heading("Trace")
    say.line(trace.getvalue().rstrip())
    _write(page, say)


def _write(page: str, say: Screen) -> None:
    """Leave the run behind as a page, if there is room for it here."""
    say.heading("Report")
    try:
        REPORT.write_text(page, encoding="utf-8")
    except OSError as error:
        say.paragraphs(f"{REPORT} cannot be written here: {error.strerror}")
    else:
        say.line(f"{REPORT.resolve()}")
        say.paragraphs("It is one file: the plan, the time, the costs, every prompt and answer.")


def _show(event: events.Event, say: Screen) -> None:
    """A line or two for an event, as it happens."""
    match event:
        case events.StepStarted(phase="plan"):
            say.progress(event.agent, "plans")
        case events.StepStarted(phase="synthesis"):
            say.progress(event.agent, "writes the answer")
        case events.StepStarted():
            say.progress(event.agent, f"starts {event.task_id}")
        case events.PlanAccepted():
            say.progress("plan", f"{len(event.assignments)} assignments")
            for assignment in event.assignments:
                say.detail(_assignment_line(assignment.to_dict()))
        case events.PlanRejected():
            say.progress("plan", f"not valid: {'; '.join(event.faults)}")
        case events.StepEnded(error=None):
            tokens = sum(call.usage.output_tokens for call in event.calls if call.usage)
            say.progress(event.agent, f"done: {tokens} tokens in {event.seconds:.1f} s")
        case events.StepEnded():
            say.progress(event.agent, f"failed: {event.error}")
        case events.CallSettled(retry_in=float()):
            say.progress(event.call.agent, f"tries again in {event.retry_in:.1f} s")
        case _:
            pass


def _report(result: Result, model: Model, say: Screen) -> None:
    say.heading("Answer")
    say.paragraphs(result.output)
    say.line("")
    say.paragraphs(f"Written by {model.author}.")

    say.heading("Work")
    for outcome in result.outcomes:
        say.paragraphs(_assignment_line(outcome.assignment.to_dict()))
        say.detail(outcome.output or f"{outcome.status}: {outcome.error}")

    say.heading("Figures")
    say.figure("workers used", ", ".join(result.metadata["workers_used"]))
    say.figure(
        "tokens",
        f"{result.usage.input_tokens:,} in, {result.usage.output_tokens:,} out, "
        f"in {len(result.calls)} calls",
    )
    unpriced = f", and {result.unpriced} calls without a known price" if result.unpriced else ""
    sources = sorted({call.price_source for call in result.calls if call.price_source})
    price = model.price or f"by the prices of: {', '.join(sources) or 'nobody'}"
    say.figure("cost", f"${result.cost_estimate:.6f}{unpriced}, {price}")
    for agent, dollars in result.cost_by("agent").items():
        say.figure("", f"${dollars:.6f} {agent}")
    say.figure("status", f"{result.status} in {result.duration_seconds:.1f} s")


def _assignment_line(assignment: dict[str, object]) -> str:
    after = ", ".join(assignment["depends_on"])
    waits = f" (after {after})" if after else ""
    return f"{assignment['id']} {assignment['worker']}: {assignment['subtask']}{waits}"


class Screen:
    """Plain text for a terminal of 80 columns or more; bold and dim only on a real one."""

    WIDTH = 80

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._styled = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        sys.stdout.reconfigure(errors="replace")

    def line(self, text: str) -> None:
        print(text, flush=True)

    def progress(self, who: str, what: str) -> None:
        elapsed = f"{time.monotonic() - self._started:6.1f}s"
        self.line(
            textwrap.fill(
                f"{self.dim(elapsed)}  {who:<10} {what}", self.WIDTH, subsequent_indent=" " * 20
            )
        )

    def detail(self, text: str) -> None:
        self.line(
            textwrap.fill(text, self.WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 4)
        )

    def heading(self, title: str) -> None:
        self.line(f"\n{self.bold(title)}")

    def paragraphs(self, text: str) -> None:
        for paragraph in text.splitlines():
            self.line(textwrap.fill(paragraph, self.WIDTH))

    def figure(self, name: str, value: str) -> None:
        self.line(textwrap.fill(f"{name:<13} {value}", self.WIDTH, subsequent_indent=" " * 14))

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self._styled else text

    def dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self._styled else text


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Run a planner, workers and a synthesis on a real language model.",
        epilog="Without --model nothing leaves this machine and no key is used.",
    )
    parser.add_argument(
        "--model",
        type=_model_name,
        default=LOCAL,
        metavar="PROVIDER/MODEL",
        help=f"{', '.join(PROVIDERS)}, then a model: openai/gpt-4o-mini (default: {LOCAL})",
    )
    parser.add_argument(
        "--task", type=_task, default=TASK, help=f"what to explain (default: {TASK!r})"
    )
    return parser.parse_args(arguments)


def _task(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("the task is empty; say what to explain")
    return text


def _model_name(name: str) -> str:
    provider, _, model = name.partition("/")
    if name != LOCAL and (provider not in PROVIDERS or not model):
        raise argparse.ArgumentTypeError(
            f"{name!r} is not PROVIDER/MODEL, such as openai/gpt-4o-mini; "
            f"providers: {', '.join(PROVIDERS)}"
        )
    return name


if __name__ == "__main__":
    sys.exit(main())
