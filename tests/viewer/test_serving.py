"""The viewer on its address: where it listens, and that it stops."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from pyagent_exporters.viewer.security import Access
from pyagent_exporters.viewer.serving import PortInUseError, Viewer
from pyagent_exporters.viewer.store import SpanStore

from .asking import ask
from .conftest import Serve, served


def test_it_listens_on_loopback_only_unless_told_otherwise(store: SpanStore) -> None:
    with served(store) as viewer:
        assert viewer.url == f"http://127.0.0.1:{viewer.access.port}"
        assert viewer.entrance == f"{viewer.url}/"
        others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
        for address in others - {"127.0.0.1", "127.0.1.1", "::1"}:
            with pytest.raises(OSError), socket.create_connection((address, viewer.access.port), 1):  # noqa: PT011
                pass


def test_the_way_in_has_the_token_in_it_and_the_address_has_not(store: SpanStore) -> None:
    with served(store, Access(token="a&b=c%d")) as viewer:
        assert viewer.entrance == f"{viewer.url}/?token=a%26b%3Dc%25d"
        assert ask(viewer, viewer.entrance.removeprefix(viewer.url)).status == 303
        assert "a&b" not in viewer.url


def test_ipv6_has_its_brackets(store: SpanStore) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 on this machine")
    try:
        viewer = Viewer(store, Access(host="::1"), source="")
    except Exception as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    assert viewer.url.startswith("http://[::1]:")
    thread = threading.Thread(target=lambda: asyncio.run(viewer.serve()))
    thread.start()
    assert ask(viewer, "/version").status == 200
    viewer.stop()
    thread.join(10)


def test_a_port_in_use_is_said_so(serve: Serve, store: SpanStore) -> None:
    port = serve().access.port
    with pytest.raises(PortInUseError, match=f"127.0.0.1:{port}: the port is in use"):
        Viewer(store, Access(port=port), source="")


def test_once_stopped_the_port_is_free(store: SpanStore) -> None:
    with served(store) as viewer:
        port = viewer.access.port
    with served(store, Access(port=port)) as viewer:
        assert ask(viewer, "/version").json() == {"version": 0}
