"""Every Python example in the README and the docs runs as written, against a local server."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path

import pytest

from tests.wire import CHAT, GEMINI, MESSAGES, WireServer
from tests.wire.team import team_responder

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        ROOT / "README.md",
        *(p for d in (DOCS, DOCS / "patterns", DOCS / "observability") for p in d.glob("*.md")),
    ]
)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_a_page_run_one_after_another(
    page: Path,
    wire: WireServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wire.respond(team_responder())
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "a-key")
    monkeypatch.setenv("OPENAI_BASE_URL", wire.base_url(CHAT))
    monkeypatch.setenv("ANTHROPIC_BASE_URL", wire.base_url(MESSAGES))
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", wire.base_url(GEMINI))
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "example"}
    text = page.read_text()
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start(1))
        source = "\n" * line + found.group(1)  # so that a traceback names the page's line
        code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if code.co_flags & inspect.CO_COROUTINE:

            async def run(code=code) -> None:
                await eval(code, namespace)

            asyncio.run(run())
        else:
            exec(code, namespace)


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_link_between_our_pages_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target
