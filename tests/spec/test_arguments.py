"""What Python can be told, a definition can say: no argument of a constructor is forgotten."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyagent_patterns import (
    Agent,
    Budget,
    Hierarchical,
    Loop,
    OrchestratorWorkers,
    Parallel,
    Pipeline,
    RetryPolicy,
    Review,
    Route,
    Router,
    Team,
    Timeouts,
    base,
    tool,
)
from pyagent_patterns.agent import MemberTool
from pyagent_patterns.mcp import MCPServer
from pyagent_patterns.people import AskHuman
from pyagent_patterns.sandbox import Bubblewrap, python_tool, shell_tool
from pyagent_patterns.spec import dump, load, parts, teams
from pyagent_patterns.spec.parts import Spec
from pyagent_patterns.workspace import Workspace
from pyagent_providers import AnthropicLLM, GeminiLLM, LiteLLM, ModelPrice, OpenAILLM

from .conftest import Write

EVERYTHING = Path(__file__).with_name("everything.yaml")

# What makes a thing, what says it in a file, and the arguments that go by another key there, or by
# none, which needs a reason.
Told = tuple[Callable[..., object], type[Spec], Mapping[str, str | None]]
MODEL = {"client": None, "provider": "provider_name"}  # an object of the application's own
TOLD: list[Told] = [
    (Agent, parts.AgentSpec, {}),
    (OrchestratorWorkers, teams.OrchestratorWorkersSpec, {}),
    (Team, teams.TeamOfLeadSpec, {}),
    (Pipeline, teams.PipelineSpec, {}),
    (Router, teams.RouterSpec, {}),
    (Hierarchical, teams.HierarchicalSpec, {}),
    (Parallel, teams.ParallelSpec, {}),
    (Loop, teams.LoopSpec, {}),
    (Review, teams.ReviewSpec, {}),
    (Route, teams.RouteSpec, {"name": "route"}),
    (RetryPolicy, parts.RetrySpec, {}),
    (Timeouts, parts.TimeoutsSpec, {}),
    (Budget, parts.BudgetSpec, {}),
    (ModelPrice, parts.PriceSpec, {}),
    (tool, parts.FunctionToolSpec, {}),
    (Workspace, parts.WorkspaceSpec, {"root": "workspace"}),
    (Bubblewrap, parts.BubblewrapSpec, {}),
    (
        python_tool,
        parts.SandboxToolSpec,
        {"python": None},
    ),  # with one of its own, the tool is named
    (shell_tool, parts.SandboxToolSpec, {}),
    (MemberTool, parts.MemberToolSpec, {}),
    (AskHuman, parts.AskHumanSpec, {"description": "ask_human"}),
    (MCPServer.stdio, parts.StdioServerSpec, {}),
    (MCPServer.http, parts.HTTPServerSpec, {}),
    (OpenAILLM, parts.LLMSpec, MODEL),
    (AnthropicLLM, parts.LLMSpec, MODEL),
    (GeminiLLM, parts.LLMSpec, MODEL),
    (LiteLLM, parts.LLMSpec, MODEL),
]
# Keys that are nobody's argument: they say which kind a thing is, or stand for several arguments.
KINDS = {"pattern", "runs", "provider", "skills"}


def arguments(makes: Callable[..., object]) -> Iterator[str]:
    """The names of what it takes, those of `**options: Unpack[Options]` too."""
    for parameter in inspect.signature(makes).parameters.values():
        if parameter.kind is not parameter.VAR_KEYWORD:
            yield parameter.name
        else:
            options = parameter.annotation.removeprefix("Unpack[").removesuffix("]")
            several = getattr(base, options)
            yield from several.__required_keys__ | several.__optional_keys__


def keys(makes: Callable[..., object], renamed: Mapping[str, str | None]) -> set[str]:
    said = {renamed.get(argument, argument) for argument in arguments(makes)}
    return {key for key in said if key is not None}


@pytest.mark.parametrize(("makes", "spec", "renamed"), TOLD, ids=lambda it: _name(it))
def test_every_argument_is_a_key_of_definitions(
    makes: Callable[..., object], spec: type[Spec], renamed: Mapping[str, str | None]
) -> None:
    for key in keys(makes, renamed) - set(spec.model_fields):
        pytest.fail(
            f"{_name(makes)} takes {key!r}, which no definition can say: add it to {_name(spec)} "
            f"in {_file(spec)}, or to OptionsSpec if every pattern takes it; or to this table with "
            "the reason why a file cannot hold it"
        )


def test_every_key_is_an_argument_of_what_it_makes() -> None:
    for spec in {spec for _, spec, _ in TOLD}:
        taken = {key for makes, its, renamed in TOLD if its is spec for key in keys(makes, renamed)}
        for key in set(spec.model_fields) - taken - KINDS:
            pytest.fail(
                f"{_name(spec)} in {_file(spec)} has {key!r}, which is no argument of what it makes"
            )


@pytest.fixture
def everything(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The definition of everything, with the folders and programs that it names."""
    write("---\nname: sums\ndescription: how to add\n---\nAdd.\n", "skills/sums/SKILL.md")
    for name in ("bwrap", "choom", "prlimit", "setsid"):
        write("#!/bin/sh\n", f"bin/{name}").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    for folder in ("data", "more"):
        (tmp_path / folder).mkdir()
    if os.geteuid() == 0:  # a sandbox takes no folder of root's
        os.chown(tmp_path / "data", 65534, 65534)
    return write(EVERYTHING.read_text())


def test_what_a_definition_says_is_what_is_written_of_its_team(everything: Path) -> None:
    text = dump(load(everything).team, objective="About {{ topic }}.", folder=everything.parent)
    said, written = (dict(_values(yaml.safe_load(each))) for each in (everything.read_text(), text))
    for place in {**said, **written}:
        if said.get(place) != written.get(place):
            pytest.fail(
                f"{place} is {said.get(place)!r} in {EVERYTHING.name}, and {written.get(place)!r} "
                "when that was read and written again: see building.py and making.py for the one, "
                "dumping.py and describing.py for the other"
            )


# What `dump` says otherwise.
NOT_WRITTEN = {
    ("DefinitionSpec", "tools"),  # they stand with the agents that have them
    ("OrchestratorWorkersSpec", "worker"),  # is one of the workers
    ("FileSpec", "file"),  # its text is written
}


def test_everything_has_every_key() -> None:
    everything = yaml.safe_load(EVERYTHING.read_text())
    said = {
        (_name(_owner(type(part), key)), key)
        for part in _specs(teams.DefinitionSpec.model_validate(everything))
        for key in part.model_fields_set
    }
    for spec in _subclasses(Spec):
        for key in vars(spec).get("__annotations__", ()):
            if key in spec.model_fields and not {(_name(spec), key)} & (said | NOT_WRITTEN):
                pytest.fail(
                    f"{_name(spec)} has {key!r}, and nothing tests that it is read and written: "
                    f"give it a value that is not its usual one in {EVERYTHING.name}"
                )


def _values(value: object, place: str = "") -> Iterator[tuple[str, object]]:
    """Everything in a document that is no mapping and no list, by its place; and what is empty."""
    inner: Any = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore
    for key, one in inner:
        at = f"{place}.{key}" if place else str(key)
        if isinstance(one, dict | list) and one:
            yield from _values(one, at)
        else:
            yield at, one


def _specs(value: object) -> Iterator[Spec]:
    if isinstance(value, Spec):
        yield value
        value = {key: getattr(value, key) for key in type(value).model_fields}
    inner: Any = value.values() if isinstance(value, dict) else value
    for one in inner if isinstance(value, dict | list) else ():
        yield from _specs(one)


def _subclasses(spec: type[Spec]) -> Iterator[type[Spec]]:
    for one in spec.__subclasses__():
        yield one
        yield from _subclasses(one)


def _owner(spec: type[Spec], key: str) -> type[Spec]:
    return next(one for one in spec.__mro__ if key in vars(one).get("__annotations__", ()))


def _name(value: object) -> str:
    return getattr(value, "__qualname__", "")


def _file(spec: type[Spec]) -> str:
    return spec.__module__.replace(".", "/") + ".py"
