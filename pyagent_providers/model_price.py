"""The price of a model, as an application states it: what each kind of token costs."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TypeAlias

from .types import JSONObject, Usage

Dollars: TypeAlias = "Decimal | int | str | float"

_PER = 1_000_000
_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True, init=False)
class ModelPrice:
    """US dollars per million tokens.

    Without a `cache_read` or `cache_write` price such tokens cost what `input` does; without a
    `cache_write_1h` price, tokens cached for an hour cost what other cache writes do. Reasoning
    is output. A float counts as it prints: 0.1 is a tenth. A model that is free is
    `ModelPrice(0, 0)`.

    Raises ValueError naming the field for a price that is negative or not a number.
    """

    input: Decimal
    output: Decimal
    cache_read: Decimal | None
    cache_write: Decimal | None
    cache_write_1h: Decimal | None

    def __init__(
        self,
        input: Dollars,
        output: Dollars,
        *,
        cache_read: Dollars | None = None,
        cache_write: Dollars | None = None,
        cache_write_1h: Dollars | None = None,
    ) -> None:
        store = object.__setattr__  # the way in for a frozen dataclass with its own constructor
        store(self, "input", _dollars("input", input))
        store(self, "output", _dollars("output", output))
        for name, price in (
            ("cache_read", cache_read),
            ("cache_write", cache_write),
            ("cache_write_1h", cache_write_1h),
        ):
            store(self, name, None if price is None else _dollars(name, price))

    def to_dict(self) -> JSONObject:
        """The price as JSON values: decimal strings."""
        given = {name: getattr(self, name) for name in self.__slots__}
        return {name: str(price) for name, price in given.items() if price is not None}

    @classmethod
    def from_dict(cls, stored: JSONObject) -> ModelPrice:
        """The price that `to_dict` wrote."""
        return cls(**stored)  # pyright: ignore[reportArgumentType]

    def cost(self, usage: Usage) -> Decimal:
        """What `usage` costs, in US dollars.

        Raises ValueError for a usage that does not add up, such as more cached tokens than
        input tokens: any figure for it would be a guess.
        """
        read, write = usage.cache_read_tokens, usage.cache_write_tokens
        hour, answered = usage.cache_write_1h_tokens, usage.output_tokens
        fresh = usage.input_tokens - read - write
        if fresh < 0 or read < 0 or hour < 0 or write < hour or answered < 0:
            raise ValueError(f"the token counts do not add up: {usage}")
        total = self.input * fresh + self.output * answered
        if read:
            total += (self.input if self.cache_read is None else self.cache_read) * read
        if write:
            written = self.input if self.cache_write is None else self.cache_write
            for_an_hour = written if self.cache_write_1h is None else self.cache_write_1h
            total += written * (write - hour) + for_an_hour * hour
        return total / _PER

    def cache_savings(self, usage: Usage) -> Decimal:
        """US dollars that the tokens read from a cache would have cost more as ordinary input."""
        if not usage.cache_read_tokens or self.cache_read is None:
            return _NOTHING
        return max(_NOTHING, self.input - self.cache_read) * usage.cache_read_tokens / _PER


def _dollars(field: str, price: Dollars) -> Decimal:
    try:
        dollars = Decimal(str(price) if isinstance(price, float) else price)
    except (InvalidOperation, TypeError, ValueError):
        dollars = Decimal("NaN")
    if not dollars.is_finite() or dollars < 0:
        raise ValueError(
            f"{field} must be US dollars per million tokens, such as '2.50'; got {price!r}"
        )
    return dollars
