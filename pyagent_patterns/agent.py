"""An agent: a name, a model or several, and what it is told about itself."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import cast

from pyagent_providers.base import LLM, LLMLike, Message, OutputSchema, Sampling, as_llm
from pyagent_providers.types import JSONObject

from .policy import OnError, check_on_error
from .retry import RetryPolicy
from .timeouts import Timeouts

_PURPOSE_LENGTH = 240


class Agent:
    """One specialist: a named role on a model. Immutable; safe to share between runs.

    `system_prompt` is what the model is told about its role, in every question. `description`
    is what a planner is told about it; without one, it is told the start of the system prompt.
    `llm` is an `LLM` or any async function `(messages) -> str | Completion`, or several: the next
    is asked when one has failed with all its attempts. `max_tokens` bounds each answer, in
    tokens, and lets a budget know what it may cost; `temperature`, `top_p`, `stop` and `seed` are
    passed to the model.

    `output_schema`, a JSON Schema, constrains its answers where the pattern does not; if it has a
    number `confidence`, from 0 to 1, that is in the outcome. `stream` asks for the answer in
    pieces, each told as a `TextDelta` event. `retry`, `timeouts` and `on_error` are for this agent
    in place of the pattern's (see `pyagent_patterns.policy`). `fallback` is asked when this agent
    gets no answer.

    Raises ValueError for a name that is empty, not printable or padded, TypeError for an `llm`
    or a `fallback` that is not one.
    """

    __slots__ = ("as_recorded", "description", "fallback", "fingerprint", "llms", "name",
                 "on_error", "output_schema", "retry", "sampling", "stream", "system_prompt",
                 "timeouts")  # fmt: skip

    def __init__(
        self,
        name: str,
        llm: LLMLike | Sequence[LLMLike],
        *,
        system_prompt: str = "",
        description: str = "",
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        stop: Sequence[str] = (),
        seed: int | None = None,
        output_schema: JSONObject | None = None,
        stream: bool = False,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        on_error: OnError | None = None,
        fallback: Agent | None = None,
    ) -> None:
        self.name = _checked_name(name)
        self.llms = _checked_llms(name, llm)
        self.system_prompt = _checked_text(name, "system_prompt", system_prompt)
        self.description = _checked_text(name, "description", description)
        self.sampling = Sampling(
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            stop=tuple(stop),
            seed=seed,
        )
        self.output_schema = (
            None if output_schema is None else OutputSchema("answer", output_schema, strict=False)
        )
        self.stream = stream
        self.retry = retry
        self.timeouts = timeouts
        if on_error is not None:
            check_on_error(f"agent {name!r}: on_error", on_error)
        self.on_error: OnError | None = on_error
        if fallback is not None and not isinstance(fallback, Agent):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"agent {name!r}: fallback must be an Agent; got {fallback!r}")
        self.fallback = fallback
        self._identify()

    def __repr__(self) -> str:
        return f"Agent({self.name!r}, {', '.join(repr(llm) for llm in self.llms)})"

    @property
    def llm(self) -> LLM:
        """The model that is asked first."""
        return self.llms[0]

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
        """The same agent and fallback in another role, which no `output_schema` constrains."""
        other = copy.copy(self)
        other.system_prompt = _checked_text(self.name, "system_prompt", system_prompt)
        other.output_schema = None
        if self.fallback is not None:
            other.fallback = self.fallback.with_system_prompt(system_prompt)
        other._identify()
        return other

    def _identify(self) -> None:
        """What of the agent decides an answer; part of the hash that guards a replay."""
        sampling = asdict(self.sampling)
        models = [(llm.provider, llm.model) for llm in self.llms]
        first, *others = models
        identity = (*first, self.system_prompt, sampling, *others)
        self.fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        self.as_recorded: JSONObject = {
            "agent": self.name,
            "fingerprint": self.fingerprint,
            "provider": self.llm.provider,
            "model": self.llm.model,
            "sampling": sampling,
            "system_prompt": self.system_prompt,
        }


def _checked_llms(agent: str, value: LLMLike | Sequence[LLMLike]) -> tuple[LLM, ...]:
    several = cast("Sequence[LLMLike]", value if isinstance(value, list | tuple) else [value])
    if not several:
        raise ValueError(f"agent {agent!r}: llm is empty; give at least one model")
    try:
        return tuple(as_llm(llm) for llm in several)
    except TypeError as error:
        raise TypeError(f"agent {agent!r}: {error}") from None


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
