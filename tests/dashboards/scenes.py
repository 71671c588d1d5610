"""Runs in which everything happens that dashboards show: costs, errors, retries, budgets, tools."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence

import pytest

from pyagent_patterns import (
    Agent,
    Breaker,
    Budget,
    NewAgent,
    OrchestratorWorkers,
    Parallel,
    Pipeline,
    PyAgentError,
    Result,
    RetryPolicy,
    ToolError,
    Traffic,
    tool,
)
from pyagent_patterns.events import CallSettled, Event
from pyagent_patterns.ledger import CallRecord
from pyagent_providers import Completion, ModelPrice, ToolCall, Usage
from pyagent_providers.errors import (
    AuthenticationError,
    OverloadedError,
    RateLimitError,
    ServerError,
)
from pyagent_providers.testing import Answer, ScriptedLLM, Step

TENANTS = ("acme", "globex")  # those that metrics may tell of
RUNS = 11  # in a round of everything

QUICK = RetryPolicy(max_attempts=3, backoff=0, max_backoff=1)
BIG = ModelPrice(input="2.50", output="10", cache_read="1.25")  # US dollars per million tokens
MINI = ModelPrice(input="0.15", output="0.60", cache_read="0.075")
LONG = Usage(input_tokens=40_000, output_tokens=1_200)
CACHED = Usage(input_tokens=40_000, output_tokens=900, cache_read_tokens=32_000)


@tool(effect="read")
def shelf(book: str) -> str:
    """Where a book stands."""
    if book == "lost":
        raise ToolError("there is no such book")
    return f"{book} stands on shelf 4"


async def everything() -> list[Result]:
    """One round of it all; gives every run's result, also those of runs that failed."""
    scenes: Sequence[Callable[[], Awaitable[Result]]] = (
        support,
        research,
        library,
        newsroom,
        free_of_price,
        within_budget,
        over_budget,
        locked_out,
        abandoned,
    )
    results = [await scene() for scene in scenes]
    results.extend([await weather() for _ in range(2)])
    return results


async def support() -> Result:
    """A plan over two workers, of which one is told to slow down once and one reads a cache."""
    planner = big([plan("coder", "tester"), Step("the answer", usage=LONG)])
    team = OrchestratorWorkers(
        orchestrator=Agent("planner", planner),
        workers=[
            Agent("coder", claude([slow_down(), Step("code", usage=LONG)]), description="codes"),
            Agent("tester", mini([Step("tests", usage=CACHED, delay=0.05)]), description="tests"),
        ],
        retry=QUICK,
    )
    return await team.run("Mend the login page.", tenant="acme", user="u-1")


async def research() -> Result:
    """A worker fails with all its attempts, so the answer is partial."""
    down: list[Answer | Step] = [ServerError("is broken", provider="openai", model="gpt-4o-mini")]
    team = OrchestratorWorkers(
        orchestrator=Agent("planner", big([plan("reader", "writer"), Step("some", usage=CACHED)])),
        workers=[
            Agent("reader", mini(down * 3), description="reads"),
            Agent("writer", mini([Step("a draft", usage=LONG)]), description="writes"),
        ],
        retry=QUICK,
    )
    return await team.run("What is new in solar cells?", tenant="globex")


async def library() -> Result:
    """An agent that calls a tool well, and one badly; for a tenant that metrics do not tell of."""
    asks = [calls_tool("Emma"), calls_tool("lost"), Step("on shelf 4", usage=LONG)]
    team = Pipeline([Agent("librarian", mini(asks), tools=[shelf])])
    return await team.run("Where is Emma?", tenant="initech")


async def newsroom() -> Result:
    """Agents that a planner makes up, whose names metrics do not tell; and a streamed answer."""

    def hire(wanted: NewAgent) -> Agent:
        return Agent(wanted.name, mini([Step("verses", usage=LONG)]), description=wanted.role)

    poet = {"name": "poet_of_the_day", "role": "writes verse", "prompt": "You rhyme."}
    item = {"id": "a", "worker": poet["name"], "subtask": "rhyme", "depends_on": []}
    made_up = json.dumps({"assignments": [item], "agents": [poet]})
    team = OrchestratorWorkers(
        orchestrator=Agent("editor", big([made_up])),
        workers=[Agent("cook", mini([]), description="cooks")],
        synthesizer=Agent("anchor", claude([Step("the news", usage=LONG)]), stream=True),
        agent_factory=hire,
        retry=QUICK,
    )
    return await team.run("Today's news in verse.", tenant="acme")


async def free_of_price() -> Result:
    """A model that nobody knows the price of."""
    house = ScriptedLLM(["42"], model="house-model", provider="in_house")
    return await Pipeline([Agent("oracle", house)]).run("What is the answer?", tenant="acme")


async def within_budget() -> Result:
    answer = big([Step("done", usage=Usage(input_tokens=20, output_tokens=8))])
    team = Pipeline([Agent("clerk", answer, max_tokens=100)])
    return await team.run("File this.", budget=Budget(max_cost_usd="0.002"), tenant="acme")


async def over_budget() -> Result:
    team = Pipeline([Agent("clerk", big(["never asked"]), max_tokens=100_000)])
    return await failing(team.run("File all.", budget=Budget(max_cost_usd="0.01"), tenant="acme"))


async def locked_out() -> Result:
    wrong = AuthenticationError("the key is wrong", provider="openai", model="gpt-4o")
    return await failing(Pipeline([Agent("clerk", big([wrong]))]).run("Open up.", tenant="globex"))


async def abandoned() -> Result:
    """A run that is cancelled; what it was at counts as if it had been answered."""
    calls: list[CallRecord] = []

    def observe(event: Event) -> None:
        if isinstance(event, CallSettled):
            calls.append(event.call)

    team = Parallel([Agent("dreamer", claude([Step("late", delay=60)]), max_tokens=50)])
    run = asyncio.create_task(team.run("Dream.", on_event=observe))
    await asyncio.sleep(0.05)
    run.cancel()
    await asyncio.wait([run])
    assert run.cancelled()
    return Result(pattern=team.name, run_id="", output="", status="partial", calls=tuple(calls))


_down = ScriptedLLM(
    [OverloadedError("is full", provider="mistral_ai", model="mistral-large")] * 1000,
    model="mistral-large",
    provider="mistral_ai",
    price=BIG,
)
_traffic = Traffic(breaker=Breaker(failures=2, cool_down=600))


async def weather() -> Result:
    """A model that is down, so that its circuit breaker opens; another one answers instead."""
    models = [_down, mini([Step("rain", usage=LONG)])]
    team = Pipeline([Agent("forecaster", models)], traffic=_traffic, retry=QUICK)
    return await team.run("Will it rain?", tenant="globex")


async def stuck() -> None:
    """A run that never ends, since its model never answers."""
    await Parallel([Agent("waiter", mini([Step("never", delay=3600)]))], name="waiting").run(
        "Wait."
    )


async def failing(run: Awaitable[Result]) -> Result:
    with pytest.raises(PyAgentError) as failure:
        await run
    assert failure.value.result is not None
    return failure.value.result


def big(steps: Sequence[Answer | Step]) -> ScriptedLLM:
    return ScriptedLLM(steps, model="gpt-4o", provider="openai", price=BIG)


def mini(steps: Sequence[Answer | Step]) -> ScriptedLLM:
    return ScriptedLLM(steps, model="gpt-4o-mini", provider="openai", price=MINI)


def claude(steps: Sequence[Answer | Step]) -> ScriptedLLM:
    return ScriptedLLM(steps, model="claude-haiku-4-5", provider="anthropic", price=MINI)


def plan(*workers: str) -> Step:
    items = [{"worker": worker, "subtask": f"do {worker}'s part"} for worker in workers]
    return Step(json.dumps({"assignments": items}), usage=CACHED)


def slow_down() -> RateLimitError:
    return RateLimitError("slow down", provider="anthropic", model="claude-haiku-4-5")


def calls_tool(book: str) -> Completion:
    call = ToolCall(id=f"call-{book}", name="shelf", arguments=json.dumps({"book": book}))
    return Completion(text="", tool_calls=(call,), usage=CACHED, finish_reason="tool_calls")
