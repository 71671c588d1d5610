"""Placeholder until the adapter lands."""

from __future__ import annotations

from .base import LLM


class AnthropicLLM(LLM): ...
