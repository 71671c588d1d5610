"""An agent with tools: asked, its tool calls carried out at once, told of them, until it answers.

Every question and every tool call is on record under a key of its own, so that a run that goes on
repeats none of them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Final, Protocol, cast

from pyagent_providers.telemetry import error_type
from pyagent_providers.types import JSONObject, JSONValue, Message, ToolCall, ToolSpec

from .agent import Agent, AgentTool, Member, MemberTool
from .errors import AgentError, NoStoreError
from .ledger import CallRecord
from .people import AskHuman, Decision, Gate, WantedKind
from .question import Question, Reply
from .record import RunRecord
from .telemetry import AgentSpan, ToolSpan
from .tools import Effect, Tool, ToolArgumentsError, ToolError, Toolset
from .toolsets import OpenToolsets


class Scope(Protocol):
    """What a tool call needs of the scope it is made in, which is its own."""

    @property
    def replayed(self) -> bool:
        """Whether what the tool gave was on record."""
        ...

    async def give(self, member: Member, task: str) -> str:
        """Have a member of the run do it."""
        ...

    async def call(
        self,
        activity: str,
        work: Callable[[], Awaitable[JSONValue]],
        *,
        input: JSONValue = None,
    ) -> JSONValue: ...

    async def begun_before(self, what: JSONObject) -> bool:
        """Note that this is begun; whether another execution of the run had noted it."""
        ...

    async def consult(
        self, kind: WantedKind, who: str, text: str, details: JSONObject
    ) -> Decision: ...

    def gated(self, gate: Gate) -> bool:
        """Whether a person is asked there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What the loop needs of the run: how to ask, and a scope for each tool call.

    `shorten` gives the turns of a question as they fit; `tools` are there beside the agent's own.
    """

    record: RunRecord
    put: Callable[[Question], Awaitable[Reply]]
    scope: Callable[[str], Scope]
    together: Callable[[Mapping[str, Callable[[], Awaitable[str]]]], Awaitable[Mapping[str, str]]]
    seconds_left: Callable[[], float | None]
    toolsets: OpenToolsets
    shorten: Callable[[Question], Awaitable[tuple[Message, ...]]]
    tools: Sequence[Tool] = ()


async def converse(exchange: Exchange, question: Question, span: AgentSpan) -> Reply:
    """The agent's answer, after as many tool calls as it wishes in `max_steps` steps.

    Raises AgentError when a question fails, or when the last step still wishes for tools.
    """
    agent = question.agent
    offered = await _offered(exchange, agent)
    specs = tuple(offer.spec for offer in offered.values())
    turns: tuple[Message, ...] = ()
    calls: list[CallRecord] = []
    span.calls = calls
    for step in range(agent.max_steps):
        number = question.step if step == 0 else exchange.record.next_step()
        asked = replace(question, step=number, turns=turns, tools=specs, part=True)
        fitted = await exchange.shorten(asked)
        span.compressed([turn.tool_call_id or "" for turn in fitted if turn not in turns])
        turns = fitted
        asked = replace(asked, turns=turns)
        reply = await exchange.put(asked)
        calls += reply.calls
        if not reply.tool_calls:
            return reply
        if step + 1 == agent.max_steps:  # nobody would be told what came of them
            break
        results = await _carry_out(exchange, asked, offered, reply.tool_calls)
        turns += (Message("assistant", reply.text or "", tool_calls=reply.tool_calls), *results)
    raise AgentError(
        f"it still called tools after max_steps={agent.max_steps} steps; raise max_steps, or tell "
        "it when to stop",
        agent=agent.name,
        model=agent.llm.model,
    )


class _Offer(Protocol):
    """A tool as an agent is offered it."""

    @property
    def spec(self) -> ToolSpec: ...

    async def carry_out(self, scope: Scope, who: str, call: ToolCall) -> str:
        """The text that the model is told. Raises ToolError."""
        ...


async def _offered(exchange: Exchange, agent: Agent) -> dict[str, _Offer]:
    """Everything the agent can call, by name; what toolsets bring is as it was recorded first."""
    offered: dict[str, _Offer] = {
        tool.name: _offer(tool, exchange.seconds_left) for tool in agent.tools
    }
    offered |= {tool.name: _OfTool(tool, exchange.seconds_left) for tool in exchange.tools}
    for toolset in agent.toolsets:
        for stored in await _brought(exchange, agent, toolset):
            tool = _of_toolset(exchange.toolsets, toolset, stored)
            if tool.name in offered:
                raise ValueError(
                    f"agent {agent.name!r} has two tools named {tool.name!r}, one of them of "
                    f"{toolset.name!r}; give the toolset a prefix"
                )
            offered[tool.name] = _OfTool(tool, exchange.seconds_left)
    return offered


def _offer(tool: AgentTool, seconds_left: Callable[[], float | None]) -> _Offer:
    match tool:
        case MemberTool():
            return _OfMember(tool)
        case AskHuman():
            return _OfHuman(tool)
        case Tool():
            return _OfTool(tool, seconds_left)


async def _brought(exchange: Exchange, agent: Agent, toolset: Toolset) -> Sequence[JSONObject]:
    async def look() -> JSONValue:
        try:
            async with asyncio.timeout(exchange.seconds_left()):
                tools = (await exchange.toolsets.tools(toolset)).values()
        except Exception as error:
            raise AgentError(
                f"the tools of {toolset.name!r} are not there: {error_type(error)}: {error}",
                agent=agent.name,
                model=agent.llm.model,
            ) from error
        return [
            {
                **asdict(tool.spec),
                "effect": tool.effect,
                "approve": tool.approve,
                "timeout": tool.timeout,
            }
            for tool in tools
        ]

    found = await exchange.scope(toolset.name).call("tools", look)
    return cast("Sequence[JSONObject]", found)


async def _carry_out(
    exchange: Exchange,
    asked: Question,
    offered: Mapping[str, _Offer],
    calls: Sequence[ToolCall],
) -> list[Message]:
    """Make the calls, all at once; what the model is told of each, in their order."""
    scopes = [exchange.scope(call.name) for call in calls]  # in the order of the calls
    work = {
        str(n): partial(_one, exchange.record, asked, offered.get(call.name), call, scopes[n])
        for n, call in enumerate(calls)
    }
    told = await exchange.together(work)
    return [Message("tool", told[str(n)], tool_call_id=call.id) for n, call in enumerate(calls)]


async def _one(
    record: RunRecord, asked: Question, offer: _Offer | None, call: ToolCall, scope: Scope
) -> str:
    """One call, seen and told of. That it failed is something the model is told, too."""
    telling = record.telling
    if telling is not None:
        telling.tool_started(asked, call)
    spec = None if offer is None else offer.spec
    with ToolSpan(asked.agent.name, record.run_id, call, spec) as span:
        try:
            if offer is None:
                raise ToolError(f"there is no tool {call.name!r}")
            output = await offer.carry_out(scope, asked.path, call)
        except (ToolError, AgentError) as failure:
            error = str(failure) or "it failed"
            kind = failure.kind if isinstance(failure, _ToolFailed) else error_type(failure)
            span.failed(kind, error, replayed=scope.replayed)
            if telling is not None:
                telling.tool_ended(asked, call, error=error)
            return f"Error: {error}"
        span.gave(output, replayed=scope.replayed)
    if telling is not None:
        telling.tool_ended(asked, call, output=output)
    return output


@dataclass(frozen=True, slots=True)
class _OfMember:
    """Another agent, or a pattern."""

    tool: MemberTool

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(self.tool.name, self.tool.description, _TASK)

    async def carry_out(self, scope: Scope, who: str, call: ToolCall) -> str:
        return await scope.give(self.tool.member, _text_in(call, "task"))


@dataclass(frozen=True, slots=True)
class _OfHuman:
    """A person."""

    tool: AskHuman

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(self.tool.name, self.tool.description, _QUESTION)

    async def carry_out(self, scope: Scope, who: str, call: ToolCall) -> str:
        question = _text_in(call, "question")
        text = f"{who} asks:\n\n{question}"
        decision = await _decision(scope, "question", who, text, {"question": question})
        if not decision.approved:
            raise ToolError(
                f"they do not answer{f': {decision.reason}' if decision.reason else ''}"
            )
        answer = "yes" if decision.value is None else decision.value
        return answer if isinstance(answer, str) else json.dumps(answer)


@dataclass(frozen=True, slots=True)
class _OfTool:
    """A tool that this process can call. It has no more time than the agent that calls it."""

    tool: Tool
    seconds_left: Callable[[], float | None]

    @property
    def spec(self) -> ToolSpec:
        return self.tool.spec

    async def carry_out(self, scope: Scope, who: str, call: ToolCall) -> str:
        tool = self.tool
        arguments = tool.check(call.arguments)
        if tool.approve or (tool.effect == "unsafe" and scope.gated("tools")):
            unmade = "a person declined this call"
            await _ask_leave(scope, who, tool, arguments, "wants to call", unmade)
        given: JSONObject = {"tool": tool.name, "arguments": arguments}
        while True:
            in_doubt = tool.effect == "unsafe" and await scope.begun_before(given)
            work = _nobody_knows if in_doubt else partial(_run, tool, arguments, self.seconds_left)
            told = cast("Mapping[str, str]", await scope.call("tool", work, input=given))
            if "in_doubt" not in told:
                break
            does = "may have made this call already, before a crash; make it again?"
            unmade = "it may have been made before a crash, and a person declined to make it again"
            await _ask_leave(scope, who, tool, arguments, does, unmade)
        if "error" in told:
            raise _ToolFailed(told["error"], told["type"])
        return told["text"]


async def _nobody_knows() -> JSONValue:
    """What is kept of an unsafe call that was begun before, and of which nothing came back."""
    return {"in_doubt": "yes"}


class _ToolFailed(ToolError):
    """A tool raised an error of the type `kind`."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


async def _run(
    tool: Tool, arguments: JSONObject, seconds_left: Callable[[], float | None]
) -> JSONValue:
    """What came of a call, as it is kept."""
    limits = [seconds for seconds in (tool.timeout, seconds_left()) if seconds is not None]
    seconds = min(limits, default=None)
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return {"text": await tool.call(arguments)}
    except (Exception, asyncio.CancelledError) as error:
        # Whatever a tool does wrong is told to the model; that the run is cancelled is not its.
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            raise
        words = str(error) if isinstance(error, ToolError) else f"{error_type(error)}: {error}"
        if isinstance(error, TimeoutError) and limit.expired():
            words = f"it took longer than {seconds:g} s and was stopped"
            if tool.effect == "unsafe":
                words += "; it may have had its effect"
        words = words.encode("utf-8", "replace").decode()  # as it will be on a replay
        return {"error": words, "type": error_type(error)}


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _ask_leave(
    scope: Scope, who: str, tool: Tool, arguments: JSONObject, does: str, unmade: str
) -> None:
    """Ask a person. Raises ToolError, with what has become of the call, when they decline."""
    details: JSONObject = {"name": tool.name, "arguments": arguments, "effect": tool.effect}
    listed = "".join(f"\n  {name}: {value!r}" for name, value in arguments.items())
    text = f"{who} {does}\n{tool.name} ({tool.effect}){listed}"
    decision = await _decision(scope, "tool", who, text, details)
    if not decision.approved:
        why = f": {decision.reason}" if decision.reason else ""
        raise ToolError(f"{unmade}{why}")


async def _decision(
    scope: Scope, kind: WantedKind, who: str, text: str, details: JSONObject
) -> Decision:
    """What a person decides. Raises ToolError where there is none.

    That is known before the run begins, but of tools that a toolset brings, or an agent that a
    planner defines.
    """
    try:
        return await scope.consult(kind, who, text, details)
    except NoStoreError as error:
        raise ToolError("a person is to be asked first, and there is nobody to ask") from error


def _of_toolset(toolsets: OpenToolsets, toolset: Toolset, stored: JSONObject) -> Tool:
    """A tool as it was when the run first looked; the real one is opened when it is called."""
    name = cast(str, stored["name"])

    async def call(arguments: JSONObject) -> str:
        tool = (await toolsets.tools(toolset)).get(name)
        if tool is None:
            raise ToolError(f"{toolset.name!r} does not have the tool {name!r} any more")
        return await tool.call(arguments)

    return Tool(
        name=name,
        description=cast(str, stored["description"]),
        parameters=cast(JSONObject, stored["parameters"]),
        run=call,
        effect=cast(Effect, stored["effect"]),
        approve=cast(bool, stored["approve"]),
        timeout=cast("float | None", stored["timeout"]),
    )


def _text_in(call: ToolCall, argument: str) -> str:
    """The one argument that a call has. Raises ToolArgumentsError."""
    try:
        given = json.loads(call.arguments or "{}")
    except ValueError as error:
        raise ToolArgumentsError(call.name, [f"this is not JSON: {error}"]) from error
    text = cast("dict[str, object]", given).get(argument) if isinstance(given, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise ToolArgumentsError(call.name, [f"{argument}: a text is needed"])
    return text


def _takes(argument: str, description: str) -> JSONObject:
    return {
        "type": "object",
        "properties": {argument: {"type": "string", "description": description}},
        "required": [argument],
        "additionalProperties": False,
    }


_TASK: Final = _takes("task", "what is to be done, complete in itself")
_QUESTION: Final = _takes("question", "what they are to answer")
