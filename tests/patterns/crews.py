"""Crews of a planner, workers and a writer, each on a script of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pyagent_patterns import Agent, OrchestratorWorkers, RetryPolicy
from pyagent_providers.errors import ContentRefusedError
from pyagent_providers.testing import Answer, ScriptedLLM, Step

from .teams import PRICE, item, questions

DONE = '{"assignments": []}'
ONCE = RetryPolicy(max_attempts=1)


def refused() -> ContentRefusedError:
    return ContentRefusedError("no", provider="p", model="m")


def agent(name: str, *script: Answer | Step, **options: Any) -> Agent:
    """An agent on a priced script: 10+5 tokens a call, $0.00006."""
    return Agent(name, ScriptedLLM(script, model=f"{name}-model", price=PRICE), **options)


def crew(
    plans: Sequence[Answer | Step],
    workers: Mapping[str, Sequence[Answer | Step]],
    *,
    final: Sequence[Answer | Step] = ("the final answer",),
    **options: Any,
) -> OrchestratorWorkers:
    team = [agent(name, *script) for name, script in workers.items()]
    parts = {"planner": agent("planner", *plans), "synthesizer": agent("writer", *final)}
    return OrchestratorWorkers(workers=team, **{"retry": ONCE, **parts, **options})


def planned(team: OrchestratorWorkers) -> list[str]:
    """What the planner was asked."""
    planner = team.members[0]
    assert isinstance(planner, Agent)
    return questions(planner)


def written(team: OrchestratorWorkers) -> str:
    """What the writer was asked last."""
    assert isinstance(team.synthesizer, Agent)
    return questions(team.synthesizer)[-1]


def asked(team: OrchestratorWorkers, worker: str) -> list[str]:
    """What a worker was asked."""
    member = team.workers[worker]
    assert isinstance(member, Agent)
    return questions(member)


def with_agents(*agents: Mapping[str, str], items: Sequence[Mapping[str, object]]) -> str:
    """A plan that defines agents."""
    return json.dumps({"assignments": items, "agents": agents})


def new(name: str, role: str = "does one thing", prompt: str = "Do that.") -> dict[str, str]:
    return {"name": name, "role": role, "prompt": prompt}


__all__ = ["DONE", "ONCE", "agent", "asked", "crew", "item", "new", "planned", "refused",
           "with_agents", "written"]  # fmt: skip
