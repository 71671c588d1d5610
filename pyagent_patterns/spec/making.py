"""Models, tools, servers and policies, made as a definition says."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, cast

import pyagent_providers
from pyagent_patterns.budget import Budget
from pyagent_patterns.people import AskHuman
from pyagent_patterns.retry import RetryPolicy
from pyagent_patterns.sandbox import Bubblewrap, Sandbox, python_tool, shell_tool
from pyagent_patterns.timeouts import Timeouts
from pyagent_patterns.tools import Tool, Toolset, tool
from pyagent_patterns.workspace import Workspace
from pyagent_providers import LLM, ModelPrice, as_llm

from .faults import Path
from .parts import (
    AskHumanSpec,
    BubblewrapSpec,
    BudgetSpec,
    FunctionToolSpec,
    HTTPServerSpec,
    LLMSpec,
    MemberToolSpec,
    PriceSpec,
    RetrySpec,
    SandboxToolSpec,
    Spec,
    StdioServerSpec,
    TimeoutsSpec,
    WorkspaceSpec,
)
from .workshop import Workshop, given

ADAPTERS: Final = {
    "openai": "OpenAILLM",
    "anthropic": "AnthropicLLM",
    "gemini": "GeminiLLM",
    "litellm": "LiteLLM",
}


def model(shop: Workshop, spec: str | LLMSpec, at: Path) -> LLM | None:
    """The model of `provider:model` or of settings."""
    if isinstance(spec, str):
        if shop.is_faulty(spec):
            return None
        provider, _, name = spec.partition(":")
        if provider not in (*ADAPTERS, "custom") or not name:
            shop.trouble(
                at,
                f"{spec!r} is no name in models, and not provider:model with one of "
                f"{', '.join(ADAPTERS)} or custom",
            )
            return None
        spec = LLMSpec.model_validate({"provider": provider, "model": name})
    since = shop.troubles
    shop.is_faulty(spec.model)
    price = _price(shop, spec.price, (*at, "price"))
    settings = given(spec, but=["provider", "model", "price"])
    for name in sorted(settings.keys() - _settings_of(spec.provider)):
        shop.trouble((*at, name), f"a model of {spec.provider!r} has no {name!r}; leave it out")
    if spec.provider == "custom":
        if price is not None:
            shop.trouble((*at, "price"), "a custom model has its price where it is made")
        found = shop.imported(spec.model, (*at, "model"))
        return shop.made(at, since, lambda: as_llm(found))
    if spec.provider_name is not None:
        settings["provider"] = settings.pop("provider_name")
    if spec.base_url is not None:
        settings["base_url"] = shop.filled(spec.base_url, (*at, "base_url"))
    if spec.api_key is not None:
        settings["api_key"] = shop.key(spec.api_key, (*at, "api_key"))
    return shop.made(
        at, since, lambda: _adapter(spec.provider)(spec.model, price=price, **settings)
    )


def _adapter(provider: str) -> Callable[..., LLM]:
    return cast(Callable[..., LLM], getattr(pyagent_providers, ADAPTERS[provider]))


def _settings_of(provider: str) -> set[str]:
    """The keys that a model of this provider can have beside its name and its price."""
    if provider == "custom":
        return set()
    arguments = inspect.signature(_adapter(provider)).parameters
    return {"provider_name" if name == "provider" else name for name in arguments}


def tools(
    shop: Workshop, spec: str | Spec, at: Path
) -> Sequence[Tool | AskHuman | MemberToolSpec] | None:
    """The tools that one entry stands for. A member is left for whoever knows the members."""
    since = shop.troubles
    match spec:
        case str():
            if spec == "ask_human":
                return [AskHuman()]
            return _of_function(shop, FunctionToolSpec(function=spec), at, at)
        case FunctionToolSpec():
            return _of_function(shop, spec, at, (*at, "function"))
        case WorkspaceSpec():
            root = shop.path(spec.workspace)
            options = given(spec, but=["workspace"])
            shop.is_faulty(spec.workspace)
            return shop.made(at, since, lambda: [*Workspace(root, **options).tools()])
        case SandboxToolSpec():
            sandbox = _sandbox(shop, spec.sandbox, (*at, "sandbox"))
            make = python_tool if spec.runs == "python" else shell_tool
            said = given(spec, but=["sandbox", "runs"])
            return shop.made(at, since, lambda: [make(cast(Sandbox, sandbox), **said)])
        case AskHumanSpec():
            named = given(spec, but=["ask_human"])
            return shop.made(at, since, lambda: [AskHuman(description=spec.ask_human, **named)])
        case MemberToolSpec():
            return [spec]
        case _:
            raise AssertionError(spec)


def server(shop: Workshop, spec: str | Spec, at: Path) -> Toolset | None:
    """The toolset of one entry."""
    from pyagent_patterns.mcp import MCPServer  # checks that the mcp SDK is there when it is made

    since = shop.troubles
    if isinstance(spec, str):
        found = shop.imported(spec, at)
        if found is not None and not isinstance(found, Toolset):
            shop.trouble(at, f"{spec!r} is a {type(found).__name__}, not an MCP server")
            return None
        return found
    options = given(spec)
    if "timeout" in spec.model_fields_set:  # also none at all
        options["timeout"] = getattr(spec, "timeout", None)
    if isinstance(spec, StdioServerSpec):
        options |= {
            "command": shop.filled(spec.command, (*at, "command")),
            "args": [shop.filled(arg, (*at, "args", n)) for n, arg in enumerate(spec.args or ())],
            "env": shop.filled_all(spec.env, (*at, "env")),
            "cwd": None if spec.cwd is None else shop.path(spec.cwd),
        }
        return shop.made(at, since, lambda: MCPServer.stdio(**options))
    assert isinstance(spec, HTTPServerSpec)  # noqa: S101 - there is no other
    options |= {
        "url": shop.filled(spec.url, (*at, "url")),
        "headers": shop.filled_all(spec.headers, (*at, "headers")),
    }
    return shop.made(at, since, lambda: MCPServer.http(**options))


def retry(shop: Workshop, spec: RetrySpec | None, at: Path) -> RetryPolicy | None:
    """When a question is asked again."""
    if spec is None:
        return None
    since = shop.troubles
    options = given(spec)
    if spec.retry_on is not None:
        on = (*at, "retry_on")
        named = [shop.function(name, (*on, n)) for n, name in enumerate(spec.retry_on)]
        types = [one for one in named if isinstance(one, type) and issubclass(one, Exception)]
        if len(types) < len(named) and len(named) != 1 and shop.troubles == since:
            shop.trouble(on, "name exception types, or one function")
        options["retry_on"] = tuple(types) if len(types) == len(named) else named[0]
    return shop.made(at, since, lambda: RetryPolicy(**options))


def timeouts(shop: Workshop, spec: TimeoutsSpec | None, at: Path) -> Timeouts | None:
    """How long things may take."""
    if spec is None:
        return None
    return shop.made(at, shop.troubles, lambda: Timeouts(**given(spec)))


def budget(shop: Workshop, spec: BudgetSpec | None, at: Path) -> Budget | None:
    """What a run may spend."""
    if spec is None:
        return None
    since = shop.troubles
    options = given(spec)
    if shop.is_faulty(spec.max_cost_usd):
        return None
    if isinstance(spec.on_unpriced, PriceSpec):
        options["on_unpriced"] = _price(shop, spec.on_unpriced, (*at, "on_unpriced"))
    return shop.made(at, since, lambda: Budget(**options))


def _of_function(
    shop: Workshop, spec: FunctionToolSpec, at: Path, named_at: Path
) -> list[Tool | AskHuman | MemberToolSpec] | None:
    since = shop.troubles
    found = shop.imported(spec.function, named_at)
    said = given(spec, but=["function"])
    if isinstance(found, AskHuman) and not said:
        return [found]

    def make() -> list[Tool | AskHuman | MemberToolSpec]:
        if isinstance(found, Tool):
            return [replace(found, **said) if said else found]
        return [tool(**said)(cast(Callable[..., object], found))]

    return shop.made(at, since, make)


def _sandbox(shop: Workshop, spec: str | BubblewrapSpec, at: Path) -> object:
    if isinstance(spec, str):
        return shop.imported(spec, at)
    options = given(spec)
    options |= {
        "workspace": None if spec.workspace is None else shop.path(spec.workspace),
        "visible": [shop.path(name) for name in spec.visible or ()],
    }
    return shop.made(at, shop.troubles, lambda: Bubblewrap(**options))


def _price(shop: Workshop, spec: PriceSpec | None, at: Path) -> ModelPrice | None:
    if spec is None:
        return None
    options = given(spec)
    since = shop.troubles
    for value in options.values():
        shop.is_faulty(value)
    return shop.made(at, since, lambda: ModelPrice(**options))
