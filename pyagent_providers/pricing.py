"""From usage to dollars: a `Cost`, or None for "unpriced". Never a guess, never a silent 0."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Final

from .model_price import ModelPrice
from .types import Completion, Cost

if TYPE_CHECKING:
    from .price_table import PriceTable

__all__ = ["ModelPrice", "price", "set_price"]

_log: Final = logging.getLogger("pyagent.pricing")

_user_prices: Final[dict[tuple[str, str | None], ModelPrice]] = {}
_warned: Final[set[tuple[str, str]]] = set()


def set_price(model: str, price: ModelPrice | None, *, provider: str | None = None) -> None:
    """Set the application's own price for a model, process-wide; None removes it.

    It comes before every table, but after the `price` given to an LLM. `model` is the name the
    LLM was made with, or the one the provider answers with. `provider`, such as `"openai"` or
    `"gcp.gemini"`, limits the price to one provider (`LLM.provider`), and comes before a price
    set without.

    Raises TypeError if `price` is not a `ModelPrice`, ValueError if `model` is empty.
    """
    if not model:
        raise ValueError("model must name a model, such as 'gpt-4o-mini'; got ''")
    if price is None:
        _user_prices.pop((model, provider), None)
    elif isinstance(price, ModelPrice):  # pyright: ignore[reportUnnecessaryIsInstance]
        _user_prices[model, provider] = price
    else:
        raise TypeError(
            f"price of {model!r} must be a ModelPrice, such as ModelPrice(input='2.50', "
            f"output='10'), or None; got {price!r}"
        )


def price(
    provider: str, model: str, completion: Completion, own: ModelPrice | None = None
) -> Cost | None:
    """What a completion cost, by the first that knows; None if nobody does.

    As `look_up`; and a call that nobody has a price for is logged, once per provider and model.
    """
    cost = look_up(provider, model, completion, own)
    if cost is None and completion.usage is not None and _price_table() is not None:
        _warn_once(
            provider,
            model,
            f"no price is known; set one: set_price({model!r}, ModelPrice(input=..., output=...))",
        )
    return cost


def look_up(
    provider: str, model: str, completion: Completion, own: ModelPrice | None = None
) -> Cost | None:
    """What a completion would cost, by the first that knows; None if nobody does.

    What the provider itself reported; `own`, the price given to the LLM; `set_price`; genai-prices.
    `model` is the one asked for; the one that answered is looked up first. Never raises: what
    goes wrong is logged, once per provider and model, and the call is unpriced.
    """
    reported = completion.reported_usd
    if reported is not None and reported.is_finite() and reported >= 0:
        return Cost(reported, "provider")
    if completion.usage is None:
        return None
    answered = completion.model
    models = (answered, model) if answered and answered != model else (model,)
    try:
        user_price = own or _user_price(provider, models)
        if user_price is not None:
            saved = user_price.cache_savings(completion.usage)
            return Cost(user_price.cost(completion.usage), "user", cache_savings=saved)
        table = _price_table()
        if table is None:
            return None
        return table.cost(provider, models, completion.service_tier, completion.usage)
    except Exception as error:
        _warn_once(provider, model, f"pricing failed: {type(error).__name__}: {error}")
        return None


def _user_price(provider: str, models: tuple[str, ...]) -> ModelPrice | None:
    if not _user_prices:
        return None
    for model in models:
        for seller in (provider, None):
            found = _user_prices.get((model, seller))
            if found is not None:
                return found
    return None


@cache
def _price_table() -> PriceTable | None:
    """The table, imported on first need; None, with one line in the log, if it cannot be had."""
    try:
        from .price_table import PriceTable

        return PriceTable()
    except ImportError as error:
        _log.warning(
            "Calls are unpriced: genai-prices cannot be imported (%s). Install it with a "
            'provider\'s extra, such as pip install "pyagent-sdk[openai]", or state prices with '
            "set_price().",
            error,
        )
    except Exception as error:
        _log.warning("Calls are unpriced: genai-prices cannot be used: %r", error)
    return None


def _warn_once(provider: str, model: str, what: str) -> None:
    if (provider, model) not in _warned:
        _warned.add((provider, model))
        _log.warning("Calls to %r at %r are unpriced: %s", model, provider, what)
