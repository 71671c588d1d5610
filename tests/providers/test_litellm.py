"""What is LiteLLM's own: the provider behind a name, what it makes up, its price as a last word."""

from __future__ import annotations

import asyncio
import gc
from decimal import Decimal
from typing import Any

import pytest

from pyagent_providers import LiteLLM, pricing
from pyagent_providers.errors import (
    BadRequestError,
    MissingAPIKeyError,
    RateLimitError,
    RequestTimeoutError,
)
from pyagent_providers.types import Completion, Sampling, Usage
from tests.wire import CHAT, GEMINI, MESSAGES, Failure, Reply, Stall, WireServer

pytest.importorskip("litellm")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # LiteLLM's, on every call


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o", "openai"),
        ("openai/gpt-4o", "openai"),
        ("claude-sonnet-4-5", "anthropic"),
        ("anthropic/claude-haiku-3.5", "anthropic"),
        ("gemini/gemini-2.5-flash", "gcp.gemini"),
        ("gemini-2.5-flash", "gcp.vertex_ai"),
        ("vertex_ai/gemini-2.5-pro", "gcp.vertex_ai"),
        ("azure/my-deployment", "azure.ai.openai"),
        ("bedrock/anthropic.claude-sonnet-4-5-v1:0", "aws.bedrock"),
        ("mistral/mistral-large-latest", "mistral_ai"),
        ("xai/grok-4", "x_ai"),
        ("groq/llama-3.3-70b", "groq"),
        ("openrouter/openai/gpt-4o", "openrouter"),
    ],
)
def test_the_provider_is_the_one_behind_litellm(model: str, provider: str) -> None:
    llm = LiteLLM(model)
    assert (llm.provider, llm.model) == (provider, model)


@pytest.mark.parametrize(
    ("model", "dialect", "version"),
    [
        ("anthropic/claude-haiku-3.5", MESSAGES, ""),
        ("gemini/gemini-2.5-flash", GEMINI, "/v1beta"),
        ("gpt-4o", CHAT, ""),
    ],
    ids=["anthropic", "gemini", "openai"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
async def test_each_of_the_three_runs_as_written(
    wire: WireServer, model: str, dialect: Any, version: str, stream: bool
) -> None:
    usage = Usage(input_tokens=9, output_tokens=4)
    wire.script(Reply("One two.", usage=usage))
    llm = LiteLLM(model, base_url=wire.base_url(dialect) + version, api_key="k")
    if stream:
        *pieces, completion = [item async for item in llm.stream("Count.")]
        assert "".join(str(piece) for piece in pieces) == "One two."
    else:
        completion = await llm.complete("Count.")
    assert isinstance(completion, Completion)
    assert completion.text == "One two."
    assert completion.usage == usage
    assert wire.last.sent.model == model.rpartition("/")[2]


@pytest.mark.parametrize(
    ("model", "dialect", "version"),
    [
        ("anthropic/claude-haiku-3.5", MESSAGES, ""),
        ("gemini/gemini-2.5-flash", GEMINI, "/v1beta"),
    ],
    ids=["anthropic", "gemini"],
)
async def test_an_error_from_behind_litellm_says_what_the_provider_said(
    wire: WireServer, model: str, dialect: Any, version: str
) -> None:
    wire.script(Failure("rate_limit", message="Slow down.", headers={"retry-after": "7"}))
    llm = LiteLLM(model, base_url=wire.base_url(dialect) + version, api_key="k")
    with pytest.raises(RateLimitError, match=r"Slow down\.") as caught:
        await llm.complete("Hi")
    assert caught.value.retry_after == 7
    assert len(wire.requests) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stream_that_falls_silent_is_a_timeout_where_litellm_would_wait_for_ever(
    wire: WireServer,
) -> None:
    wire.script(Reply(), Stall(after_text=True))
    url = wire.base_url(GEMINI) + "/v1beta"
    warm = LiteLLM("gemini/gemini-2.5-flash", base_url=url, api_key="k")
    asyncio.run(warm.complete("Hi"))  # the first call imports most of LiteLLM
    llm = LiteLLM("gemini/gemini-2.5-flash", base_url=url, api_key="k", timeout=0.2)

    async def read() -> None:
        async for _ in llm.stream("Hi"):
            pass

    with pytest.raises(RequestTimeoutError):
        asyncio.run(read())
    gc.collect()  # only this closes LiteLLM's connection, with a warning


async def test_a_parameter_the_provider_does_not_know_is_an_error(wire: WireServer) -> None:
    llm = LiteLLM("anthropic/claude-haiku-3.5", base_url=wire.base_url(MESSAGES), api_key="k")
    with pytest.raises(BadRequestError, match="seed"):
        await llm.complete("Hi", sampling=Sampling(seed=1))
    assert not wire.requests


def test_a_missing_key_names_the_upstream_providers_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(MissingAPIKeyError, match="GEMINI_API_KEY"):
        LiteLLM("gemini/gemini-2.5-flash").check()


async def test_its_own_price_counts_where_no_table_has_one(
    wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pricing, "price", lambda *_: None)
    wire.script(Reply(usage=Usage(input_tokens=10_000, output_tokens=1_000)))
    completion = await LiteLLM("gpt-4o", base_url=wire.base_url(CHAT), api_key="k").complete("Hi")
    assert completion.cost is not None
    assert completion.cost.usd == Decimal("0.035")
    assert completion.cost.source == "litellm"
    assert completion.cost.version


async def test_a_price_of_nothing_for_tokens_is_no_price(
    wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiteLLM says 0.0 of Anthropic models that its map does not list."""
    monkeypatch.setattr(pricing, "price", lambda *_: None)
    wire.script(Reply(usage=Usage(input_tokens=10_000, output_tokens=1_000)))
    llm = LiteLLM("anthropic/claude-haiku-3.5", base_url=wire.base_url(MESSAGES), api_key="k")
    assert (await llm.complete("Hi")).cost is None


def test_what_litellm_keeps_open_for_a_loop_is_closed_with_it(wire: WireServer) -> None:
    import litellm

    before = set(litellm.in_memory_llm_clients_cache.cache_dict)
    wire.script(Reply(), Reply())
    llm = LiteLLM("anthropic/claude-haiku-3.5", base_url=wire.base_url(MESSAGES), api_key="k")
    asyncio.run(llm.complete("Hi"))
    asyncio.run(llm.complete("Hi"))
    gc.collect()
    left = set(litellm.in_memory_llm_clients_cache.cache_dict) - before
    assert not [key for key in left if key.rpartition("-")[2].isdigit()]
