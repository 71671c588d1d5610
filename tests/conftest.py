"""What every test may use: a server that speaks the providers' wire formats."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire import WireServer


@pytest.fixture
def wire() -> Iterator[WireServer]:
    """A running wire server; the test fails if its script and its requests do not match up."""
    with WireServer() as server:
        yield server
        server.check()
