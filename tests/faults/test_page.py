"""The page in docs/ is the table that the tests run."""

from __future__ import annotations

from pathlib import Path

from tests.faults.page import page

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"


def test_the_committed_page_is_what_the_table_gives() -> None:
    assert PAGE.read_text() == page(), "python -m tests.faults.page > docs/faults.md"
