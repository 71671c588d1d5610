"""A run as server-sent events, for browsers and every other client: no web framework is needed.

Give `events(...)` to whatever sends a response in pieces, with `HEADERS`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Container, Mapping
from typing import Final, Unpack

from pyagent_providers.errors import ProviderError
from pyagent_providers.types import JSONObject

from .base import How, Pattern
from .errors import PyAgentError
from .event_json import EventName, error_record, event_record, name_of
from .events import Event

MEDIA_TYPE: Final = "text/event-stream"
HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": f"{MEDIA_TYPE}; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would keep the pieces until it has many
}
_HEARTBEAT: Final = b":\n\n"  # a comment


async def events(
    team: Pattern,
    task: str,
    *,
    only: Container[EventName] | None = None,
    heartbeat: float = 15.0,
    **how: Unpack[How],
) -> AsyncGenerator[bytes]:
    """Do the task, as by `team.stream`; yields each event, with its name and number, as bytes.

    The last is `run_done`, with the result, or `run_stopped`, with the reason: there is nothing
    to raise for a web server, but for an error that is neither ours nor a provider's. `only` names
    the events that are sent: prompts, outputs and costs are in the others. After `heartbeat`
    seconds without any, a comment is sent, so that nobody on the way takes the connection for dead.

    Closing the generator, which is what a client that is gone comes to, cancels the run. With
    `durable` and the same `run_id` it is gone on with, unpaid: a browser connects again by itself.
    """
    stream = team.stream(task, **how)
    reading: asyncio.Task[Event | None] | None = None
    number = 0
    try:
        yield _HEARTBEAT  # the client is answered before the first model is
        while True:
            reading = asyncio.create_task(_next(stream))
            while not (await asyncio.wait([reading], timeout=heartbeat))[0]:
                yield _HEARTBEAT
            event = reading.result()
            if event is None:
                return
            number += 1
            if only is None or name_of(event) in only:
                yield _frame(number, event_record(event))
    except Exception as error:
        yield _frame(number + 1, error_record(how.get("run_id"), error))
        if not isinstance(error, PyAgentError | ProviderError):
            raise
    finally:
        if reading is not None and reading.cancel():
            await asyncio.wait([reading])
        await stream.aclose()


async def _next(stream: AsyncGenerator[Event]) -> Event | None:
    return await anext(stream, None)


def _frame(number: int, record: JSONObject) -> bytes:
    """One event. Its data is JSON in ASCII on one line, so no text can end it."""
    return f"id: {number}\nevent: {record['type']}\ndata: {json.dumps(record)}\n\n".encode()
