"""The dialects the wire server speaks, one line each."""

from __future__ import annotations

from .anthropic import MESSAGES
from .gemini import GEMINI
from .openai_chat import CHAT
from .openai_responses import RESPONSES
from .server import Dialect

DIALECTS: tuple[Dialect, ...] = (CHAT, RESPONSES, MESSAGES, GEMINI)

__all__ = ["CHAT", "DIALECTS", "GEMINI", "MESSAGES", "RESPONSES"]
