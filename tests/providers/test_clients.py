"""SDK clients are shared within an event loop, never between loops, and never outlive one."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from pyagent_providers import OpenAILLM, clients
from pyagent_providers.clients import address_of, shared_client
from tests.wire import CHAT, Reply, WireServer

pytest.importorskip("openai")


class Resource:
    """Something to share that, like a real client, knows its loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.closed_in: asyncio.AbstractEventLoop | None = None

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed_in = asyncio.get_running_loop()


async def get(key: str = "key") -> Resource:
    return await shared_client(key, Resource, Resource.close)


async def test_adapters_of_one_endpoint_share_its_connections(wire: WireServer) -> None:
    wire.respond(lambda sent: Reply())
    base_url = wire.base_url(CHAT)
    for model in ("gpt-4o", "gpt-4o-mini", "gpt-4o"):
        await OpenAILLM(model, base_url=base_url, api_key="key-number-one").complete("Hi")
    await OpenAILLM("gpt-4o", base_url=base_url, api_key="key-number-two").complete("Hi")
    one, two, three, other_key = (request.peer for request in wire.requests)
    assert one == two == three
    assert other_key != one
    assert [request.sent.key for request in wire.requests][2:] == [
        "key-number-one",
        "key-number-two",
    ]


async def test_one_client_per_key() -> None:
    first, again, other = await asyncio.gather(get("a"), get("a"), get("b"))
    assert first is again
    assert first is not other


def test_a_client_is_closed_in_its_own_loop_when_that_ends() -> None:
    first = asyncio.run(get())
    second = asyncio.run(get())
    assert first is not second
    for resource in (first, second):
        assert resource.closed_in is resource.loop


def test_a_client_that_cannot_be_closed_keeps_none_of_the_others_open() -> None:
    class Stuck(Resource):
        async def close(self) -> None:
            raise RuntimeError("stuck")

    async def open_three() -> tuple[Resource, Resource]:
        # The loop's report of the failure goes to its exception handler, not to the caller.
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        first = await get("first")
        await shared_client("stuck", Stuck, Stuck.close)
        return first, await get("last")

    first, last = asyncio.run(open_three())
    assert first.closed_in is not None
    assert last.closed_in is not None


def test_nothing_keeps_a_loop_alive_that_has_ended() -> None:
    async def use() -> weakref.ref[asyncio.AbstractEventLoop]:
        await get()
        return weakref.ref(asyncio.get_running_loop())

    ended = asyncio.run(use())
    gc.collect()
    assert ended() is None


def test_a_loop_closed_without_a_shutdown_is_let_go_when_the_next_one_opens() -> None:
    async def use() -> weakref.ref[asyncio.AbstractEventLoop]:
        await get()
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.new_event_loop()
    abandoned = loop.run_until_complete(use())
    loop.close()
    del loop
    asyncio.run(get())
    gc.collect()
    assert abandoned() is None


async def test_waiting_for_a_free_connection_is_not_a_timeout(
    wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight calls of 0.1 s over one connection take longer together than each may alone."""
    monkeypatch.setattr(clients, "max_connections", lambda: 1)
    wire.respond(lambda sent: Reply(delay=0.1))
    llm = OpenAILLM("gpt-4o", base_url=wire.base_url(CHAT), timeout=0.5)
    completions = await asyncio.gather(*(llm.complete("Hi") for _ in range(8)))
    assert len(completions) == 8
    assert len({request.peer for request in wire.requests}) == 1


async def test_without_aiohttp_the_sdks_own_transport_is_used(
    wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openai

    def missing(**options: object) -> None:
        raise RuntimeError("To use the aiohttp client you must have installed the package with it")

    monkeypatch.setattr(openai, "DefaultAioHttpClient", missing)
    wire.script(Reply("Hello."))
    llm = OpenAILLM("gpt-4o", base_url=wire.base_url(CHAT))
    assert (await llm.complete("Hi")).text == "Hello."


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.openai.com/v1", ("api.openai.com", 443)),
        ("http://localhost", ("localhost", 80)),
        ("http://[::1]:8080/v1", ("::1", 8080)),
    ],
)
def test_the_address_of_a_base_url(url: str, expected: tuple[str, int]) -> None:
    assert address_of(url) == expected


@pytest.mark.parametrize("url", ["api.openai.com/v1", "ftp://example.org", "http://", "nonsense"])
def test_a_base_url_that_is_none_is_refused_by_name(url: str) -> None:
    with pytest.raises(ValueError, match="base_url must be an http"):
        address_of(url)
