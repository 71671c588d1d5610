"""The toolsets that a run has open: each from when it is first needed until the run ends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from .log import logger
from .tools import Tool, Toolset


class OpenToolsets:
    """Opens toolsets for one run; leaving the block closes them, whichever task opened them."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._open: dict[int, Mapping[str, Tool]] = {}
        self._opening: dict[int, asyncio.Lock] = {}

    async def tools(self, toolset: Toolset) -> Mapping[str, Tool]:
        """What it brings, by name; opened now if it is not."""
        its = id(toolset)
        async with self._opening.setdefault(its, asyncio.Lock()):
            if its not in self._open:
                tools = await self._stack.enter_async_context(toolset.open())
                self._open[its] = {tool.name: tool for tool in tools}
        return self._open[its]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._stack.__aexit__(kind, error, traceback)
        except Exception as fault:
            if fault is error:
                raise
            # What the run came to is not lost with a server that does not end in good order.
            logger.warning("a toolset failed when it was closed", exc_info=fault)
