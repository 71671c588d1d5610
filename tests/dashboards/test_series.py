"""How many series there are does not grow with the number of runs, users, tasks or agents."""

from __future__ import annotations

import json
import urllib.request
import uuid

import pytest

from pyagent_exporters import configure
from pyagent_patterns import Agent, OrchestratorWorkers
from pyagent_providers import LLM, Completion, ModelPrice, Request, Usage, telemetry
from pyagent_providers.telemetry import Telemetry, using

RUNS = 3000


class Inventive(LLM):
    """Plans with an agent of a new name each time, and answers anything else."""

    async def _complete(self, request: Request) -> Completion:
        text = "done" if request.schema is None else a_plan()
        usage = Usage(input_tokens=10, output_tokens=5)
        return Completion(text=text, usage=usage, model=self.model, finish_reason="stop")


def a_plan() -> str:
    new = {"name": f"agent-{uuid.uuid4()}", "role": "works", "prompt": "You work."}
    task = f"task-{uuid.uuid4()}"
    item = {"id": task, "worker": new["name"], "subtask": "work", "depends_on": []}
    return json.dumps({"assignments": [item], "agents": [new]})


MODEL = Inventive("mini", provider="somebody", price=ModelPrice(input="1", output="10"))
TEAM = OrchestratorWorkers(
    orchestrator=Agent("planner", MODEL),
    workers=[Agent("idler", MODEL, description="does nothing")],
    agent_factory=lambda wanted: Agent(wanted.name, MODEL),
)


async def one_run(number: int) -> None:
    """A run of which everything that can be new each time is: agents, task, user and tenant."""
    tenant = "acme" if number % 2 else f"tenant-{uuid.uuid4()}"
    task, run_id = f"task {uuid.uuid4()}", str(uuid.uuid4())
    result = await TEAM.run(task, run_id=run_id, user=f"user-{number}", tenant=tenant)
    assert result.status == "completed"


async def test_three_thousand_runs_have_as_many_series_as_ten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telemetry, "_tenants", frozenset())
    with configure(prometheus=0, set_global=False, tenants=["acme"]) as handle:
        apart = Telemetry(
            tracer_provider=handle.tracer_provider, meter_provider=handle.meter_provider
        )
        with using(apart):
            for number in range(10):
                await one_run(number)
            few = series(handle.prometheus_url)
            for number in range(10, RUNS):
                await one_run(number)
        many = series(handle.prometheus_url)
    assert many == few
    assert {"acme", "other"} == {
        line.partition('pyagent_tenant="')[2].partition('"')[0]
        for line in many
        if line.startswith("pyagent_cost_usd_total")
    }


def series(url: str | None) -> set[str]:
    """Every series on the page: its name and labels, without its value."""
    assert url is not None
    with urllib.request.urlopen(url, timeout=20) as page:
        lines = page.read().decode().splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}
