"""The example with files, code and a skill runs as written: real HTTP, a real sandbox."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import pytest

from pyagent_providers import ToolCall
from tests.wire import CHAT, Reply, Sent, WireServer
from tests.wire.team import USAGE

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "data_clerk.py"
CALLS = [
    {"read_skill": {"name": "figures"}, "read_file": {"path": "sales.csv"}},
    {"run_python": {"code": "print('sum:', round(1200.40 + 980.10))"}},
]


def clerk(sent: Sent) -> Reply:
    """Plays an analyst that reads, computes, and answers with what it computed."""
    told = [message.content for message in sent.messages if message.role == "tool"]
    if len(told) == 3:
        assert "Round to whole euros" in told[0]
        assert "feb,980.10" in told[1]
        return Reply(f"In two rows, {told[2]}", usage=USAGE)
    wished = CALLS[0] if not told else CALLS[1]
    calls = tuple(
        ToolCall(f"call_{name}", name, json.dumps(given)) for name, given in wished.items()
    )
    return Reply("", usage=USAGE, finish_reason="tool_calls", tool_calls=calls)


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_the_analyst_reads_its_files_follows_the_skill_and_computes_in_the_sandbox(
    wire: WireServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("OPENAI_BASE_URL", wire.base_url(CHAT))
    wire.respond(clerk)
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    out = capsys.readouterr().out
    assert out.count("allowed: ") == 1  # only the code is unsafe
    assert "sum: 2180" in out
    assert "cost: $0.0105" in out  # three calls
