"""What work is expected to cost, before it is done: from past runs, else from sizes and prices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from pyagent_providers.base import Usage

from .agent import Agent, Member
from .result import Outcome

_BYTES_PER_TOKEN: Final = 4  # of English, on average
_ANSWER_TOKENS: Final = 1024  # of an answer that `max_tokens` does not bound
_NOTHING: Final = Decimal(0)
_MOST_KNOWN: Final = 1000  # members: a planner may define others in every run


class Past:
    """What the work of each member has cost so far, in this process."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, Decimal]] = {}

    def learn(self, outcomes: Iterable[Outcome]) -> None:
        """Remember what these have cost."""
        for outcome in outcomes:
            cost = outcome.cost if outcome.status == "completed" else None
            known = self._known.get(outcome.worker)
            if cost is None or (known is None and len(self._known) >= _MOST_KNOWN):
                continue
            count, total = known or (0, _NOTHING)
            self._known[outcome.worker] = (count + 1, total + cost)

    def mean(self, member: str) -> Decimal | None:
        """US dollars for one piece of its work, None if it has done none."""
        known = self._known.get(member)
        return None if known is None else known[1] / known[0]


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A member that is given a prompt, and the outputs of those it `builds_on`."""

    member: Member
    prompt: str
    builds_on: Sequence[Member] = ()


def expected_cost(work: Iterable[Work], past: Past) -> Decimal | None:
    """US dollars for this work.

    What a member's work has cost on average, if it has done any; else, for an agent, what it reads
    at four bytes a token and an answer of `max_tokens` (1,024 without) at today's price. None when
    nobody knows for one of them.
    """
    total = _NOTHING
    for piece in work:
        cost = past.mean(piece.member.name)
        if cost is None:
            cost = _by_size(piece)
        if cost is None:
            return None
        total += cost
    return total


def _by_size(work: Work) -> Decimal | None:
    agent = work.member
    if not isinstance(agent, Agent):
        return None
    written = f"{work.prompt}{agent.system_prompt}".encode(errors="replace")
    read = len(written) // _BYTES_PER_TOKEN + sum(map(_answer_tokens, work.builds_on))
    return agent.llm.price_of(Usage(input_tokens=read, output_tokens=_answer_tokens(agent)))


def _answer_tokens(member: Member) -> int:
    bound = member.sampling.max_tokens if isinstance(member, Agent) else None
    return bound or _ANSWER_TOKENS
