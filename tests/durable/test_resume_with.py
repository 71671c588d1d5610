"""What is not in a run's record can be given again when it is gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from pyagent_patterns import Agent, Decision, Loop, Wanted
from pyagent_patterns.durable import Runs
from pyagent_patterns.errors import RunSuspended
from pyagent_patterns.session import MemorySession
from pyagent_providers.testing import ScriptedLLM


class Order(BaseModel):
    item: str
    count: int


def desk(*answers: str, inputs: type[BaseModel] | None = None) -> Loop:
    clerk = Agent("clerk", ScriptedLLM(list(answers)))
    return Loop(clerk, lambda work: True, approve=["answer"], inputs=inputs)


async def suspended(runs: Runs, team: Loop, **how: object) -> str:
    with pytest.raises(RunSuspended) as stopped:
        await team.run("Write it down", run_id="r", durable=runs, **how)  # type: ignore[arg-type]
    return stopped.value.run_id


async def test_a_person_at_hand_decides_where_a_suspended_run_waits(tmp_path: Path) -> None:
    asked: list[str] = []

    async def human(wanted: Wanted) -> Decision:
        asked.append(wanted.kind)
        return Decision(approved=True)

    team = desk("done")
    with Runs(tmp_path / "runs.db") as runs:
        await suspended(runs, team)
        with pytest.raises(RunSuspended):
            await runs.resume("r", team)
        result = await runs.resume("r", team, human=human)
    assert (result.output, asked) == ("done", ["answer"])


async def test_a_run_that_is_gone_on_with_adds_to_its_conversation(tmp_path: Path) -> None:
    team, session = desk("done"), MemorySession()
    with Runs(tmp_path / "runs.db") as runs:
        await suspended(runs, team, session=session)
        assert await session.turns() == []
        await runs.resume("r", team, human=lambda wanted: True, session=session)
    assert [turn.answer for turn in await session.turns()] == ["done"]


async def test_a_run_with_inputs_is_gone_on_with_from_its_record_alone(tmp_path: Path) -> None:
    team = desk("done", inputs=Order)
    with Runs(tmp_path / "runs.db") as runs:
        await suspended(runs, team, inputs={"item": "tent", "count": 2})
        result = await runs.resume("r", team, human=lambda wanted: True)
    assert result.output == "done"


@pytest.mark.parametrize(
    "task",
    [
        "Write it down",
        'Write it down\n\n<inputs>\n{"item": "tent"}\n</inputs>',
        'Write it down\n\n<inputs>\n{"item": "tent", "count": 2}',
    ],
)
async def test_a_task_without_its_inputs_is_still_refused(task: str) -> None:
    with pytest.raises(TypeError, match="takes inputs"):
        await desk("done", inputs=Order).run(task, human=lambda wanted: True)
