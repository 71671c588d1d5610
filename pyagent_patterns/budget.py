"""What a run may spend, as its user says it. `purse.py` holds a run to it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, cast, get_args

from pyagent_providers.base import LLM, Usage
from pyagent_providers.model_price import Dollars, ModelPrice
from pyagent_providers.types import JSONObject

from .errors import BudgetError

Unpriced = Literal["raise", "warn"]


@dataclass(frozen=True, slots=True, init=False)
class Budget:
    """Limits of a run and everything below it; None is no limit.

    `max_cost_usd`: US dollars. `max_tokens`: of prompts and answers together. `max_calls`:
    attempts. `max_seconds`: of one execution of the run.

    A call's worst case is set aside before it is sent: its prompt, a token for every byte, since
    no tokeniser makes more, and the agent's `max_tokens`. So where every agent has `max_tokens`,
    no limit is ever exceeded. A call without takes all that is left, so no other is begun beside
    it, and may exceed the limit, by that one call. Enough is kept for the agent that writes the
    answer.

    `on_unpriced` says what to do about a model without a price under `max_cost_usd`: "raise"
    refuses the run before anything is spent, "warn" lets its calls pass unlimited and logs it, a
    `ModelPrice` is taken in its place, for the budget only.

    Raises ValueError for a budget that is none.
    """

    max_cost_usd: Decimal | None
    max_tokens: int | None
    max_calls: int | None
    max_seconds: float | None
    on_unpriced: Unpriced | ModelPrice

    def __init__(
        self,
        *,
        max_cost_usd: Dollars | None = None,
        max_tokens: int | None = None,
        max_calls: int | None = None,
        max_seconds: float | None = None,
        on_unpriced: Unpriced | ModelPrice = "raise",
    ) -> None:
        store = object.__setattr__  # the way in for a frozen dataclass with its own constructor
        store(self, "max_cost_usd", None if max_cost_usd is None else _dollars(max_cost_usd))
        counts = {"max_tokens": max_tokens, "max_calls": max_calls, "max_seconds": max_seconds}
        for name, limit in counts.items():
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} must be more than 0, or None; got {limit!r}")
            store(self, name, limit)
        if max_cost_usd is None and all(limit is None for limit in counts.values()):
            raise ValueError("a Budget needs a limit, such as Budget(max_cost_usd='0.50')")
        if not isinstance(on_unpriced, ModelPrice) and on_unpriced not in get_args(Unpriced):
            raise ValueError(
                "on_unpriced must be 'raise', 'warn' or a ModelPrice to assume; "
                f"got {on_unpriced!r}"
            )
        store(self, "on_unpriced", on_unpriced)

    def check(self, llm: LLM) -> None:
        """Raise `BudgetError` if the model has no price and the budget needs one."""
        if self.max_cost_usd is None or self.on_unpriced != "raise":
            return
        if llm.price_of(Usage()) is None:
            raise BudgetError(
                f"no price is known for {llm.model!r} at {llm.provider!r}, so max_cost_usd cannot "
                "hold: give the model a price=ModelPrice(...), or the Budget an on_unpriced= "
                "('warn', or a ModelPrice to assume)"
            )

    def to_dict(self) -> JSONObject:
        """The budget as JSON values; money is a decimal string."""
        rate = self.on_unpriced
        return {
            "max_cost_usd": None if self.max_cost_usd is None else str(self.max_cost_usd),
            "max_tokens": self.max_tokens,
            "max_calls": self.max_calls,
            "max_seconds": self.max_seconds,
            "on_unpriced": rate if isinstance(rate, str) else rate.to_dict(),
        }

    @classmethod
    def from_dict(cls, stored: JSONObject) -> Budget:
        """The budget that `to_dict` wrote."""
        rate = stored["on_unpriced"]
        if not isinstance(rate, str):
            rate = ModelPrice.from_dict(cast(JSONObject, rate))
        return cls(**{**stored, "on_unpriced": rate})  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """How far a budget is used: what is spent, and what is set aside for calls under way."""

    budget: Budget
    usd: Decimal
    tokens: int
    calls: int
    reserved_usd: Decimal
    reserved_tokens: int
    reserved_calls: int

    def to_dict(self) -> JSONObject:
        """As JSON values; money is a decimal string."""
        return {
            "budget": self.budget.to_dict(),
            "usd": str(self.usd),
            "tokens": self.tokens,
            "calls": self.calls,
            "reserved_usd": str(self.reserved_usd),
            "reserved_tokens": self.reserved_tokens,
            "reserved_calls": self.reserved_calls,
        }


def _dollars(value: Dollars) -> Decimal:
    try:
        dollars = Decimal(str(value)) if isinstance(value, float) else Decimal(value)
    except (ArithmeticError, TypeError, ValueError):
        dollars = Decimal("NaN")
    if not dollars.is_finite() or dollars <= 0:
        raise ValueError(f"max_cost_usd must be US dollars, more than 0, or None; got {value!r}")
    return dollars
