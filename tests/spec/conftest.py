"""A folder with a module of tools beside which definitions are written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pyagent_patterns.spec import DefinitionError, Fault, load

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a definition; `parts.py` is beside it."""
    shutil.copy(Path(__file__).with_name("parts.py"), tmp_path)
    monkeypatch.setenv("A_KEY", "sk-very-secret")
    monkeypatch.delenv("NO_KEY", raising=False)

    def write(text: str, name: str = "team.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def faults_of(path: Path) -> list[Fault]:
    """Everything that is wrong with a definition."""
    with pytest.raises(DefinitionError) as raised:
        load(path)
    return list(raised.value.faults)


def told(path: Path) -> list[str]:
    """The same, each as its line and what is said."""
    return [f"{fault.line}: {fault.at}: {fault.message}" for fault in faults_of(path)]
