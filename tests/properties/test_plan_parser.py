"""The plan parser, fuzzed: a plan that can be run, or everything that is wrong; nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyagent_patterns import Agent, OrchestratorWorkers, PlanError
from pyagent_patterns.plan import InvalidPlan, Plan
from pyagent_providers import LLMLike
from pyagent_providers.testing import ScriptedLLM

from .sizes import examples
from .virtual import run_virtually

WORKERS = ("coder", "reviewer", "t1", "é ☃")


def is_runnable(plan: Plan) -> None:
    """Every task has a known worker and something to do, and can be begun at some time."""
    names = [assignment.id for assignment in plan]
    assert names
    assert len(set(names)) == len(names)
    for assignment in plan:
        assert assignment.id
        assert assignment.worker in WORKERS
        assert assignment.subtask.strip()
        assert plan[assignment.id] is assignment
        assert len(set(assignment.depends_on)) == len(assignment.depends_on)
    done: set[str] = set()
    left = list(plan)
    while left:
        ready = [assignment for assignment in left if set(assignment.depends_on) <= done]
        assert ready, f"nothing of {left} can ever begin"
        done |= {assignment.id for assignment in ready}
        left = [assignment for assignment in left if assignment.id not in done]


def parse(text: str) -> Plan | None:
    """The plan, checked; None for what is not one."""
    try:
        plan = Plan.parse(text, WORKERS)
    except InvalidPlan as error:
        invalid = error
    else:
        is_runnable(plan)
        return plan
    assert invalid.faults
    assert all(invalid.faults)
    assert invalid.text is text
    return None


# What a planner may write

any_character = st.characters(codec=None, exclude_categories=())  # lone surrogates, too
words = st.text(any_character, max_size=8)
names = st.sampled_from(("t1", "t2", "a", "b", "", " ", "coder", "reviewer", "nobody", "\ud800"))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from((10**400, -(10**30), 1e308, float("nan"), float("inf"), 0.1)),
    words,
    names,
)
keys = st.sampled_from(
    ("assignments", "id", "worker", "subtask", "depends_on", "Worker", "", "\ud800")
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=10,
)


def mostly(usual: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return usual | usual | usual | values


workers = st.sampled_from(WORKERS)
items = mostly(
    st.fixed_dictionaries(
        {"worker": mostly(workers | names), "subtask": mostly(st.just("do it") | words)},
        optional={
            "id": mostly(names),
            "depends_on": mostly(st.lists(names, max_size=3)),
            "note": values,
        },
    )
)
near_plans = mostly(st.fixed_dictionaries({"assignments": mostly(st.lists(items, max_size=5))}))


@st.composite
def valid_plans(draw: st.DrawFn) -> str:
    size = draw(st.integers(1, 6))
    ids = [f"id{n}" for n in range(size)]
    written = [
        {
            "id": ids[n],
            "worker": draw(workers),
            "subtask": draw(st.sampled_from(("do it", 'say "hi" {}', "☃ \\ \n"))),
            "depends_on": draw(st.lists(st.sampled_from(ids[:n]), max_size=3)) if n else [],
        }
        for n in range(size)
    ]
    return json.dumps({"assignments": draw(st.permutations(written))})


@st.composite
def spoiled(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """A text with some pieces left out, doubled, moved or written over."""
    text = draw(texts)
    for _ in range(draw(st.integers(1, 4))):
        one, other = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
        put = draw(st.sampled_from(("", text[one:other], text[one:other] * 2, *_BITS)) | words)
        text = text[:one] + put + text[other:]
    return text


_BITS = (
    "NaN", "Infinity", "1e999", "9" * 5000, "-", "null", "true", '"', "\\", "\\ud800", "\\u0000",
    "\x00", "\ufeff", "[" * 2000, '{"assignments":' * 500, "]}", ",", '"id": "t1",',
    '"assignments": [],', "```", "```json\n", "\n```",
)  # fmt: skip


def as_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


@examples(700, slow=30_000)
@given(near_plans.map(as_text))
def test_what_is_nearly_a_plan_is_one_or_its_faults_are_told(text: str) -> None:
    parse(text)


@examples(700, slow=30_000)
@given(spoiled(valid_plans()))
@example("")
@example("```json\n```")
@example('{"assignments": [{"worker": "coder", "subtask": "x", "subtask": "\\ud800"}]}')
@example('{"assignments": [], "assignments": [{"worker": "coder", "subtask": "x"}]}')
@example('{"assignments": [{"worker": "coder", "subtask": "x", "id": NaN}]}')
@example("[" * 100_000)
def test_a_spoiled_plan_is_one_or_its_faults_are_told(text: str) -> None:
    parse(text)


@examples(300, slow=30_000)
@given(st.text(any_character) | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_text_is_no_plan(text: str) -> None:
    parse(text)


@examples(300, slow=10_000)
@given(valid_plans(), st.sampled_from(("{}", " \n{}\t", "```json\n{}\n```", "```\n{}```\n")))
def test_a_valid_plan_is_read_as_it_was_written(text: str, around: str) -> None:
    plan = parse(around.replace("{}", text))
    assert plan is not None
    written = json.loads(text)["assignments"]
    for assignment in written:
        assignment["depends_on"] = list(dict.fromkeys(assignment["depends_on"]))
    assert [assignment.to_dict() for assignment in plan] == written


@examples(30, slow=1_000)
@given(near_plans.map(as_text) | spoiled(valid_plans()) | valid_plans())
def test_a_run_on_any_planners_answer_has_an_answer_or_raises_plan_error(text: str) -> None:
    llm = ScriptedLLM([text, text])
    team = OrchestratorWorkers(
        orchestrator=Agent("planner", llm),
        workers=[Agent(name, _always("done")) for name in WORKERS],
        synthesizer=Agent("writer", _always("the answer")),
    )
    if parse(text) is not None:
        assert run_virtually(lambda: team.run("the task")).output == "the answer"
    elif text.strip():
        with pytest.raises(PlanError) as caught:
            run_virtually(lambda: team.run("the task"))
        assert caught.value.plan == text


def _always(answer: str) -> LLMLike:
    async def model(messages: object) -> str:
        return answer

    return model


Written = dict[str, object]


def _item(worker: str = "coder", after: Sequence[str] = (), **rest: object) -> Written:
    return {"worker": worker, "subtask": "x", "depends_on": after, **rest}


def _circle(size: int) -> list[Written]:
    return [_item(id=f"i{n}", after=[f"i{(n + 1) % size}"]) for n in range(size)]


def _all_on_all_before(size: int) -> list[Written]:
    ids = [f"i{n}" for n in range(int(size**0.5))]
    return [_item(id=own, after=ids[:n]) for n, own in enumerate(ids)]


LARGE: dict[str, Callable[[int], list[Written]]] = {
    "a chain": lambda size: [_item(id="i0"), *_circle(size)[:0:-1]],
    "a circle": _circle,
    "all on all before": _all_on_all_before,
    "all on a worker": lambda size: [_item(after=["coder"])] * size,
    "nobody's": lambda size: [_item("nobody", after=["no", "none"])] * size,
    "nothing in them": lambda size: [{}] * size,
    "one id": lambda size: [_item(id="t1")] * size,
    "others' ids": lambda size: [_item(id=f"t{n + size}" if n % 2 else "") for n in range(size)],
}


@pytest.mark.parametrize("shape", LARGE)
def test_a_huge_answer_costs_no_more_than_its_size(shape: str) -> None:
    """Neither in processor time nor in what the planner is told about it."""
    text = json.dumps({"assignments": LARGE[shape](20_000)})
    began = time.process_time()
    faults: Sequence[str] = ()
    try:
        Plan.parse(text, WORKERS)
    except InvalidPlan as invalid:
        faults = invalid.faults
    assert time.process_time() - began < 10  # it needs less than half a second
    assert sum(map(len, faults)) < 50 * len(text)
