"""The adapters the conformance suite runs against. A new provider adds its row here.

A `Subject` says how to build the adapter against a loopback server and what, if anything, its
provider's API cannot express (`lacks`); every claim in `test_conformance.py` then holds for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, Protocol

import pytest

from pyagent_providers import LLM, AnthropicLLM, GeminiLLM, LiteLLM, OpenAILLM
from tests.wire import CHAT, GEMINI, MESSAGES, RESPONSES, Dialect, Reply, WireServer

Feature = Literal[
    "temperature",
    "top_p",
    "stop",
    "seed",
    "refusal",
    "streamed_refusal",
    "cache_write",
    "reasoning",
    "broken_arguments",
]


class MakeLLM(Protocol):
    """`base_url` None leaves the address to the environment, `api_key` None the key."""

    def __call__(
        self,
        *,
        base_url: str | None,
        api_key: str | None = "sk-test-key",
        timeout: float = 60.0,
        client: Any = None,
    ) -> LLM: ...


@dataclass(frozen=True, kw_only=True)
class Subject:
    name: str
    dialect: Dialect
    make: MakeLLM
    sdk: str  # the module that must be importable
    extra: str  # pip install "pyagent-sdk[extra]"
    key_variables: tuple[str, ...]  # the first is the one an error must name
    base_url_variable: str | None
    make_client: Callable[[str], Any] | None = None
    """A client of the provider's own SDK for a base URL, as an application might pass in."""
    is_open: Callable[[Any], bool] = lambda client: True
    close_client: Callable[[Any], Awaitable[object]] = lambda client: client.close()
    lacks: frozenset[Feature] = frozenset()
    llmock: str | None = None
    """The provider's name at `llmock`, a third party's fault server (see `test_llmock.py`)."""
    marks: tuple[pytest.MarkDecorator, ...] = ()
    llmock_path: str = ""
    """What the base URL there needs at its end."""

    def __str__(self) -> str:
        return self.name


def _openai(api: Literal["chat", "responses"]) -> MakeLLM:
    def make(
        *,
        base_url: str | None,
        api_key: str | None = "sk-test-key",
        timeout: float = 60.0,
        client: Any = None,
    ) -> LLM:
        return OpenAILLM(
            "gpt-4o",
            api=api,
            base_url=base_url,
            api_key=api_key,
            timeout=timeout,
            client=client,
        )

    return make


def _openai_client(base_url: str) -> Any:
    import openai

    return openai.AsyncOpenAI(base_url=base_url, api_key="sk-own-client-key", max_retries=0)


def _anthropic(
    *,
    base_url: str | None,
    api_key: str | None = "sk-test-key",
    timeout: float = 60.0,
    client: Any = None,
) -> LLM:
    return AnthropicLLM(
        "claude-sonnet-4-5", base_url=base_url, api_key=api_key, timeout=timeout, client=client
    )


def _anthropic_client(base_url: str) -> Any:
    import anthropic

    return anthropic.AsyncAnthropic(base_url=base_url, api_key="sk-own-client-key")


def _gemini(
    *,
    base_url: str | None,
    api_key: str | None = "sk-test-key",
    timeout: float = 60.0,
    client: Any = None,
) -> LLM:
    return GeminiLLM(
        "gemini-2.5-flash", base_url=base_url, api_key=api_key, timeout=timeout, client=client
    )


def _gemini_client(base_url: str) -> Any:
    import httpx2
    from google import genai

    options = {"base_url": base_url, "httpx_async_client": httpx2.AsyncClient()}
    return genai.Client(vertexai=False, api_key="sk-own-client-key", http_options=options)


async def _close_gemini(client: Any) -> None:
    await client._api_client._async_httpx_client.aclose()
    await client.aio.aclose()
    client.close()


# LiteLLM uses what pydantic has deprecated, on every call.
_NOISY = (pytest.mark.filterwarnings("ignore::DeprecationWarning"),)


def _litellm(
    *,
    base_url: str | None,
    api_key: str | None = "sk-test-key",
    timeout: float = 60.0,
    client: Any = None,
) -> LLM:
    return LiteLLM("gpt-4o", base_url=base_url, api_key=api_key, timeout=timeout, client=client)


_OPENAI: dict[str, Any] = {
    "sdk": "openai",
    "extra": "openai",
    "key_variables": ("OPENAI_API_KEY",),
    "base_url_variable": "OPENAI_BASE_URL",
    "make_client": _openai_client,
    "is_open": lambda client: not client.is_closed(),
    "llmock": "openai",
}

ALL: tuple[Subject, ...] = (
    Subject(name="openai-chat", dialect=CHAT, make=_openai("chat"), **_OPENAI),
    Subject(
        name="openai-responses",
        dialect=RESPONSES,
        make=_openai("responses"),
        lacks=frozenset({"seed", "stop"}),
        **_OPENAI,
    ),
    Subject(
        name="anthropic",
        dialect=MESSAGES,
        make=_anthropic,
        sdk="anthropic",
        extra="anthropic",
        key_variables=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
        base_url_variable="ANTHROPIC_BASE_URL",
        make_client=_anthropic_client,
        is_open=lambda client: not client.is_closed(),
        lacks=frozenset({"seed"}),
        llmock="anthropic",
    ),
    Subject(
        name="gemini",
        dialect=GEMINI,
        make=_gemini,
        sdk="google.genai",
        extra="google",
        key_variables=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        base_url_variable="GOOGLE_GEMINI_BASE_URL",
        make_client=_gemini_client,
        close_client=_close_gemini,
        lacks=frozenset({"cache_write", "broken_arguments"}),  # Google keeps those to itself
        llmock="gemini",
        llmock_path="/v1beta",
    ),
    Subject(
        name="litellm-openai",
        dialect=CHAT,
        make=_litellm,
        sdk="litellm",
        marks=_NOISY,
        extra="litellm",
        key_variables=("OPENAI_API_KEY",),
        base_url_variable="OPENAI_BASE_URL",
        make_client=_openai_client,
        is_open=lambda client: not client.is_closed(),
        lacks=frozenset({"streamed_refusal"}),  # LiteLLM drops those chunks
        llmock="openai",
    ),
)

_WARM: set[str] = set()


def warm_up(subject: Subject) -> None:
    """Have the SDK imported, all of it: LiteLLM imports most of itself in its first call.

    In a thread, to leave the test's own event loop alone.
    """
    if subject.name in _WARM:
        return
    _WARM.add(subject.name)
    with WireServer() as server, ThreadPoolExecutor() as threads:
        server.script(Reply())
        llm = subject.make(base_url=server.base_url(subject.dialect))
        threads.submit(lambda: asyncio.run(llm.complete("Hi"))).result()


# LiteLLM and the newest OpenAI SDK exclude each other: the suite runs in an environment for each.
SUBJECTS = tuple(subject for subject in ALL if find_spec(subject.sdk.partition(".")[0]))
