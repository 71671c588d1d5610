"""The examples with tools, people and memory run as written, over real HTTP."""

from __future__ import annotations

import json
import os
import pty
import runpy
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyagent_providers import ToolCall
from tests.wire import CHAT, Reply, Sent, WireServer
from tests.wire.team import USAGE, team_responder

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"


@pytest.fixture
def provider(wire: WireServer, monkeypatch: pytest.MonkeyPatch) -> WireServer:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("OPENAI_BASE_URL", wire.base_url(CHAT))
    wire.respond(with_tools)
    return wire


GIVEN = {
    "stock": {"item": "stove"},
    "total": {"items": {"tent": 1, "lamp": 2}},
    "guide": {"task": "What do they need?"},
    "send_letter": {"to": "Ann", "text": "Come!"},
    "ask_human": {"question": "When?"},
}


def with_tools(sent: Sent) -> Reply:
    """Plays a team that calls each tool it has once."""
    if not sent.tools or any(message.role == "tool" for message in sent.messages):
        return team_responder()(sent)  # type: ignore[return-value]
    calls = tuple(
        ToolCall(f"call_{n}", tool.name, json.dumps(GIVEN[tool.name]))
        for n, tool in enumerate(sent.tools)
    )
    return Reply("", usage=USAGE, finish_reason="tool_calls", tool_calls=calls)


def test_the_team_with_tools_shows_what_they_gave(
    provider: WireServer, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(EXAMPLES / "tools_team.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert "storekeeper called stock: 0" in out
    assert "seller called total: 228.80" in out
    assert "seller called guide: done: What do they need?" in out
    assert "in 7 calls" in out


def test_the_conversation_goes_on_where_it_ended(
    provider: WireServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    for questions in (["First?", "Second?"], ["Third?"]):
        monkeypatch.setattr(sys, "argv", ["conversation.py", *questions])
        runpy.run_path(str(EXAMPLES / "conversation.py"), run_name="__main__")
    assert "3 turns so far" in capsys.readouterr().out
    said = [message.content for message in provider.last.sent.messages]
    assert said == ["First?", "done: First?", "Second?", "done: Second?", "Third?"]


def test_the_example_with_approvals_asks_at_the_terminal(provider: WireServer) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "approvals.py")],
        stdin=slave, stdout=subprocess.PIPE, stderr=slave,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(slave)
    answers = {
        "Approve this plan? ": "y",
        "> ": "on Sunday",
        "Approve this tool? ": "y",
        "Approve this answer? ": "y",
    }
    shown, deadline = "", time.monotonic() + 60
    try:
        while answers:
            assert time.monotonic() < deadline, shown
            if select.select([master], [], [], 0.1)[0]:
                shown += os.read(master, 4096).decode()
            for asked in [asked for asked in answers if asked in shown]:
                shown = shown.replace(asked, "")
                os.write(master, f"{answers.pop(asked)}\n".encode())
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert b"To Ann: Come!" in out
    assert b"expected $0.0" in out
    told = [m.content for r in provider.requests for m in r.sent.messages if m.role == "tool"]
    assert set(told) == {"on Sunday", "sent"}
