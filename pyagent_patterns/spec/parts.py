"""What agents are made of, as it is written in a definition: models, tools, servers, policies.

Keys are the arguments of the Python constructors, and mean the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from pyagent_patterns.budget import Unpriced
from pyagent_patterns.people import Gate
from pyagent_patterns.policy import OnError
from pyagent_patterns.tools import Effect

FAULTY = "\x00faulty"
"""Stands where something is wrong that was told already. No YAML has its first character."""

Dollars: TypeAlias = int | float | str
Provider = Literal["openai", "anthropic", "gemini", "litellm", "custom"]


def shape_of(value: object) -> str | None:
    """What a value looks like, which tells the alternatives for it apart."""
    match value:
        case str():
            return "<text>"
        case list():
            return "<list>"
        case dict():
            return "<mapping>"
        case _:
            return None


def keys_of(value: object) -> set[str]:
    """The keys of a mapping; none of what is no mapping."""
    return set(cast("dict[str, object]", value)) if isinstance(value, dict) else set()


def told_apart(by: Callable[[object], str | None], otherwise: str) -> Discriminator:
    """Chooses among alternatives by their tags; says `otherwise` of what is none of them."""
    return Discriminator(by, custom_error_type="no_kind", custom_error_message=otherwise)


Schema: TypeAlias = Annotated[
    Annotated[dict[str, Any], Tag("<mapping>")] | Annotated[str, Tag("<text>")],
    told_apart(shape_of, "it should be a JSON Schema, or a type as module:Name"),
]


class Spec(BaseModel):
    """A mapping in a definition. Keys that it does not know are kept, to be told with all else."""

    model_config = ConfigDict(
        extra="allow",
        strict=True,
        frozen=True,
        use_attribute_docstrings=True,
        json_schema_extra={"additionalProperties": False},
    )


class FileSpec(Spec):
    """A text in a file of its own."""

    file: str
    """Its path, from the definition's folder."""


Text: TypeAlias = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[FileSpec, Tag("<mapping>")],
    told_apart(shape_of, "it should be a text, or file: PATH"),
]


class PriceSpec(Spec):
    """US dollars per million tokens."""

    input: Dollars
    output: Dollars
    cache_read: Dollars | None = None
    cache_write: Dollars | None = None
    cache_write_1h: Dollars | None = None


class LLMSpec(Spec):
    """A model, with its settings."""

    provider: Provider
    """Who has it: `custom` is a function or an LLM of your own."""
    model: str
    """The provider's name for it; of `custom`, `module:object`."""
    base_url: str | None = None
    """Where it is, if not at the provider's usual place. May have ${NAME} in it."""
    api_key: str | None = Field(None, json_schema_extra={"pattern": r"^\$\{[A-Za-z_]\w*\}$"})
    """The variable of the environment that has the key, as ${NAME}; never the key itself."""
    timeout: float | None = None
    """Seconds of one wait on the network."""
    price: PriceSpec | None = None
    """Your own price, before every table."""
    max_tokens: int | None = None
    """Of `anthropic`: bounds answers to questions that set no bound of their own."""
    api: Literal["chat", "responses"] | None = None
    """Of `openai`: which of its APIs is asked."""
    structured_output: Literal["json_schema", "json_object", "prompt"] | None = None
    """Of `openai`: how a schema is asked for."""
    provider_name: str | None = None
    """Of `openai`: the provider's name in telemetry and prices."""


_A_MODEL = "a model is a name in models, provider:model, or has a provider and a model"
LLMRef: TypeAlias = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[LLMSpec, Tag("<mapping>")],
    told_apart(shape_of, _A_MODEL),
]
LLMRefs: TypeAlias = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[LLMSpec, Tag("<mapping>")]
    | Annotated[list[LLMRef], Tag("<list>")],
    told_apart(shape_of, f"{_A_MODEL}; several are a list"),
]


class RetrySpec(Spec):
    """When a question is asked again, and how long to wait before."""

    max_attempts: int | None = None
    backoff: float | None = None
    """Seconds before the second attempt; doubles from there."""
    max_backoff: float | None = None
    """Seconds; a provider that wants a longer wait is given up."""
    jitter: bool | None = None
    retry_on: list[str] | None = None
    """Which errors: exception types, or one function, as `module:name`."""


class TimeoutsSpec(Spec):
    """Limits in seconds."""

    call: float | None = None
    """One attempt at one model."""
    idle: float | None = None
    """The wait for the next piece of a streamed answer."""
    assignment: float | None = None
    """One question with all its attempts, pauses and models."""
    run: float | None = None
    """The whole run."""


class BudgetSpec(Spec):
    """What a run may spend."""

    max_cost_usd: Dollars | None = None
    """US dollars."""
    max_tokens: int | None = None
    """Of prompts and answers together."""
    max_calls: int | None = None
    """Attempts."""
    max_seconds: float | None = None
    on_unpriced: (
        Annotated[
            Annotated[Unpriced, Tag("<text>")] | Annotated[PriceSpec, Tag("<mapping>")],
            told_apart(shape_of, "it should be 'raise', 'warn' or a price"),
        ]
        | None
    ) = None
    """About a model without a price: refuse the run, let it pass, or assume this price."""


class FunctionToolSpec(Spec):
    """A typed function, or a tool, with what is to be said of it here."""

    function: str
    """Where it is: `module:name` or `path/to/file.py:name`."""
    name: str | None = None
    description: str | None = None
    effect: Effect | None = None
    """What running it twice does: nothing ("read"), nothing more ("idempotent"), or it may."""
    approve: bool | None = None
    """Whether a person is asked before each call."""
    timeout: float | None = None
    """Seconds of each call."""


class WorkspaceSpec(Spec):
    """Tools to list, read and write files in one folder."""

    workspace: str
    """The folder, from the definition's."""
    writable: bool | None = None
    max_read: int | None = None
    """How many bytes of a file are given at once."""


class BubblewrapSpec(Spec):
    """A bubblewrap sandbox: no network, a read-only system, and limits."""

    workspace: str | None = None
    """A folder it may write to, from the definition's."""
    visible: list[str] | None = None
    """More folders that it may read."""
    max_seconds: float | None = None
    max_memory: int | None = None
    max_processes: int | None = None
    max_output: int | None = None


SandboxSettings: TypeAlias = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[BubblewrapSpec, Tag("<mapping>")],
    told_apart(shape_of, "a sandbox is module:object, or bubblewrap's settings"),
]


class SandboxToolSpec(Spec):
    """A tool that runs programs a model wrote."""

    sandbox: SandboxSettings
    """The sandbox: bubblewrap's settings, or one of your own as `module:object`."""
    runs: Literal["python", "shell"] = "python"
    """What the programs are written in."""
    effect: Effect | None = None
    approve: bool | None = None


class MemberToolSpec(Spec):
    """An agent or a pattern as a tool."""

    member: str
    """Its name in `agents` or `patterns`."""
    name: str | None = None
    description: str | None = None


class AskHumanSpec(Spec):
    """A tool to ask a person a question."""

    ask_human: str
    """What the model is told of it."""
    name: str | None = None


def _by_key(value: object) -> str | None:
    """Which kind of tool a mapping is: it has the key that only that has."""
    if isinstance(value, str):
        return "<name>"
    return next((f"<{key}>" for key in _TOOL_KEYS if key in keys_of(value)), None)


_TOOL_KEYS = ("function", "workspace", "sandbox", "member", "ask_human")
ToolSettings: TypeAlias = Annotated[
    Annotated[str, Tag("<name>")]
    | Annotated[FunctionToolSpec, Tag("<function>")]
    | Annotated[WorkspaceSpec, Tag("<workspace>")]
    | Annotated[SandboxToolSpec, Tag("<sandbox>")]
    | Annotated[MemberToolSpec, Tag("<member>")]
    | Annotated[AskHumanSpec, Tag("<ask_human>")],
    told_apart(
        _by_key,
        "a tool is a name, module:function, or has one of the keys " + ", ".join(_TOOL_KEYS),
    ),
]


class _ServerSpec(Spec):
    """What is said of an MCP server's tools."""

    name: str | None = None
    """For errors and for the record."""
    allow: list[str] | None = None
    """The tools to offer; else all."""
    prefix: str | None = None
    """Goes before each tool's name."""
    effects: dict[str, Effect] | None = None
    """What running each tool twice does."""
    approve: list[str] | None = None
    """The tools for which a person is asked before each call."""
    trust_annotations: bool | None = None
    """Whether the server's own word on its tools' effects is taken."""
    timeout: float | None = None
    """Seconds of each call; null is no limit."""
    start_timeout: float | None = None
    """Seconds of the server's start."""
    max_result_chars: int | None = None
    """Where a result is cut."""


class StdioServerSpec(_ServerSpec):
    """An MCP server that is a command."""

    command: str
    args: list[str] | None = None
    """May have ${NAME} in them."""
    env: dict[str, str] | None = None
    """Beside what a program needs to run. May have ${NAME} in it."""
    cwd: str | None = None
    """The folder it runs in, from the definition's."""


class HTTPServerSpec(_ServerSpec):
    """An MCP server at a URL."""

    url: str
    """May have ${NAME} in it."""
    headers: dict[str, str] | None = None
    """Sent with every request. May have ${NAME} in them."""


def _by_place(value: object) -> str | None:
    if isinstance(value, str):
        return "<name>"
    keys = keys_of(value)
    return "<command>" if "command" in keys else "<url>" if "url" in keys else None


ServerSettings: TypeAlias = Annotated[
    Annotated[str, Tag("<name>")]
    | Annotated[StdioServerSpec, Tag("<command>")]
    | Annotated[HTTPServerSpec, Tag("<url>")],
    told_apart(_by_place, "an MCP server has a command or a url"),
]


class AgentSpec(Spec):
    """One specialist: a role on a model."""

    name: str | None = None
    """Its name, if not the key it stands under."""
    llm: LLMRefs
    """The model; of several, the next is asked when one has failed."""
    system_prompt: Text | None = None
    """What it is told about its role."""
    description: str | None = None
    """What a planner is told of it; else the start of the system prompt."""
    max_tokens: int | None = None
    """Bounds each answer, and lets a budget know what it may cost."""
    temperature: int | float | None = None  # 1 and 1.0 are not one fingerprint
    top_p: int | float | None = None
    stop: list[str] | None = None
    seed: int | None = None
    output_schema: dict[str, Any] | None = None
    """A JSON Schema for its answers."""
    stream: bool | None = None
    """Whether its answers come in pieces."""
    retry: RetrySpec | None = None
    timeouts: TimeoutsSpec | None = None
    on_error: OnError | None = None
    """What becomes of a question that failed with every attempt."""
    fallback: str | None = None
    """Who is asked when this agent gets no answer: a name in `agents` or `patterns`."""
    tools: list[ToolSettings] | None = None
    """What it can use: names in `tools`, `module:function`, `ask_human`, or settings."""
    mcp: list[ServerSettings] | None = None
    """MCP servers: names in `mcp`, a toolset as `module:object`, or settings."""
    skills: str | None = None
    """A folder of skills, from the definition's; it is told of them, and reads them."""
    max_steps: int | None = None
    """How often it is asked, with what its tools gave."""
    use_history: bool | None = None
    """Whether it is shown the conversation so far of a run with a session."""
    max_context_tokens: int | None = None
    """How much it is shown at most; the oldest is summarised."""
    keep_recent: int | None = None
    """How many of the last messages are never summarised."""


class OptionsSpec(Spec):
    """What every pattern can be told, beside its name."""

    description: str | None = None
    """What a planner is told of it."""
    retry: RetrySpec | None = None
    timeouts: TimeoutsSpec | None = None
    on_error: OnError | None = None
    budget: BudgetSpec | None = None
    """What a run may spend."""
    traffic: str | None = None
    """Rate limits and circuit breakers of its own: a `Traffic`, as `module:object`."""
    approve: list[Gate] | None = None
    """The gates at which a person is asked."""
    output_type: Schema | None = None
    """What the answer must be: a JSON Schema, or a type as `module:Name`."""
    inputs: Schema | None = None
    """What the run must be given: a JSON Schema, or a type as `module:Name`."""
