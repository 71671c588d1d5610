"""From what went wrong on the wire to this SDK's errors: one table for all HTTP providers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from . import reading
from .errors import (
    AuthenticationError,
    BadRequestError,
    ConnectionFailedError,
    ContentRefusedError,
    ContextTooLongError,
    MalformedResponseError,
    OverloadedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    UnreachableError,
)
from .redaction import redacted
from .types import Completion

_MESSAGE_LIMIT: Final = 300

_BY_STATUS: Final[Mapping[int, type[ProviderError]]] = {
    401: AuthenticationError,
    402: AuthenticationError,  # nothing left to pay with: no retry helps
    403: AuthenticationError,
    408: RequestTimeoutError,
    429: RateLimitError,
    503: OverloadedError,
    504: RequestTimeoutError,  # the gateway gave up waiting; the model may have gone on
    529: OverloadedError,
}

# The words providers use in `code` and `type`, whatever the status; also in streams, where
# there is no status any more.
_BY_CODE: Final[Mapping[str, type[ProviderError]]] = {
    "insufficient_quota": AuthenticationError,  # comes as a 429, but waiting does not help
    "context_length_exceeded": ContextTooLongError,
    "exceed_context_size_error": ContextTooLongError,  # llama.cpp
    "content_filter": ContentRefusedError,  # Azure
    "content_policy_violation": ContentRefusedError,
    "image_content_policy_violation": ContentRefusedError,
    "misalignment_policy_violation": ContentRefusedError,
    "bio_policy": ContentRefusedError,
    "rate_limit_exceeded": RateLimitError,
    "rate_limit_error": RateLimitError,
    "overloaded": OverloadedError,
    "overloaded_error": OverloadedError,
    "service_unavailable": OverloadedError,
    "unavailable_error": OverloadedError,
    "server_error": ServerError,
    "api_error": ServerError,
    "invalid_request_error": BadRequestError,
    "invalid_prompt": BadRequestError,
    "authentication_error": AuthenticationError,
    "invalid_api_key": AuthenticationError,
    "permission_error": AuthenticationError,
    "not_found_error": BadRequestError,
    "timeout_error": RequestTimeoutError,
}

_CONTEXT_TOO_LONG: Final = re.compile(
    r"maximum context length|context (?:window|length|size)|prompt is too long"
    r"|input token count .* exceeds|input is too long",
    re.IGNORECASE,
)

# Names of exception classes of httpx, httpx2, aiohttp and the SDKs, so that none is imported.
_TIMEOUTS: Final = frozenset(
    {"TimeoutException", "ServerTimeoutError", "APITimeoutError", "TimeoutError"}
)
_AIOHTTP: Final = frozenset({"ClientError"})
_UNREACHED_BY_AIOHTTP: Final = frozenset({"ClientConnectorError", "ConnectionTimeoutError"})
_UNREACHED: Final = frozenset({"ConnectError", "ConnectTimeout"})
_BROKEN: Final = frozenset(
    {"TransportError", "ClientError", "HttpProcessingError", "APIConnectionError", "OSError"}
)


class AnswerTooLong(Exception):
    """An answer of more bytes than any model's longest; the rest of it is not read."""


@dataclass(frozen=True, slots=True)
class ErrorMapper:
    """Makes this SDK's errors for one model; secrets are taken out of every message."""

    provider: str
    model: str

    def from_status(
        self, status: int, body: object, headers: Mapping[str, str] | None = None
    ) -> ProviderError:
        """An HTTP error. `body` is the decoded JSON, or the text where it is none."""
        message, codes = _describe(body)
        kind = _kind_of_code(codes) if 400 <= status < 500 else None
        if kind is None or not _agrees(kind, status):
            kind = _kind_of_status(status)
        if kind is BadRequestError and _CONTEXT_TOO_LONG.search(message):
            kind = ContextTooLongError
        return self.error(
            kind,
            message or "the provider refused the request without a reason",
            status=status,
            code=codes[0] if codes else None,
            retry_after=retry_after(headers or {}),
        )

    def from_event(self, body: object, completion: Completion | None = None) -> ProviderError:
        """An error reported inside an answer or a stream that began with HTTP 200."""
        message, codes = _describe(body)
        kind = _kind_of_code(codes)
        if kind is None:
            status = next((int(code) for code in codes if re.fullmatch("[45][0-9]{2}", code)), 500)
            kind = _kind_of_status(status)
        if kind is BadRequestError and _CONTEXT_TOO_LONG.search(message):
            kind = ContextTooLongError
        return self.error(
            kind,
            message or "the provider reported an error inside its answer",
            code=codes[0] if codes else None,
            completion=completion,
        )

    def from_transport(
        self, error: BaseException, completion: Completion | None = None
    ) -> ProviderError | None:
        """A timeout, a broken connection or an endless answer; None when the error is neither."""
        causes = list(_causes(error))
        sent = not unreached(causes)
        # The innermost cause tells the truth: the SDKs wrap errors in others of the wrong kind.
        for cause in reversed(causes):
            detail = str(cause) or type(cause).__name__
            if isinstance(cause, AnswerTooLong):
                return self.error(MalformedResponseError, detail, completion=completion)
            if not sent and _is_a(cause, _TIMEOUTS | _BROKEN):
                return self.error(UnreachableError, f"no connection: {detail}")
            if _is_a(cause, _TIMEOUTS):
                return self.error(RequestTimeoutError, "no answer in time", completion=completion)
            if _is_a(cause, _BROKEN):
                return self.error(
                    ConnectionFailedError, f"the connection failed: {detail}", completion=completion
                )
        return None

    def error(
        self,
        kind: type[ProviderError],
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        completion: Completion | None = None,
    ) -> ProviderError:
        return kind(
            _shortened(redacted(message)),
            provider=self.provider,
            model=self.model,
            status=status,
            code=code,
            retry_after=retry_after,
            completion=completion,
        )


Translate: TypeAlias = "Callable[[Exception, ErrorMapper, Completion | None], ProviderError | None]"


@contextmanager
def translated(
    translate: Translate,
    errors: ErrorMapper,
    so_far: Callable[[], Completion | None] = lambda: None,
) -> Generator[None]:
    """Turn what an SDK raises into this SDK's errors; what `translate` does not know stays.

    `so_far` gives what a broken stream had brought.
    """
    try:
        yield
    except ProviderError:
        raise
    except Exception as error:
        mapped = translate(error, errors, so_far())
        if mapped is None:
            raise
        raise mapped from error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `retry-after` (seconds or an HTTP date)."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    from email.utils import parsedate_to_datetime  # loaded for the first date: seconds are usual

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def unreached(causes: Sequence[BaseException]) -> bool:
    """Whether there was no connection to send by.

    On top of aiohttp, httpx's errors do not tell: its transport takes those of a connection that
    the server closed, or reset, for errors of connecting.
    """
    names = _UNREACHED
    if any(_is_a(cause, _AIOHTTP) for cause in causes):
        names = _UNREACHED_BY_AIOHTTP
    return any(_is_a(cause, names) for cause in causes)


def _number(value: str | None) -> float | None:
    if value is None or not re.fullmatch(r"\s*[0-9]+(\.[0-9]*)?\s*", value):
        return None
    return float(value)


def _kind_of_status(status: int) -> type[ProviderError]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return ServerError
    return BadRequestError if status >= 400 else MalformedResponseError


def _kind_of_code(codes: tuple[str, ...]) -> type[ProviderError] | None:
    return next((_BY_CODE[code] for code in codes if code in _BY_CODE), None)


def _agrees(kind: type[ProviderError], status: int) -> bool:
    """Whether a code may overrule the status: only to say more exactly why not to retry."""
    return not kind.retryable and kind not in (BadRequestError, _kind_of_status(status))


def _describe(body: object) -> tuple[str, tuple[str, ...]]:
    """The message and the codes, most exact first, of the error bodies in use."""
    if isinstance(body, str):
        page = body.lstrip()[:1] == "<"
        return ("the answer is a web page, not the API's" if page else body.strip()), ()
    outer = reading.obj(body)
    error = reading.obj(outer.get("error")) or outer
    message = next(
        (
            found
            for found in (error.get("message"), error.get("detail"), outer.get("error"))
            if found and isinstance(found, str)
        ),
        "",
    )
    codes = (error.get("code"), error.get("type"), error.get("status"))
    return message, tuple(str(code) for code in codes if isinstance(code, str | int) and code)


def _is_a(error: BaseException, names: frozenset[str]) -> bool:
    return not names.isdisjoint(kind.__name__ for kind in type(error).__mro__)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _shortened(message: str) -> str:
    message = " ".join(message.split())
    return message if len(message) <= _MESSAGE_LIMIT else message[: _MESSAGE_LIMIT - 1] + "…"
