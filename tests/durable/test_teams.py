"""A team is found again by its name: in a module, in a script, or not, with a reason."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pyagent_patterns.durable import Runs
from pyagent_patterns.durable.teams import load, locate
from tests.patterns.teams import item, plan_text, team

THE_TEAM = team([plan_text(item("a"))], {"a": ["alpha"]})


def test_a_team_at_the_top_of_a_module_is_located_and_loaded() -> None:
    name = locate(THE_TEAM)
    assert name == "tests.durable.test_teams:THE_TEAM"
    assert load(name) is THE_TEAM


def test_a_team_inside_a_function_has_no_name() -> None:
    assert locate(team([plan_text(item("a"))], {"a": ["alpha"]})) is None
    assert locate(None) is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no_colon", r"named as package.module:object; got 'no_colon'"),
        (":team", "named as"),
        ("no.such.module:team", "cannot be imported: No module named 'no'"),
        ("no_such_file.py:team", "there is no file"),
        ("tests.durable.test_teams:NOTHING", "has no 'NOTHING'; is the team still there"),
    ],
)
def test_a_name_that_leads_nowhere_says_why(name: str, why: str) -> None:
    with pytest.raises(LookupError, match=why):
        load(name)


def test_a_script_is_its_own_place_and_is_not_run_again_by_resuming(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        textwrap.dedent("""
            import asyncio, sys
            from pyagent_patterns import Agent, OrchestratorWorkers
            from pyagent_patterns.durable import Runs

            async def model(messages):
                if "assignments" in messages[-1].content:
                    return '{"assignments": [{"worker": "a", "subtask": "s"}]}'
                return "alpha"

            crew = OrchestratorWorkers(orchestrator=Agent("p", model), workers=[Agent("a", model)])
            print("loaded", __name__)

            async def go_on():
                with Runs("runs.db") as runs:
                    print((await runs.resume("r")).output)

            if __name__ == "__main__":
                if sys.argv[1] == "first":
                    asyncio.run(crew.run("t", run_id="r", durable="runs.db"))
                else:
                    asyncio.run(go_on())
        """)
    )

    def python(*arguments: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, cwd=tmp_path, check=True
        )
        return done.stdout.splitlines()

    assert python("app.py", "first") == ["loaded __main__"]
    assert python("app.py", "again") == ["loaded __main__", "alpha"]
    elsewhere = python(
        "-c",
        "import asyncio\n"
        "from pyagent_patterns.durable import Runs\n"
        "print(asyncio.run(Runs('runs.db').resume('r')).output)",
    )
    assert len(elsewhere) == 2
    assert elsewhere[0].startswith("loaded pyagent_script_app")  # not as __main__
    assert elsewhere[1] == "alpha"


async def test_a_run_whose_team_has_no_name_asks_for_it(tmp_path: Path) -> None:
    crew = team([plan_text(item("a"))], {"a": ["alpha"]})
    with Runs(tmp_path / "runs.db") as runs:
        await crew.run("t", run_id="r", durable=runs)
        with pytest.raises(LookupError, match="does not say where its team is; pass the team"):
            await runs.resume("r")
        assert (await runs.resume("r", crew)).status == "completed"
