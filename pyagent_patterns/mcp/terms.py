"""What of a server's tools is offered to a model: which, under what names, with what effects."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, get_args

from pyagent_patterns.tools import Effect, Tool, check_tool_name
from pyagent_providers.hostile import shown
from pyagent_providers.types import JSONObject

from .errors import MCPServerError

if TYPE_CHECKING:
    from mcp import types


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The caller's say over a server's tools; `allow`, `effects` and `approve` go by its names."""

    allow: Collection[str] | None
    prefix: str
    effects: Mapping[str, Effect]
    approve: Collection[str]
    trust_annotations: bool
    timeout: float | None

    def __post_init__(self) -> None:
        for option, names in (("allow", self.allow), ("approve", self.approve)):
            if isinstance(names, str):
                raise TypeError(f"{option} takes several names; write {option}=[{names!r}]")
        for name, effect in self.effects.items():
            if effect not in get_args(Effect):
                raise ValueError(
                    f"the effect of {name!r} must be 'read', 'idempotent' or 'unsafe'; "
                    f"got {effect!r}"
                )
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout must be more than 0 seconds, or None; got {self.timeout!r}")
        if not re.fullmatch(r"([a-zA-Z_][a-zA-Z0-9_-]*)?", self.prefix):
            raise ValueError(
                "prefix must be letters, digits, '_' and '-', and not begin with a digit or '-'; "
                f"got {self.prefix!r}"
            )
        if self.allow is not None:
            for option, names in (("effects", self.effects), ("approve", self.approve)):
                if spare := [name for name in names if name not in self.allow]:
                    raise ValueError(f"{option} names {_listed(spare)}, which allow leaves out")

    def tools(
        self,
        server: str,
        listed: Sequence[types.Tool],
        call: Callable[[str, JSONObject], Awaitable[str]],
    ) -> tuple[Tool, ...]:
        """The tools of those that the server listed; `call` is given the server's name for one.

        Raises `MCPServerError` when the caller named a tool that the server does not have, or a
        name cannot be given to a model.
        """
        names = [tool.name for tool in listed]
        for option, wanted in (
            ("allow", self.allow or ()),
            ("effects", self.effects),
            ("approve", self.approve),
        ):
            if missing := [name for name in wanted if name not in names]:
                raise MCPServerError(
                    server, f"has no tool {_listed(missing)}, named in {option}; it has {names!r}"
                )
        offered: dict[str, str] = {}
        tools: list[Tool] = []
        for tool in listed:
            if self.allow is not None and tool.name not in self.allow:
                continue
            name = self._name(server, tool.name)
            if name in offered:
                raise MCPServerError(
                    server,
                    f"has the tools {offered[name]!r} and {tool.name!r}, and a model would know "
                    f"both as {name!r}; leave one out with allow=",
                )
            offered[name] = tool.name
            tools.append(
                Tool(
                    name=name,
                    description=tool.description or tool.title or "",
                    parameters={"type": "object", "properties": {}, **tool.input_schema},
                    run=partial(call, tool.name),
                    effect=self._effect(tool),
                    approve=tool.name in self.approve,
                    timeout=self.timeout,
                )
            )
        return tuple(tools)

    def _name(self, server: str, name: str) -> str:
        """The name for the model: servers may use dots and slashes, model providers do not."""
        ours = re.sub(r"[^a-zA-Z0-9_-]", "_", self.prefix + name)
        if not re.match("[a-zA-Z_]", ours):
            ours = f"_{ours}"
        try:
            return check_tool_name(ours)
        except ValueError as error:
            raise MCPServerError(
                server,
                f"has a tool that no model could be given, of the name {ours!r}: use a shorter "
                "prefix, or allow= without it",
            ) from error

    def _effect(self, tool: types.Tool) -> Effect:
        if told := self.effects.get(tool.name):
            return told
        hints = tool.annotations if self.trust_annotations else None
        if hints is not None and hints.read_only_hint:
            return "read"
        return "idempotent" if hints is not None and hints.idempotent_hint else "unsafe"


def _listed(names: Collection[str]) -> str:
    return shown(" or ".join(repr(name) for name in names))
