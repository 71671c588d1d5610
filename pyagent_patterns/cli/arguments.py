"""What is written on the command line, as values: a model, a team, a duration, a limit, money."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import typer

from pyagent_patterns.base import Pattern
from pyagent_patterns.budget import Budget
from pyagent_patterns.durable import teams
from pyagent_providers import LLM
from pyagent_providers.types import JSONValue

if TYPE_CHECKING:
    from pyagent_patterns.spec import TeamDefinition

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def duration(text: str) -> float:
    """Seconds, of `90s`, `10m`, `12h`, `30d` or `4w`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a duration such as 12h, 30d or 4w")
    return float(found[1]) * _SECONDS[found[2]]


def signal_value(text: str | None) -> JSONValue:
    """What the text says as JSON; if it is not JSON, the text. Nothing is None."""
    if text is None:
        return None
    try:
        return cast(JSONValue, json.loads(text))
    except ValueError:
        return text


def model(name: str) -> LLM:
    """The model of a name such as `openai/gpt-4o-mini`, with the provider's usual settings."""
    from pyagent_providers import AnthropicLLM, GeminiLLM, LiteLLM, OpenAILLM

    providers: dict[str, Callable[[str], LLM]] = {
        "openai": OpenAILLM,
        "anthropic": AnthropicLLM,
        "gemini": GeminiLLM,
        "google": GeminiLLM,
        "litellm": LiteLLM,
    }
    provider, _, rest = name.partition("/")
    if provider not in providers or not rest.strip():
        raise typer.BadParameter(
            f"{name!r} is not PROVIDER/MODEL, such as openai/gpt-4o-mini; providers: "
            f"{', '.join(providers)}"
        )
    return providers[provider](rest)


def team(name: str | None) -> Pattern | None:
    """The team of that name, if one is given. Raises LookupError, saying what is there."""
    return None if name is None else team_called(name)


def team_called(name: str) -> Pattern:
    """The team called `package.module:object`, or of a definition's file. Raises as `team`."""
    if is_file(name):
        return definition(name).team
    found = teams.load(name)
    if not isinstance(found, Pattern):
        raise LookupError(f"{name!r} is a {type(found).__name__}, not a team that can be run")
    return found


def is_file(name: str) -> bool:
    """Whether a team's name is that of a definition's file."""
    return name.endswith((".yaml", ".yml"))


def definition(name: str) -> TeamDefinition:
    """The definition in a YAML file.

    Raises LookupError with all that is wrong with it, typer.BadParameter without the extra.
    """
    try:
        from pyagent_patterns.spec import DefinitionError, load
    except ImportError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        return load(name)
    except ImportError as error:
        raise typer.BadParameter(str(error)) from None
    except (DefinitionError, OSError) as error:
        raise LookupError(str(error)) from error


def budget(dollars: str) -> Budget:
    """A budget of so many US dollars."""
    try:
        return Budget(max_cost_usd=dollars.removeprefix("$"))
    except ValueError:
        raise typer.BadParameter(f"{dollars!r} is not US dollars, such as 0.50") from None


def inputs(file: Path | None, given: Sequence[str] | None) -> JSONValue:
    """The inputs of a file, and those that were given one by one. Raises typer.BadParameter."""
    inputs: JSONValue = None
    if file is not None:
        try:
            inputs = cast(JSONValue, json.loads(file.read_text(encoding="utf-8-sig")))
        except (OSError, ValueError) as error:
            raise typer.BadParameter(f"--inputs {str(file)!r} cannot be read: {error}") from None
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{text!r} is not an input such as topic=salt")
        if inputs is not None and not isinstance(inputs, dict):
            raise typer.BadParameter("--inputs has no object that --input could add to")
        inputs = {**(inputs or {}), key: signal_value(value)}
    return inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderLimit:
    """How much may be asked of one provider, over all machines."""

    provider: str
    concurrency: int | None = None
    per_minute: int | None = None


def limit(text: str) -> ProviderLimit:
    """The limit written as `openai:concurrency=8,per_minute=500`."""
    provider, colon, rest = text.partition(":")
    found: dict[str, int] = {}
    for part in rest.split(","):
        name, _, number = part.partition("=")
        if name in ("concurrency", "per_minute") and number.isdecimal() and int(number) > 0:
            found[name] = int(number)
        else:
            colon = ""
    if not provider or not colon:
        raise typer.BadParameter(
            f"{text!r} is not a limit such as openai:concurrency=8,per_minute=500"
        )
    return ProviderLimit(provider=provider, **found)
