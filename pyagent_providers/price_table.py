"""The prices genai-prices knows, resolved once and then plain arithmetic.

Importing this module imports genai-prices (0.4 s), so `pricing` does it on first need. Nothing
here fetches newer prices; where the application does (`genai_prices.UpdatePrices`), they count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import genai_prices
from genai_prices.data_snapshot import DataSnapshot, get_snapshot
from genai_prices.types import ModelInfo, Provider, StartDateConstraint, TieredPrices
from genai_prices.types import ModelPrice as PriceSheet

from .model_price import ModelPrice
from .types import Cost, Usage

# What genai-prices calls a provider, where it is not what OpenTelemetry or LiteLLM does. Looked
# up exactly: its own matching is by substring and takes azure.ai.openai for OpenAI.
_PROVIDER_IDS: Final = {
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "azure_ai": "azure",
    "bedrock": "aws",
    "fireworks_ai": "fireworks",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "gemini": "google",
    "mistral_ai": "mistral",
    "moonshot": "moonshotai",
    "together_ai": "together",
    "vertex_ai": "google",
    "x_ai": "x-ai",
    "xai": "x-ai",
}

# Claude 3 models as people name them since Claude 4 put the family first.
_MODEL_IDS: Final = {
    "claude-haiku-3": "claude-3-haiku",
    "claude-haiku-3.5": "claude-3-5-haiku",
    "claude-opus-3": "claude-3-opus",
    "claude-sonnet-3.5": "claude-3-5-sonnet",
    "claude-sonnet-3.7": "claude-3-7-sonnet",
}


class PriceTable:
    """genai-prices' figures. A price, once resolved, is kept for the rest of the UTC day.

    `clock` tells Unix time.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._edition = _Edition(get_snapshot(), clock() // _DAY)

    def cost(
        self, provider: str, models: tuple[str, ...], service_tier: str | None, usage: Usage
    ) -> Cost | None:
        """What `usage` costs at the first of `models` that is listed; None if there is none.

        Raises ValueError for a usage that does not add up.
        """
        now = self._clock()
        edition, snapshot = self._edition, get_snapshot()
        if edition.day != now // _DAY or edition.snapshot is not snapshot:
            edition = self._edition = _Edition(snapshot, now // _DAY)
        key = (provider, models, service_tier)
        try:
            quote = edition.quotes[key]
        except KeyError:
            quote = _quote(snapshot, provider, models, service_tier, now)
            edition.quotes[key] = quote
        if quote is None:
            return None
        usd, saved = quote.cost(usage, now)
        return Cost(usd, "genai-prices", genai_prices.__version__, saved)


_DAY: Final = 86_400  # seconds


@dataclass(frozen=True, slots=True)
class _Step:
    """The price of a call with more than `above` input tokens; -1 is where prices start."""

    above: int
    price: ModelPrice


@dataclass(frozen=True, slots=True)
class _Quote:
    """A model's price: `steps`, highest first; none where only genai-prices can work it out."""

    provider: Provider
    model: ModelInfo
    context: dict[str, str] | None
    steps: tuple[_Step, ...] = ()

    def cost(self, usage: Usage, now: float) -> tuple[Decimal, Decimal]:
        """What it costs, and what a cache has saved."""
        for step in self.steps:
            if usage.input_tokens > step.above:
                return step.price.cost(usage), step.price.cache_savings(usage)
        usd = self.reference(usage, now)[0]
        if not usage.cache_read_tokens:
            return usd, Decimal(0)
        uncached = self.reference(replace(usage, cache_read_tokens=0), now)[0]
        return usd, max(Decimal(0), uncached - usd)

    def reference(self, usage: Usage, now: float) -> tuple[Decimal, PriceSheet]:
        """genai-prices' own figure, and the prices it took."""
        calculation = self.model.calc_price(
            genai_prices.Usage(
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cache_read_tokens=usage.cache_read_tokens,
                cache_write_tokens=usage.cache_write_tokens,
                cache_write_1h_tokens=usage.cache_write_1h_tokens,
                output_reasoning_tokens=usage.reasoning_tokens,
            ),
            self.provider,
            genai_request_timestamp=datetime.fromtimestamp(now, UTC),
            price_context=self.context,
        )
        return calculation.total_price, calculation.model_price


@dataclass(frozen=True, slots=True)
class _Edition:
    """What was resolved from one snapshot on one day. None: looked for, no price known."""

    snapshot: DataSnapshot
    day: float  # since 1970
    quotes: dict[tuple[str, tuple[str, ...], str | None], _Quote | None] = field(
        default_factory=dict[tuple[str, tuple[str, ...], str | None], _Quote | None]
    )


def _quote(
    snapshot: DataSnapshot,
    provider: str,
    models: tuple[str, ...],
    service_tier: str | None,
    now: float,
) -> _Quote | None:
    found = _find(snapshot, provider, models)
    if found is None:
        return None
    seller, model = found
    quote = _Quote(seller, model, {"service_tier": service_tier} if service_tier else None)
    _, sheet = quote.reference(Usage(), now)
    if sheet.input_mtok is None or sheet.output_mtok is None:
        return None  # priced by the hour, by the page, or not at all; genai-prices would say 0
    if not _holds_all_day(model):
        return quote
    steps = _steps(sheet)
    if all(_agrees(step, quote, now) for step in steps):
        return _Quote(seller, model, quote.context, steps)
    return quote


def _find(
    snapshot: DataSnapshot, provider: str, models: tuple[str, ...]
) -> tuple[Provider, ModelInfo] | None:
    provider_id = _PROVIDER_IDS.get(provider, provider)
    for seller in snapshot.providers:
        if seller.id == provider_id:
            for model in models:
                for name in _spellings(provider_id, model):
                    info = seller.find_model(name, all_providers=snapshot.providers)
                    if info is not None:
                        return seller, info
    return None


def _spellings(provider_id: str, model: str) -> Iterator[str]:
    """The names to look a model up by, as it came first: openrouter's `openai/gpt-4o` is one."""
    yield model
    prefix, _, rest = model.partition("/")
    if rest and _PROVIDER_IDS.get(prefix, prefix) == provider_id:
        model = rest
        yield model
    if provider_id == "google":  # models/gemini-..., publishers/google/models/gemini-...
        model = model.rpartition("models/")[2]
        yield model
    if model in _MODEL_IDS:
        yield _MODEL_IDS[model]


def _holds_all_day(model: ModelInfo) -> bool:
    """Whether the price can change at midnight only. Prices by time of day cannot be kept."""
    dated = [] if isinstance(model.prices, PriceSheet) else model.prices
    return all(
        priced.constraint is None or isinstance(priced.constraint, StartDateConstraint)
        for priced in (*dated, *(model.price_variants or ()))
    )


def _steps(sheet: PriceSheet) -> tuple[_Step, ...]:
    prices = vars(sheet).values()
    starts = {tier.start for p in prices if isinstance(p, TieredPrices) for tier in p.tiers}

    def above(start: int) -> ModelPrice:
        return ModelPrice(
            _at(sheet.input_mtok, start) or 0,
            _at(sheet.output_mtok, start) or 0,
            cache_read=_at(sheet.cache_read_mtok, start),
            cache_write=_at(sheet.cache_write_mtok, start),
            cache_write_1h=_at(sheet.cache_write_1h_mtok, start),
        )

    return tuple(_Step(start, above(start)) for start in sorted({-1, *starts}, reverse=True))


def _at(price: Decimal | TieredPrices | None, start: int) -> Decimal | None:
    """The price of a call with just over `start` input tokens."""
    if not isinstance(price, TieredPrices):
        return price
    return next((t.price for t in reversed(price.tiers) if t.start <= start), price.base)


def _agrees(step: _Step, quote: _Quote, now: float) -> bool:
    """Whether a step gives genai-prices' own figure for a usage with every kind of token in it.

    A sheet can price more than a `ModelPrice` does, a fee per request or reasoning apart from
    output. Rather than know all that, ask once.
    """
    probe = Usage(
        input_tokens=step.above + 1009,
        output_tokens=401,
        cache_read_tokens=101,
        cache_write_tokens=307,
        cache_write_1h_tokens=103,
        reasoning_tokens=211,
    )
    return step.price.cost(probe) == quote.reference(probe, now)[0]
