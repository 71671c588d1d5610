"""A question to an agent, and the reply: both are data, as a journal keeps them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from pyagent_providers.base import OutputSchema
from pyagent_providers.semconv import Phase
from pyagent_providers.types import JSONObject, JSONValue, Message, ToolCall, ToolSpec

from .agent import Agent
from .errors import FailureKind
from .ledger import CallRecord


@dataclass(frozen=True, slots=True)
class Assigned:
    """The plan's task that a question belongs to."""

    id: str
    depends_on: tuple[str, ...]


@dataclass(slots=True, kw_only=True)  # not frozen, which takes three times as long to make
class Question:
    """One question to one agent, and where in the run it is asked.

    `path` are the names of the patterns within the run's that it is asked in, and the agent's.
    `closing` is the one that writes the answer. `seconds` are left for it with all its attempts.

    `history` is the conversation before the prompt, `turns` what came after it: the tool calls that
    the agent wished and what they gave. It may call `tools`. `part` of a longer exchange, it has no
    span of its own. `compressed` names what is in there in summary only. `tenant` is whom the run
    is for, as metrics may tell.
    """

    run_id: str
    pattern: str
    step: int
    agent: Agent
    prompt: str
    phase: Phase
    schema: OutputSchema | None
    task: Assigned | None
    path: str
    closing: bool = False
    seconds: float | None = None
    history: tuple[Message, ...] = ()
    turns: tuple[Message, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    part: bool = False
    compressed: tuple[str, ...] = ()
    tenant: str | None = None

    @property
    def task_id(self) -> str | None:
        return None if self.task is None else self.task.id

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation, as the model is sent it."""
        asked = self.agent.messages(self.prompt)
        if not (self.history or self.turns):
            return asked
        return (*asked[:-1], *self.history, asked[-1], *self.turns)

    @property
    def input_hash(self) -> str:
        """Changes with anything that could change the answer."""
        schema = "" if self.schema is None else self.schema.text
        content = "\0".join((self.agent.fingerprint, schema, self.prompt))
        if self.history or self.turns or self.tools:
            rest = (self.history, self.turns, self.tools)
            content += "\0" + json.dumps([[asdict(item) for item in items] for items in rest])
        return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()

    def confidence_in(self, answer: str) -> float | None:
        """The `confidence` in an answer, where the agent's own schema has one: from 0 to 1."""
        schema = self.agent.output_schema
        if schema is None or schema is not self.schema:
            return None
        if "confidence" not in cast("Mapping[str, object]", schema.schema.get("properties", {})):
            return None
        try:
            confidence = json.loads(answer)["confidence"]
            return float(confidence) if 0 <= confidence <= 1 else None
        except (ValueError, TypeError, KeyError):
            return None

    def to_dict(self) -> JSONObject:
        """Everything that was asked, as JSON; `fingerprint` stands for the agent as it was."""
        schema = self.schema
        asked: dict[str, JSONValue] = {
            **self.agent.as_recorded,
            "run_id": self.run_id,
            "pattern": self.pattern,
            "step": self.step,
            "phase": self.phase,
            "task_id": self.task_id,
            "depends_on": () if self.task is None else self.task.depends_on,
            "path": self.path,
            "prompt": self.prompt,
            "seconds": self.seconds,
            "schema": None
            if schema is None
            else {"name": schema.name, "schema": schema.schema, "strict": schema.strict},
        }
        if self.tenant is not None:
            asked["tenant"] = self.tenant
        if self.compressed:
            asked["compressed"] = list(self.compressed)
        if self.history:
            asked["history"] = [asdict(message) for message in self.history]
        if self.part:
            asked["part"] = True
            asked["turns"] = [asdict(message) for message in self.turns]
            asked["tools"] = [asdict(tool) for tool in self.tools]
        return asked

    @classmethod
    def from_dict(cls, stored: JSONObject, agents: Iterable[Agent]) -> Question:
        """The question that `to_dict` wrote, to the one of `agents` that it was put to.

        Raises LookupError if none of them is that agent, as it was.
        """
        for agent in agents:
            if agent.fingerprint == stored["fingerprint"] and agent.name == stored["agent"]:
                break
        else:
            raise LookupError(
                f"the team has no agent {stored['agent']!r} with the model and prompt of the "
                "recorded question"
            )
        schema = cast("Mapping[str, object] | None", stored["schema"])
        task_id = cast("str | None", stored["task_id"])
        tools = cast("Sequence[Mapping[str, object]]", stored.get("tools", ()))
        return cls(
            run_id=cast(str, stored["run_id"]),
            pattern=cast(str, stored["pattern"]),
            step=cast(int, stored["step"]),
            agent=agent,
            prompt=cast(str, stored["prompt"]),
            phase=cast(Phase, stored["phase"]),
            path=cast(str, stored.get("path", agent.name)),
            seconds=cast("float | None", stored.get("seconds")),
            history=_messages(stored.get("history", ())),
            turns=_messages(stored.get("turns", ())),
            tools=tuple(ToolSpec(**tool) for tool in tools),  # pyright: ignore[reportArgumentType]
            part=cast(bool, stored.get("part", False)),
            compressed=tuple(cast("Sequence[str]", stored.get("compressed", ()))),
            tenant=cast("str | None", stored.get("tenant")),
            schema=None if schema is None else OutputSchema(**schema),  # pyright: ignore[reportArgumentType]
            task=None
            if task_id is None
            else Assigned(task_id, tuple(cast("Sequence[str]", stored["depends_on"]))),
        )


@dataclass(slots=True)  # not frozen, as `Question`
class Reply:
    """How a question was answered, or failed and why, as a journal keeps it."""

    text: str | None
    error: str | None
    kind: FailureKind | None
    calls: tuple[CallRecord, ...]
    tool_calls: tuple[ToolCall, ...] = ()

    def to_dict(self) -> JSONObject:
        stored: dict[str, JSONValue] = {
            "text": self.text,
            "error": self.error,
            "kind": self.kind,
            "calls": [call.to_dict() for call in self.calls],
        }
        if self.tool_calls:
            stored["tool_calls"] = [asdict(call) for call in self.tool_calls]
        return stored

    @classmethod
    def from_dict(cls, stored: JSONObject, *, replayed: bool) -> Reply:
        """The reply that `to_dict` wrote; its calls marked as paid for before if `replayed`."""
        calls = [
            CallRecord.from_dict(call) for call in cast("Sequence[JSONObject]", stored["calls"])
        ]
        return cls(
            text=cast("str | None", stored["text"]),
            error=cast("str | None", stored["error"]),
            kind=cast("FailureKind | None", stored["kind"]),
            calls=tuple(call.as_replayed() if replayed else call for call in calls),
            tool_calls=_tool_calls(stored.get("tool_calls", ())),
        )


def _messages(stored: object) -> tuple[Message, ...]:
    return tuple(
        Message(
            role=message["role"],
            content=message["content"],
            tool_calls=_tool_calls(message["tool_calls"]),
            tool_call_id=message["tool_call_id"],
        )
        for message in cast("Sequence[Mapping[str, Any]]", stored)
    )


def _tool_calls(stored: object) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(**call) for call in cast("Sequence[Mapping[str, str]]", stored))
