"""The servers that runs on many machines are tested with, one for each module."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from .postgres import LocalPostgres
from .temporal_server import temporal_server


@pytest.fixture(scope="module")
def server() -> Generator[LocalPostgres]:
    with LocalPostgres(sync=False) as server:
        yield server


@pytest.fixture
def url(server: LocalPostgres) -> str:
    """A database of the test's own."""
    return server.new_database()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Where Temporal's server is."""
    with temporal_server(tmp_path_factory.mktemp("temporal")) as address:
        yield address
