"""How many examples a property is tried on."""

from __future__ import annotations

import os

from hypothesis import settings


def examples(quick: int, *, slow: int) -> settings:
    """So many every day; so many with PYAGENT_PROPERTIES=slow."""
    is_slow = os.environ.get("PYAGENT_PROPERTIES") == "slow"
    return settings(max_examples=slow if is_slow else quick)
