"""One recorded question again: with the same inputs, which asks nobody, or with other ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from pyagent_patterns.agent import Agent
from pyagent_patterns.asking import Asking
from pyagent_patterns.policy import Policy
from pyagent_patterns.question import Question, Reply
from pyagent_patterns.telemetry import AgentLabels
from pyagent_providers.base import LLM
from pyagent_providers.types import JSONObject

from .views import CallView, RunDetail


def answered(detail: RunDetail, task: str) -> CallView:
    """The last answered question of an assignment, or the one of that key.

    Raises LookupError when there is none.
    """
    asked = [call for call in detail.calls if call.reply is not None]
    found = [call for call in asked if task in (call.key, call.asked("task_id"))]
    if not found:
        known = ", ".join(repr(call.asked("task_id") or call.key) for call in asked)
        raise LookupError(
            f"run {detail.run.run_id!r} has no answered question of {task!r}; it has "
            f"{known or 'none'}"
        )
    return found[-1]


def model_of(call: CallView, agents: Iterable[Agent]) -> LLM:
    """The model of the agent that was asked, as that is now. Raises LookupError without one."""
    name = call.asked("agent")
    for agent in agents:
        if agent.name == name:
            return agent.llm
    raise LookupError(f"the team has no agent {name!r}, which was asked")


async def ask_again(
    asked: JSONObject,
    llm: LLM,
    policy: Policy,
    *,
    prompt: str | None,
    system_prompt: str | None,
) -> Reply:
    """Put a recorded question to `llm`, perhaps in other words. Nothing is recorded.

    Raises ConfigurationError when the model cannot be called.
    """
    recorded = cast("dict[str, str]", asked)
    sampling = cast("dict[str, object]", asked["sampling"])
    agent = Agent(
        recorded["agent"],
        llm,
        system_prompt=recorded["system_prompt"] if system_prompt is None else system_prompt,
        **sampling,  # pyright: ignore[reportArgumentType]
    )
    agent.llm.check()
    now = {**asked, **agent.as_recorded}
    if prompt is not None:
        now["prompt"] = prompt
    question = Question.from_dict(now, [agent])
    asking = Asking(question, AgentLabels(question.pattern, agent, question.phase), policy)
    try:
        stored = await asking.ask()
    finally:
        asking.count()
    return Reply.from_dict(stored, replayed=False)
