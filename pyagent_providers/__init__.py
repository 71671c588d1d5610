"""Models behind one port. An adapter loads when it is named, its SDK when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from .base import (
    LLM,
    CallableLLM,
    Completion,
    Cost,
    LLMLike,
    Message,
    OutputSchema,
    Request,
    Sampling,
    ToolCall,
    ToolSpec,
    Usage,
    as_llm,
)
from .errors import ProviderError
from .pricing import ModelPrice, set_price
from .version import __version__

if TYPE_CHECKING:
    from .anthropic import AnthropicLLM
    from .gemini import GeminiLLM
    from .litellm import LiteLLM
    from .openai import OpenAILLM

__all__ = [
    "OpenAILLM",
    "AnthropicLLM",
    "GeminiLLM",
    "LiteLLM",
    "LLM",
    "CallableLLM",
    "LLMLike",
    "as_llm",
    "Message",
    "ToolCall",
    "ToolSpec",
    "OutputSchema",
    "Request",
    "Sampling",
    "Completion",
    "Usage",
    "Cost",
    "ModelPrice",
    "set_price",
    "ProviderError",
    "__version__",
]

_ADAPTERS: Final = {
    "OpenAILLM": "openai",
    "AnthropicLLM": "anthropic",
    "GeminiLLM": "gemini",
    "LiteLLM": "litellm",
}


def __getattr__(name: str) -> object:
    if name in _ADAPTERS:
        return getattr(import_module(f".{_ADAPTERS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
