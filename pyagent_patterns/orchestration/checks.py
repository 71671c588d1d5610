"""What the patterns ask of their arguments: a clear error before anything is spent."""

from __future__ import annotations

from collections.abc import Sequence

from pyagent_patterns.agent import Agent, Member, MemberLike, as_member
from pyagent_patterns.base import Pattern


def named(argument: str, members: Sequence[MemberLike]) -> dict[str, Member]:
    """The members by name.

    Raises TypeError for what is no member, ValueError for none at all and for two of one name.
    """
    team: dict[str, Member] = {}
    for position, value in enumerate(members):
        member = as_member(f"{argument}[{position}]", value)
        if member.name in team:
            raise ValueError(
                f"{argument} has two agents named {member.name!r}; a plan names workers, so give "
                "each a name of its own"
            )
        team[member.name] = member
    if not team:
        raise ValueError(f"{argument} is empty; give at least one Agent to do the work")
    return team


def an_agent(argument: str, value: Agent) -> Agent:
    """The agent. Raises TypeError for anything else: only an agent can also write the answer."""
    if not isinstance(value, Agent):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{argument} must be an Agent('name', llm); got {value!r}")
    return value


def at_least(argument: str, least: int, value: int) -> int:
    """The value. Raises ValueError if it is less."""
    if value < least:
        raise ValueError(f"{argument} must be at least {least}; got {value!r}")
    return value


def limit_of(argument: str, value: int | None) -> int | None:
    """The limit, None for none. Raises ValueError if it is less than 1."""
    if value is not None and value < 1:
        raise ValueError(f"{argument} must be at least 1, or None; got {value!r}")
    return value


def must_have_a_writer(pattern: Pattern) -> None:
    """Raise ValueError where an answer is to have a form and nobody alone writes it."""
    if pattern.form is not None and pattern.answered_by is None:
        raise ValueError(
            f"{pattern.name!r} has an output_type, and its answer is put together from what "
            "several wrote; let one write it: a merge, or a last stage of its own"
        )


def must_not_wait_for_a_plan(pattern: Pattern) -> None:
    """Raise ValueError where a person is to approve a plan and none is ever made."""
    if "plan" in pattern.approve:
        raise ValueError(
            f"{pattern.name!r} makes no plan to approve; say approve=['plan'] of the pattern in it "
            "that plans, or approve its 'answer'"
        )
