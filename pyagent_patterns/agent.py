"""An agent: a name, a model or several, what it is told about itself, and what it can use."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import Protocol, TypeAlias, TypeVar, cast, runtime_checkable

from pyagent_providers.base import (
    LLM,
    CallableLLM,
    Completion,
    LLMLike,
    Message,
    OutputSchema,
    Sampling,
    Usage,
    as_llm,
)
from pyagent_providers.pricing import ModelPrice
from pyagent_providers.types import JSONObject

from .people import AskHuman
from .policy import OnError, check_on_error
from .retry import RetryPolicy
from .timeouts import Timeouts
from .tools import Tool, Toolset, as_tool, check_tool_name

T = TypeVar("T")
_PURPOSE_LENGTH = 240


@runtime_checkable
class Member(Protocol):
    """Who can be given work in a run: an `Agent`, or a `Pattern` with members of its own."""

    @property
    def name(self) -> str: ...

    @property
    def purpose(self) -> str:
        """What a planner is told it is for, on one line."""
        ...

    @property
    def agents(self) -> Sequence[Agent]:
        """Every agent that it may ask, itself included."""
        ...


class MemberTool:
    """An agent or a pattern as a tool of another: it is given a task, and its answer comes back."""

    __slots__ = ("description", "member", "name")

    def __init__(self, member: Member, *, name: str | None, description: str | None) -> None:
        self.member = member
        self.name = check_tool_name(name or "_".join(member.name.split()))
        self.description = description or member.purpose

    def __repr__(self) -> str:
        return f"{self.member!r}.as_tool({self.name!r})"


AsyncFunction: TypeAlias = Callable[[str], Awaitable[str]]
MemberLike: TypeAlias = "Member | AsyncFunction"
AgentTool: TypeAlias = "Tool | MemberTool | AskHuman"
ToolLike: TypeAlias = "AgentTool | Callable[..., object]"


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
    in place of the pattern's (see `pyagent_patterns.policy`). `fallback`, an agent or a pattern,
    is asked when this agent gets no answer.

    `tools` are what it can use: typed functions, `Tool`s, and other agents or patterns
    `.as_tool()`; `mcp` are toolsets, such as MCP servers. It is asked, its tools are called, and it
    is told what came of that, at most `max_steps` times.

    `use_history` says whether it is shown the conversation so far of a run with a `session`; None:
    where it plans, routes or answers. What it is shown is kept within `max_context_tokens`, as far
    as sizes are known (see `pyagent_patterns.context`): the oldest is summarised, the last
    `keep_recent` messages, results or outputs only if there is no other way. Where even that is
    not enough, it fails before it is asked.

    Raises ValueError for a name that is empty, not printable or padded, and for two tools of one
    name, TypeError for an `llm`, a `fallback` or a tool that is not one.
    """

    __slots__ = (
        "_system",
        "as_recorded",
        "description",
        "fallback",
        "fingerprint",
        "keep_recent",
        "llms",
        "max_context_tokens",
        "max_steps",
        "name",
        "on_error",
        "output_schema",
        "purpose",
        "retry",
        "sampling",
        "stream",
        "system_prompt",
        "timeouts",
        "tools",
        "toolsets",
        "use_history",
    )  # fmt: skip

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
        fallback: Member | None = None,
        tools: Sequence[ToolLike] = (),
        mcp: Sequence[Toolset] = (),
        max_steps: int = 10,
        use_history: bool | None = None,
        max_context_tokens: int | None = None,
        keep_recent: int = 4,
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
        if fallback is not None and not isinstance(fallback, Member):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"agent {name!r}: fallback must be an Agent or a Pattern; got {fallback!r}"
            )
        self.fallback = fallback
        self.tools = _checked_tools(name, tools)
        self.toolsets = _checked_sequence(name, "mcp", mcp)
        for toolset in self.toolsets:
            if not isinstance(toolset, Toolset):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"agent {name!r}: mcp must have toolsets; got {toolset!r}")
        if max_steps < 1:
            raise ValueError(f"agent {name!r}: max_steps must be at least 1; got {max_steps!r}")
        self.max_steps = max_steps
        self.use_history = use_history
        if max_context_tokens is not None and max_context_tokens < 1:
            raise ValueError(
                f"agent {name!r}: max_context_tokens must be at least 1, or None; "
                f"got {max_context_tokens!r}"
            )
        self.max_context_tokens = max_context_tokens
        if keep_recent < 0:
            raise ValueError(f"agent {name!r}: keep_recent cannot be negative; got {keep_recent!r}")
        self.keep_recent = keep_recent
        self._prepare()

    def __repr__(self) -> str:
        return f"Agent({self.name!r}, {', '.join(repr(llm) for llm in self.llms)})"

    @property
    def llm(self) -> LLM:
        """The model that is asked first."""
        return self.llms[0]

    @property
    def agents(self) -> Sequence[Agent]:
        """This agent, and every other that it may hand work to."""
        return (self, *all_agents(self.hands_to))

    @property
    def hands_to(self) -> Sequence[Member]:
        """Who works for it, as a tool, or in its place."""
        as_tools = [tool.member for tool in self.tools if isinstance(tool, MemberTool)]
        return as_tools if self.fallback is None else [*as_tools, self.fallback]

    @property
    def stands_for(self) -> AsyncFunction | None:
        """The application's own function that this agent is; None for one with a model."""
        return self.llm.stands_for if isinstance(self.llm, _Function) else None

    @property
    def uses_tools(self) -> bool:
        return bool(self.tools or self.toolsets)

    def messages(self, prompt: str) -> tuple[Message, ...]:
        """The conversation that asks this agent `prompt`."""
        return (*self._system, Message("user", prompt))

    def as_tool(self, name: str | None = None, description: str | None = None) -> MemberTool:
        """This agent as a tool of others."""
        return MemberTool(self, name=name, description=description)

    def with_system_prompt(self, system_prompt: str, *, use_history: bool | None = None) -> Agent:
        """The same agent and fallback in another role: without tools and `output_schema`.

        `use_history` of None leaves it as it is.
        """
        other = copy.copy(self)
        other.system_prompt = _checked_text(self.name, "system_prompt", system_prompt)
        other.output_schema = None
        other.tools, other.toolsets = (), ()
        if use_history is not None:
            other.use_history = use_history
        if isinstance(self.fallback, Agent):
            other.fallback = self.fallback.with_system_prompt(
                system_prompt, use_history=use_history
            )
        other._prepare()
        return other

    def _prepare(self) -> None:
        """Work out, once, what is the same in every question."""
        # What a planner is told this agent is for, on one line.
        self.purpose = on_one_line(self.description or self.system_prompt)
        self._system = (Message("system", self.system_prompt),) if self.system_prompt else ()
        # What of the agent decides an answer; part of the hash that guards a replay.
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


def as_member(argument: str, value: object) -> Member:
    """The agent or pattern itself; an async function `(prompt) -> str` as an agent that is free.

    Raises TypeError, saying what would be accepted, for anything else.
    """
    if isinstance(value, Agent) or (isinstance(value, Member) and not isinstance(value, type)):
        return value
    if inspect.iscoroutinefunction(value) or (
        callable(value) and inspect.iscoroutinefunction(type(value).__call__)
    ):
        name = getattr(value, "__name__", type(value).__name__)
        model = _Function(name, cast(AsyncFunction, value))
        return Agent(name, model, description=inspect.getdoc(value) or "")
    raise TypeError(
        f"{argument} must be an Agent, a Pattern or an async function (prompt) -> str; "
        f"got {value!r}"
    )


def all_agents(members: Iterable[Member]) -> tuple[Agent, ...]:
    """Every agent that these may ask, each once, in order."""
    found = {id(agent): agent for member in members for agent in member.agents}
    return tuple(found.values())


def on_one_line(text: str) -> str:
    """As much of a text as a planner is told of a member."""
    words = " ".join(text.split())
    return words if len(words) <= _PURPOSE_LENGTH else words[: _PURPOSE_LENGTH - 1] + "…"


class _Function(CallableLLM):
    """The application's own function in an agent's place. It is no model, and costs nothing."""

    def __init__(self, name: str, function: AsyncFunction) -> None:
        async def answer(messages: Sequence[Message]) -> Completion:
            text = await function(messages[-1].content)
            return Completion(
                text=text, usage=Usage(), finish_reason="stop", reported_usd=Decimal(0)
            )

        answer.__name__ = name
        super().__init__(answer)
        self.stands_for = function
        self.price = ModelPrice(input=0, output=0)


def _checked_tools(agent: str, given: Sequence[ToolLike]) -> tuple[AgentTool, ...]:
    tools = _checked_sequence(agent, "tools", given)
    try:
        found = [
            tool if isinstance(tool, MemberTool | AskHuman) else as_tool(tool) for tool in tools
        ]
    except TypeError as error:
        raise TypeError(f"agent {agent!r}: {error}") from error
    names = [tool.name for tool in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"agent {agent!r} has two tools named {name!r}; a call names one")
    return tuple(found)


def _checked_sequence(agent: str, argument: str, value: Sequence[T]) -> tuple[T, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"agent {agent!r}: {argument} must be a list; got {value!r}")
    return tuple(value)


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
