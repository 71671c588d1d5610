"""The values every adapter takes and gives: messages in, a `Completion` out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Literal, TypeAlias

JSONValue: TypeAlias = (
    "str | int | float | bool | Sequence[JSONValue] | Mapping[str, JSONValue] | None"
)
JSONObject: TypeAlias = "Mapping[str, JSONValue]"

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "other"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to call a tool. `arguments` is the JSON text as the model wrote it.

    `signature` is what some models want to see again with the result, and nobody else can read.
    """

    id: str
    name: str
    arguments: str
    signature: str = ""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool a model may ask for. `parameters` is a JSON Schema of its arguments."""

    name: str
    description: str
    parameters: JSONObject


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `tool_calls` belongs to assistant turns; `tool_call_id` to tool turns, which answer one call.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True)
class OutputSchema:
    """The JSON Schema an answer must follow, enforced by the provider where it can.

    `strict` asks for the provider's strict mode; turn it off for schemas that use keywords
    outside the subset the provider's strict mode takes.
    """

    name: str
    schema: JSONObject
    strict: bool = True

    @cached_property
    def text(self) -> str:
        """The schema as JSON text."""
        return json.dumps(self.schema)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to sample. `None` leaves the provider's default; `max_tokens` bounds the answer."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question to a model, as an adapter encodes it."""

    messages: tuple[Message, ...]
    schema: OutputSchema | None = None
    tools: tuple[ToolSpec, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call. Totals first, then the parts the totals include.

    `input_tokens` includes cache reads and cache writes; `output_tokens` includes reasoning
    (the reading of the OpenTelemetry GenAI conventions). `cache_write_1h_tokens` is the part
    of `cache_write_tokens` kept for an hour, which Anthropic prices apart.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )

    def to_dict(self) -> dict[str, int]:
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cache_read_tokens": self.cache_read_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "cache_write_1h_tokens": self.cache_write_1h_tokens,
            "reasoning_tokens": self.reasoning_tokens,
        }


PriceSource = Literal[
    "provider",  # the provider or gateway said what it charged
    "user",  # the application's own price
    "genai-prices",
    "litellm",
    "estimate",  # sent, and cut off before any usage arrived: its worst case, not a figure
    "not-billed",  # the call failed in a way no provider charges for
]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call cost, in US dollars, and where that figure comes from.

    `version` names the edition of the price table, where the source has one. `cache_savings` is
    what the tokens read from a prompt cache would have cost more as ordinary input, in US dollars;
    0 where nobody knows.
    """

    usd: Decimal
    source: PriceSource
    version: str | None = None
    cache_savings: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What a call can come to at most, before it is made.

    `output_tokens` is None where nothing bounds the answer. `usd` is the price of both, in US
    dollars, and of the input alone then; None when the model has no price.
    """

    input_tokens: int
    output_tokens: int | None
    usd: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A model's answer.

    `usage` is None when the provider did not report it (it is then unpriced, never free).
    `model` is the model that answered, as the provider names it. `reported_usd` is the cost
    the provider or gateway itself reported, if any. `cost` is filled in by the port when the
    call settles; None means unpriced.
    """

    text: str
    usage: Usage | None = None
    model: str | None = None
    finish_reason: FinishReason | None = None
    response_id: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    service_tier: str | None = None
    reported_usd: Decimal | None = None
    cost: Cost | None = None

    def priced(self, cost: Cost | None) -> Completion:
        # Written out: `replace` asks for the fields each time, and this is done for every call.
        return Completion(
            text=self.text,
            usage=self.usage,
            model=self.model,
            finish_reason=self.finish_reason,
            response_id=self.response_id,
            tool_calls=self.tool_calls,
            service_tier=self.service_tier,
            reported_usd=self.reported_usd,
            cost=cost,
        )
