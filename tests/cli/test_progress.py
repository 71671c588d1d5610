"""A run on the screen while it goes on: what runs, what it costs, and nothing a model paints."""

from __future__ import annotations

import io
import shutil
from contextlib import aclosing
from pathlib import Path

import pytest
from rich.console import Console

from pyagent_patterns import Budget, PyAgentError
from pyagent_patterns.cli.board import Board
from pyagent_patterns.cli.progress import Progress
from pyagent_patterns.events import Event, TextDelta, ToolStarted
from pyagent_patterns.orchestration import Hierarchical, Parallel, Pipeline, Team
from tests.patterns.streams import calls_tool, eventful, look_up, piecewise
from tests.patterns.teams import item, plan_text

from .terminals import CTRL_C, in_terminal

HOSTILE = "\x1b]0;title\x07\x1b[2J[bold]loud[/bold]\u202e\nnext"


def rows(board: Board) -> list[str]:
    """The board's rows, without times."""
    return [
        f"{'  ' * depth}{row.label} {row.name} {row.state} {row.figures.tokens}"
        for depth, row in board.rows()
    ]


async def test_a_board_has_every_assignment_with_what_became_of_it_and_its_figures() -> None:
    board = Board()
    await eventful().run("the task", on_event=board.take)
    assert rows(board) == [
        "plan planner completed 30",
        "t1 finder completed 45",
        "t2 breaker failed 0",
        "t3 writer skipped 0",
        "synthesis planner completed 15",
    ]
    finder, breaker, writer = [row for _, row in board.rows()][1:4]
    assert (finder.tools, finder.retries, breaker.retries) == (2, 1, 2)
    assert writer.after == ("t2",)
    assert "it broke" in breaker.why
    assert board.seconds(writer) is None
    assert (board.figures.calls, board.figures.tokens, board.figures.unpriced) == (10, 90, 0)


async def test_what_is_within_a_pattern_stands_below_it() -> None:
    board = Board()
    team = Team(
        "backend",
        lead=piecewise("lead", plan_text(item("coder")), "done"),
        workers=[piecewise("coder", "coded")],
    )
    manager = piecewise("manager", plan_text(item("backend"), item("docs")), "all done")
    crew = Hierarchical(manager=manager, teams=[team, piecewise("docs", "written")])
    await crew.run("the task", on_event=board.take)
    assert rows(board) == [
        "manage manager completed 15",
        "t1 backend completed 0",
        "  plan lead completed 15",
        "  t1 coder completed 15",
        "  synthesis lead completed 15",
        "t2 docs completed 15",
        "synthesis manager completed 15",
    ]


async def test_a_row_says_what_is_done_there_right_now() -> None:
    board, seen = Board(), list[str]()

    def look(event: Event) -> None:
        board.take(event)
        for _, row in board.rows():
            if row.state == "running":
                seen.append(f"{type(event).__name__} {row.label}: {row.writing or row.doing}")

    async for _ in eventful().stream("the task", on_event=look):
        pass
    assert "CallSettled t1: RateLimitError; tries again in 0.0 s" in seen
    assert "TextDelta t1: let me look" in seen
    assert 'ToolStarted t1: look_up {"word": "salt"}' in seen
    assert "ToolEnded t1: look_up: LookupError: there is no such word" in seen


async def test_without_a_terminal_there_is_a_line_for_what_ended() -> None:
    out = io.StringIO()
    with Progress(Console(file=out, width=120)) as progress:
        await eventful().run("the task", on_event=progress)
    lines = [" ".join(line.split()[2:]) for line in out.getvalue().splitlines()]
    assert "t1 finder RateLimitError; tries again in 0.0 s" in lines
    assert "t1 finder look_up called" in lines
    assert "t1 finder look_up failed: LookupError: there is no such word" in lines
    assert "t3 writer skipped: it depends on t2, which did not complete" in lines
    assert any(line.startswith("t2 breaker failed: 3 attempts failed") for line in lines)
    assert lines[-1].startswith("synthesis planner 15 tokens, $0.000060")


@pytest.mark.parametrize("is_terminal", [True, False])
async def test_nothing_that_a_model_wrote_paints_on_the_screen(is_terminal: bool) -> None:
    out = io.StringIO()
    console = Console(
        file=out, width=200, force_terminal=is_terminal, markup=False, color_system=None
    )
    agent = piecewise("a", calls_tool("look_up", HOSTILE, HOSTILE), HOSTILE, tools=[look_up])
    fails = piecewise("b", ValueError(HOSTILE))
    with Progress(console) as progress:
        async for _ in Parallel([agent, fails]).stream("the task", on_event=progress):
            pass
    shown = out.getvalue()
    assert "[bold]loud[/bold]" in shown
    assert not [bad for bad in ("\x1b]", "\x1b[2J", "\x07", "\u202e") if bad in shown]


@pytest.mark.parametrize("kind", [ToolStarted, TextDelta])
async def test_what_a_model_does_right_now_does_not_paint_either(kind: type[Event]) -> None:
    out = io.StringIO()
    console = Console(file=out, width=200, force_terminal=True, color_system=None)
    agent = piecewise("a", calls_tool("look_up", HOSTILE, HOSTILE), tools=[look_up])
    with Progress(console) as progress:
        async with aclosing(Parallel([agent]).stream("the task")) as events:
            async for event in events:
                progress(event)
                if isinstance(event, kind):
                    break  # what is on the screen then stays there
    assert "loud" in out.getvalue()
    assert not [bad for bad in ("\x1b]", "\x1b[2J", "\x07", "\u202e") if bad in out.getvalue()]


async def test_the_display_ends_with_the_run_also_when_it_fails() -> None:
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=True)
    with pytest.raises(PyAgentError), Progress(console) as progress:
        await Parallel([piecewise("a", ValueError("no"))]).run("the task", on_event=progress)
    assert out.getvalue().count("\x1b[?25l") == out.getvalue().count("\x1b[?25h") == 1


async def test_the_budget_stands_beside_what_is_spent() -> None:
    out = io.StringIO()
    with Progress(Console(file=out, width=100, force_terminal=True, color_system=None)) as shown:
        team = Pipeline([piecewise("a", "done")], budget=Budget(max_cost_usd="0.5", max_calls=3))
        await team.run("the task", on_event=shown)
    assert "1 call, 15 tokens, $0.000060  of $0.5000, 3 calls" in out.getvalue()


@pytest.fixture
def studio(newsroom: Path) -> Path:
    return Path(shutil.copy(Path(__file__).with_name("studio.py"), newsroom.parent))


def test_a_terminal_is_shown_a_table_that_keeps_up(
    studio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLEEP_AT", "teacher")
    status, sent = in_terminal("run", "newsroom.py:team", "Why?")
    assert status == 0
    assert "⠋ t2 " in sent  # while it runs
    assert "✓ t2 " in sent
    assert "orchestrator_workers" in sent
    assert "red [bold]loud[/bold]" in sent


def test_somebody_at_the_terminal_is_asked_and_the_display_steps_aside(studio: Path) -> None:
    typed = [("why not]", "y\n")]
    status, sent = in_terminal("run", "studio.py:gated", "Why?", typed=typed)
    assert status == 0
    asked = sent.index("Approve this answer? [y/n, or why not] y\n")
    assert "Salt comes from rock." in sent[asked:]


def test_somebody_is_asked_though_the_answer_goes_to_a_file(studio: Path) -> None:
    typed = [("> ", "the Dead Sea\n")]
    status, sent = in_terminal("run", "studio.py:curious", "Why?", typed=typed, out="answer.txt")
    assert status == 0
    assert "Which sea?" in sent
    assert Path("answer.txt").read_text() == "I was told: the Dead Sea"


def test_ctrl_c_ends_a_run_that_asks(studio: Path) -> None:
    typed = [("why not]", CTRL_C)]
    how = ("--run-id", "one")
    status, sent = in_terminal("run", "studio.py:gated", "Why?", *how, typed=typed)
    assert status == 130
    assert "stopped; to go on: pyagent resume one" in sent
    assert "Traceback" not in sent


def test_a_streamed_answer_stands_alone_between_the_lines(studio: Path) -> None:
    status, sent = in_terminal("run", "studio.py:solo", "Why?", "--stream")
    assert status == 0
    assert "Salt comes from rock." in sent
    assert sent.count("Salt comes") == 1
