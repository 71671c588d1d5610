"""Members on scripted models, and what they were asked, for the tests of single patterns."""

from __future__ import annotations

import json
from typing import Any

from pyagent_patterns import Agent
from pyagent_providers.errors import ContentRefusedError
from pyagent_providers.testing import Answer, ScriptedLLM, Step

from .teams import PRICE, questions

REFUSED = ContentRefusedError("no", provider="p", model="m")


def says(name: str, *answers: Answer | Step, **options: Any) -> Agent:
    """An agent that gives these answers; a call costs $0.00006."""
    return Agent(name, ScriptedLLM(answers, model=f"{name}-model", price=PRICE), **options)


def asked(agent: Agent) -> str:
    """The one question that the agent was asked."""
    [question] = questions(agent)
    return question


def accepted(reasons: str = "") -> str:
    """A judge's answer: it accepts, unless it has reasons not to."""
    return json.dumps({"accepted": not reasons, "reasons": reasons})
