"""Whatever is drawn: nothing is lost, overspent, out of order, left running or counted twice."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import example, given

from pyagent_patterns import Budget, RetryPolicy, Timeouts
from pyagent_patterns.errors import BudgetExceeded
from pyagent_patterns.traffic import RateLimit
from pyagent_providers import ModelPrice
from pyagent_providers.errors import BadRequestError, MalformedResponseError, RateLimitError

from . import claims
from .sizes import examples
from .strategies import PRICED, budgets, cases, short_of_money
from .teams import AgentSpec, CaseSpec, ModelSpec, TaskSpec, TeamSpec, play
from .world import Turn

# What was found to go wrong once, and seldom is drawn


def _only(turn: Turn) -> AgentSpec:
    return AgentSpec(models=(ModelSpec(turns=(turn,)),))


DENIED, SLOW = _only(Turn(ends=BadRequestError)), _only(Turn(seconds=9))
FAILING = _only(Turn(ends=MalformedResponseError, seconds=2))
LIMITED = _only(Turn(ends=RateLimitError, retry_after=45))
ONE, TWO = (TaskSpec(0, ()),), (TaskSpec(0, ()), TaskSpec(1, ()))

# A plan whose ids are those of a plan that was given up, with one of its tasks under way.
SAME_IDS = CaseSpec(
    team=TeamSpec(tasks=TWO, workers=(DENIED, SLOW)),
    on_error="abort",
    degrade_to=(TeamSpec(tasks=TWO, workers=(SLOW, SLOW), letter="u"),),
)
# What the first of those who stand in finished, the second has to be told, too.
TWO_STAND_INS = CaseSpec(
    team=TeamSpec(tasks=ONE, workers=(AgentSpec(),), synthesizer=DENIED),
    degrade_to=(
        TeamSpec(tasks=ONE, workers=(AgentSpec(),), synthesizer=DENIED, letter="u"),
        AgentSpec(),
    ),
)
# A wait for a provider's limit, and for its Retry-After, that a budget has no time for.
LONG_WAIT = CaseSpec(
    team=TeamSpec(tasks=ONE * 3, workers=(AgentSpec(),)),
    run_budget=Budget(max_seconds=12),
    limit=RateLimit(requests_per_minute=2),
)
LONG_PAUSE = CaseSpec(
    team=TeamSpec(tasks=ONE, workers=(LIMITED,)),
    retry=RetryPolicy(max_backoff=60),
    run_budget=Budget(max_seconds=12),
)
OUTPUT_ONLY = ModelPrice(0, 15)
# Answers whose provider does not say what they used: each counts with its worst case.
UNREPORTED = CaseSpec(
    team=TeamSpec(
        tasks=ONE * 10,
        workers=(AgentSpec((ModelSpec((Turn(reports=False),), price=OUTPUT_ONLY),), 2_000),),
        max_parallel=1,
    ),
    run_budget=Budget(max_cost_usd="0.10", on_unpriced=ModelPrice(0, 0)),
)
# Answers that nothing bounds, each of which is more than the budget.
UNBOUNDED = CaseSpec(
    team=TeamSpec(
        tasks=ONE * 3, workers=(replace(_only(Turn(unbounded=30_000)), max_tokens=None),)
    ),
    run_budget=Budget(max_tokens=20_000),
)
# An assignment's time goes on when it is handed to another agent.
HANDED_ON = CaseSpec(
    team=TeamSpec(tasks=ONE, workers=(replace(FAILING, fallback=FAILING),)),
    retry=RetryPolicy(max_attempts=2, backoff=0),
    timeouts=Timeouts(assignment=5),
)
# The budget of a team that stands in.
STAND_INS_BUDGET = CaseSpec(
    team=TeamSpec(tasks=ONE, workers=(DENIED,)),
    degrade_to=(
        TeamSpec(tasks=ONE * 3, workers=(AgentSpec(),), letter="u", budget=Budget(max_calls=3)),
    ),
)


def test_a_budget_keeps_enough_for_the_answer_of_a_team_that_stands_in() -> None:
    played = play(STAND_INS_BUDGET)
    assert played.error is None
    assert [o.status for o in played.result.outcomes] == ["failed", "completed", "failed", "failed"]


@examples(100, slow=3_000)
@given(cases())
@example(SAME_IDS)
@example(TWO_STAND_INS)
@example(HANDED_ON)
def test_a_run_loses_nothing_and_leaves_nothing_behind(case: CaseSpec) -> None:
    played = play(case)
    claims.nothing_is_left_running(played)
    claims.it_ends_as_it_may(played)
    claims.it_ends_in_time(played, case)
    claims.all_accounts_agree(played)
    claims.who_stands_in_is_told_of_all_work(played, case)
    for team in (case.team, *case.degrade_to):
        if isinstance(team, TeamSpec):
            claims.no_output_is_lost(played, team)
            claims.tasks_wait_for_what_they_need(played, team, case)
            claims.no_more_than_may_are_at_once(played, team, case.limit)


_RATED = budgets(on_unpriced=("warn", ModelPrice(2, 12)))


@examples(150, slow=3_000)
@example(LONG_WAIT)
@example(LONG_PAUSE)
@example(STAND_INS_BUDGET)
@example(UNREPORTED)
@given(cases(prices=(None, *PRICED), limited=_RATED))
def test_what_is_charged_is_within_the_budget_where_answers_are_bounded(case: CaseSpec) -> None:
    played = play(case)
    attempts, calls = played.world.attempts, played.result.calls
    for budget in case.budgets:
        claims.budgets_hold(attempts, calls, budget)
    for team in case.degrade_to:
        if isinstance(team, TeamSpec) and team.budget is not None:
            its_attempts = [a for a in attempts if a.model.model.startswith(f"{team.letter}-")]
            its_calls = [call for call in calls if call.agent.startswith(f"{team.letter}-")]
            claims.budgets_hold(its_attempts, its_calls, team.budget)
    claims.all_that_was_reserved_is_given_back(played)
    claims.nothing_is_left_running(played)
    claims.it_ends_as_it_may(played)
    claims.it_ends_in_time(played, case)
    claims.all_accounts_agree(played)
    claims.no_output_is_lost(played, case.team)


@examples(100, slow=3_000)
@example(UNBOUNDED)
@given(cases(lengths=(None, None, 100), limited=budgets()))
def test_it_is_over_by_no_more_than_one_call_where_they_are_not(case: CaseSpec) -> None:
    played = play(case)
    for budget in case.budgets:
        claims.budgets_hold_but_for_one_call(played.result.calls, budget)
    claims.all_that_was_reserved_is_given_back(played)
    claims.nothing_is_left_running(played)
    claims.it_ends_in_time(played, case)


@examples(100, slow=3_000)
@given(short_of_money())
def test_a_run_that_its_budget_stops_answers_from_what_it_has(case: CaseSpec) -> None:
    played = play(case)
    if any(outcome.output is not None for outcome in played.result.outcomes):
        assert not isinstance(played.error, BudgetExceeded)
