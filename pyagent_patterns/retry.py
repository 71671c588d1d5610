"""When to ask the same question again, and how long to wait before."""

from __future__ import annotations

import random
from dataclasses import dataclass

from pyagent_providers.errors import ProviderError


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Up to `attempts` tries at one question; the default is three.

    Only errors that are safe to retry are (`ProviderError.retryable`). The wait doubles from
    `first_pause` to at most `longest_pause`, both in seconds, with full jitter (a random part
    of it, so that callers do not come back together). A provider's `retry_after` is waited
    for, but not when it is longer than `longest_pause`: then the error is raised at once.
    """

    attempts: int = 3
    first_pause: float = 0.5
    longest_pause: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts must be at least 1 (no retry); got {self.attempts!r}")
        if not 0 <= self.first_pause <= self.longest_pause:
            raise ValueError(
                "pauses must satisfy 0 <= first_pause <= longest_pause (seconds); "
                f"got {self.first_pause!r} and {self.longest_pause!r}"
            )

    def pause(self, error: Exception, attempt: int) -> float | None:
        """Seconds to wait after the failed `attempt` (from 1), or None to give up."""
        if attempt >= self.attempts:
            return None
        if not isinstance(error, ProviderError) or not error.retryable:
            return None
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= self.longest_pause else None
        # Jitter, not a secret.
        return random.uniform(0, min(self.first_pause * 2 ** (attempt - 1), self.longest_pause))  # noqa: S311
