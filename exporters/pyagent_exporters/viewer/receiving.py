"""Where programs send their spans: an OTLP/HTTP receiver, answering as its specification says."""

from __future__ import annotations

import asyncio
import json
from typing import Final

import anyio
from anyio.to_thread import run_sync
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from . import otlp_in
from .otlp_in import JSON, LIMIT, PROTOBUF, Refused
from .store import SpanStore

_PATHS: Final = "/v1/"
_MOST_WAITING: Final = 8  # requests that are read and wait for the store, each of LIMIT at most
_PATIENCE: Final = 30.0  # seconds for a request to arrive
_AGAIN: Final = "1"  # seconds until a sender that was too quick may try again


class Receiver:
    """Takes what programs export. Reading and storing spans happens in a thread, one request at
    a time; senders that are quicker than that are told to come again."""

    def __init__(self, store: SpanStore) -> None:
        self._store = store
        self._one = anyio.CapacityLimiter(1)
        self._waiting = 0

    async def traces(self, request: Request) -> Response:
        try:
            body = await _body(request)
            if self._waiting >= _MOST_WAITING:
                raise Refused(429, "too much at once; try again in a second")
            self._waiting += 1
            try:
                return await run_sync(self._take, request, body, limiter=self._one)
            finally:
                self._waiting -= 1
        except Refused as refused:
            return refusal(request, refused.status, str(refused))

    async def not_kept(self, request: Request) -> Response:
        """Metrics and logs, which programs send along: thanks, and a warning in the answer."""
        signal: str = request.path_params["signal"]
        if signal not in ("metrics", "logs"):
            return refusal(request, 404, f"there is no signal {signal!r}")
        try:
            await _body(request)
        except Refused as refused:
            return refusal(request, refused.status, str(refused))
        why = f"the viewer keeps traces only, and no {signal}"
        if _form(request) == JSON:
            text = json.dumps({"partialSuccess": {"errorMessage": why}})
            return Response(text, media_type=JSON)
        return Response(_field(1, _field(2, why.encode())), media_type=PROTOBUF)

    def _take(self, request: Request, body: bytes) -> Response:
        headers = request.headers
        content_type = headers.get("content-type", "")
        received = otlp_in.decode(
            body,
            content_type=content_type,
            content_encoding=headers.get("content-encoding", ""),
        )
        self._store.add(received.spans)
        answer, form = otlp_in.answer(received, content_type=content_type)
        return Response(answer, media_type=form)


def is_otlp(request: Request) -> bool:
    """Whether a program asks, and is answered in its own form."""
    return request.url.path.startswith(_PATHS)


def refusal(request: Request, status: int, why: str) -> Response:
    """Why a request is not taken: a `google.rpc.Status` in the form that the request has."""
    headers = {"Retry-After": _AGAIN} if status == 429 else {}
    if _form(request) == PROTOBUF:
        return Response(_field(2, why.encode()), status, headers, PROTOBUF)
    return Response(json.dumps({"message": why}), status, headers, JSON)


async def _body(request: Request) -> bytes:
    """The request's body. Raises Refused when it is too large, or does not come."""
    body = bytearray()
    try:
        async with asyncio.timeout(_PATIENCE):
            async for piece in request.stream():
                body += piece
                if len(body) > LIMIT:
                    raise Refused(413, f"more than {LIMIT // 2**20} MB; send fewer spans at a time")
    except TimeoutError:
        raise Refused(408, f"the request was not here after {_PATIENCE:.0f} seconds") from None
    except ClientDisconnect:
        raise Refused(400, "the request was cut off") from None
    return bytes(body)


def _form(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that is a text or another message."""
    length, size = len(content), bytearray()
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    size.append(length)
    return bytes([number << 3 | 2]) + size + content
