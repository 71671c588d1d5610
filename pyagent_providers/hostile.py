"""What a model wrote, made safe to show, and to put into another prompt."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

_ESCAPES: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor moves
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # titles
    r"|\x1b[ -/]*[0-~]?"
)
# Controls, bidirectional and other invisible format characters, surrogates, unassigned ones.
_DROPPED: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Cn"))


def shown(text: str) -> str:
    """The text without what could move a cursor or hide itself; lines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    text = _ESCAPES.sub("", text)
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in _DROPPED)


def free_tag(texts: Iterable[str], tag: str = "output") -> str:
    """A tag that no text contains, so that no output can pass for the end of another."""
    everything = "".join(texts)
    while f"<{tag}" in everything or f"</{tag}" in everything:
        tag += "_"
    return tag
