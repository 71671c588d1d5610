"""A server on loopback that speaks the providers' own wire formats, for tests of the adapters.

A test scripts what the server says in provider-neutral values and reads what it was sent in
provider-neutral values; a `Dialect` stands between those and the wire:

    with WireServer() as server:
        server.script(Reply("Hello."), Failure("rate_limit", headers={"retry-after": "2"}))
        llm = OpenAILLM("gpt-4o", base_url=server.base_url(CHAT), api_key="k")
        ...
        assert server.requests[0].sent.messages == (Message("user", "Hi"),)

To add a provider: write its `Dialect` in a file here (`openai_chat.py` is the model to follow),
list it in `DIALECTS` (`dialects.py`), and add a `Subject` to `tests/providers/subjects.py`. All
dialects are served at once, by their paths, so tests may mix providers on one server.
"""

from .dialects import CHAT, DIALECTS, GEMINI, MESSAGES, RESPONSES
from .script import (
    BrokenFraming,
    CorruptChunk,
    Disconnect,
    EndEarly,
    ErrorEvent,
    ErrorKind,
    Failure,
    NotJSON,
    RawBody,
    RawBytes,
    Reply,
    Stall,
    Step,
)
from .server import ClosedPort, Dialect, Frames, Received, Sent, WireServer

__all__ = [
    "WireServer",
    "ClosedPort",
    "Reply",
    "Failure",
    "ErrorKind",
    "ErrorEvent",
    "Stall",
    "Disconnect",
    "EndEarly",
    "CorruptChunk",
    "BrokenFraming",
    "NotJSON",
    "RawBytes",
    "RawBody",
    "Step",
    "Received",
    "Sent",
    "Dialect",
    "Frames",
    "DIALECTS",
    "CHAT",
    "RESPONSES",
    "MESSAGES",
    "GEMINI",
]
