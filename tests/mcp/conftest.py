"""No test of MCP servers may leave a process or a task behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from .helpers import children


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    """No test may leave a process or a task behind it."""
    before = children()
    yield
    assert children() <= before
    assert asyncio.all_tasks() == {asyncio.current_task()}
