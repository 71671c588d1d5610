"""What was asked in a recorded run, put together from its calls and their keys."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, cast
from urllib.parse import unquote

from pyagent_patterns.durable import CallView
from pyagent_patterns.form import unfenced
from pyagent_patterns.keys import segment
from pyagent_patterns.ledger import CallRecord
from pyagent_patterns.question import Reply
from pyagent_providers.types import JSONObject, Message, ToolCall


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to a model, and how it was answered, if it was."""

    call: CallView
    reply: Reply | None


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool call that an agent wished for, and the scope in which it was made, if it was."""

    scope: str
    wish: ToolCall
    wished_at: float


@dataclass(frozen=True)
class Exchange:
    """The questions of one agent's turn: several, if it used tools."""

    asked: tuple[Asked, ...]

    @property
    def first(self) -> CallView:
        return self.asked[0].call

    @property
    def last(self) -> Asked:
        return self.asked[-1]

    @property
    def attempts(self) -> list[CallRecord]:
        return [attempt for a in self.asked if a.reply is not None for attempt in a.reply.calls]

    @property
    def pattern_names(self) -> tuple[str, ...]:
        """The patterns within the run's that it was asked in."""
        return tuple((self.first.asked("path") or "").split("/")[:-1])

    @property
    def is_answered(self) -> bool:
        return self.last.reply is not None and not self.last.reply.tool_calls

    @cached_property
    def tools(self) -> tuple[ToolUse, ...]:
        """The tool calls that it wished for; their scopes are numbered on from the question's."""
        return tuple(
            ToolUse(
                f"{scope_of(asked.call.key)}{segment(wish.name)}:{number}/",
                wish,
                asked.call.ended_at or asked.call.started_at,
            )
            for asked in self.asked
            if asked.reply is not None
            for number, wish in enumerate(asked.reply.tool_calls, _number(asked.call.key) + 1)
        )

    @cached_property
    def told(self) -> Mapping[str, str]:
        """What the model was told of each tool call, by the call's id: the next question has it."""
        turns = (turn for asked in self.asked for turn in _turns(asked.call, "turns"))
        return {turn.tool_call_id: turn.content for turn in turns if turn.tool_call_id is not None}


def exchanges_of(calls: Sequence[CallView]) -> Iterator[Exchange]:
    """The questions to agents; those that one puts while it uses tools are one exchange."""
    unended: dict[tuple[str, str | None], list[Asked]] = {}
    for call in calls:
        if call.activity != "ask":
            continue
        asked = Asked(call, call.reply)
        if not call.input.get("part"):
            yield Exchange((asked,))
            continue
        who = (scope_of(call.key), call.asked("path"))
        if not call.input.get("turns") and who in unended:
            yield Exchange(tuple(unended.pop(who)))
        unended.setdefault(who, []).append(asked)
    for parts in unended.values():
        yield Exchange(tuple(parts))


def scope_of(key: str) -> str:
    scope, slash, _ = key.rpartition("/")
    return scope + slash


def scopes_around(key: str) -> Iterator[str]:
    """The scopes that a call, or a scope, is in: the innermost first, the run's last."""
    scope = scope_of(key.removesuffix("/"))
    while scope:
        yield scope
        scope = scope_of(scope.removesuffix("/"))
    yield ""


def pattern_scopes(key: str, names: Sequence[str], tools: Container[str]) -> Iterator[str]:
    """The scopes of the patterns that a call is in, each of which is numbered: `backend:0/`.

    So are those of `tools`, which may have the same names.
    """
    wanted = iter(names)
    name = next(wanted, None)
    for scope in reversed(list(scopes_around(key))):
        is_numbered = name is not None and _step_of(scope).rpartition(":")[0] == segment(name)
        if is_numbered and scope not in tools:
            yield scope
            name = next(wanted, None)


def name_of(scope: str) -> str:
    """The name of the pattern whose scope it is."""
    return unquote(_step_of(scope).rpartition(":")[0])


def last_of(scope: str) -> str:
    """What the scope is named after, such as an assignment."""
    return unquote(_step_of(scope))


def depends_on(call: CallView) -> tuple[str, ...]:
    return tuple(cast("Sequence[str]", call.input.get("depends_on") or ()))


def messages_of(call: CallView) -> tuple[Message, ...]:
    """The conversation that a question was asked with."""
    system, prompt = call.asked("system_prompt"), call.asked("prompt") or ""
    return (
        *([Message("system", system)] if system else []),
        *_turns(call, "history"),
        Message("user", prompt),
        *_turns(call, "turns"),
    )


def given_by_tool(made: CallView | None) -> Mapping[str, str]:
    """What is kept of a tool's work: its `text`, or its `error` and the error's `type`."""
    if made is None or made.value is None:
        return _NOTHING
    kept = cast("Mapping[str, object]", made.value["value"])
    return {name: text for name, text in kept.items() if isinstance(text, str)}


_NOTHING: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Task:
    """An assignment, as far as it is known."""

    id: str
    worker: str
    depends_on: tuple[str, ...] = ()


def task_of(stored: JSONObject) -> Task:
    """An assignment as results and planners write it. Raises KeyError, TypeError."""
    needed = cast("Sequence[str]", stored.get("depends_on") or ())
    return Task(str(stored["id"]), str(stored["worker"]), tuple(map(str, needed)))


def tasks_in(answer: str) -> list[Task]:
    """What a planner answered, if it is a plan."""
    try:
        items = objects(json.loads(unfenced(answer)), "assignments")
        return [
            task_of({**item, "id": item.get("id") or f"t{n}"}) for n, item in enumerate(items, 1)
        ]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []


def objects(holder: JSONObject, name: str) -> Sequence[JSONObject]:
    return cast("Sequence[JSONObject]", holder.get(name) or ())


def _turns(call: CallView, name: str) -> Iterator[Message]:
    for turn in objects(call.input, name):
        yield Message(
            role=cast('Literal["user", "assistant", "tool"]', turn["role"]),
            content=cast(str, turn["content"]),
            tool_calls=tuple(
                ToolCall(**wish)  # pyright: ignore[reportArgumentType]
                for wish in objects(turn, "tool_calls")
            ),
            tool_call_id=cast("str | None", turn["tool_call_id"]),
        )


def _step_of(scope: str) -> str:
    return scope.removesuffix("/").rpartition("/")[2]


def _number(key: str) -> int:
    """The ordinal of a call in its scope."""
    return int(key.rpartition(":")[2])
