"""What the backends' tests share: an environment of their own, and a wire server."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.wire import WireServer


@pytest.fixture(scope="module", autouse=True)
def _variables() -> Iterator[None]:
    """No OTEL_* but the one that every trace backend wants: they take no metrics."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("OTEL_"):
                patch.delenv(name)
        patch.setenv("OTEL_METRICS_EXPORTER", "none")
        yield


@pytest.fixture(scope="module")
def provider() -> Iterator[WireServer]:
    """A running wire server for all of a module's runs."""
    with WireServer() as server:
        yield server
