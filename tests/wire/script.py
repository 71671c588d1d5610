"""What the wire server can be told to say: answers and faults, free of any provider's format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pyagent_providers.types import FinishReason, ToolCall, Usage

ErrorKind = Literal[
    "rate_limit",
    "overloaded",
    "server",
    "authentication",
    "permission",
    "bad_request",
    "not_found",
    "context_too_long",
    "content_filter",
]


_USAGE = Usage(input_tokens=12, output_tokens=5)


@dataclass(frozen=True)
class Reply:
    """An answer. `model` None repeats the model asked for; `refusal` replaces the text.

    `delay` is seconds before the first byte. `reported_usd` is a gateway's own cost, told where
    the dialect has a place for it. `hang_up` closes the connection after a stream though it was
    announced to stay open, as llama.cpp's server does.
    """

    text: str = "Hello there, world."
    usage: Usage | None = _USAGE
    finish_reason: FinishReason = "stop"
    tool_calls: tuple[ToolCall, ...] = ()
    model: str | None = None
    response_id: str = "answer-1"
    service_tier: str | None = None
    reported_usd: str | None = None
    refusal: str | None = None
    delay: float = 0.0
    hang_up: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """An HTTP error as the provider words it. `status` overrides the kind's usual one."""

    kind: ErrorKind
    message: str | None = None
    status: int | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ErrorEvent:
    """A stream that says some text, then reports an error inside the stream."""

    kind: ErrorKind = "overloaded"
    message: str | None = None


@dataclass(frozen=True)
class Stall:
    """Silence until the client gives up: from the start, or after the text of a stream."""

    after_text: bool = False


@dataclass(frozen=True)
class Disconnect:
    """The connection closes: before any answer or, in a stream, after the text."""

    after_text: bool = False


@dataclass(frozen=True)
class EndEarly:
    """A stream that ends in good order after the text, without saying that it finished."""


@dataclass(frozen=True)
class CorruptChunk:
    """A stream whose chunk after the text is not JSON."""


@dataclass(frozen=True)
class NotJSON:
    """Status 200 with a web page, as a captive portal or a wrong base URL gives."""


@dataclass(frozen=True)
class RawBody:
    """Status and body as given."""

    body: str
    status: int = 200
    content_type: str = "application/json"


Step: TypeAlias = (
    Reply | Failure | ErrorEvent | Stall | Disconnect | EndEarly | CorruptChunk | NotJSON | RawBody
)
