"""Models behind one port. An adapter's SDK loads on first use, never on import."""

from __future__ import annotations

from .anthropic import AnthropicLLM
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
from .gemini import GeminiLLM
from .litellm import LiteLLM
from .openai import OpenAILLM
from .pricing import ModelPrice, set_price

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
]
