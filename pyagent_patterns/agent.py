"""An agent: a name, a model, and what it is told about itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

from pyagent_providers.base import LLMLike, Message, Sampling, as_llm
from pyagent_providers.types import JSONObject

_PURPOSE_LENGTH = 240


class Agent:
    """One specialist: a named role on a model. Immutable; safe to share between runs.

    `system_prompt` is what the model is told about its role, in every question. `description`
    is what a planner is told about it; without one, it is told the start of the system prompt.
    `llm` is an `LLM` or any async function `(messages) -> str | Completion`. The remaining
    parameters are passed to the model: `max_tokens` bounds each answer, in tokens.

    Raises ValueError for a name that is empty, not printable or padded, TypeError for an `llm`
    that is not one.
    """

    __slots__ = ("as_recorded", "description", "fingerprint", "llm", "name", "sampling",
                 "system_prompt")  # fmt: skip

    def __init__(
        self,
        name: str,
        llm: LLMLike,
        *,
        system_prompt: str = "",
        description: str = "",
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        stop: Sequence[str] = (),
        seed: int | None = None,
    ) -> None:
        self.name = _checked_name(name)
        try:
            self.llm = as_llm(llm)
        except TypeError as error:
            raise TypeError(f"agent {name!r}: {error}") from None
        self.system_prompt = _checked_text(name, "system_prompt", system_prompt)
        self.description = _checked_text(name, "description", description)
        self.sampling = Sampling(
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            stop=tuple(stop),
            seed=seed,
        )
        sampling = asdict(self.sampling)
        # What of the agent decides an answer; part of the hash that guards a replay.
        identity = (self.llm.provider, self.llm.model, system_prompt, sampling)
        self.fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        self.as_recorded: JSONObject = {
            "agent": name,
            "fingerprint": self.fingerprint,
            "provider": self.llm.provider,
            "model": self.llm.model,
            "sampling": sampling,
            "system_prompt": system_prompt,
        }

    def __repr__(self) -> str:
        return f"Agent({self.name!r}, {self.llm!r})"

    @property
    def purpose(self) -> str:
        """What a planner is told this agent is for, on one line."""
        words = " ".join((self.description or self.system_prompt).split())
        return words if len(words) <= _PURPOSE_LENGTH else words[: _PURPOSE_LENGTH - 1] + "…"

    def messages(self, prompt: str) -> tuple[Message, ...]:
        """The conversation that asks this agent `prompt`."""
        question = Message("user", prompt)
        if not self.system_prompt:
            return (question,)
        return (Message("system", self.system_prompt), question)

    def with_system_prompt(self, system_prompt: str) -> Agent:
        """The same agent, told something else about its role."""
        sampling = self.sampling
        return Agent(
            self.name,
            self.llm,
            system_prompt=system_prompt,
            description=self.description,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            stop=sampling.stop,
            seed=sampling.seed,
        )


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"an agent's name must be a string; got {name!r}")
    if not name or not name.isprintable() or name != name.strip():
        raise ValueError(
            f"an agent's name must be printable text without spaces around it; got {name!r}"
        )
    return name


def _checked_text(agent: str, argument: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"agent {agent!r}: {argument} must be a string; got {value!r}")
    return value
