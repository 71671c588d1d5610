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


# What breaks off an answer does so after the text of a stream, or half-way through a whole one.


@dataclass(frozen=True)
class Stall:
    """Silence until the client gives up: from the start, or in the middle of the answer."""

    after_text: bool = False


@dataclass(frozen=True)
class Disconnect:
    """The connection ends: before any answer, or in the middle of it.

    It is closed as if the server were done or, with `reset`, torn down, as by a crash.
    """

    after_text: bool = False
    reset: bool = False


@dataclass(frozen=True)
class EndEarly:
    """An answer that ends in the middle, in good order, without saying that it finished."""


@dataclass(frozen=True)
class CorruptChunk:
    """A stream whose chunk after the text is not JSON, or a whole answer that is not."""


@dataclass(frozen=True)
class BrokenFraming:
    """An answer in HTTP chunks, the second of which has a size that is no number."""


@dataclass(frozen=True)
class RawBytes:
    """These bytes and nothing else, then the end of the connection."""

    said: bytes


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
    Reply
    | Failure
    | ErrorEvent
    | Stall
    | Disconnect
    | EndEarly
    | CorruptChunk
    | BrokenFraming
    | NotJSON
    | RawBytes
    | RawBody
)
