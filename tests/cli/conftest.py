"""Where the commands are tried: a directory of its own, with a team's file in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def newsroom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The team's file, in the current directory, where the journal is looked for too."""
    for name in ("PYAGENT_DB", "PYAGENT_DATABASE_URL", "FORCE_COLOR", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(Path(__file__).with_name("newsroom.py"), tmp_path))
