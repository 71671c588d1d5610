"""Whom a run is for: on its spans always, in metrics where the tenant is on the list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pyagent_patterns import Agent, Pipeline
from pyagent_patterns.durable import FileSession, Runs
from pyagent_patterns.errors import RunSuspended
from pyagent_patterns.testing import CapturedTrace, capture_trace
from pyagent_providers.telemetry import allow_tenants
from pyagent_providers.testing import ScriptedLLM
from tests.patterns.teams import PRICE


@pytest.fixture(autouse=True)
def none_allowed() -> Iterator[None]:
    yield
    allow_tenants(())


def writer(*answers: str) -> Pipeline:
    return Pipeline([Agent("writer", ScriptedLLM(answers or ["done"], model="m", price=PRICE))])


def of_the_run(trace: CapturedTrace) -> Mapping[str, object]:
    (run,) = (span for span in trace.spans if span.name == "pyagent.pattern.pipeline")
    return run.attributes or {}


def tenants(trace: CapturedTrace, metric: str) -> list[object]:
    return [point.attributes.get("pyagent.tenant") for point in trace.metric(metric).points]


async def test_a_runs_span_says_whom_it_is_for(tmp_path: Path):
    with capture_trace() as trace:
        session = FileSession(tmp_path / "talk.db", "talk-7")
        await writer().run("a task", tenant="acme", user="u-42", session=session)
    said = of_the_run(trace)
    assert (said["pyagent.tenant"], said["user.id"]) == ("acme", "u-42")
    assert said["gen_ai.conversation.id"] == "talk-7"


async def test_metrics_tell_no_tenant_unless_they_are_allowed_to():
    with capture_trace() as trace:
        await writer().run("a task", tenant="acme")
    assert tenants(trace, "pyagent.cost.usd") == [None]
    assert tenants(trace, "pyagent.runs") == [None]


async def test_a_tenant_that_is_not_on_the_list_is_other_in_every_metric():
    allow_tenants(["acme"])
    with capture_trace() as trace:
        team = writer("one", "two", "three")
        for tenant in ("acme", "globex", "initech"):
            await team.run("a task", tenant=tenant)
    assert sorted(map(str, tenants(trace, "pyagent.cost.usd"))) == ["acme", "other"]
    assert sorted(map(str, tenants(trace, "pyagent.runs"))) == ["acme", "other"]
    assert trace.metric("pyagent.runs").where({"pyagent.tenant": "other"}).total == 2


async def test_a_run_that_is_gone_on_with_is_for_whom_it_was_begun(tmp_path: Path):
    allow_tenants(["acme"])
    team = Pipeline(
        [Agent("writer", ScriptedLLM(["done"], model="m", price=PRICE))], approve=["answer"]
    )
    with Runs(tmp_path / "runs.db") as runs:
        with pytest.raises(RunSuspended) as suspended:
            await team.run("a task", durable=runs, tenant="acme", user="u-42")
        run_id = suspended.value.run_id
        key = (await runs.get(run_id)).wanted[0].key
        await runs.signal(run_id, key, {"approved": True})
        with capture_trace() as trace:
            await runs.resume(run_id, team)
    said = of_the_run(trace)
    assert (said["pyagent.tenant"], said["user.id"]) == ("acme", "u-42")
    assert tenants(trace, "pyagent.runs") == ["acme"]


@pytest.mark.parametrize("name", ["", " ", "two\nlines"])
async def test_a_name_that_is_none_is_refused_before_anything_is_spent(name: str):
    with pytest.raises(ValueError, match="tenant must be a name that can be printed"):
        await writer().run("a task", tenant=name)
    with pytest.raises(TypeError, match="user must be a name, such as 'acme'; got 7"):
        await writer().run("a task", user=7)  # pyright: ignore[reportArgumentType]


async def test_a_run_that_is_gone_on_with_in_a_conversation_is_still_for_whom_it_was_begun(
    tmp_path: Path,
):
    team = Pipeline([Agent("writer", ScriptedLLM(["done"]))], approve=["answer"])
    session = FileSession(tmp_path / "talk.db", "talk-7")
    with Runs(tmp_path / "runs.db") as runs:
        with pytest.raises(RunSuspended) as suspended:
            await team.run("a task", durable=runs, tenant="acme", user="u-42")
        with capture_trace() as trace:
            await runs.resume(
                suspended.value.run_id, team, human=lambda wanted: True, session=session
            )
    said = of_the_run(trace)
    assert (said["pyagent.tenant"], said["user.id"]) == ("acme", "u-42")
    assert said["gen_ai.conversation.id"] == "talk-7"
