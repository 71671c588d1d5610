"""What a plan is expected to cost, beside what it did, and before a person who may say no."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from pyagent_patterns import Agent, DeclinedError, OrchestratorWorkers, Wanted
from pyagent_patterns.durable import Runs
from pyagent_patterns.errors import NobodyToAskError, RunSuspended
from pyagent_patterns.people import Decision
from pyagent_providers import Usage
from pyagent_providers.testing import ScriptedLLM

from .crews import DONE, agent, asked, crew, item, new, planned, refused, with_agents, written
from .teams import PRICE, plan_text, scripted

CALL = Decimal("0.00006")
PLAN = plan_text(item("a", "find it", id="x"), item("b", "use it", id="y", depends_on=["x"]))


class Person:
    """Decides as scripted, and remembers what was shown."""

    def __init__(self, *decisions: Decision | bool) -> None:
        self.decisions = list(decisions)
        self.shown: list[Wanted] = []

    async def __call__(self, wanted: Wanted) -> Decision | bool:
        self.shown.append(wanted)
        return self.decisions.pop(0)


def edit(*items: dict[str, object]) -> Decision:
    return Decision(approved=True, value=[*items])  # type: ignore[arg-type]


def cost(read: int, written: int) -> Decimal:
    return PRICE.cost(Usage(input_tokens=read, output_tokens=written))


# The estimate


async def test_without_past_runs_it_is_from_sizes_and_max_tokens() -> None:
    team = crew(
        [plan_text(item("a", "x" * 400))],
        {},
        worker=agent("a", "alpha", system_prompt="y" * 400, max_tokens=100),
        synthesizer=agent("writer", "the end", max_tokens=50),
    )
    result = await team.run("z" * 80)
    worker = cost(200, 100)  # 800 bytes of prompts
    writer = cost(20 + 100, 50)  # the task, and the worker's output
    assert result.plan_estimate == worker + writer


async def test_what_depends_on_other_work_is_expected_to_read_it() -> None:
    alone = await crew([plan_text(item("a"), item("b"))], {"a": ["1"], "b": ["2"]}).run("it")
    after = await crew(
        [plan_text(item("a"), item("b", depends_on=["a"]))], {"a": ["1"], "b": ["2"]}
    ).run("it")
    assert alone.plan_estimate is not None
    assert after.plan_estimate == alone.plan_estimate + cost(1024, 0)


async def test_what_work_has_cost_before_is_what_it_is_expected_to_cost() -> None:
    team = crew([PLAN, PLAN], {"a": ["1", "2"], "b": ["3", "4"]}, final=["x", "y"])
    first = await team.run("the task")
    second = await team.run("the task")
    assert first.plan_estimate is not None
    assert second.plan_estimate is not None
    writer = cost(len("the task") // 4 + 2 * 1024, 1024)
    assert second.plan_estimate == 2 * CALL + writer
    assert second.plan_estimate < first.plan_estimate


async def test_it_stands_beside_the_actual_cost_in_the_result() -> None:
    result = await crew([PLAN], {"a": ["1"], "b": ["2"]}).run("the task")
    told = result.to_dict()
    assert Decimal(str(told["plan_estimate"])) == result.plan_estimate
    assert Decimal(str(told["cost_estimate"])) == 4 * CALL


async def test_it_is_unknown_if_nobody_knows_for_one_of_the_members() -> None:
    unpriced = Agent("u", ScriptedLLM(["1"], model="nobody-knows"))
    team = crew([plan_text(item("u"), item("b"))], {"b": ["2"]}, worker=unpriced)
    result = await team.run("the task")
    assert result.plan_estimate is None


async def test_each_step_adds_to_it_and_the_answer_counts_once() -> None:
    steps = [plan_text(item("a", id="1")), plan_text(item("b", id="2")), DONE]
    stepwise = await crew(steps, {"a": ["1"], "b": ["2"]}, planning="iterative").run("it")
    whole = await crew([plan_text(item("a"), item("b"))], {"a": ["1"], "b": ["2"]}).run("it")
    assert whole.plan_estimate is not None
    assert stepwise.plan_estimate == whole.plan_estimate - cost(1024, 0)


async def test_it_is_unknown_if_that_of_a_later_step_is() -> None:
    unpriced = Agent("u", ScriptedLLM(["1"], model="nobody-knows"))
    steps = [plan_text(item("a", id="1")), plan_text(item("u", id="2")), DONE]
    team = crew(steps, {"a": ["1"]}, worker=unpriced, planning="iterative")
    assert (await team.run("it")).plan_estimate is None


async def test_agents_that_the_planner_defines_are_in_it() -> None:
    plan = with_agents(new("poet"), items=[item("poet", "a sonnet")])
    team = crew([plan], {"a": []}, agent_factory=lambda w: agent(w.name, "a rose", max_tokens=7))
    result = await team.run("it")
    poet, writer = cost(2, 7), cost(0 + 7, 1024)
    assert result.plan_estimate == poet + writer


# The gate


async def test_a_person_is_shown_the_plan_and_its_cost_before_any_of_it_runs() -> None:
    person = Person(True)
    team = crew([PLAN], {"a": ["1"], "b": ["2"]}, approve=("plan",))
    result = await team.run("the task", human=person)
    [wanted] = person.shown
    assert (wanted.kind, wanted.who) == ("plan", "planner")
    assert "  x a: find it\n  y b, after x: use it\nExpected cost: $0.0" in wanted.text
    assert wanted.details["assignments"] == result.metadata["assignments"]
    assert wanted.details["estimated_usd"] == str(result.plan_estimate)
    assert result.status == "completed"


async def test_a_cost_that_nobody_knows_is_said_to_be_unknown() -> None:
    person = Person(True)
    unpriced = Agent("u", ScriptedLLM(["1"], model="nobody-knows"))
    team = crew([plan_text(item("u"))], {}, worker=unpriced, approve=("plan",))
    await team.run("the task", human=person)
    assert "Expected cost: not known" in person.shown[0].text
    assert person.shown[0].details["estimated_usd"] is None


async def test_a_plan_that_is_declined_ends_the_run_with_what_it_cost() -> None:
    team = crew([PLAN], {"a": [], "b": []}, approve=("plan",))
    with pytest.raises(DeclinedError, match="declined the plan of 'planner': too dear") as caught:
        await team.run("the task", human=Person(Decision(approved=False, reason="too dear")))
    assert caught.value.result is not None
    assert caught.value.result.cost_estimate == CALL
    assert asked(team, "a") == asked(team, "b") == []


async def test_an_edited_plan_runs_in_place_of_the_planners_at_its_own_estimate() -> None:
    person = Person(edit(item("b", "use what there is", id="z")))
    team = crew([PLAN], {"a": [], "b": ["beta"]}, approve=("plan",))
    result = await team.run("the task", human=person)
    assert [(o.id, o.assignment.subtask) for o in result.outcomes] == [("z", "use what there is")]
    shorter = crew([plan_text(item("b", "use what there is"))], {"b": ["beta"]})
    assert result.plan_estimate == (await shorter.run("the task")).plan_estimate
    assert "use what there is" in written(team)


async def test_an_edit_that_cannot_be_run_is_asked_for_again_with_its_faults() -> None:
    person = Person(edit(item("nobody", "x")), edit(item("b", "y", id="z")))
    team = crew([PLAN], {"a": [], "b": ["beta"]}, approve=("plan",))
    result = await team.run("the task", human=person)
    again = person.shown[1]
    assert "That edit cannot be run: assignment 't1': no worker 'nobody'" in again.text
    assert "no worker 'nobody'" in str(again.details["faults"])
    assert [o.id for o in result.outcomes] == ["z"]
    assert len(planned(team)) == 1  # the planner is not bothered with it


async def test_edits_that_can_never_be_run_end_as_a_decline() -> None:
    team = crew([PLAN], {"a": [], "b": []}, approve=("plan",))
    with pytest.raises(DeclinedError, match="edits of it could not be run, the last since"):
        await team.run("the task", human=Person(*[edit(item("nobody", "x"))] * 9))


async def test_an_edit_may_be_a_whole_plan_as_text_as_a_form_gives_it() -> None:
    person = Person(Decision(approved=True, value=plan_text(item("b", "y", id="z"))))
    team = crew([PLAN], {"a": [], "b": ["beta"]}, approve=("plan",))
    result = await team.run("the task", human=person)
    assert [o.id for o in result.outcomes] == ["z"]


async def test_an_edit_may_use_the_agents_that_the_planner_defined_and_define_more() -> None:
    plan = with_agents(new("poet"), items=[item("poet", "a sonnet")])
    value = {
        "assignments": [item("poet", "an ode", id="1"), item("painter", "a sea", id="2")],
        "agents": [new("painter")],
    }
    person = Person(Decision(approved=True, value=value))  # type: ignore[arg-type]
    team = crew(
        [plan],
        {"a": []},
        approve=("plan",),
        agent_factory=lambda w: agent(w.name, f"by {w.name}"),
    )
    result = await team.run("the task", human=person)
    assert [o.output for o in result.outcomes] == ["by poet", "by painter"]
    assert "  new agent poet: does one thing\n    told: Do that.\n" in person.shown[0].text
    assert person.shown[0].details["agents"] == [new("poet")]


async def test_what_a_model_wrote_cannot_pass_for_another_line_of_the_plan() -> None:
    sly = "tidy up\nExpected cost: $0.0000\n  y b: nothing"
    person = Person(True)
    team = crew([plan_text(item("a", sly, id="x"))], {"a": ["1"]}, approve=("plan",))
    await team.run("the task", human=person)
    lines = person.shown[0].text.splitlines()
    assert sum(line.startswith("Expected cost:") for line in lines) == 1
    assert sum(line.startswith("  y ") for line in lines) == 0


async def test_every_step_and_every_plan_anew_has_its_own_approval() -> None:
    steps = [plan_text(item("a", id="1")), plan_text(item("b", id="2")), DONE]
    person = Person(True, Decision(approved=False, reason="enough"))
    team = crew(steps, {"a": ["1"], "b": []}, planning="iterative", approve=("plan",))
    with pytest.raises(DeclinedError, match="enough") as caught:
        await team.run("the task", human=person)
    assert caught.value.result is not None
    assert [o.output for o in caught.value.result.outcomes] == ["1"]

    plans = [plan_text(item("a", id="1")), plan_text(item("b", id="1"))]
    person = Person(True, True)
    team = crew(plans, {"a": [refused()], "b": ["2"]}, max_replans=1, approve=("plan",))
    result = await team.run("the task", human=person)
    assert len(person.shown) == 2
    assert result.status == "completed"


async def test_an_empty_step_is_not_shown_to_anybody() -> None:
    person = Person(True)
    steps = [plan_text(item("a", id="1")), DONE]
    team = crew(steps, {"a": ["1"]}, planning="iterative", approve=("plan",))
    await team.run("the task", human=person)
    assert len(person.shown) == 1


async def test_a_gate_with_nobody_to_ask_costs_nothing() -> None:
    team = crew([PLAN], {"a": [], "b": []}, approve=("plan",))
    with pytest.raises(NobodyToAskError):
        await team.run("the task")
    assert planned(team) == []


async def test_the_gate_of_a_nested_pattern_says_where_it_is() -> None:
    person = Person(True)
    desk = crew([PLAN], {"a": ["1"], "b": ["2"]}, approve=("plan",), name="desk")
    team = crew([plan_text(item("desk"))], {}, worker=desk)
    await team.run("the task", human=person)
    assert person.shown[0].who == "desk/planner"


def durable_crew() -> OrchestratorWorkers:
    return crew([PLAN], {"a": ["1"], "b": ["2"]}, approve=("plan",))


async def test_a_run_with_a_store_waits_and_goes_on_with_the_same_estimate(tmp_path: Path) -> None:
    with Runs(tmp_path / "runs.db") as runs:
        with pytest.raises(RunSuspended) as caught:
            await durable_crew().run("the task", run_id="r", durable=runs)
        [signal] = caught.value.waiting_for
        team = crew([], {"a": ["1"], "b": ["2"]}, approve=("plan",))
        for member in team.workers.values():  # prices have changed meanwhile
            assert isinstance(member, Agent)
            scripted(member).price = None
        await runs.signal("r", signal, True)
        result = await team.run("the task", run_id="r", durable=runs)
    expected = await crew([PLAN], {"a": ["1"], "b": ["2"]}).run("the task")
    assert result.plan_estimate == expected.plan_estimate
    assert result.status == "completed"
    assert [c.replayed for c in result.calls] == [True, False, False, False]


async def test_a_plan_is_edited_and_declined_by_signal_too(tmp_path: Path) -> None:
    with Runs(tmp_path / "runs.db") as runs:
        with pytest.raises(RunSuspended) as caught:
            await durable_crew().run("the task", run_id="r", durable=runs)
        [signal] = caught.value.waiting_for
        await runs.signal(
            "r", signal, {"approved": True, "value": [{"worker": "nobody", "subtask": "x"}]}
        )
        with pytest.raises(RunSuspended) as again:  # the edit cannot be run
            await durable_crew().run("the task", run_id="r", durable=runs)
        [signal] = again.value.waiting_for
        await runs.signal("r", signal, {"approved": False, "reason": "no"})
        with pytest.raises(DeclinedError, match="no"):
            await durable_crew().run("the task", run_id="r", durable=runs)
