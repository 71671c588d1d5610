"""Run a plan's graph: a task starts the moment its dependencies are done, never in waves."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeAlias, TypeVar

from .journal import Suspend

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Node(Generic[T]):
    """A task of the graph: `work` is given the results of `depends_on`, by name."""

    depends_on: tuple[str, ...]
    work: Callable[[Mapping[str, T]], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """It gave this value."""

    value: T


@dataclass(frozen=True, slots=True)
class Failed:
    """It raised an error that others survive."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Skipped:
    """Never started, since these of its dependencies did not finish."""

    because: tuple[str, ...]


Settled: TypeAlias = "Done[T] | Failed | Skipped"


async def run_graph(
    nodes: Mapping[str, Node[T]],
    *,
    survive: type[Exception],
    pass_over: Callable[[Exception], bool] = lambda error: False,
    limit: int | None = None,
    on_settled: Callable[[str, Settled[T]], None] = lambda name, settled: None,
) -> dict[str, Settled[T]]:
    """Run every node of an acyclic graph; the results by name, in the order of `nodes`.

    At most `limit` run at once (None: no limit). A node that raises `survive` is `Failed`, what
    depends on it `Skipped`, and the rest goes on; if it is to `pass_over` the error, what depends
    on it is started without that result. Any other exception cancels what runs and is
    raised; so does cancelling the caller. Nothing is left running either way. A node that raises
    `Suspend` is left where it is; when nothing else can run, one `Suspend` for all such is raised.
    """
    settled: dict[str, Settled[T]] = {}
    values: dict[str, T] = {}
    passed_over: set[str] = set()
    dependents: dict[str, list[str]] = {name: [] for name in nodes}
    waiting = {name: len(node.depends_on) for name, node in nodes.items()}
    for name, node in nodes.items():
        for dependency in node.depends_on:
            dependents[dependency].append(name)
    ready = deque(name for name, count in waiting.items() if not count)
    running = 0
    suspended: Suspend | None = None
    # One context for the whole fan-out: a task that is started when another ends must not
    # inherit what that one set.
    context = contextvars.copy_context()

    async def run(name: str) -> None:
        nonlocal running, suspended
        inputs = {d: values[d] for d in nodes[name].depends_on if d in values}
        try:
            how: Settled[T] = Done(await nodes[name].work(inputs))
        except survive as error:
            how = Failed(error)
            if pass_over(error):
                passed_over.add(name)
        except Suspend as wait:
            suspended = wait if suspended is None else Suspend.both(suspended, wait)
            running -= 1
            start_ready()
            return
        running -= 1
        settle(name, how)
        start_ready()

    def settle(name: str, how: Settled[T]) -> None:
        settled[name] = how
        if isinstance(how, Done):
            values[name] = how.value
        on_settled(name, how)
        for dependent in dependents[name]:
            waiting[dependent] -= 1
            if waiting[dependent]:
                continue
            had = values.keys() | passed_over
            lost = tuple(d for d in nodes[dependent].depends_on if d not in had)
            if lost:
                settle(dependent, Skipped(lost))
            else:
                ready.append(dependent)

    def start_ready() -> None:
        nonlocal running
        while ready and (limit is None or running < limit):
            running += 1
            group.create_task(run(ready.popleft()), context=context.copy())

    try:
        async with asyncio.TaskGroup() as group:
            start_ready()
    except BaseExceptionGroup as several:
        first = several.exceptions[0]
        raise first from first.__cause__
    if suspended is not None:
        raise suspended
    return {name: settled[name] for name in nodes}


async def together(work: Mapping[str, Callable[[], Awaitable[T]]]) -> dict[str, T]:
    """Do all at once; one that waits for a person does not keep the others waiting."""

    async def do(one: Callable[[], Awaitable[T]], nothing: Mapping[str, T]) -> T:
        return await one()

    nodes: dict[str, Node[T]] = {name: Node((), partial(do, one)) for name, one in work.items()}
    settled = await run_graph(nodes, survive=_Nothing)
    return {name: how.value for name, how in settled.items() if isinstance(how, Done)}


class _Nothing(Exception):
    """What no work raises that is done together: any error ends all."""
