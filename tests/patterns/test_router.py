"""Router: who is chosen and how, answers that name no route, and several routes at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from pyagent_patterns import (
    Agent,
    Budget,
    EmbeddingClassifier,
    Pipeline,
    Route,
    RouteError,
    Router,
    WorkersFailedError,
)
from pyagent_patterns.orchestration import Choice
from pyagent_patterns.run import RunContext
from pyagent_providers import Message
from pyagent_providers.testing import ScriptedLLM, Step

from .members import REFUSED, asked, says
from .teams import questions, scripted


def choice(*routes: str, sure: float = 0.9, reason: str = "it says so") -> str:
    """A classifier's answer."""
    chosen = [{"route": route, "confidence": sure} for route in routes]
    return json.dumps({"routes": chosen, "reason": reason})


def desk(*answers: str, **options: Any) -> Router:
    """A router with three routes, whose classifier gives these answers."""
    return Router(
        [
            Route("billing", says("bill", "billed"), description="money matters"),
            Route("Tech", says("tess", "fixed"), description="machines that fail"),
            Route("other", says("otto", "dealt with")),
        ],
        classifier=says("classifier", *answers),
        **options,
    )


def classifier(router: Router) -> Agent:
    assert isinstance(router.classifier, Agent)
    return router.classifier


async def test_the_route_that_is_chosen_does_the_task_and_nobody_else_is_asked() -> None:
    router = desk(choice("billing"))
    result = await router.run("refund me")
    assert result.output == "billed"
    assert result.status == "completed"
    assert result.metadata["routes"] == [
        {"route": "billing", "path": "billing", "confidence": 0.9, "reason": "it says so"}
    ]
    assert [(c.phase, c.agent) for c in result.calls] == [
        ("route", "classifier"),
        ("worker", "bill"),
    ]
    assert [(o.worker, o.status, o.output) for o in result.outcomes] == [
        ("billing", "completed", "billed")
    ]
    bill = router.routes["billing"].member
    assert isinstance(bill, Agent)
    assert asked(bill) == "refund me"


async def test_the_classifier_is_told_the_task_what_each_route_is_for_and_the_form() -> None:
    router = desk(choice("billing"))
    await router.run("refund me")
    question = asked(classifier(router))
    assert "- billing: money matters" in question
    assert "- other\n" in question
    assert "refund me" in question
    [request] = scripted(classifier(router)).requests
    assert request.schema is not None
    assert json.dumps(request.schema.schema) in question
    assert request.schema.strict
    assert "billing" in str(request.schema.schema)


@pytest.mark.parametrize(
    "answer",
    [
        "billing",
        "  billing\n",
        "BILLING",
        '"billing"',
        choice("billing"),
        choice(" Billing "),
        f"```json\n{choice('billing')}\n```",
        '{"routes": ["billing"], "reason": ""}',
    ],
)
async def test_a_name_is_matched_after_trimming_and_in_any_case(answer: str) -> None:
    result = await desk(answer).run("the task")
    assert [route["route"] for route in result.metadata.get("routes", [])] == ["billing"]


@pytest.mark.parametrize(
    "answer",
    [
        "'billing'.",
        "billing.",
        "**billing**",
        "I would say billing",
        "bill",
        "",
        "null",
        "[]",
        '["billing"]',
        "{}",
        '{"routes": "billing"}',
        '{"routes": [{"confidence": 1}], "reason": ""}',
        '{"routes": [7]}',
        choice("billing", "nobody"),
        pytest.param("[" * 100_000, id="deep"),
    ],
)
async def test_an_answer_that_is_not_a_routes_name_goes_to_no_route(answer: str) -> None:
    router = desk(answer or " ", choice("Tech"))
    if not answer:  # an empty answer is a failed call, not a choice
        router = desk("\u2003.", choice("Tech"))
    result = await router.run("the task")
    assert result.output == "fixed"
    repair = questions(classifier(router))[1]
    assert "It cannot be used" in repair
    assert result.cost_by("phase")["route"] > result.cost_by("phase")["worker"]  # both are paid


async def test_the_repair_shows_the_answer_and_the_routes_there_are() -> None:
    router = desk("sales", choice("other"))
    await router.run("the task")
    repair = questions(classifier(router))[1]
    assert "sales" in repair
    assert "there is no route 'sales'; there are 'billing', 'Tech', 'other'" in repair


async def test_a_case_that_is_ambiguous_is_no_match() -> None:
    def router(*answers: str) -> Router:
        routes = {"Bill": says("a", "upper"), "bill": says("b", "lower")}
        return Router(routes, classifier=says("c", *answers))

    assert (await router("Bill").run("the task")).output == "upper"
    assert (await router("bill").run("the task")).output == "lower"
    assert (await router("BILL", "bill").run("the task")).output == "lower"


async def test_two_answers_that_name_no_route_raise_with_what_was_paid() -> None:
    with pytest.raises(
        RouteError, match=r"it has 'billing', 'Tech', 'other'\n.*\nto sales"
    ) as caught:
        await desk("sales", "to sales").run("the task")
    assert caught.value.answer == "to sales"
    assert caught.value.result is not None
    assert [call.phase for call in caught.value.result.calls] == ["route", "route"]
    assert caught.value.result.cost_estimate > 0


async def test_two_answers_that_name_no_route_take_the_default() -> None:
    result = await desk("sales", "sales!", default="other").run("the task")
    assert result.output == "dealt with"
    [route] = result.metadata.get("routes", [])
    assert (route["route"], route["confidence"]) == ("other", None)
    assert "default" in route["reason"]


async def test_a_classifier_may_say_that_none_fits_and_is_not_asked_again() -> None:
    router = desk(choice(), default="other")
    assert (await router.run("the task")).output == "dealt with"
    with pytest.raises(RouteError):
        await desk(choice()).run("the task")


@pytest.mark.parametrize("sure", ["2", "-0.1", "NaN", "Infinity", "true", '"high"', "null"])
async def test_a_confidence_that_is_none_is_left_out(sure: str) -> None:
    answer = '{"routes": [{"route": "billing", "confidence": %s}], "reason": ""}' % sure  # noqa: UP031
    result = await desk(answer).run("the task")
    assert [route["confidence"] for route in result.metadata.get("routes", [])] == [None]


# Several routes


async def test_up_to_top_k_routes_run_side_by_side_and_are_joined() -> None:
    both = asyncio.Barrier(2)

    def waits(name: str) -> Agent:
        async def answer(messages: Sequence[Message]) -> str:
            await asyncio.wait_for(both.wait(), 5)
            return f"{name} did it"

        return Agent(name, answer)

    router = Router(
        [waits("a"), waits("b"), waits("c")],
        classifier=says("classifier", choice("b", "a", "b", "c")),
        top_k=2,
    )
    result = await router.run("the task")
    assert result.output == "## b\n\nb did it\n\n## a\n\na did it"
    assert [route["route"] for route in result.metadata.get("routes", [])] == ["b", "a"]


async def test_a_merge_makes_one_answer_of_several_routes() -> None:
    merge = says("merge", "both in one")
    router = desk(choice("billing", "Tech"), top_k=3, merge=merge)
    result = await router.run("the task")
    assert result.output == "both in one"
    assert "the task" in asked(merge)
    assert "billed" in asked(merge)
    assert "fixed" in asked(merge)
    assert result.calls[-1].phase == "synthesis"


async def test_one_route_alone_needs_no_merge() -> None:
    merge = says("merge")
    result = await desk(choice("billing"), top_k=2, merge=merge).run("the task")
    assert result.output == "billed"
    assert scripted(merge).requests == []


@pytest.mark.parametrize("merge", [None, says("merge", "what there is")])
async def test_one_of_several_routes_failing_leaves_a_partial_answer(merge: Agent | None) -> None:
    router = Router(
        {"a": says("a", REFUSED), "b": says("b", Step("beta", delay=0.01))},
        classifier=says("classifier", choice("a", "b")),
        top_k=2,
        merge=merge,
    )
    result = await router.run("the task")
    assert result.status == "partial"
    assert result.output == ("beta" if merge is None else "what there is")
    assert [o.status for o in result.outcomes] == ["refused", "completed"]
    if merge is not None:
        assert "- a (a), refused" in asked(merge)


async def test_a_route_that_fails_fails_the_run_unless_somebody_stands_in() -> None:
    def router(**options: Any) -> Router:
        route = {"a": says("a", REFUSED)}
        return Router(route, classifier=says("classifier", choice("a")), **options)

    with pytest.raises(WorkersFailedError, match="ContentRefused"):
        await router().run("the task")
    result = await router(degrade_to=[says("spare", "saved")]).run("the task")
    assert (result.output, result.degraded_to) == ("saved", "spare")


async def test_the_route_that_answers_is_held_to_the_output_type() -> None:
    class Sum(BaseModel):
        total: int

    router = Router(
        [says("a", "seven", '{"total": 7}')], classifier=says("c", choice("a")), output_type=Sum
    )
    result = await router.run("the task")
    assert result.data == Sum(total=7)
    with pytest.raises(ValueError, match="put together from what several wrote"):
        Router([says("a")], classifier=says("c"), top_k=2, output_type=Sum)


async def test_of_a_budget_everything_can_be_spent_on_routes_that_nobody_merges() -> None:
    result = await desk(choice("billing", "Tech"), top_k=2).run("t", budget=Budget(max_calls=3))
    assert result.status == "completed"


# Other ways to choose


async def test_a_rule_takes_its_route_without_asking() -> None:
    async def mentions_tax(task: str) -> bool:
        await asyncio.sleep(0)
        return "tax" in task

    def router(*answers: str, top_k: int = 1) -> Router:
        return Router(
            [
                Route("money", says("m", "money"), when=lambda task: "euro" in task),
                Route("tax", says("t", "tax"), when=mentions_tax),
                Route("rest", says("r", "rest")),
            ],
            classifier=says("c", *answers),
            top_k=top_k,
        )

    result = await router().run("a tax form")
    assert result.output == "tax"
    assert result.metadata.get("routes") == [
        {"route": "tax", "path": "tax", "confidence": 1.0, "reason": "by rule"}
    ]
    assert [call.phase for call in result.calls] == ["worker"]
    assert (await router().run("tax in euro")).output == "money"  # the first that fits
    both = await router(top_k=2).run("tax in euro")
    assert both.output == "## money\n\nmoney\n\n## tax\n\ntax"
    assert (await router(choice("rest")).run("else")).output == "rest"


async def test_rules_alone_need_no_classifier() -> None:
    def router(**options: Any) -> Router:
        return Router([Route("a", says("a", "alpha"), when=lambda task: "a" in task)], **options)

    assert (await router().run("a")).output == "alpha"
    with pytest.raises(RouteError):
        await router().run("b")
    assert (await router(default="a").run("b")).output == "alpha"


async def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
    """By whether they speak of money or of machines."""
    return [[float("money" in text), float("machine" in text)] for text in texts]


async def test_the_nearest_description_is_chosen_by_embedding() -> None:
    router = Router(
        [
            Route("billing", says("a", "billed"), description="money"),
            Route("tech", says("b", "fixed"), description="machines"),
        ],
        classifier=EmbeddingClassifier(embed, threshold=0.5),
    )
    result = await router.run("my machine is broken")
    assert result.output == "fixed"
    assert result.metadata.get("routes") == [
        {"route": "tech", "path": "tech", "confidence": 1.0, "reason": "nearest by embedding"}
    ]
    with pytest.raises(RouteError, match="it found none"):
        await router.run("nothing of the kind")


async def test_what_was_embedded_is_on_record_and_not_embedded_again() -> None:
    from pyagent_patterns.journal import MemoryStore

    looked: list[Sequence[str]] = []

    async def once(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        looked.append(texts)
        return await embed(texts)

    a = says("a", "billed", "again")
    router = Router(
        [Route("billing", a, description="money")], classifier=EmbeddingClassifier(once)
    )
    store = MemoryStore()
    for _ in range(2):
        result = await router.run("money", run_id="r", durable=store)
        assert result.output == "billed"
    assert len(looked) == 1


async def test_a_classifier_may_be_a_function_or_a_pattern() -> None:
    async def last_word(prompt: str) -> str:
        return "tech" if "machine" in prompt.partition("<task>")[2] else "billing"

    routes = {"billing": says("a", "billed"), "tech": says("b", "fixed", "fixed")}
    assert (await Router(routes, classifier=last_word).run("a machine")).output == "fixed"
    thinks = Pipeline([says("thinker", "hm, machines"), says("decider", choice("tech"))])
    result = await Router(routes, classifier=thinks).run("a machine")
    assert result.output == "fixed"
    assert [call.path for call in result.calls] == ["pipeline/thinker", "pipeline/decider", "b"]


async def test_a_classifier_of_ones_own_must_choose_a_route_there_is() -> None:
    class First:
        def __init__(self, name: str) -> None:
            self.name = name

        async def choose(
            self, ctx: RunContext, routes: Mapping[str, Route], task: str
        ) -> Sequence[Choice]:
            return [Choice(self.name, 0.5, "it is the first")]

    result = await Router([says("a", "alpha")], classifier=First("a")).run("the task")
    assert result.output == "alpha"
    with pytest.raises(RouteError, match="found no route"):
        await Router([says("a")], classifier=First("b")).run("the task")


# What cannot work


@pytest.mark.parametrize(
    ("routes", "options", "said"),
    [
        ([], {"classifier": says("c")}, "routes is empty"),
        ({}, {"classifier": says("c")}, "routes is empty"),
        ([says("a"), says("a")], {"classifier": says("c")}, "two routes are named 'a'"),
        ({"a": says("a"), " a": says("b")}, {"classifier": says("c")}, "two routes are named 'a'"),
        ({" ": says("a")}, {"classifier": says("c")}, "a route's name is empty"),
        (["a"], {"classifier": says("c")}, r"routes\[0\] must be an Agent"),
        ({"a": 1}, {"classifier": says("c")}, "route 'a' must be an Agent"),
        ([says("a")], {}, "give a classifier, or every route a rule"),
        ([says("a")], {"classifier": "c"}, "classifier must be an Agent"),
        ([says("a")], {"classifier": says("c"), "default": "b"}, "default 'b' is no route"),
        ([says("a")], {"classifier": says("c"), "top_k": 0}, "top_k must be at least 1"),
        ([says("a")], {"classifier": says("c"), "merge": says("m")}, "nothing to merge"),
    ],
)
def test_routes_that_cannot_work_are_refused(
    routes: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        Router(routes, **options)


async def test_a_classifier_that_fails_fails_the_run() -> None:
    from pyagent_patterns import AgentError

    router = Router([says("a")], classifier=Agent("c", ScriptedLLM([REFUSED])), default="a")
    with pytest.raises(AgentError, match="agent 'c'"):
        await router.run("the task")
