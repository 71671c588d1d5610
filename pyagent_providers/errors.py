"""What can go wrong at a provider, in one tree.

ProviderError
├── ConfigurationError          nothing was sent: mend the set-up
│   ├── MissingDependencyError  the provider's SDK is not installed
│   └── MissingAPIKeyError      no API key given and none in the environment
├── RateLimitError              429: retry, after `retry_after` seconds
├── OverloadedError             503, 529: retry later
├── ServerError                 other 5xx: retry
├── RequestTimeoutError         no answer in time: retry; it may have been billed
├── ConnectionFailedError       the connection broke: retry; it may have been billed
│   └── UnreachableError        there was none: nothing was sent; retry
├── CircuitOpenError            not sent: the model was down a moment ago; retry later
├── AuthenticationError         401, 403: do not retry
├── BadRequestError             400, 404, 422: do not retry
│   └── ContextTooLongError     the prompt is longer than the model's window
├── ContentRefusedError         the provider or model declined: do not retry
├── EmptyAnswerError            an answer without text: do not retry by itself
└── MalformedResponseError      an answer that is not one: retry; it may have been billed
    └── IncompleteStreamError   the stream ended without a finish reason
"""

from __future__ import annotations

from typing import ClassVar

from .types import Completion


class ProviderError(Exception):
    """A call to a model that failed.

    `retryable` says whether sending the same request again is safe and can help; `billable`
    whether the provider may have charged for the failed call. `retry_after` is in seconds.
    `completion` is what did arrive, with its usage, where the provider reported any.
    """

    retryable: ClassVar[bool] = False
    billable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        model: str = "",
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        completion: Completion | None = None,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.model = model
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.completion = completion

    @property
    def message(self) -> str:
        return str(self.args[0])

    def __str__(self) -> str:
        where = f"{self.provider}/{self.model}: " if self.provider or self.model else ""
        status = f" (HTTP {self.status})" if self.status is not None else ""
        return f"{where}{self.message}{status}"


class ConfigurationError(ProviderError):
    """The adapter cannot be used as it is set up. Nothing was sent."""


class MissingDependencyError(ConfigurationError, ImportError):
    """The provider's SDK is not installed. The message has the install command."""


class MissingAPIKeyError(ConfigurationError):
    """No API key was given. The message names the variable to set."""


class RateLimitError(ProviderError):
    """The provider asks to slow down. Safe to retry after `retry_after` seconds, if given."""

    retryable = True


class OverloadedError(ProviderError):
    """The provider is over capacity for everyone. Safe to retry later."""

    retryable = True


class ServerError(ProviderError):
    """The provider failed inside. Safe to retry."""

    retryable = True


class RequestTimeoutError(ProviderError):
    """No answer arrived in time. Safe to retry; the first try may have been billed."""

    retryable = True
    billable = True


class ConnectionFailedError(ProviderError):
    """The connection broke. Safe to retry; it may have been billed."""

    retryable = True
    billable = True


class UnreachableError(ConnectionFailedError):
    """No connection could be made, so nothing was sent and nothing billed. Safe to retry."""

    billable = False


class CircuitOpenError(ProviderError):
    """Not sent: the model was down a moment ago. Safe to retry after `retry_after` seconds."""

    retryable = True


class AuthenticationError(ProviderError):
    """The key is wrong, or lacks the right to this model. A retry does not help."""


class BadRequestError(ProviderError):
    """The provider does not accept the request. A retry does not help."""


class ContextTooLongError(BadRequestError):
    """The prompt does not fit the model's context window. Shorten it or take another model."""


class ContentRefusedError(ProviderError):
    """The provider's filter or the model itself declined. A retry does not help."""

    billable = True


class EmptyAnswerError(ProviderError):
    """The model answered with nothing. To retry it, say so: `RetryPolicy(retry_on=...)`."""

    billable = True


class MalformedResponseError(ProviderError):
    """The provider sent something that is not an answer. Safe to retry; may have been billed."""

    retryable = True
    billable = True


class IncompleteStreamError(MalformedResponseError):
    """The stream ended without a finish reason: what arrived is not a whole answer."""
