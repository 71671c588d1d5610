"""Pricing: the right figure from the right source, and None, said once, where nobody knows."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal

import genai_prices
import pytest
from genai_prices import types as theirs
from genai_prices.data_snapshot import DataSnapshot, get_snapshot, set_custom_snapshot

from pyagent_providers import LLM, Completion, Cost, ModelPrice, Request, Usage, pricing, set_price
from pyagent_providers.price_table import PriceTable
from pyagent_providers.types import ToolCall

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def clean_slate(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pricing, "_user_prices", {})
    monkeypatch.setattr(pricing, "_warned", set())
    pricing._price_table.cache_clear()
    yield
    pricing._price_table.cache_clear()
    set_custom_snapshot(None)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "pyagent.pricing")
    return caplog


def answer(usage: Usage | None, **rest: object) -> Completion:
    return Completion(text="", usage=usage, **rest)  # type: ignore[arg-type]


SMALL = Usage(input_tokens=10_000, output_tokens=1_000)
PRICE = ModelPrice(input=1, output=2)
PRICE_OF_SMALL = Decimal("0.012")


REFERENCE_FIGURES = [
    ("openai", "gpt-4o", SMALL, "0.0350"),
    (
        "openai",
        "gpt-4o-mini",
        Usage(input_tokens=10_000, cache_read_tokens=8_000, output_tokens=1_000),
        "0.0015",
    ),
    (
        "anthropic",
        "claude-sonnet-4-20250514",
        Usage(
            input_tokens=27_000,
            cache_read_tokens=20_000,
            cache_write_tokens=5_000,
            output_tokens=1_000,
        ),
        "0.04575",
    ),
    (
        "anthropic",
        "claude-haiku-4-5-20251001",
        Usage(
            input_tokens=12_000,
            cache_write_tokens=10_000,
            cache_write_1h_tokens=10_000,
            output_tokens=500,
        ),
        "0.0245",
    ),
    (
        "gcp.gemini",
        "gemini-2.5-flash",
        Usage(input_tokens=10_000, output_tokens=1_000, reasoning_tokens=800),
        "0.0055",
    ),
    (
        "gcp.gemini",
        "gemini-2.5-pro",
        Usage(input_tokens=250_000, output_tokens=2_000),
        "0.655",
    ),
]


class TestReferenceFigures:
    @pytest.mark.parametrize(("provider", "model", "usage", "usd"), REFERENCE_FIGURES)
    def test_published_prices_to_the_microdollar(
        self, provider: str, model: str, usage: Usage, usd: str
    ) -> None:
        cost = pricing.price(provider, model, answer(usage))
        assert cost is not None
        assert (cost.usd, cost.source) == (Decimal(usd), "genai-prices")
        assert cost.version == genai_prices.__version__

    @pytest.mark.parametrize(("provider", "model", "usage", "usd"), REFERENCE_FIGURES)
    def test_a_resolved_price_needs_genai_prices_no_more(
        self, provider: str, model: str, usage: Usage, usd: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its own sum takes some 100 us; the prices people use are to be plain arithmetic."""
        pricing.price(provider, model, answer(Usage()))
        monkeypatch.delattr(theirs.ModelInfo, "calc_price")
        cost = pricing.price(provider, model, answer(usage))
        assert cost is not None
        assert cost.usd == Decimal(usd)


USAGES = [
    Usage(input_tokens=1, output_tokens=0),
    Usage(input_tokens=10_000, output_tokens=1_000, cache_read_tokens=8_000, reasoning_tokens=800),
    Usage(
        input_tokens=31_997,
        output_tokens=777,
        cache_read_tokens=20_003,
        cache_write_tokens=5_009,
        cache_write_1h_tokens=3_001,
        reasoning_tokens=13,
    ),
    Usage(input_tokens=200_000, output_tokens=3),
    Usage(input_tokens=200_001, output_tokens=3, cache_write_tokens=11),
    Usage(input_tokens=900_000, output_tokens=70_000, cache_read_tokens=7, reasoning_tokens=7),
]


def listed() -> Iterator[tuple[theirs.Provider, theirs.ModelInfo, str]]:
    """Every model genai-prices lists, with a name that leads to it."""
    providers = get_snapshot().providers
    for provider in providers:
        for model in provider.models:
            for name in (model.id, *literals(model.match)):
                if provider.find_model(name, all_providers=providers) is model:
                    yield provider, model, name
                    break


def literals(match: object) -> Iterator[str]:
    for clause in getattr(match, "or_", None) or getattr(match, "and_", None) or [match]:
        if isinstance(clause, theirs.ClauseEquals):
            yield clause.equals
        elif isinstance(clause, theirs.ClauseStartsWith):
            yield clause.starts_with
        elif clause is not match:
            yield from literals(clause)


def by_genai_prices(
    provider: str, model: str, usage: Usage, when: datetime, tier: str | None = None
) -> theirs.PriceCalculation:
    return genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
            output_reasoning_tokens=usage.reasoning_tokens,
        ),
        model,
        provider_id=provider,
        genai_request_timestamp=when,
        price_context={"service_tier": tier} if tier else None,
    )


class TestAgreementWithGenaiPrices:
    def test_every_listed_model_costs_what_genai_prices_says(self) -> None:
        """Unless it prices no tokens: there genai-prices says 0, and we do not know."""
        table = PriceTable(NOON.timestamp)
        differ: list[tuple[str, str, Usage]] = []
        compared = 0
        for provider, _, name in listed():
            for usage in USAGES:
                ours = table.cost(provider.id, (name,), None, usage)
                genai = by_genai_prices(provider.id, name, usage, NOON)
                sheet = genai.model_price
                priced = sheet.input_mtok is not None and sheet.output_mtok is not None
                if (ours.usd if ours else None) != (genai.total_price if priced else None):
                    differ.append((provider.id, name, usage))
                compared += priced
        assert differ == []
        assert compared > 10_000

    def test_every_service_tier_costs_what_genai_prices_says(self) -> None:
        table = PriceTable(NOON.timestamp)
        changed = 0
        for provider, model, name in listed():
            whens = (variant.when for variant in model.price_variants or ())
            for tier in {when["service_tier"] for when in whens if "service_tier" in when}:
                for usage in USAGES:
                    cost = table.cost(provider.id, (name,), tier, usage)
                    assert cost is not None
                    genai = by_genai_prices(provider.id, name, usage, NOON, tier)
                    assert cost.usd == genai.total_price
                    changed += cost != table.cost(provider.id, (name,), None, usage)
        assert changed > 100

    def test_no_tokens_at_a_known_price_are_a_real_zero(self) -> None:
        cost = pricing.price("openai", "gpt-4o", answer(Usage()))
        assert cost is not None
        assert cost.usd == 0


def snapshot(*models: theirs.ModelInfo, provider: str = "acme") -> DataSnapshot:
    sold = theirs.Provider(id=provider, name=provider, api_pattern="", models=list(models))
    return DataSnapshot(providers=[sold], from_auto_update=False)


def model_info(name: str, prices: object, variants: object = None) -> theirs.ModelInfo:
    return theirs.ModelInfo(
        id=name,
        match=theirs.ClauseEquals(name),
        prices=prices,  # type: ignore[arg-type]
        price_variants=variants,  # type: ignore[arg-type]
    )


def sheet(price: int, **more: Decimal) -> theirs.ModelPrice:
    return theirs.ModelPrice(input_mtok=Decimal(price), output_mtok=Decimal(price), **more)


MILLION = Usage(input_tokens=1_000_000)


class Clock:
    def __init__(self, *when: int) -> None:
        self.set(*when)

    def set(self, *when: int) -> None:
        self.now = datetime(*when, tzinfo=UTC)  # type: ignore[arg-type,misc]

    def __call__(self) -> float:
        return self.now.timestamp()


class TestPricesThatChange:
    def test_a_dated_price_takes_over_at_midnight(self) -> None:
        dated = [
            theirs.ConditionalPrice(prices=sheet(3)),
            theirs.ConditionalPrice(theirs.StartDateConstraint(date(2027, 1, 1)), prices=sheet(1)),
        ]
        set_custom_snapshot(snapshot(model_info("m", dated)))
        clock = Clock(2026, 12, 31, 23, 59, 59)
        table = PriceTable(clock)
        before = table.cost("acme", ("m",), None, MILLION)
        clock.set(2027, 1, 1)
        after = table.cost("acme", ("m",), None, MILLION)
        assert (before and before.usd, after and after.usd) == (3, 1)

    def test_a_dated_service_tier_takes_over_at_midnight(self) -> None:
        variant = theirs.PriceVariant(
            when={"service_tier": "flex"},
            prices=sheet(1),
            constraint=theirs.StartDateConstraint(date(2027, 1, 1)),
        )
        set_custom_snapshot(snapshot(model_info("m", sheet(3), [variant])))
        clock = Clock(2026, 12, 31, 23, 59, 59)
        table = PriceTable(clock)
        before = table.cost("acme", ("m",), "flex", MILLION)
        clock.set(2027, 1, 1)
        after = table.cost("acme", ("m",), "flex", MILLION)
        assert (before and before.usd, after and after.usd) == (3, 1)

    def test_an_off_peak_price_holds_off_peak_only(self) -> None:
        night = theirs.TimeOfDateConstraint(time(22, tzinfo=UTC), time(6, tzinfo=UTC))
        prices = [
            theirs.ConditionalPrice(prices=sheet(3)),
            theirs.ConditionalPrice(night, prices=sheet(1)),
        ]
        set_custom_snapshot(snapshot(model_info("m", prices)))
        clock = Clock(2026, 11, 20, 21, 59)
        table = PriceTable(clock)
        figures: list[Decimal | None] = []
        for hour in (21, 22, 5, 6):
            clock.set(2026, 11, 20, hour)
            cost = table.cost("acme", ("m",), None, MILLION)
            figures.append(cost and cost.usd)
        assert figures == [3, 1, 1, 3]

    def test_an_off_peak_service_tier_holds_off_peak_only(self) -> None:
        variant = theirs.PriceVariant(
            when={"service_tier": "flex"},
            prices=sheet(1),
            constraint=theirs.TimeOfDateConstraint(time(22, tzinfo=UTC), time(6, tzinfo=UTC)),
        )
        set_custom_snapshot(snapshot(model_info("m", sheet(3), [variant])))
        clock = Clock(2026, 11, 20, 21)
        table = PriceTable(clock)
        by_day = table.cost("acme", ("m",), "flex", MILLION)
        clock.set(2026, 11, 20, 22)
        by_night = table.cost("acme", ("m",), "flex", MILLION)
        assert (by_day and by_day.usd, by_night and by_night.usd) == (3, 1)

    def test_prices_the_application_installed_later_count(self) -> None:
        set_custom_snapshot(snapshot(model_info("m", sheet(3))))
        table = PriceTable()
        table.cost("acme", ("m",), None, MILLION)
        set_custom_snapshot(snapshot(model_info("m", sheet(5))))
        cost = table.cost("acme", ("m",), None, MILLION)
        assert cost is not None
        assert cost.usd == 5


class TestShapesPlainArithmeticCannotDo:
    def test_a_fee_per_request_is_charged(self) -> None:
        set_custom_snapshot(snapshot(model_info("m", sheet(1, requests_kcount=Decimal(5)))))
        cost = PriceTable().cost("acme", ("m",), None, MILLION)
        assert cost is not None
        assert cost.usd == Decimal("1.005")

    def test_reasoning_priced_apart_from_output_is_charged_so(self) -> None:
        apart = sheet(1, output_reasoning_mtok=Decimal(4))
        set_custom_snapshot(snapshot(model_info("m", apart)))
        usage = Usage(output_tokens=1_000_000, reasoning_tokens=500_000)
        cost = PriceTable().cost("acme", ("m",), None, usage)
        assert cost is not None
        assert cost.usd == Decimal("2.5")

    def test_each_kind_of_token_has_its_own_thresholds(self) -> None:
        def tiered(base: int, start: int, price: int) -> theirs.TieredPrices:
            return theirs.TieredPrices(
                base=Decimal(base), tiers=[theirs.Tier(start=start, price=Decimal(price))]
            )

        uneven = theirs.ModelPrice(input_mtok=tiered(1, 100, 2), output_mtok=tiered(10, 1_000, 20))
        set_custom_snapshot(snapshot(model_info("m", uneven)))
        table = PriceTable()
        figures: list[Decimal | None] = []
        for tokens in (0, 100, 101, 1_000, 1_001):
            usage = Usage(input_tokens=tokens, output_tokens=1_000_000)
            cost = table.cost("acme", ("m",), None, usage)
            figures.append(cost and cost.usd)
        per_token = Decimal("0.000001")
        assert figures == [
            10,
            10 + 100 * per_token,
            10 + 202 * per_token,
            10 + 2_000 * per_token,
            20 + 2_002 * per_token,
        ]


class TestNames:
    @pytest.mark.parametrize(
        ("provider", "model", "listed_provider", "listed_model"),
        [
            ("openai", "openai/gpt-4o", "openai", "gpt-4o"),
            ("azure.ai.openai", "gpt-4o", "azure", "gpt-4o"),
            ("azure.ai.openai", "azure/gpt-4o-mini", "azure", "gpt-4o-mini"),
            ("anthropic", "anthropic/claude-haiku-3.5", "anthropic", "claude-3-5-haiku-20241022"),
            ("anthropic", "claude-haiku-3.5", "anthropic", "claude-3-5-haiku-20241022"),
            ("anthropic", "claude-sonnet-3.7", "anthropic", "claude-3-7-sonnet-20250219"),
            ("anthropic", "claude-sonnet-3.5", "anthropic", "claude-3-5-sonnet-20241022"),
            ("anthropic", "claude-opus-3", "anthropic", "claude-3-opus-20240229"),
            ("anthropic", "claude-haiku-3", "anthropic", "claude-3-haiku-20240307"),
            ("gcp.gemini", "gemini/gemini-2.5-flash", "google", "gemini-2.5-flash"),
            ("gcp.gemini", "models/gemini-2.5-flash", "google", "gemini-2.5-flash"),
            ("gcp.gen_ai", "gemini-2.5-flash-lite", "google", "gemini-2.5-flash-lite"),
            (
                "gcp.vertex_ai",
                "publishers/google/models/gemini-2.5-pro",
                "google",
                "gemini-2.5-pro",
            ),
            ("gcp.vertex_ai", "claude-sonnet-4@20250514", "google", "claude-4-sonnet"),
            (
                "aws.bedrock",
                "bedrock/us.anthropic.claude-sonnet-4-20250514-v1:0",
                "aws",
                "us.anthropic.claude-sonnet-4-20250514-v1:0",
            ),
            ("mistral_ai", "mistral/mistral-large-latest", "mistral", "mistral-large-latest"),
            ("x_ai", "xai/grok-4", "x-ai", "grok-4"),
            ("groq", "openai/gpt-oss-20b", "groq", "openai/gpt-oss-20b"),
            ("deepseek", "deepseek/deepseek-chat", "deepseek", "deepseek-chat"),
            ("openrouter", "openrouter/openai/gpt-4o", "openrouter", "openai/gpt-4o"),
        ],
    )
    def test_names_as_people_and_providers_write_them_are_found(
        self, provider: str, model: str, listed_provider: str, listed_model: str
    ) -> None:
        cost = PriceTable(NOON.timestamp).cost(provider, (model,), None, SMALL)
        assert cost is not None
        assert cost.usd == by_genai_prices(listed_provider, listed_model, SMALL, NOON).total_price

    @pytest.mark.parametrize(
        ("provider", "model"),
        [
            ("openai", "gpt-4o-turbo-nano"),
            ("openai", "gpt-4oo"),
            ("openai", "smollm2"),
            ("openai", "anthropic/claude-sonnet-4-20250514"),
            ("openai", "my-lab/gpt-4o"),
            ("my-openai-proxy", "gpt-4o"),
            ("custom", "gpt-4o"),
            ("groq", "openai/gpt-4o"),
        ],
    )
    def test_a_name_that_only_resembles_a_listed_one_is_unpriced(
        self, provider: str, model: str
    ) -> None:
        assert PriceTable().cost(provider, (model,), None, SMALL) is None

    def test_siblings_keep_their_own_prices(self) -> None:
        costs = [
            pricing.price("openai", model, answer(SMALL))
            for model in ("gpt-4o", "gpt-4o-mini", "gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18")
        ]
        assert [cost and cost.usd for cost in costs] == [
            Decimal(usd) for usd in ("0.035", "0.0021", "0.035", "0.0021")
        ]

    def test_the_model_that_answered_sets_the_price(self) -> None:
        cost = pricing.price("openai", "gpt-4o", answer(SMALL, model="gpt-4o-mini-2024-07-18"))
        assert cost is not None
        assert cost.usd == Decimal("0.0021")

    def test_an_unknown_answering_model_is_priced_as_the_one_asked_for(self) -> None:
        cost = pricing.price("openai", "gpt-4o", answer(SMALL, model="deployment-7"))
        assert cost is not None
        assert cost.usd == Decimal("0.035")


class TestUnpriced:
    def test_an_unknown_model_is_none_and_said_once(self, log: pytest.LogCaptureFixture) -> None:
        for _ in range(3):
            assert pricing.price("openai", "smollm2", answer(SMALL)) is None
        assert pricing.price("groq", "smollm2", answer(SMALL)) is None
        assert [record.levelname for record in log.records] == ["WARNING", "WARNING"]
        assert "'smollm2' at 'openai'" in log.messages[0]
        assert "set_price('smollm2', " in log.messages[0]

    def test_unknown_usage_is_unpriced_even_at_a_known_price(
        self, log: pytest.LogCaptureFixture
    ) -> None:
        """Without a log line: nothing is wrong with the price."""
        assert pricing.price("openai", "gpt-4o", answer(None), PRICE) is None
        assert log.messages == []

    @pytest.mark.parametrize("model", ["whisper-1", "text-embedding-3-small"])
    def test_a_model_listed_without_prices_for_tokens_both_ways_is_not_free(
        self, model: str
    ) -> None:
        assert pricing.price("openai", model, answer(SMALL)) is None

    @pytest.mark.parametrize(
        "usage",
        [
            Usage(input_tokens=10, cache_read_tokens=11),
            Usage(input_tokens=10, cache_write_tokens=5, cache_write_1h_tokens=6),
            Usage(input_tokens=-1),
            Usage(output_tokens=-1),
        ],
    )
    @pytest.mark.parametrize("own", [None, PRICE])
    def test_a_usage_that_does_not_add_up_is_unpriced_and_said_once(
        self, usage: Usage, own: ModelPrice | None, log: pytest.LogCaptureFixture
    ) -> None:
        for _ in range(2):
            assert pricing.price("openai", "gpt-4o", answer(usage), own) is None
        assert len(log.messages) == 1

    def test_a_failure_inside_genai_prices_is_unpriced_and_said_once(
        self, log: pytest.LogCaptureFixture
    ) -> None:
        broken = model_info("m", theirs.ModelPrice(input_mtok="free?", output_mtok=None))  # type: ignore[arg-type]
        set_custom_snapshot(snapshot(broken))
        for _ in range(2):
            assert pricing.price("acme", "m", answer(SMALL)) is None
        assert len(log.messages) == 1
        assert "pricing failed: ValueError" in log.messages[0]

    def test_without_genai_prices_one_line_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.delitem(sys.modules, "pyagent_providers.price_table")
        monkeypatch.setitem(sys.modules, "genai_prices", None)
        assert pricing.price("openai", "gpt-4o", answer(SMALL)) is None
        assert pricing.price("anthropic", "claude-sonnet-4-20250514", answer(SMALL)) is None
        assert pricing.price("openai", "gpt-4o", answer(SMALL), PRICE) is not None
        assert len(log.messages) == 1
        assert 'pip install "pyagent-sdk[openai]"' in log.messages[0]


class TestOrder:
    def test_what_the_provider_reported_comes_before_all(self) -> None:
        set_price("gpt-4o", PRICE)
        completion = answer(SMALL, reported_usd=Decimal("0.5"))
        cost = pricing.price("openai", "gpt-4o", completion, PRICE)
        assert cost == Cost(Decimal("0.5"), "provider")

    def test_a_reported_cost_needs_no_usage_and_may_be_zero(self) -> None:
        completion = answer(None, reported_usd=Decimal(0))
        assert pricing.price("x", "y", completion) == Cost(Decimal(0), "provider")

    @pytest.mark.parametrize("nonsense", ["NaN", "Infinity", "-0.01"])
    def test_a_reported_cost_that_is_no_amount_of_money_is_passed_over(self, nonsense: str) -> None:
        completion = answer(SMALL, reported_usd=Decimal(nonsense))
        assert pricing.price("x", "y", completion, PRICE) == Cost(PRICE_OF_SMALL, "user")

    def test_the_price_of_an_llm_comes_before_set_price(self) -> None:
        set_price("gpt-4o", ModelPrice(100, 100))
        assert pricing.price("openai", "gpt-4o", answer(SMALL), PRICE) == Cost(
            PRICE_OF_SMALL, "user"
        )

    def test_set_price_comes_before_genai_prices_until_it_is_removed(self) -> None:
        set_price("gpt-4o", PRICE)
        dated = answer(SMALL, model="gpt-4o-2024-08-06")
        assert pricing.price("openai", "gpt-4o", dated) == Cost(PRICE_OF_SMALL, "user")
        set_price("gpt-4o", None)
        set_price("gpt-4o", None)  # twice is no error
        cost = pricing.price("openai", "gpt-4o", dated)
        assert cost is not None
        assert cost.source == "genai-prices"

    def test_a_price_set_for_one_provider_holds_there_only_and_comes_first_there(self) -> None:
        set_price("local", PRICE, provider="openai")
        assert pricing.price("groq", "local", answer(SMALL)) is None
        set_price("local", ModelPrice(0, 0))
        here, elsewhere = (pricing.price(p, "local", answer(SMALL)) for p in ("openai", "groq"))
        assert here == Cost(PRICE_OF_SMALL, "user")
        assert elsewhere == Cost(Decimal(0), "user")

    def test_a_price_set_for_the_model_that_answered_comes_before_the_one_asked_for(self) -> None:
        set_price("asked", ModelPrice(100, 100))
        set_price("answered", PRICE)
        cost = pricing.price("openai", "asked", answer(SMALL, model="answered"))
        assert cost == Cost(PRICE_OF_SMALL, "user")

    def test_set_price_refuses_what_could_only_fail_later(self) -> None:
        with pytest.raises(TypeError, match=r"price of 'm' must be a ModelPrice"):
            set_price("m", 2.5)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="model must name a model"):
            set_price("", PRICE)

    async def test_a_call_through_an_llm_carries_its_cost(self) -> None:
        class Fake(LLM):
            async def _complete(self, request: Request) -> Completion:
                return Completion(text="hi", usage=SMALL, finish_reason="stop")

        priced = await Fake("gpt-4o", provider="openai").complete("hello")
        own = await Fake("gpt-4o", provider="openai", price=PRICE).complete("hello")
        assert (priced.cost and priced.cost.usd, own.cost) == (
            Decimal("0.035"),
            Cost(PRICE_OF_SMALL, "user"),
        )


class TestModelPrice:
    def test_prices_are_taken_as_written(self) -> None:
        price = ModelPrice(0.1, "0.40", cache_read=Decimal("0.025"), cache_write=1)
        assert price == ModelPrice(
            Decimal("0.1"), Decimal("0.4"), cache_read="0.025", cache_write=1.0
        )
        assert price.cost(Usage(input_tokens=1)) == Decimal("0.0000001")

    def test_missing_cache_prices_fall_back(self) -> None:
        usage = Usage(
            input_tokens=1_000_000,
            cache_read_tokens=300_000,
            cache_write_tokens=400_000,
            cache_write_1h_tokens=100_000,
        )
        assert ModelPrice(10, 0).cost(usage) == 10
        assert ModelPrice(10, 0, cache_read=1).cost(usage) == Decimal("7.3")
        assert ModelPrice(10, 0, cache_write=20).cost(usage) == 14
        assert ModelPrice(10, 0, cache_write=20, cache_write_1h=40).cost(usage) == 16

    @pytest.mark.parametrize(
        "field", ["input", "output", "cache_read", "cache_write", "cache_write_1h"]
    )
    @pytest.mark.parametrize("bad", [-1, "-0.01", float("nan"), "inf", "two"])
    def test_a_price_that_is_no_price_is_refused_by_name(self, field: str, bad: object) -> None:
        with pytest.raises(ValueError, match=rf"^{field} must be US dollars per million tokens"):
            ModelPrice(**{"input": 1, "output": 1, field: bad})  # type: ignore[arg-type]


class TestUnderConcurrency:
    def test_threads_pricing_at_once_get_the_figures_of_one(self) -> None:
        models = [name for provider, _, name in listed() if provider.id == "openai"][:40]
        alone = PriceTable(NOON.timestamp)
        expected = [alone.cost("openai", (m,), None, SMALL) for m in models]
        shared = PriceTable(NOON.timestamp)

        def all_costs(_: int) -> list[Cost | None]:
            return [shared.cost("openai", (m,), None, SMALL) for m in models]

        with ThreadPoolExecutor(8) as threads:
            assert all(costs == expected for costs in threads.map(all_costs, range(8)))


def test_importing_the_package_does_not_import_genai_prices() -> None:
    code = (
        "import sys, pyagent_providers as p\n"
        "p.set_price('m', p.ModelPrice(1, 2))\n"
        "assert not [m for m in sys.modules if m.startswith('genai_prices')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pricing_a_completion_changes_nothing_else_of_it() -> None:
    completion = Completion(
        text="hello",
        usage=Usage(input_tokens=3, output_tokens=2),
        model="m-2",
        finish_reason="stop",
        response_id="r1",
        tool_calls=(ToolCall(id="c1", name="look", arguments="{}"),),
        service_tier="flex",
        reported_usd=Decimal("0.5"),
    )
    cost = Cost(Decimal("0.25"), "user")

    assert completion.priced(cost) == replace(completion, cost=cost)
    assert all(getattr(completion, each.name) for each in fields(completion)[:-1])
