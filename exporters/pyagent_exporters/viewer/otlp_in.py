"""What an OTLP/HTTP exporter sends, as spans, and what it is answered.

Anybody may send anything: what is not an export request is refused with an HTTP status, what is not
a span within one is counted, and nothing grows beyond `LIMIT` bytes.
"""

from __future__ import annotations

import json
import zlib
from types import ModuleType
from typing import Final

from . import otlp_json
from .otlp_values import NotARequest, Received

LIMIT: Final = 32 * 1024 * 1024  # bytes of a request, as sent and unpacked
JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"
_GZIP: Final = 16 + zlib.MAX_WBITS


class Refused(Exception):
    """A request that is not taken. `status` is the HTTP status to answer it with."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def decode(body: bytes, *, content_type: str, content_encoding: str = "") -> Received:
    """The spans of a request, whose headers these are.

    Raises Refused: 413 for one that is too large, 415 for a form that is not known here, 400 for
    what is not an export request.
    """
    form = _form(content_type)
    body = _unpacked(body, content_encoding.strip().lower())
    try:
        if form == JSON:
            return otlp_json.decode(body)
        return _protobuf().decode(body)
    except NotARequest as error:
        raise Refused(400, str(error)) from error


def answer(received: Received, *, content_type: str) -> tuple[bytes, str]:
    """The body that says what was taken, and its content type, which is that of the request."""
    form = _form(content_type)
    if form == PROTOBUF:
        return _protobuf().answer(received.rejected, received.reason), form
    said: dict[str, object] = {}
    if received.rejected:
        said["partialSuccess"] = {
            "rejectedSpans": str(received.rejected),
            "errorMessage": received.reason,
        }
    return json.dumps(said).encode(), form


def _form(content_type: str) -> str:
    form = content_type.partition(";")[0].strip().lower()
    if form not in (JSON, PROTOBUF):
        raise Refused(415, f"send {PROTOBUF} or {JSON}; got {form!r}")
    return form


def _unpacked(body: bytes, encoding: str) -> bytes:
    if len(body) > LIMIT:
        raise _TooLarge()
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise Refused(415, f"send it with gzip or not compressed; got {encoding!r}")
    unpacker = zlib.decompressobj(_GZIP)
    try:
        unpacked = unpacker.decompress(body, LIMIT + 1)
    except zlib.error as error:
        raise Refused(400, f"the body is not gzip: {error}") from error
    if len(unpacked) > LIMIT:
        raise _TooLarge()
    if not unpacker.eof or unpacker.unused_data:
        raise Refused(400, "the compressed body is cut off, or has something after its end")
    return unpacked


class _TooLarge(Refused):
    def __init__(self) -> None:
        super().__init__(413, f"more than {LIMIT // 2**20} MB; send fewer spans at a time")


def _protobuf() -> ModuleType:
    try:
        from . import otlp_protobuf
    except ImportError as error:
        raise Refused(
            415,
            f"protobuf cannot be read here ({error}); send JSON, or install what reads it: "
            'pip install "pyagent-sdk[ui]"',
        ) from error
    return otlp_protobuf
