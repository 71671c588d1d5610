"""What models cost: the list that genai-prices has, for people to look at.

Importing this module imports genai-prices (0.4 s). What a call cost is told by `pricing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Literal

import genai_prices
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, TieredPrices
from genai_prices.types import ModelPrice as PriceSheet

from .types import JSONObject

Adapter = Literal["OpenAILLM", "AnthropicLLM", "GeminiLLM", "LiteLLM"]
VERSION: Final = genai_prices.__version__

_ADAPTERS: Final[dict[str, Adapter]] = {
    "openai": "OpenAILLM",
    "anthropic": "AnthropicLLM",
    "google": "GeminiLLM",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """A model's prices today, in US dollars per million tokens; None where there is none.

    `provider` is who sells it, as genai-prices calls them; `adapter` is the class of ours that asks
    it. `is_tiered`: long prompts cost more, and these are the prices of short ones.
    `context_tokens` is how much it reads at most.
    """

    provider: str
    model: str
    adapter: Adapter
    input: Decimal
    output: Decimal
    cache_read: Decimal | None
    is_tiered: bool
    context_tokens: int | None
    is_deprecated: bool

    def to_dict(self) -> JSONObject:
        """As JSON values; money is a decimal string."""
        return {
            "provider": self.provider,
            "model": self.model,
            "adapter": self.adapter,
            "input": str(self.input),
            "output": str(self.output),
            "cache_read": None if self.cache_read is None else str(self.cache_read),
            "is_tiered": self.is_tiered,
            "context_tokens": self.context_tokens,
            "is_deprecated": self.is_deprecated,
        }


def listed(wanted: str = "") -> Sequence[ListedModel]:
    """The models with a price for tokens, those of our own adapters first.

    With `wanted`, those in whose `provider/model` all its words are.
    """
    words = wanted.lower().split()
    found = [
        one
        for seller in get_snapshot().providers
        for model in seller.models
        if all(word in f"{seller.id}/{model.id}".lower() for word in words)
        if (one := _listed(seller.id, model)) is not None
    ]
    own = list(_ADAPTERS)
    return sorted(
        found,
        key=lambda one: (
            own.index(one.provider) if one.provider in own else len(own),
            one.provider,
            one.model,
        ),
    )


def _listed(provider: str, model: ModelInfo) -> ListedModel | None:
    sheet: PriceSheet = model.get_prices(datetime.now(UTC))
    if sheet.input_mtok is None or sheet.output_mtok is None:
        return None  # priced by the hour, by the page, or not at all
    return ListedModel(
        provider=provider,
        model=model.id,
        adapter=_ADAPTERS.get(provider, "LiteLLM"),
        input=_base(sheet.input_mtok),
        output=_base(sheet.output_mtok),
        cache_read=None if sheet.cache_read_mtok is None else _base(sheet.cache_read_mtok),
        is_tiered=isinstance(sheet.input_mtok, TieredPrices),
        context_tokens=model.context_window,
        is_deprecated=bool(model.deprecated),
    )


def _base(price: Decimal | TieredPrices) -> Decimal:
    return price.base if isinstance(price, TieredPrices) else price
