"""What agents are made of, written down: models, tools, servers and policies."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path as File
from typing import Any, Final, cast

import pyagent_providers
from pyagent_patterns.agent import Agent, AgentTool, MemberTool
from pyagent_patterns.budget import Budget
from pyagent_patterns.mcp import MCPServer
from pyagent_patterns.mcp.transport import Stdio
from pyagent_patterns.people import AskHuman
from pyagent_patterns.retry import RetryPolicy
from pyagent_patterns.sandbox import Bubblewrap
from pyagent_patterns.skills import Skills
from pyagent_patterns.timeouts import Timeouts
from pyagent_patterns.tools import Tool, Toolset, as_tool
from pyagent_patterns.workspace import Workspace
from pyagent_providers import LLM, CallableLLM
from pyagent_providers.secret import Secret, written_url
from pyagent_providers.types import JSONValue

from .making import ADAPTERS
from .naming import name_of

Written = dict[str, JSONValue]

_SERVER_OPTIONS: Final = ("prefix", "trust_annotations", "timeout")


class CannotWriteError(ValueError):
    """Something in a team that a file cannot hold: all `faults`, each with what to do."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class Describer:
    """Writes parts of a team as plain values, paths from `folder`; collects what it cannot."""

    def __init__(self, folder: File) -> None:
        self.folder = folder
        self.faults: list[str] = []

    def named(self, found: object, what: str) -> str:
        """Where something of the user's is imported from."""
        name = name_of(found, self.folder)
        if name is None:
            self.faults.append(
                f"{what} is {found!r}, which a file cannot hold: put it at the top of a module, "
                "under a name"
            )
        return name or ""

    def path(self, path: File) -> str:
        """A path from the definition's folder, if it is within."""
        near = path.is_relative_to(self.folder)
        return str(path.relative_to(self.folder) if near else path)

    def model(self, llm: LLM, who: str) -> JSONValue:
        """A model: `provider:model`, or with its settings."""
        kind = next((k for k, name in ADAPTERS.items() if type(llm).__name__ == name), None)
        if kind is None or type(llm) is not getattr(pyagent_providers, ADAPTERS[kind]):
            found = llm.function if isinstance(llm, CallableLLM) else llm
            return f"custom:{self.named(found, f'the model of {who}')}"
        if llm.settings is None:
            self.faults.append(f"the model of {who} has a client of its own; leave out client=")
            return ""
        usual = _defaults(type(llm).__init__)
        settings: Written = {k: v for k, v in llm.settings.items() if v != usual[k]}
        if "provider" in settings:
            settings["provider_name"] = settings.pop("provider")
        if llm.price is not None:
            settings["price"] = llm.price.to_dict()
        if not settings:
            return f"{kind}:{llm.model}"
        return {"provider": kind, "model": llm.model, **settings}

    def tools(
        self, agent: Agent, member: Callable[[MemberTool], str]
    ) -> tuple[list[JSONValue], Skills | None]:
        """The agent's tools, and the skills that it has beside."""
        listed: list[JSONValue] = []
        skills: Skills | None = None
        groups: list[object] = []
        for tool in agent.tools:
            owner = _owner(tool)
            if owner is None:
                listed.append(self._tool(tool, agent.name, member))
                continue
            if owner in groups:
                continue
            groups.append(owner)
            if not _whole(owner, agent.tools):
                self.faults.append(
                    f"agent {agent.name!r} has some of the tools of {owner!r}, or changed ones; a "
                    "definition has them all as they are"
                )
            if isinstance(owner, Skills):
                skills = owner
            else:
                options = changed(owner, Workspace.__init__, "writable", "max_read")
                listed.append({"workspace": self.path(owner.root), **options})
        return listed, skills

    def server(self, toolset: Toolset, who: str) -> JSONValue:
        """An MCP server with its terms; any other toolset by its name."""
        if not isinstance(toolset, MCPServer):
            return self.named(toolset, f"a toolset of {who}")
        place, terms = toolset.connection, toolset.terms
        written: Written = {}
        if isinstance(place, Stdio):
            usual = MCPServer.stdio
            written["command"] = _written(place.command)
            if place.args:
                written["args"] = [_written(arg) for arg in place.args]
            if place.env:
                written["env"] = {key: _hidden(key, value) for key, value in place.env.items()}
            if place.cwd is not None:
                written["cwd"] = self.path(place.cwd)
        else:
            usual = MCPServer.http
            url, headers = getattr(place, "url", ""), getattr(place, "headers", {})
            written["url"] = written_url(url, "MCP_URL")
            if headers:
                written["headers"] = {key: _hidden(key, text) for key, text in headers.items()}
        written["name"] = toolset.name
        if terms.allow is not None:
            written["allow"] = list(terms.allow)
        if terms.approve:
            written["approve"] = list(terms.approve)
        if terms.effects:
            written["effects"] = dict(terms.effects)
        return {
            **written,
            **changed(terms, usual, *_SERVER_OPTIONS),
            **changed(toolset, usual, "start_timeout", "max_result_chars"),
        }

    def retry(self, policy: RetryPolicy, who: str) -> JSONValue:
        """A retry policy, as far as it is not the usual one."""
        written = changed(policy, RetryPolicy, "max_attempts", "backoff", "max_backoff", "jitter")
        on = policy.retry_on
        if on is not None:
            several = cast("Sequence[object]", on if isinstance(on, tuple) else [on])
            written["retry_on"] = [self.named(one, f"retry_on of {who}") for one in several]
        return written

    def timeouts(self, timeouts: Timeouts) -> JSONValue:
        return changed(timeouts, Timeouts, *(field.name for field in fields(Timeouts)))

    def budget(self, budget: Budget) -> JSONValue:
        given = budget.to_dict().items()
        return {key: v for key, v in given if v is not None and (key, v) != _USUALLY_UNPRICED}

    def _tool(self, tool: AgentTool, who: str, member: Callable[[MemberTool], str]) -> JSONValue:
        match tool:
            case AskHuman():
                usual = AskHuman()
                if (tool.name, tool.description) == (usual.name, usual.description):
                    return usual.name
                named: Written = {} if tool.name == usual.name else {"name": tool.name}
                return {"ask_human": tool.description, **named}
            case MemberTool():
                usual = MemberTool(tool.member, name=tool.name, description=None)
                written: Written = {"member": member(tool), "name": tool.name}
                if tool.description != usual.description:
                    written["description"] = tool.description
                return written
            case Tool():
                return self._own_tool(tool, who)

    def _own_tool(self, tool: Tool, who: str) -> JSONValue:
        what = f"the tool {tool.name!r} of {who}"
        name = name_of(tool, self.folder)
        if name is not None:
            return name
        said = {"effect": tool.effect, "approve": tool.approve}
        if isinstance(tool.made_of, Bubblewrap) or hasattr(tool.made_of, "run"):
            kinds = {"run_python": "python", "run_shell": "shell"}
            sandbox: JSONValue
            if isinstance(tool.made_of, Bubblewrap):
                sandbox = self._bubblewrap(tool.made_of)
            else:
                sandbox = self.named(tool.made_of, f"the sandbox of {what}")
            return {"sandbox": sandbox, "runs": kinds[tool.name], **_unlike(said, _UNSAFE)}
        if tool.made_of is None:
            return self.named(tool, what)
        function = self.named(tool.made_of, what)
        if not function:
            return ""
        there = as_tool(cast(Callable[..., object], _at(tool.made_of)))
        names = ("name", "description", "effect", "approve", "timeout")
        told: Written = {
            name: getattr(tool, name)
            for name in names
            if getattr(tool, name) != getattr(there, name)
        }
        return {"function": function, **told} if told else function

    def _bubblewrap(self, sandbox: Bubblewrap) -> JSONValue:
        usual = _defaults(Bubblewrap.__init__)
        written: Written = _unlike(dict(sandbox.limits), usual)
        if sandbox.workspace is not None:
            written["workspace"] = self.path(sandbox.workspace)
        if sandbox.visible:
            written["visible"] = [self.path(folder) for folder in sandbox.visible]
        return written


def changed(value: object, constructor: Callable[..., object], *names: str) -> Written:
    """The attributes of these names that are not what the constructor's arguments default to."""
    return _unlike({name: getattr(value, name) for name in names}, _defaults(constructor))


_UNSAFE: Final = {"effect": "unsafe", "approve": False}
_USUALLY_UNPRICED: Final = ("on_unpriced", "raise")
_DOLLAR: Final = re.compile(r"\$(?=\{[^{}]*\})")


def _at(function: object) -> object:
    """What stands where a function does: itself, or the tool that it was decorated into."""
    module = inspect.getmodule(function)
    found = getattr(module, getattr(function, "__name__", ""), function)
    return found if isinstance(found, Tool) else function


def _owner(tool: AgentTool) -> Workspace | Skills | None:
    """The workspace or skills that a tool is one of."""
    owner = getattr(getattr(tool, "made_of", None), "__self__", None)
    return owner if isinstance(owner, Workspace | Skills) else None


def _whole(owner: Workspace | Skills, tools: Sequence[AgentTool]) -> bool:
    """Whether all of an owner's tools are there, none of them changed."""

    def told(tool: AgentTool) -> tuple[object, ...]:
        return (tool.name, tool.description, *(getattr(tool, n, None) for n in _TERMS))

    return [told(t) for t in tools if _owner(t) is owner] == [told(t) for t in owner.tools()]


_TERMS: Final = ("effect", "approve", "timeout")


def _written(text: str) -> str:
    """A text that is filled in when it is read: with names for what was filled in."""
    return text.placeholder if isinstance(text, Secret) else _DOLLAR.sub("$$", text)


def _hidden(name: str, text: str) -> str:
    """A text that is likely a secret, by the name of a variable."""
    if isinstance(text, Secret):
        return text.placeholder
    return "${" + re.sub(r"\W", "_", name, flags=re.ASCII).upper().lstrip("0123456789") + "}"


def _defaults(function: Callable[..., object]) -> dict[str, object]:
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name: cast(object, parameter.default) for parameter in parameters}


def _unlike(written: Mapping[str, Any], usual: Mapping[str, object]) -> Written:
    return {key: value for key, value in written.items() if value != usual[key]}
