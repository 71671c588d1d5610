"""What work is expected to cost, before it is done: from past runs, else from sizes and prices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from pyagent_providers.base import Usage

from .agent import Agent, Member
from .result import Outcome

_BYTES_PER_TOKEN: Final = 4  # of English, on average
_ANSWER_TOKENS: Final = 1024  # of an answer that `max_tokens` does not bound


class Past:
    """What the work of each member has cost so far, in this process."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, Decimal]] = {}

    def learn(self, outcomes: Iterable[Outcome]) -> None:
        """Remember what these have cost."""
        for outcome in outcomes:
            if outcome.status == "completed" and outcome.cost is not None:
                count, total = self._known.get(outcome.worker, (0, Decimal(0)))
                self._known[outcome.worker] = (count + 1, total + outcome.cost)

    def mean(self, member: str) -> Decimal | None:
        """US dollars for one piece of its work, None if it has done none."""
        known = self._known.get(member)
        return None if known is None else known[1] / known[0]


def expected_cost(work: Sequence[tuple[Member, str]], past: Past) -> Decimal | None:
    """US dollars for members that are given these prompts, once each.

    What a member's work has cost on average, if it has done any; else, for an agent, its prompt at
    four bytes a token and an answer of `max_tokens` (1,024 without) at today's price. None when
    nobody knows for one of them.
    """
    total = Decimal(0)
    for member, prompt in work:
        cost = past.mean(member.name)
        if cost is None and isinstance(member, Agent):
            size = len(f"{prompt}{member.system_prompt}".encode(errors="replace"))
            usage = Usage(
                input_tokens=size // _BYTES_PER_TOKEN,
                output_tokens=member.sampling.max_tokens or _ANSWER_TOKENS,
            )
            cost = member.llm.price_of(usage)
        if cost is None:
            return None
        total += cost
    return total
