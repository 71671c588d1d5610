"""Reading a plan: every fault is found at once, and nothing is guessed."""

from __future__ import annotations

import json

import pytest

from pyagent_patterns.plan import Assignment, InvalidPlan, Plan

from .teams import item, plan_text

WORKERS = ("researcher", "coder", "reviewer")


def faults_of(text: str) -> list[str]:
    with pytest.raises(InvalidPlan) as caught:
        Plan.parse(text, WORKERS)
    assert caught.value.text == text
    return list(caught.value.faults)


def test_a_whole_plan_keeps_order_ids_and_dependencies() -> None:
    plan = Plan.parse(
        plan_text(item("coder", "code", id="c"), item("reviewer", "review", depends_on=["c"])),
        WORKERS,
    )
    assert plan.assignments == (
        Assignment("c", "coder", "code"),
        Assignment("t2", "reviewer", "review", ("c",)),
    )


def test_a_dependency_may_name_a_worker_with_exactly_one_assignment() -> None:
    plan = Plan.parse(
        plan_text(item("coder", id="x"), item("reviewer", depends_on=["coder", "x"])), WORKERS
    )
    assert plan.assignments[1].depends_on == ("x",)


def test_an_id_is_meant_before_a_worker_of_the_same_name() -> None:
    plan = Plan.parse(
        plan_text(
            item("researcher", id="coder"),
            item("coder", id="c"),
            item("reviewer", depends_on=["coder"]),
        ),
        WORKERS,
    )
    assert plan.assignments[2].depends_on == ("coder",)


def test_a_dependency_may_be_listed_after_what_needs_it() -> None:
    plan = Plan.parse(
        plan_text(item("reviewer", id="r", depends_on=["c"]), item("coder", id="c")), WORKERS
    )
    assert plan.assignments[0].depends_on == ("c",)


def test_a_missing_id_never_collides_with_a_given_one() -> None:
    plan = Plan.parse(plan_text(item("coder", id="t2"), item("coder"), item("coder")), WORKERS)
    ids = [a.id for a in plan.assignments]
    assert ids[0] == "t2"
    assert len(set(ids)) == 3


def test_one_code_fence_around_the_whole_plan_is_taken_off() -> None:
    assert Plan.parse(f"```json\n{plan_text(item('coder'))}\n```", WORKERS).assignments


def test_null_dependencies_mean_none() -> None:
    plan = Plan.parse(plan_text(item("coder", depends_on=None)), WORKERS)
    assert plan.assignments[0].depends_on == ()


def test_all_faults_are_reported_together() -> None:
    faults = faults_of(
        plan_text(
            item("resercher", id="a"),
            item("coder", id="a"),
            item("coder", id="b", depends_on=["nobody"]),
            item("reviewer", id="r", depends_on=["coder"]),
            item("reviewer", id="s", depends_on=["s"]),
            item("coder", id="p", depends_on=["q"]),
            item("coder", id="q", depends_on=["p"]),
        )
    )
    text = "\n".join(faults)
    assert "the id 'a' is used 2 times" in text
    assert "no worker 'resercher'; choose from 'researcher', 'coder', 'reviewer'" in text
    assert "'b': it depends on 'nobody'" in text
    assert "'r': it depends on 'coder', a worker with 4 assignments" in text
    assert "'s': it depends on itself" in text
    assert "wait for each other" in text
    assert "p" in text.split("wait for each other")[1]
    assert len(faults) == 6


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("I would first research, then code.", "the answer is not JSON"),
        ("", "the answer is not JSON"),
        ('Here it is: {"assignments": []} as asked', "the answer is not JSON"),
        ("null", "the answer"),
        ("[]", "the answer"),
        (json.dumps([item("coder")]), "the answer"),
        ("{}", "assignments: field required"),
        ('{"assignments": null}', "assignments"),
        ('{"assignments": []}', "the plan is empty"),
        ('{"assignments": ["coder"]}', "assignments[0]"),
        ('{"assignments": [{"worker": "coder"}]}', "assignments[0].subtask: field required"),
        ('{"assignments": [{"subtask": "x"}]}', "assignments[0].worker: field required"),
        ('{"assignments": [{"worker": "coder", "subtask": " "}]}', "assignment 't1': its subtask"),
        (plan_text(item("coder", depends_on="x")), "assignments[0].depends_on"),
        (plan_text(item("coder", depends_on=[1])), "assignments[0].depends_on[0]"),
        (plan_text(item("coder", id=7)), "assignments[0].id"),
    ],
)
def test_what_is_not_a_plan_is_said_to_be_none(text: str, fault: str) -> None:
    assert faults_of(text)[0].startswith(fault)


def test_every_shape_fault_is_found_not_only_the_first() -> None:
    faults = faults_of('{"assignments": [{"worker": 1}, {"subtask": "x", "depends_on": 3}]}')
    assert [fault.split(":")[0] for fault in faults] == [
        "assignments[0].worker",
        "assignments[0].subtask",
        "assignments[1].worker",
        "assignments[1].depends_on",
    ]


def test_the_schema_asks_for_known_workers_in_a_form_strict_modes_take() -> None:
    schema = json.loads(json.dumps(Plan.schema(WORKERS).schema))
    assignment = schema["properties"]["assignments"]["items"]
    assert assignment["properties"]["worker"]["enum"] == list(WORKERS)
    for part in (schema, assignment):  # what OpenAI's strict mode demands
        assert part["additionalProperties"] is False
        assert sorted(part["required"]) == sorted(part["properties"])
