"""A graph takes as long as its longest path, and no longer than its workers need."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyagent_patterns.traffic import RateLimit

from . import claims
from .sizes import examples
from .strategies import graphs
from .teams import AgentSpec, CaseSpec, ModelSpec, TaskSpec, TeamSpec, play
from .world import Turn

LATENCIES = st.lists(st.sampled_from((1.0, 0.0, 2.0, 5.0, 30.0)), min_size=10, max_size=10)


def team(graph: tuple[TaskSpec, ...], took: list[float], max_parallel: int | None) -> CaseSpec:
    """Each task goes to a worker of its own, so that its latency is known."""
    tasks = tuple(TaskSpec(n, task.after) for n, task in enumerate(graph))
    workers = tuple(
        AgentSpec(models=(ModelSpec(turns=(Turn(seconds=seconds),)),))
        for seconds in took[: len(tasks)]
    )
    return CaseSpec(team=TeamSpec(tasks=tasks, workers=workers, max_parallel=max_parallel))


def critical_path(case: CaseSpec) -> float:
    ends: list[float] = []
    for task, worker in zip(case.team.tasks, case.team.workers, strict=True):
        begin = max((ends[after] for after in task.after), default=0)
        ends.append(begin + worker.models[0].turns[0].seconds)
    return max(ends)


PLAN_AND_SYNTHESIS = 2 * Turn().seconds


@examples(100, slow=2_000)
@given(graphs(workers=1, most=10), LATENCIES)
def test_an_unbounded_run_takes_as_long_as_its_critical_path(
    graph: tuple[TaskSpec, ...], took: list[float]
) -> None:
    case = team(graph, took, max_parallel=None)
    played = play(case)
    assert played.error is None
    assert played.seconds == PLAN_AND_SYNTHESIS + critical_path(case)


@examples(100, slow=2_000)
@given(graphs(workers=1, most=10), LATENCIES, st.integers(1, 4))
def test_a_bounded_run_keeps_its_bound_and_leaves_no_place_idle(
    graph: tuple[TaskSpec, ...], took: list[float], most: int
) -> None:
    """No list schedule takes longer than this (Graham, 1969)."""
    case = team(graph, took, max_parallel=most)
    played = play(case)
    claims.no_more_than_may_are_at_once(played, case.team, RateLimit())
    work, path = sum(took[: len(graph)]), critical_path(case)
    longest = work / most + path * (1 - 1 / most)
    assert played.seconds <= PLAN_AND_SYNTHESIS + longest + 1e-6
    assert played.seconds >= PLAN_AND_SYNTHESIS + max(path, work / most) - 1e-6
