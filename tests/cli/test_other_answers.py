"""`fork` and `replay`: what another prompt or model would have answered, and cost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.wire import CHAT, Reply, WireServer

from .commands import (
    edited,
    in_terminal,
    killed,
    pyagent,
    pyagent_process,
    ran,
    table,
)
from .newsroom import HARMLESS, HOSTILE


def test_a_fork_after_an_edit_pays_only_what_changed_and_what_depends_on_it(
    newsroom: Path,
) -> None:
    ran(newsroom, "one")
    team = edited(newsroom, '"Like soup."', '"Like a stew."')
    unchanged = pyagent("fork", "one", "--team", team)
    assert unchanged.exit_code == 0
    assert "paid now   nothing\non record  $0.000800 (4 calls)" in unchanged.stderr
    again = pyagent("fork", "one", "--team", team, "--from", "work/t2/ask:0")
    assert again.exit_code == 0  # t2, and the synthesis that is given its answer
    assert "paid now   $0.000400 (2 calls)\non record  $0.000400 (2 calls)" in again.stderr
    [new] = re.findall(r"forked as (\w+)", again.stderr)
    assert f"{new}" in pyagent("show", new[:8]).stdout
    assert "run one, which paid $0.000400 of it (2 calls)" in pyagent("show", new[:8]).stdout


def test_an_edited_prompt_stops_a_resume_and_the_fork_it_names_pays_for_the_edit(
    newsroom: Path,
) -> None:
    killed(newsroom, "one", at="teacher")
    team = edited(
        newsroom,
        'Agent("scientist", Stub("scientist"), system_prompt="You do',
        'Agent("scientist", Stub("scientist"), description="You do research.", '
        'system_prompt="You do careful',
    )
    stopped = pyagent("resume", "one", "--team", team)
    assert stopped.exit_code == 1
    assert "'work/t1/ask:0' on record with another input" in stopped.stderr
    assert f"to fork it: pyagent fork one --team {team}" in stopped.stderr
    forked = pyagent("fork", "one", "--team", team)
    assert forked.exit_code == 0  # the plan was not touched by the edit
    assert "paid now   $0.000600 (3 calls)\non record  $0.000200 (1 call)" in forked.stderr


def test_a_fork_that_is_not_to_go_on_yet_is_only_its_id(newsroom: Path) -> None:
    ran(newsroom, "one")
    result = pyagent("fork", "one", "--no-resume")
    assert re.fullmatch(r"[0-9a-f]{32}\n", result.stdout)
    assert table(pyagent("runs").stdout)[1][:2] == [result.stdout[:8], "new"]
    unknown = pyagent("fork", "one", "--from", "no/such:0")
    assert unknown.exit_code == 1
    assert "has no finished call 'no/such:0'" in unknown.stderr


def test_a_replay_without_changes_is_the_recorded_answer_byte_for_byte(newsroom: Path) -> None:
    ran(newsroom, "one")
    newsroom.unlink()  # nothing of the team is needed, so none of it can be asked
    status, out, err = pyagent_process("replay", "one", "--task", "t1")
    assert status == 0
    assert out == HOSTILE.encode(errors="surrogatepass")
    assert "work/t1/ask:0 as recorded, $0.000200; no call was made" in err
    sent = in_terminal("replay", "one", "--task", "t1")
    assert HARMLESS in sent
    assert not set(sent) & set("\x1b\x07\u202e")


def test_a_replay_with_another_prompt_shows_both_answers_and_both_costs(newsroom: Path) -> None:
    ran(newsroom, "one")
    result = pyagent("replay", "one", "--task", "t2", "--system-prompt", "You teach children.")
    assert result.exit_code == 0
    rows = table(result.stdout)
    assert rows[0] == ["recorded", "again"]
    assert rows[1] == ["teacher-model", "teacher-model"]
    assert [figures.split(", ")[:2] for figures in rows[2]] == [["110 tokens", "$0.000200"]] * 2
    assert rows[3] == ["Like soup.", "Like soup."]
    assert pyagent("show", "one", "--json").stdout.count('"key"') == 4  # nothing is recorded


def test_a_replay_on_another_model_needs_no_team(
    newsroom: Path, wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(newsroom, "one")
    newsroom.unlink()
    missing = pyagent("replay", "one", "--task", "t1", "--model", "openai/gpt-4o-mini")
    assert missing.exit_code == 1
    assert "OPENAI_API_KEY" in missing.stderr
    assert "Traceback" not in missing.stderr
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    monkeypatch.setenv("OPENAI_BASE_URL", wire.base_url(CHAT))
    wire.respond(lambda sent: Reply(f"{sent.messages[-1].content.splitlines()[0]} \x1b[31mDone."))
    result = pyagent("replay", "one", "--task", "t1", "--model", "openai/gpt-4o-mini")
    assert result.exit_code == 0
    assert "gpt-4o-mini" in result.stdout
    assert "Find out why. Done." in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("name", ["gpt-4o", "openia/gpt-4o", "openai/"])
def test_a_model_is_named_with_its_provider(name: str) -> None:
    result = pyagent("replay", "one", "--task", "t1", "--model", name)
    assert result.exit_code == 2
    assert "PROVIDER/MODEL" in result.stderr


def test_a_task_that_the_run_does_not_have_is_told_with_those_it_has(newsroom: Path) -> None:
    ran(newsroom, "one")
    result = pyagent("replay", "one", "--task", "t9")
    assert result.exit_code == 1
    assert "no answered question of 't9'; it has 'plan/ask:0', 't1', 't2'" in result.stderr
