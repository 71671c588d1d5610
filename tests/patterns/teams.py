"""Teams on scripted models, for the tests of patterns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pyagent_patterns import Agent, OrchestratorWorkers, RetryPolicy
from pyagent_providers import LLMLike, ModelPrice
from pyagent_providers.testing import Answer, ScriptedLLM, Step

QUICK = RetryPolicy(max_attempts=3, backoff=0, max_backoff=1)
PRICE = ModelPrice(input="1", output="10")  # a scripted call, 10+5 tokens, costs $0.00006


def item(worker: str, subtask: str = "", **rest: object) -> dict[str, object]:
    return {"worker": worker, "subtask": subtask or f"do {worker}'s part", **rest}


def plan_text(*items: Mapping[str, object]) -> str:
    return json.dumps({"assignments": items})


def team(
    plans: Sequence[Answer | Step],
    workers: Mapping[str, Sequence[Answer | Step] | LLMLike],
    *,
    final: Answer | Step = "the final answer",
    max_parallel: int | None = None,
    retry: RetryPolicy = QUICK,
    synthesizer: Agent | None = None,
) -> OrchestratorWorkers:
    """A team whose planner answers `plans`, then (unless it has its own synthesiser) `final`."""
    script = [*plans] if synthesizer else [*plans, final]
    planner = ScriptedLLM(script, model="planner-model", price=PRICE)
    return OrchestratorWorkers(
        orchestrator=Agent("planner", planner, system_prompt="Respond as JSON, always."),
        workers=[
            Agent(
                name,
                ScriptedLLM(answers, model=f"{name}-model", price=PRICE)
                if isinstance(answers, Sequence)
                else answers,
                description=f"is good at {name}",
            )
            for name, answers in workers.items()
        ],
        synthesizer=synthesizer,
        max_parallel=max_parallel,
        retry=retry,
    )


def scripted(agent: Agent) -> ScriptedLLM:
    assert isinstance(agent.llm, ScriptedLLM)
    return agent.llm


def questions(agent: Agent) -> list[str]:
    """What the agent's scripted model was asked, one string per call, system prompt included."""
    return [
        "\n".join(message.content for message in request.messages)
        for request in scripted(agent).requests
    ]
