"""What the viewer's tests share: a viewer that is served over HTTP, and a browser."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from pyagent_exporters.viewer.security import Access
from pyagent_exporters.viewer.serving import Viewer
from pyagent_exporters.viewer.store import SpanStore

from . import showcase
from .browsing import Window

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Serve = Callable[..., Viewer]

_CHROMIUM = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(autouse=True)
def _no_otel_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def store() -> Iterator[SpanStore]:
    with SpanStore() as store:
        yield store


@pytest.fixture
def serve(store: SpanStore) -> Iterator[Serve]:
    """Serves the store until the test ends: `serve(host=..., token=...)`."""
    with ExitStack() as stack:

        def start(*, host: str = "127.0.0.1", token: str | None = None) -> Viewer:
            return stack.enter_context(served(store, Access(host=host, token=token)))

        yield start


@contextmanager
def served(store: SpanStore, access: Access | None = None) -> Generator[Viewer]:
    """A viewer on a free port, in a thread."""
    viewer = Viewer(store, access or Access(), source="runs.db")
    thread = threading.Thread(target=lambda: asyncio.run(viewer.serve()))
    thread.start()
    try:
        yield viewer
    finally:
        viewer.stop()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def showcase_store() -> Iterator[SpanStore]:
    """A store with real runs, with what was said in them; nobody changes it."""
    variable = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    with pytest.MonkeyPatch.context() as patch, SpanStore() as store:
        patch.setenv(variable, "SPAN_ONLY")
        showcase.fill(store, runs=16)
        yield store


@pytest.fixture(scope="session")
def showcase_viewer(showcase_store: SpanStore) -> Iterator[Viewer]:
    with served(showcase_store) as viewer:
        yield viewer


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser. Closed with its module: while it is there, no other event loop can run here."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=list(_CHROMIUM))
        yield browser
        browser.close()


@pytest.fixture
def window(chromium: Browser) -> Iterator[Callable[..., Window]]:
    """Opens windows: `window(width=400, scheme="dark")`. The test fails if a page of theirs
    logged an error or was stopped by its content security policy."""
    opened: list[Window] = []

    def opening(*, width: int = 1280, scheme: str = "light", script: bool = True) -> Window:
        new = Window(chromium, width=width, scheme=scheme, script=script)
        opened.append(new)
        return new

    yield opening
    complaints = [line for each in opened for line in each.close()]
    assert complaints == []
