"""How long the viewer's pages take in Chromium, from the click to all of it on the screen."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

LOADS = 9  # of each page, after one that fills the browser's cache

_CHROMIUM = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
# Runs before any script of a page: `ready` is when, after all has loaded, a frame has been drawn.
_WATCH = """
window.ready = new Promise((done) => addEventListener("load", () =>
  requestAnimationFrame(() => setTimeout(() => done(performance.now())))));
"""
_TIMES = """async () => {
  const ready = await window.ready;
  return [performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd, ready];
}"""


def missing() -> str | None:
    """What this machine lacks to look at pages; None if nothing."""
    if shutil.which("chromium") is None:
        return "no Chromium on this machine: apt-get install chromium"
    if find_spec("playwright") is None:
        return "no Playwright in this environment: pip install playwright"
    return None


def measured(store: Path, pages: Mapping[str, str]) -> dict[str, float]:
    """The medians, in milliseconds, of these pages of a store that `pyagent ui` serves.

    `pages` are paths by name; what comes out is called `NAME: DOMContentLoaded` and `NAME: ready`.
    """
    from playwright.sync_api import sync_playwright

    taken: dict[str, list[Sequence[float]]] = {name: [] for name in pages}
    with _served(store) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(_CHROMIUM)
        )
        page = browser.new_page()
        page.add_init_script(_WATCH)
        for _ in range(1 + LOADS):
            for name, path in pages.items():
                page.goto(url + path, wait_until="commit")
                taken[name].append(page.evaluate(_TIMES))
        browser.close()
    return {
        f"{name}: {moment}": statistics.median(each[n] for each in times[1:])
        for name, times in taken.items()
        for n, moment in enumerate(("DOMContentLoaded", "ready"))
    }


@contextmanager
def _served(store: Path) -> Generator[str]:
    """A viewer of that store as users start it, by its address."""
    command = [sys.executable, "-m", "pyagent_patterns.cli", "ui", str(store)]
    with subprocess.Popen(
        [*command, "--port", "0", "--no-open"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip().rstrip("/")
        finally:
            process.terminate()
