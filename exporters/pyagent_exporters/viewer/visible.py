"""Text that a model wrote, with everything that would hide in it made visible."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from markupsafe import Markup, escape

# Neither moves nor hides anything: line ends, tabs, and what joins emoji and letters.
_HARMLESS: Final = frozenset("\n\t\u200c\u200d")
# Controls, bidirectional and other invisible format characters, surrogates, unassigned ones.
_HIDING: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Cn"))
_RUN: Final = re.compile(r"[^ -~\n]+")


def visible(text: str) -> Markup:
    """The text, escaped, with each character that could hide or turn it around named instead."""
    text = text.replace("\r\n", "\n")
    if text.isascii() and text.isprintable():
        return escape(text)
    return Markup().join(_pieces(text))


def _pieces(text: str) -> list[Markup]:
    pieces: list[Markup] = []
    end = 0
    for found in _RUN.finditer(text):
        if not any(map(_hides, found.group())):
            continue
        pieces.append(escape(text[end : found.start()]))
        pieces += [_named(c) if _hides(c) else escape(c) for c in found.group()]
        end = found.end()
    pieces.append(escape(text[end:]))
    return pieces


def _hides(character: str) -> bool:
    return character not in _HARMLESS and unicodedata.category(character) in _HIDING


def _named(character: str) -> Markup:
    return Markup('<span class="hidden-char">U+{:04X}</span>').format(ord(character))
