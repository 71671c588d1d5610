"""Bad input is refused with the argument and the remedy, before any money is spent."""

from __future__ import annotations

import pytest

from pyagent_patterns import Agent, OrchestratorWorkers, RetryPolicy
from pyagent_providers import as_llm
from pyagent_providers.errors import MissingAPIKeyError
from pyagent_providers.testing import ScriptedLLM

from .teams import item, plan_text, scripted, team


def worker(name: str = "w") -> Agent:
    return Agent(name, ScriptedLLM([]))


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x1b[31m", "tab\t", " padded ", "\u202eevil"])
def test_a_name_that_cannot_be_printed_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name must be printable text"):
        Agent(name, ScriptedLLM([]))


def test_a_name_that_is_no_string_is_refused() -> None:
    with pytest.raises(TypeError, match="name must be a string; got 7"):
        Agent(7, ScriptedLLM([]))  # type: ignore[arg-type]


@pytest.mark.parametrize("llm", ["gpt-4o", None, object(), lambda messages: "sync"])
def test_what_is_no_llm_is_refused_with_what_would_be(llm: object) -> None:
    with pytest.raises(TypeError, match=r"agent 'a': llm must be an LLM.*async function"):
        Agent("a", llm)  # type: ignore[arg-type]


def test_a_system_prompt_that_is_no_string_is_refused() -> None:
    with pytest.raises(TypeError, match="agent 'a': system_prompt must be a string"):
        Agent("a", ScriptedLLM([]), system_prompt=None)  # type: ignore[arg-type]


def test_a_team_without_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="workers is empty; give at least one"):
        OrchestratorWorkers(orchestrator=worker("p"), workers=[])


def test_two_workers_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two agents named 'w'"):
        OrchestratorWorkers(orchestrator=worker("p"), workers=[worker(), worker()])


@pytest.mark.parametrize("argument", ["orchestrator", "synthesizer", "workers"])
def test_what_is_no_agent_is_refused_by_its_argument(argument: str) -> None:
    arguments: dict[str, object] = {"orchestrator": worker("p"), "workers": [worker()]}
    arguments[argument] = ["llm"] if argument == "workers" else "llm"
    with pytest.raises(TypeError, match=rf"{argument}.* must be an Agent"):
        OrchestratorWorkers(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_lets_nothing_run_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="max_parallel must be at least 1"):
        OrchestratorWorkers(orchestrator=worker("p"), workers=[worker()], max_parallel=limit)


@pytest.mark.parametrize(
    ("task", "error"), [("", ValueError), ("  \n", ValueError), (None, TypeError), (7, TypeError)]
)
async def test_an_empty_or_non_string_task_is_refused_before_any_call(
    task: object, error: type[Exception]
) -> None:
    crew = team([plan_text(item("a"))], {"a": ["x"]})
    with pytest.raises(error, match="task"):
        await crew.run(task)  # type: ignore[arg-type]
    assert scripted(crew.orchestrator).requests == []


async def test_a_worker_that_could_not_be_called_stops_the_run_before_the_planner_is_paid() -> None:
    class Keyless(ScriptedLLM):
        def check(self) -> None:
            raise MissingAPIKeyError("set SOME_API_KEY", provider="p", model="m")

    crew = team([plan_text(item("a"))], {"a": Keyless([])})
    with pytest.raises(MissingAPIKeyError, match="SOME_API_KEY"):
        await crew.run("the task")
    assert scripted(crew.orchestrator).requests == []


@pytest.mark.parametrize(
    "policy", [{"max_attempts": 0}, {"backoff": -1}, {"backoff": 9, "max_backoff": 1}]
)
def test_a_retry_policy_that_makes_no_sense_is_refused(policy: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"attempts|pauses"):
        RetryPolicy(**policy)  # type: ignore[arg-type]


async def test_run_sync_inside_an_event_loop_says_what_to_do_instead() -> None:
    crew = team([plan_text(item("a"))], {"a": ["x"]})
    with pytest.raises(RuntimeError, match=r"await run\(\) instead"):
        crew.run_sync("the task")


async def test_a_custom_model_that_returns_something_else_is_told_what_it_must_return() -> None:
    async def silent(messages: object) -> None: ...

    with pytest.raises(TypeError, match=r"silent\(\) must return a str or a Completion; got None"):
        await as_llm(silent).complete("hello")
