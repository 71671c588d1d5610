"""When to ask the same question again, and how long to wait before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from pyagent_providers.errors import ProviderError

RetryOn: TypeAlias = "tuple[type[Exception], ...] | Callable[[Exception], bool]"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Up to `max_attempts` tries at one question of one model; the default is three.

    The wait doubles from `backoff` to at most `max_backoff`, both in seconds; with `jitter` it is
    a random part of that, so that callers do not come back together ("full jitter", AWS
    Architecture Blog, 2015). A provider's `retry_after` is waited for instead; one that is longer
    than `max_backoff` ends the attempts at once.

    `retry_on`, exception types or a function, says which errors to retry; without it, those
    that say that it is safe (`ProviderError.retryable`). An answer without text is an
    `EmptyAnswerError` and by itself not retried.
    """

    max_attempts: int = 3
    backoff: float = 0.5
    max_backoff: float = 30.0
    jitter: bool = True
    retry_on: RetryOn | None = None

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(
                f"max_attempts must be at least 1 (no retry); got {self.max_attempts!r}"
            )
        if not 0 <= self.backoff <= self.max_backoff:
            raise ValueError(
                "pauses must satisfy 0 <= backoff <= max_backoff (seconds); "
                f"got {self.backoff!r} and {self.max_backoff!r}"
            )

    def pause(self, error: Exception, attempt: int) -> float | None:
        """Seconds to wait after the failed `attempt` (from 1), or None to give up."""
        if attempt >= self.max_attempts or not self._retries(error):
            return None
        retry_after = error.retry_after if isinstance(error, ProviderError) else None
        if retry_after is not None:
            return retry_after if retry_after <= self.max_backoff else None
        longest = min(self.backoff * 2 ** (attempt - 1), self.max_backoff)
        if not self.jitter:
            return longest
        from random import uniform  # loaded at the first pause: most runs make none

        return uniform(0, longest)  # noqa: S311  # not a secret

    def _retries(self, error: Exception) -> bool:
        if self.retry_on is None:
            return isinstance(error, ProviderError) and error.retryable
        if callable(self.retry_on):
            return self.retry_on(error)
        return isinstance(error, self.retry_on)
