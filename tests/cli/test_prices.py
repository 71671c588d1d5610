"""`models`: what models cost, by the table that prices the calls."""

from __future__ import annotations

import json
import sys
from decimal import Decimal

import pytest

from pyagent_providers import OpenAILLM, Usage

from .commands import pyagent, table

pytest.importorskip("genai_prices")
MILLION = Usage(input_tokens=1_000_000, output_tokens=0)


def test_the_models_that_are_asked_for_are_listed_with_their_adapter() -> None:
    result = pyagent("models", "openai/gpt-4o-mini")
    rows = {row[1]: row for row in table(result.stdout)}
    assert rows["gpt-4o-mini"] == [
        *("openai", "gpt-4o-mini", "0.15", "0.6", "0.075", "128,000", "OpenAILLM")
    ]
    assert "per million tokens, by genai-prices 0." in result.stderr


def test_a_price_that_is_listed_is_the_price_that_is_counted() -> None:
    shown = json.loads(pyagent("models", "openai/", "gpt-4o", "--json").stdout)
    assert shown["genai_prices"]
    model = next(model for model in shown["models"] if model["model"] == "gpt-4o")
    counted = OpenAILLM("gpt-4o", api_key="a-key").price_of(MILLION)
    assert Decimal(model["input"]) == counted


def test_every_provider_has_an_adapter_and_our_own_come_first() -> None:
    models = json.loads(pyagent("models", "--json").stdout)["models"]
    adapters = [model["adapter"] for model in models]
    assert list(dict.fromkeys(adapters)) == [
        "OpenAILLM",
        "AnthropicLLM",
        "GeminiLLM",
        "LiteLLM",
    ]
    assert all(Decimal(model["input"]) >= 0 for model in models)


def test_a_model_that_nobody_has_a_price_for_is_told() -> None:
    result = pyagent("models", "nothing-like-this")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no model with 'nothing-like-this' has a price" in result.stderr


def test_without_the_price_table_the_command_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "pyagent_providers.price_list", raising=False)
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    result = pyagent("models")
    assert result.exit_code == 2
    assert "pip install" in result.stderr
