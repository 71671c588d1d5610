"""A question to an agent, and the reply: both are data, as a journal keeps them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from pyagent_providers.base import OutputSchema
from pyagent_providers.semconv import Phase
from pyagent_providers.types import JSONObject

from .agent import Agent
from .errors import FailureKind
from .ledger import CallRecord


@dataclass(frozen=True, slots=True)
class Assigned:
    """The plan's task that a question belongs to."""

    id: str
    depends_on: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question to one agent, and where in the run it is asked.

    `closing` is the one that writes the answer. `seconds` are left for it with all its attempts.
    """

    run_id: str
    pattern: str
    step: int
    agent: Agent
    prompt: str
    phase: Phase
    schema: OutputSchema | None
    task: Assigned | None
    closing: bool = False
    seconds: float | None = None

    @property
    def task_id(self) -> str | None:
        return None if self.task is None else self.task.id

    @property
    def input_hash(self) -> str:
        """Changes with anything that could change the answer."""
        schema = "" if self.schema is None else self.schema.text
        content = "\0".join((self.agent.fingerprint, schema, self.prompt))
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
        return {
            **self.agent.as_recorded,
            "run_id": self.run_id,
            "pattern": self.pattern,
            "step": self.step,
            "phase": self.phase,
            "task_id": self.task_id,
            "depends_on": () if self.task is None else self.task.depends_on,
            "prompt": self.prompt,
            "seconds": self.seconds,
            "schema": None
            if schema is None
            else {"name": schema.name, "schema": schema.schema, "strict": schema.strict},
        }

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
        return cls(
            run_id=cast(str, stored["run_id"]),
            pattern=cast(str, stored["pattern"]),
            step=cast(int, stored["step"]),
            agent=agent,
            prompt=cast(str, stored["prompt"]),
            phase=cast(Phase, stored["phase"]),
            seconds=cast("float | None", stored.get("seconds")),
            schema=None if schema is None else OutputSchema(**schema),  # pyright: ignore[reportArgumentType]
            task=None
            if task_id is None
            else Assigned(task_id, tuple(cast("Sequence[str]", stored["depends_on"]))),
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """How a question was answered, or failed and why, as a journal keeps it."""

    text: str | None
    error: str | None
    kind: FailureKind | None
    calls: tuple[CallRecord, ...]

    def to_dict(self) -> JSONObject:
        return {
            "text": self.text,
            "error": self.error,
            "kind": self.kind,
            "calls": [call.to_dict() for call in self.calls],
        }

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
        )
