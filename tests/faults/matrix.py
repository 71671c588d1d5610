"""The fault matrix: what goes wrong on the wire, and how a call then ends, for every adapter.

`FAULTS` is the table. The tests (`test_matrix.py`) run it cell by cell, and `docs/faults.md` is
written from it (`page.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from pyagent_providers.errors import (
    AuthenticationError,
    ConnectionFailedError,
    ContextTooLongError,
    IncompleteStreamError,
    MalformedResponseError,
    OverloadedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    UnreachableError,
)
from pyagent_providers.types import ToolCall, Usage
from tests.wire import (
    BrokenFraming,
    CorruptChunk,
    Disconnect,
    EndEarly,
    Failure,
    NotJSON,
    RawBody,
    Reply,
    Stall,
    Step,
)

Mode = Literal["complete", "stream"]
MODES: tuple[Mode, ...] = ("complete", "stream")

T = TypeVar("T")


@dataclass(frozen=True)
class Each(Generic[T]):
    """What is not the same for both modes."""

    complete: T
    stream: T


Paid = Literal[
    "free",  # the provider refused, or was not even reached: it costs 0
    "estimated",  # it may be billed, and nobody said for how much: its worst case counts
    "priced",  # by the usage that the provider told
    "in part",  # by the usage that a stream had told before it broke off, or by what came, if more
    "as told",  # in part, if a stream tells its usage before its end; else estimated
]


@dataclass(frozen=True)
class Ends:
    """How one attempt ends: in an error, which may be safe to retry, or (None) in an answer."""

    error: type[ProviderError] | None
    paid: Paid

    @property
    def retried(self) -> bool:
        return self.error is not None and self.error.retryable


ANSWERED = Ends(None, "priced")

Column = Literal["openai-chat", "openai-responses", "anthropic", "gemini", "litellm-openai"]
COLUMNS: Mapping[Column, str] = {
    "openai-chat": "OpenAI chat",
    "openai-responses": "OpenAI responses",
    "anthropic": "Anthropic",
    "gemini": "Gemini",
    "litellm-openai": "LiteLLM",
}

TOLD_EARLY: Mapping[Column, Usage] = {
    "anthropic": Usage(input_tokens=12, output_tokens=1),
    "gemini": Usage(input_tokens=12, output_tokens=5),
}
"""What a stream of the test server tells of the usage before its end; the others tell it last."""

AskLLMock: TypeAlias = "Callable[[Any], object]"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A row: what the server does (`step`; None: nothing listens there), and how that `ends`.

    `differs` has the adapters with which it ends otherwise. `waits` is the wait in seconds that
    the server asks for. A `silent` fault is only ended by the adapter's timeout. `llmock` asks
    llmock for the same, where it has it. `server` and `remark` are for the reader of the page.
    """

    name: str
    server: str
    step: Step | Each[Step] | None
    ends: Ends | Each[Ends]
    differs: Mapping[Column, Ends] = field(default_factory=dict)
    waits: float = 0.0
    silent: bool = False
    llmock: AskLLMock | Each[AskLLMock | None] | None = None
    remark: str = ""

    def __str__(self) -> str:
        return self.name.replace(" ", "-")

    def ends_for(self, column: Column, mode: Mode) -> Ends:
        """The cell."""
        ends = self.differs.get(column) or of(self.ends, mode)
        if ends.paid != "as told":
            return ends
        return Ends(
            ends.error, "in part" if mode == "stream" and column in TOLD_EARLY else "estimated"
        )


def of(value: T | Each[T], mode: Mode) -> T:
    """The value for this mode."""
    if isinstance(value, Each):
        return value.complete if mode == "complete" else value.stream
    return value


LONGEST_ANSWER = 256 * 1024
"""The limit of an answer in bytes, as the tests set it; `HUGE` is four times that."""
HUGE = Reply(text=("x" * 32_767 + " ") * 32)

CALL = ToolCall("call_1", "weather", '{"city": Oslo}')
SSE = "text/event-stream"

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="429 with Retry-After",
        server="answers HTTP 429 with `Retry-After`",
        step=Failure("rate_limit", headers={"retry-after": "0.02"}),
        ends=Ends(RateLimitError, "free"),
        waits=0.02,
        llmock=lambda mock: mock.rate_limit(retry_after=0.02),
    ),
    Fault(
        name="429",
        server="answers HTTP 429 without it",
        step=Failure("rate_limit"),
        ends=Ends(RateLimitError, "free"),
    ),
    Fault(
        name="500",
        server="answers HTTP 500",
        step=Failure("server"),
        ends=Ends(ServerError, "free"),
        llmock=lambda mock: mock.fail(500, retry_after=0),
    ),
    Fault(
        name="503",
        server="answers HTTP 503",
        step=Failure("overloaded", status=503),
        ends=Ends(OverloadedError, "free"),
        llmock=lambda mock: mock.fail(503, retry_after=0),
    ),
    Fault(
        name="529",
        server="answers HTTP 529",
        step=Failure("overloaded", status=529),
        ends=Ends(OverloadedError, "free"),
        llmock=lambda mock: mock.fail(529, retry_after=0),
    ),
    Fault(
        name="connect refused",
        server="is not there: the connection is refused",
        step=None,
        ends=Ends(UnreachableError, "free"),
    ),
    Fault(
        name="connect then silence",
        server="takes the request and never says a word",
        step=Stall(),
        ends=Ends(RequestTimeoutError, "estimated"),
        silent=True,
    ),
    Fault(
        name="drop before headers",
        server="takes the request and resets the connection",
        step=Disconnect(reset=True),
        ends=Ends(ConnectionFailedError, "estimated"),
    ),
    Fault(
        name="drop mid-stream",
        server="resets the connection in the middle of the answer",
        step=Disconnect(after_text=True, reset=True),
        ends=Ends(ConnectionFailedError, "as told"),
    ),
    Fault(
        name="close mid-stream",
        server="closes the connection in the middle of the answer",
        step=Disconnect(after_text=True),
        ends=Ends(ConnectionFailedError, "as told"),
        llmock=Each(None, lambda mock: mock.disconnect(after_chunks=2)),
    ),
    Fault(
        name="clean truncation",
        server="ends the answer in the middle, in good order",
        step=EndEarly(),
        ends=Each(
            Ends(MalformedResponseError, "estimated"), Ends(IncompleteStreamError, "as told")
        ),
        llmock=Each(None, lambda mock: mock.truncate(after_chunks=2)),
    ),
    Fault(
        name="corrupt chunk",
        server="breaks HTTP's own framing in the middle of the answer",
        step=BrokenFraming(),
        ends=Ends(RequestTimeoutError, "as told"),
        silent=True,
        remark="aiohttp's parser gives up without telling who waits, so that only time ends it.",
    ),
    Fault(
        name="stall",
        server="falls silent in the middle of the answer",
        step=Stall(after_text=True),
        ends=Ends(RequestTimeoutError, "as told"),
        silent=True,
        llmock=Each(None, lambda mock: mock.stall(after_chunks=2, seconds=5)),
    ),
    Fault(
        name="wrong content type",
        server="answers with a web page",
        step=NotJSON(),
        ends=Ends(MalformedResponseError, "estimated"),
    ),
    Fault(
        name="empty body",
        server="answers with nothing at all",
        step=Each(RawBody(""), RawBody("", content_type=SSE)),
        ends=Ends(MalformedResponseError, "estimated"),
    ),
    Fault(
        name="huge body",
        server="answers without end: more than 64 MiB",
        step=HUGE,
        ends=Ends(MalformedResponseError, "as told"),
        differs={"litellm-openai": ANSWERED},
        remark="LiteLLM reads answers itself, and has no limit.",
    ),
    Fault(
        name="malformed JSON",
        server="sends an answer, or an event in it, that is not JSON",
        step=CorruptChunk(),
        ends=Ends(MalformedResponseError, "as told"),
        llmock=Each(None, lambda mock: mock.corrupt(after_chunks=2)),
    ),
    Fault(
        name="JSON of another shape",
        server="sends JSON that is not the API's",
        step=Each(RawBody("[7]"), RawBody("data: [7]\n\n", content_type=SSE)),
        ends=Ends(MalformedResponseError, "estimated"),
    ),
    Fault(
        name="tool arguments that are not JSON",
        server="passes on a tool call whose arguments are not JSON",
        step=Reply("Let me look.", finish_reason="tool_calls", tool_calls=(CALL,)),
        ends=ANSWERED,
        differs={"gemini": Ends(MalformedResponseError, "priced")},
        remark="they are in the answer's `tool_calls` as the model wrote them, so that it can be "
        "told of its mistake; Google keeps them to itself.",
    ),
    Fault(
        name="context overflow",
        server="answers that the prompt is too long",
        step=Failure("context_too_long"),
        ends=Ends(ContextTooLongError, "free"),
        llmock=lambda mock: mock.context_overflow(),
    ),
    Fault(
        name="401",
        server="answers HTTP 401",
        step=Failure("authentication", status=401),
        ends=Ends(AuthenticationError, "free"),
        llmock=lambda mock: mock.fail(401),
    ),
)
