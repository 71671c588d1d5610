"""Budgets: reserved before, settled after, and never overspent under fan-out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import ClassVar, Unpack

import pytest

from pyagent_patterns import (
    Agent,
    AgentError,
    Breaker,
    Budget,
    BudgetError,
    BudgetExceeded,
    OrchestratorWorkers,
    Pattern,
    RetryPolicy,
    Traffic,
)
from pyagent_patterns.base import Options
from pyagent_patterns.durable import Runs
from pyagent_patterns.run import RunContext, Task
from pyagent_patterns.testing import capture_trace
from pyagent_providers import LLM, Completion, ModelPrice, Usage
from pyagent_providers.errors import OverloadedError
from pyagent_providers.testing import ScriptedLLM, Step
from pyagent_providers.types import Request
from tests.patterns.teams import item, plan_text

from .solo import MILLIONTH, PRICE, Solo


class Greedy(LLM):
    """Takes all it may: the prompt at a token a byte, and every token of `max_tokens`."""

    def __init__(self, *, writes: int | None = None, seconds: float = 0.0) -> None:
        super().__init__("greedy", provider="test", price=PRICE)
        self._writes, self._seconds = writes, seconds
        self.under_way = self.most_at_once = self.asked = 0

    async def _complete(self, request: Request) -> Completion:
        self.asked += 1
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self.under_way -= 1
        written = self._writes or request.sampling.max_tokens or 10
        read = self._input_tokens_at_most(request)
        return Completion(
            text="x" * written,
            usage=Usage(input_tokens=read, output_tokens=written),
            finish_reason="stop",
        )


class FanOut(Pattern):
    """Many questions at once, and no answer made of them."""

    name: ClassVar[str] = "fan_out"

    def __init__(self, agent: Agent, width: int, **policies: Unpack[Options]) -> None:
        super().__init__(**{"traffic": Traffic(), **policies})
        self._agent, self._width = agent, width

    @property
    def members(self) -> Sequence[Agent]:
        return (self._agent,)

    async def _execute(self, ctx: RunContext, task: str) -> str:
        async def work(scope: RunContext, given: object) -> str:
            return await scope.ask(self._agent, task, phase="worker")

        settled = await ctx.dag({f"t{n}": Task((), work) for n in range(self._width)})
        return str(sum(hasattr(how, "value") for how in settled.values()))


COST = (5 + 16 + 10 * 100) * MILLIONTH  # of one greedy call: "hello", 100 tokens


@pytest.mark.parametrize("allowed", [1, 3, 7])
async def test_a_fan_out_never_spends_more_than_the_budget(allowed: int) -> None:
    llm = Greedy(seconds=0.001)
    budget = Budget(max_cost_usd=COST * allowed + COST / 2)
    result = await FanOut(Agent("a", llm, max_tokens=100), 20).run("hello", budget=budget)
    assert result.output == str(allowed)
    assert result.cost_estimate == COST * allowed
    assert llm.asked == allowed


async def test_what_is_reserved_and_not_used_goes_to_those_who_wait() -> None:
    llm = Greedy(writes=1, seconds=0.001)  # a hundredth of what is set aside for it
    budget = Budget(max_cost_usd=COST * 2)
    result = await FanOut(Agent("a", llm, max_tokens=100), 20).run("hello", budget=budget)
    assert result.output == "20"
    assert llm.most_at_once == 2
    assert result.cost_estimate <= COST * 2


def _dear() -> Greedy:
    dear = Greedy()
    dear.price = ModelPrice(input=1000, output=1000)
    return dear


async def test_where_a_model_is_too_dear_for_what_is_left_the_next_one_answers() -> None:
    dear, cheap = _dear(), Greedy()
    agent = Agent("a", [dear, cheap], max_tokens=100)
    result = await Solo(agent).run("hello", budget=Budget(max_cost_usd=COST))
    assert (result.status, result.cost_estimate) == ("completed", COST)
    assert (dear.asked, cheap.asked) == (0, 1)
    with pytest.raises(BudgetExceeded) as refused:
        await Solo(agent).run("hello", budget=Budget(max_cost_usd=COST / 2))
    assert not refused.value.result.calls


async def test_calls_whose_length_nothing_bounds_are_made_one_by_one_and_overspend_by_one() -> None:
    llm = Greedy(writes=100, seconds=0.001)
    budget = Budget(max_cost_usd=COST * 5 / 2)
    result = await FanOut(Agent("a", llm), 20).run("hello", budget=budget)
    assert llm.most_at_once == 1
    assert llm.asked == 3
    assert budget.max_cost_usd is not None
    assert budget.max_cost_usd < result.cost_estimate < budget.max_cost_usd + COST


@pytest.mark.parametrize(
    ("budget", "allowed"),
    [
        (Budget(max_calls=4), 4),
        (Budget(max_tokens=121 * 4 + 50), 4),
        (Budget(max_calls=9, max_tokens=121 * 2, max_cost_usd=1), 2),
    ],
)
async def test_tokens_and_calls_are_limits_too(budget: Budget, allowed: int) -> None:
    llm = Greedy()
    result = await FanOut(Agent("a", llm, max_tokens=100), 20).run("hello", budget=budget)
    assert (result.output, llm.asked) == (str(allowed), allowed)


async def test_every_attempt_counts_and_what_was_turned_away_costs_nothing() -> None:
    busy = OverloadedError("busy", provider="p", model="m")
    llm = ScriptedLLM([busy, busy, "here"], price=PRICE)
    agent = Agent("a", llm, max_tokens=5)
    retry = RetryPolicy(max_attempts=3, backoff=0)
    assert (await Solo(agent, retry=retry).run("hi", budget=Budget(max_cost_usd="0.0001"))).output

    llm = ScriptedLLM([busy, busy, "here"], price=PRICE)
    with pytest.raises(BudgetExceeded, match="2 of 2 calls are made"):
        await Solo(Agent("a", llm), retry=retry).run("hi", budget=Budget(max_calls=2))


async def test_money_for_a_call_that_was_never_sent_is_given_back() -> None:
    first = ScriptedLLM([OverloadedError("busy", provider="p", model="m")], model="f", price=PRICE)
    agent = Agent("a", [first, Greedy()], max_tokens=100)
    team = Solo(
        agent,
        traffic=Traffic(breaker=Breaker(failures=1, cool_down=60)),
        retry=RetryPolicy(max_attempts=1),
    )
    for _ in range(2):  # the second time the first model is taken to be down
        assert (await team.run("hello", budget=Budget(max_cost_usd=COST))).output


async def test_no_other_agent_is_asked_when_the_money_is_gone() -> None:
    agent = Agent("a", Greedy(), max_tokens=9, fallback=Agent("b", Greedy(), max_tokens=9))
    with capture_trace() as trace, pytest.raises(BudgetExceeded, match="agent 'a'"):
        await Solo(agent).run("hello", budget=Budget(max_tokens=5))
    assert trace.metric("pyagent.budget.rejections").total == 1


async def test_a_call_that_the_budgets_time_cuts_off_is_the_budgets() -> None:
    agent = Agent("a", Greedy(seconds=60), max_tokens=9)
    with pytest.raises(BudgetExceeded, match="max_seconds are over"):
        await Solo(agent, retry=RetryPolicy(max_attempts=1)).run(
            "hello", budget=Budget(max_seconds=0.05)
        )


async def test_a_call_that_does_not_fit_says_what_is_left_and_is_not_made() -> None:
    llm = Greedy()
    with capture_trace() as trace, pytest.raises(BudgetExceeded) as caught:
        await Solo(Agent("a", llm, max_tokens=100)).run("hello", budget=Budget(max_cost_usd=0.001))
    assert str(caught.value) == (
        "agent 'a' (greedy): the budget's max_cost_usd does not allow it: $0 of $0.001 is spent, "
        "and a call to 'greedy' may cost $0.001021"
    )
    assert llm.asked == 0
    assert caught.value.result is not None
    assert caught.value.result.calls == ()
    assert trace.metric("pyagent.budget.rejections").total == 1
    assert not [span for span in trace.spans if span.name.startswith("chat")]


def team(workers: int, *, max_tokens: int = 100, writes: int | None = None) -> OrchestratorWorkers:
    plan = plan_text(*(item(f"w{n}", id=f"t{n}") for n in range(workers)))
    return OrchestratorWorkers(
        orchestrator=Agent("planner", ScriptedLLM([plan], price=PRICE), max_tokens=5),
        workers=[
            Agent(f"w{n}", Greedy(writes=writes, seconds=0.001), max_tokens=max_tokens)
            for n in range(workers)
        ],
        synthesizer=Agent("writer", Greedy(), max_tokens=50),
        traffic=Traffic(),
    )


async def test_enough_is_kept_to_answer_from_what_there_is() -> None:
    for cents in range(3, 60, 3):
        budget = Budget(max_cost_usd=Decimal(cents) / 1000)
        crew = team(20)
        try:
            result = await crew.run("the task", budget=budget)
        except BudgetExceeded as stopped:
            stopped_with = stopped.result
        else:
            stopped_with = None
        if stopped_with is not None:
            # Only for want of money for any work at all, not for want of an answer to it.
            assert not [o for o in stopped_with.outcomes if o.output]
            continue
        assert budget.max_cost_usd is not None
        assert result.cost_estimate <= budget.max_cost_usd
        assert result.output
        if result.status == "partial":
            assert "budget's max_cost_usd" in str([o.error for o in result.outcomes])
    assert result.status == "completed"


async def test_short_work_leaves_more_room_than_was_kept_for_the_answer() -> None:
    """Six answers of one byte fit where six that were as long as they may be would not."""
    plan = plan_text(
        *(item(f"w{n}", id=f"t{n}", depends_on=[f"t{n - 1}"] if n else []) for n in range(6))
    )
    for writes, dollars, status in (
        (1, "0.0075", "completed"),
        (100, "0.0075", "partial"),
        (100, "0.0105", "partial"),
    ):
        crew = OrchestratorWorkers(
            orchestrator=Agent("planner", ScriptedLLM([plan], price=PRICE), max_tokens=5),
            workers=[Agent(f"w{n}", Greedy(writes=writes), max_tokens=100) for n in range(6)],
            synthesizer=Agent("writer", Greedy(), max_tokens=50),
            traffic=Traffic(),
        )
        result = await crew.run("the task", budget=Budget(max_cost_usd=dollars))
        assert result.status == status


async def test_a_partial_answer_says_what_the_budget_left_out() -> None:
    crew = team(4)
    result = await crew.run("the task", budget=Budget(max_calls=4))
    assert result.status == "partial"
    assert [o.status for o in result.outcomes] == ["completed", "completed", "failed", "failed"]
    assert "2 calls are made" not in (result.outcomes[3].error or "")
    assert "3 of 4 calls are made; 1 is kept for the answer" in (result.outcomes[3].error or "")
    assert result.calls[-1].agent == "writer"


async def test_a_run_without_room_for_any_work_stops_with_budget_exceeded() -> None:
    with pytest.raises(BudgetExceeded) as stopped:
        await team(3).run("the task", budget=Budget(max_calls=2))
    assert stopped.value.result is not None
    assert [call.agent for call in stopped.value.result.calls] == ["planner"]
    assert {o.status for o in stopped.value.result.outcomes} == {"failed"}


async def test_the_patterns_budget_and_the_runs_hold_both() -> None:
    llm = Greedy()
    pattern = FanOut(Agent("a", llm, max_tokens=100), 20, budget=Budget(max_calls=5))
    assert (await pattern.run("hello")).output == "5"
    assert (await pattern.run("hello", budget=Budget(max_calls=3))).output == "3"
    assert (await pattern.run("hello", budget=Budget(max_calls=9))).output == "5"
    assert llm.asked == 13


async def test_a_scopes_own_budget_holds_beside_those_above() -> None:
    llm = Greedy(seconds=0.001)
    agent = Agent("a", llm, max_tokens=100)

    class Nested(FanOut):
        async def _execute(self, ctx: RunContext, task: str) -> str:
            async def half(name: str, calls: int) -> str:
                scope = ctx.child(name, budget=Budget(max_calls=calls))
                return await FanOut._execute(self, scope, task)

            one, other = await asyncio.gather(half("one", 3), half("other", 20))
            return f"{one} and {other}"

    result = await Nested(agent, 20).run("hello", budget=Budget(max_calls=10))
    assert result.output == "3 and 7"
    assert llm.asked == 10


async def test_seconds_cut_off_the_work_and_leave_time_for_the_answer() -> None:
    plan = plan_text(item("a", id="ta"), item("b", id="tb"))
    crew = OrchestratorWorkers(
        orchestrator=Agent("planner", ScriptedLLM([plan], price=PRICE)),
        workers=[
            Agent("a", ScriptedLLM(["alpha"], price=PRICE)),
            Agent("b", ScriptedLLM([Step("never", delay=60)], price=PRICE), max_tokens=9),
        ],
        synthesizer=Agent("writer", ScriptedLLM([Step("in time", delay=0.02)], price=PRICE)),
        traffic=Traffic(),
    )
    result = await crew.run("the task", budget=Budget(max_seconds=1.5))
    assert (result.output, result.status) == ("in time", "partial")
    assert [o.status for o in result.outcomes] == ["completed", "failed"]
    assert "max_seconds are over" in (result.outcomes[1].error or "")
    assert result.duration_seconds < 1.5
    assert [c.price_source for c in result.outcomes[1].calls] == ["estimate"]


UNPRICED = Agent("a", ScriptedLLM(["one", "two", "three"], model="nobody-sells-this"))


async def test_a_model_without_a_price_is_refused_before_anything_is_spent() -> None:
    with pytest.raises(BudgetError, match=r"no price is known for 'nobody-sells-this'.*price="):
        await Solo(UNPRICED).run("hello", budget=Budget(max_cost_usd=1))
    assert not UNPRICED.llm.requests  # type: ignore[attr-defined]


async def test_a_fallbacks_model_without_a_price_is_refused_too() -> None:
    agent = Agent("b", ScriptedLLM([], price=PRICE), fallback=UNPRICED)
    with pytest.raises(BudgetError, match="nobody-sells-this"):
        await Solo(agent).run("hello", budget=Budget(max_cost_usd=1))


async def test_an_unpriced_model_can_be_let_pass_or_be_given_a_rate(
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent = Agent("a", ScriptedLLM(["one", "two"], model="free-for-all"), max_tokens=5)
    result = await Solo(agent).run("hi", budget=Budget(max_cost_usd="0.01", on_unpriced="warn"))
    assert result.unpriced == 1
    assert "calls to 'free-for-all' at 'scripted' have no price" in caplog.text

    rate = ModelPrice(input=1000, output=1000)  # dollars per million: 2 + 16 + 5 tokens are $0.023
    with pytest.raises(BudgetExceeded, match=r"may cost \$0\.023"):
        await Solo(agent).run("hi", budget=Budget(max_cost_usd="0.022", on_unpriced=rate))
    result = await Solo(agent).run("hi", budget=Budget(max_cost_usd="0.024", on_unpriced=rate))
    assert (result.cost_estimate, result.unpriced) == (0, 1)  # the ledger does not assume


async def test_without_a_cost_limit_a_model_needs_no_price() -> None:
    agent = Agent("a", ScriptedLLM(["one"], model="nobody-sells-this"))
    assert (await Solo(agent).run("hello", budget=Budget(max_calls=1))).output == "one"


async def test_a_cancelled_call_counts_at_its_worst_case() -> None:
    llm = Greedy(seconds=60)
    agent = Agent("a", llm, max_tokens=100)
    run = asyncio.create_task(Solo(agent).run("hello", budget=Budget(max_cost_usd=1)))
    while not llm.asked:
        await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError) as stopped:
        await run
    assert stopped.value.result.cost_estimate == COST  # type: ignore[attr-defined]


async def test_what_was_spent_before_a_crash_counts_and_the_budget_is_remembered(
    tmp_path: Path,
) -> None:
    crew = team(6)
    hung = Agent("w3", Greedy(seconds=60), max_tokens=100)
    crew.workers["w3"] = hung
    with Runs(tmp_path / "runs.db") as runs:
        budget = Budget(max_calls=7)  # plan, five of the six, answer
        run = asyncio.create_task(crew.run("the task", run_id="r", durable=runs, budget=budget))
        while sum(a.llm.asked for a in crew.workers.values()) < 5:  # type: ignore[attr-defined]
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.05)
        run.cancel()
        await asyncio.wait([run])

        again = team(6)
        result = await runs.resume("r", again)
        # Begun and cut off, w3 may have been billed: so it is counted, and not made again.
        assert [o.worker for o in result.outcomes if o.output is None] == ["w3", "w5"]
        assert result.status == "partial"
        assert sum(a.llm.asked for a in again.workers.values()) == 0  # type: ignore[attr-defined]
        assert [c.agent for c in result.calls if not c.replayed] == ["writer"]


class Hires(Solo):
    """Asks an agent that is not one of its members, as a planner may define one."""

    async def _execute(self, ctx: RunContext, task: str) -> str:
        made = Agent("made", self._agent.llm, system_prompt="Be brief.", max_tokens=100)
        return await ctx.ask(made, task, phase="worker", answers=True)


@pytest.mark.parametrize("pattern", [Solo, Hires])
async def test_a_call_that_was_cut_off_counts_with_its_tools_and_whoever_made_it(
    pattern: type[Solo], tmp_path: Path
) -> None:
    def look_up(word: str) -> str:
        raise AssertionError("nobody calls it")

    look_up.__doc__ = "What it means. " * 300

    def asking(llm: Greedy) -> Solo:
        return pattern(Agent("a", llm, max_tokens=100, tools=[look_up]))

    once = await asking(Greedy()).run("hello")
    budget = Budget(max_cost_usd=once.cost_estimate * 3 / 2)  # for one, and not for another
    with Runs(tmp_path / "runs.db") as runs:
        hung = Greedy(seconds=60)
        run = asyncio.create_task(
            asking(hung).run("hello", run_id="r", durable=runs, budget=budget)
        )
        while not hung.asked:
            assert not run.done()
            await asyncio.sleep(0.002)
        run.cancel()
        await asyncio.wait([run])
        with pytest.raises(BudgetExceeded, match=r"of \$0\.\d+ is spent"):
            await runs.resume("r", asking(Greedy()))


async def test_going_on_with_a_greater_budget_goes_on(tmp_path: Path) -> None:
    crew = team(2)
    crew.workers["w1"] = Agent("w1", Greedy(seconds=60), max_tokens=100)
    with Runs(tmp_path / "runs.db") as runs:
        run = asyncio.create_task(
            crew.run("the task", run_id="r", durable=runs, budget=Budget(max_calls=4))
        )
        while not crew.workers["w1"].llm.asked:  # type: ignore[attr-defined]
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.05)
        run.cancel()
        await asyncio.wait([run])
        result = await team(2).run("the task", run_id="r", durable=runs, budget=Budget(max_calls=5))
        assert result.status == "completed"


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        ({}, "needs a limit"),
        ({"max_cost_usd": 0}, "max_cost_usd must be US dollars, more than 0"),
        ({"max_cost_usd": "much"}, "max_cost_usd must be US dollars"),
        ({"max_calls": -1}, "max_calls must be more than 0"),
        ({"max_seconds": 0}, "max_seconds must be more than 0"),
        ({"max_calls": 1, "on_unpriced": "guess"}, "on_unpriced must be 'raise', 'warn' or"),
    ],
)
def test_a_budget_that_is_none_is_refused(limits: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Budget(**limits)  # type: ignore[arg-type]


def test_a_budget_survives_json() -> None:
    rate = ModelPrice(input="0.1", output="0.2", cache_read="0.05")
    budget = Budget(max_cost_usd="0.5", max_tokens=7, max_seconds=1.5, on_unpriced=rate)
    assert Budget.from_dict(budget.to_dict()) == budget


async def test_a_failed_question_is_an_agent_error_to_those_who_handle_them() -> None:
    with pytest.raises(AgentError) as caught:
        await Solo(Agent("a", Greedy(), max_tokens=9)).run("hi", budget=Budget(max_tokens=1))
    assert caught.value.kind == "budget"
