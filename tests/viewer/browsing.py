"""A browser's window in tests: it takes down whatever its pages complain of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_HEIGHT = 900
# Runs before any script of a page, and tells the console what the policy stopped.
_WATCH = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`);
});
"""


class Window:
    """One window, with a profile of its own. `page` is Playwright's."""

    def __init__(self, browser: Browser, *, width: int, scheme: str, script: bool) -> None:
        self._context = browser.new_context(
            viewport={"width": width, "height": _HEIGHT},
            color_scheme="dark" if scheme == "dark" else "light",
            java_script_enabled=script,
        )
        self._complaints: list[str] = []
        self.status = 0  # of the page that was opened last
        self.expected_statuses: set[int] = set()
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(10_000)
        if script:
            self.page.add_init_script(_WATCH)
        self.page.on("console", lambda message: self._note(message.type, message.text))
        self.page.on("pageerror", lambda error: self._complaints.append(f"error: {error}"))

    def open(self, url: str) -> Page:
        """Go there, and wait until all of it has come."""
        answer = self.page.goto(url, wait_until="load")
        assert answer is not None
        self.status = answer.status
        return self.page

    @property
    def is_too_wide(self) -> bool:
        """Whether the page as a whole has to be scrolled sideways."""
        return bool(
            self.page.evaluate(
                "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            )
        )

    def forgive(self, words: str) -> None:
        """What was complained of with these words was meant to happen."""
        self._complaints = [line for line in self._complaints if words not in line]

    def close(self) -> Sequence[str]:
        """What the pages complained of."""
        self._context.close()
        return self._complaints

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            expected = any(f"status of {status} " in text for status in self.expected_statuses)
            if not expected:
                self._complaints.append(f"{kind}: {text}")
