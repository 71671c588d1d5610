"""A run's budgets at work: the worst case of a call is reserved before, and settled after.

A check before each call would let every call of a fan-out pass it. So what a call may come to is
set aside before it is sent, and what it did not use is given back when it ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from pyagent_providers.base import LLM, Quote, Usage
from pyagent_providers.pricing import ModelPrice

from .budget import Budget, Spent
from .ledger import CallRecord

Limit = Literal["max_cost_usd", "max_tokens", "max_calls", "max_seconds"]

_log: Final = logging.getLogger("pyagent.budget")

_KEPT_SECONDS: Final = 0.2  # the part of `max_seconds` that is kept for the answer
_ANSWER_TOKENS: Final = 1024  # kept for an answer whose length nothing bounds
# What a token of an answer may be as text, when that is part of the next prompt. An average is 4.
_BYTES_PER_TOKEN: Final = 6
_BYTES_AROUND: Final = 256  # around each piece of work in the prompt that asks for the answer


class Refused(Exception):
    """There is not enough left for a call, and nothing under way will give any back."""

    def __init__(self, limit: Limit, why: str) -> None:
        super().__init__(why)
        self.limit: Limit = limit


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Closing:
    """The call that writes the answer. What it needs is not given to others.

    `prompt_bytes` is what it is asked with before any work is done.
    """

    llm: LLM
    max_tokens: int | None
    prompt_bytes: int


class Purse:
    """The budgets that hold for a scope of a run: its own and those above, all or none.

    `closing` is the call that this purse's own `budgets` keep enough for, if any; `of_scope` says
    that they are not the whole run's. `closes` says whether the answer that is written here is the
    one that those above keep enough for, too.

    In one event loop nothing comes between a look and a reservation, so there is no lock.
    """

    def __init__(
        self,
        budgets: Sequence[Budget],
        closing: Closing | None = None,
        *,
        of_scope: bool = False,
        above: Purse | None = None,
        closes: bool = True,
    ) -> None:
        """Raises RuntimeError where no event loop is running."""
        now = asyncio.get_running_loop().time()
        own = tuple(_Account(budget, now, closing) for budget in budgets)
        before: tuple[_Account, ...] = () if above is None else above._accounts
        scopes: tuple[_Account, ...] = () if above is None else above._of_scopes
        self._accounts = before + own
        self._of_scopes = scopes + own if of_scope else scopes
        self._closed = 0 if above is None else above._closed if closes else len(before)
        self._answer = _Answer() if above is None else above._answer
        self._waiting: deque[asyncio.Future[None]] = deque() if above is None else above._waiting

    @property
    def spent(self) -> tuple[Spent, ...]:
        """How far each budget that holds here is used, the outermost first."""
        return tuple(account.state for account in self._accounts)

    def seconds_left(self, *, closing: bool) -> float | None:
        """Until a call is cut off; the answer has more time than what it is made from."""
        now = asyncio.get_running_loop().time()
        ends = [account.ends(closing=closes) for account, closes in self._closing(closing)]
        return min((end - now for end in ends if end is not None), default=None)

    def check(self, llm: LLM) -> None:
        """Raise `BudgetError` if a budget cannot hold for that model."""
        for account in self._accounts:
            account.check(llm)

    async def reserve(self, llm: LLM, quote: Quote, *, closing: bool) -> Reservation:
        """Set a call's worst case aside; waits while calls under way may give room back.

        Raises `Refused`, and `BudgetError` for a model that a scope's budget cannot price.
        """
        while True:
            left = self.seconds_left(closing=closing)
            if left is not None and left <= 0:
                raise Refused("max_seconds", "the budget's max_seconds are over")
            final = closing and not self._closed  # what else is written becomes part of a prompt
            material = 0 if final else (quote.output_tokens or 0) * _BYTES_PER_TOKEN
            if self._has_room(llm, quote, material, closing=closing):
                self._answer.material += material
                taken = [account.take(llm, quote) for account in self._accounts]
                return Reservation(self, taken, material, final=final)
            await self._turn(left)

    def settle(self, taken: Sequence[_Amount], call: CallRecord | None, material: int) -> None:
        """Of a reservation: count `call`, give the rest back, add `material` for the answer."""
        self._answer.material += material
        for account, amount in zip(self._accounts, taken, strict=True):
            account.settle(call, amount)
        waiting = list(self._waiting)
        self._waiting.clear()
        for turn in waiting:  # in the order they came; each looks for itself
            if not turn.done():
                turn.set_result(None)

    def count_before(self, call: CallRecord) -> None:
        """Count a call that an earlier execution of the run made."""
        for account in self._accounts:
            account.spent += account.used(call, _NOTHING)

    def count_doubtful(self, llm: LLM, quote: Quote) -> None:
        """Count, at its worst, a call that an earlier execution sent and left without an answer."""
        for account in self._accounts:
            account.spent += account.worst(llm, quote)

    def count_replayed(self, call: CallRecord) -> None:
        """Count a call on record in the scopes' budgets; the run's have counted it already."""
        for account in self._of_scopes:
            account.spent += account.used(call, _NOTHING)

    def count_output(self, text: str) -> None:
        """Count work on record that the answer will be made from."""
        self._answer.material += size_of(text)

    def _has_room(self, llm: LLM, quote: Quote, material: int, *, closing: bool) -> bool:
        """Now; False if there may be later. Raises `Refused` if there will not."""
        for account, closes in self._closing(closing):
            wanted = account.worst(llm, quote)
            kept = _NOTHING if closes else self._kept(account, material)
            limit = account.short_of(wanted, kept)
            if limit is None:
                continue
            if account.short_of_ever(wanted, kept) or not account.under_way:
                raise Refused(limit, account.why(limit, llm, wanted, kept))
            return False
        return True

    def _closing(self, closing: bool) -> Iterator[tuple[_Account, bool]]:
        """Each account, and whether for it a call is the one that it keeps enough for."""
        for position, account in enumerate(self._accounts):
            yield account, closing and position >= self._closed

    def _kept(self, account: _Account, material: int) -> _Amount:
        answer = account.keeps_for
        if answer is None:
            return _NOTHING
        llm = answer.llm
        read = answer.prompt_bytes + self._answer.material + material + _BYTES_AROUND
        usage = Usage(input_tokens=read, output_tokens=answer.max_tokens or _ANSWER_TOKENS)
        usd = account.price(llm.provider, llm.model, usage, llm.price_of(usage))
        return _Amount(usd, usage.total_tokens, 1)

    async def _turn(self, seconds: float | None) -> None:
        """Until something was given back, or the time is over."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await asyncio.wait([turn], timeout=seconds)
        finally:
            turn.cancel()
            if turn in self._waiting:
                self._waiting.remove(turn)


class Reservation:
    """What is set aside for one attempt. Settled exactly once, whatever became of the call."""

    __slots__ = ("_final", "_material", "_purse", "_taken")

    def __init__(
        self, purse: Purse, taken: Sequence[_Amount], material: int, *, final: bool
    ) -> None:
        self._purse, self._taken = purse, taken
        self._material, self._final = material, final

    def settle(self, call: CallRecord | None, output: str = "") -> None:
        """Count the call and give the rest back; None: it was never sent."""
        written = size_of(output) if output and not self._final else 0
        self._purse.settle(self._taken, call, written - self._material)


def size_of(text: str) -> int:
    """Bytes of a text as part of a prompt; at least as many as its tokens."""
    return len(text.encode(errors="replace")) + _BYTES_AROUND


class _Answer:
    """What the answer will be made from, so far, in bytes."""

    __slots__ = ("material",)

    def __init__(self) -> None:
        self.material = 0


@dataclass(frozen=True, slots=True)
class _Amount:
    """What a budget counts, in US dollars, tokens and calls."""

    usd: Decimal = Decimal(0)
    tokens: int = 0
    calls: int = 0

    def __add__(self, other: _Amount) -> _Amount:
        return _Amount(self.usd + other.usd, self.tokens + other.tokens, self.calls + other.calls)

    def __sub__(self, other: _Amount) -> _Amount:
        return _Amount(self.usd - other.usd, self.tokens - other.tokens, self.calls - other.calls)


_NOTHING: Final = _Amount()


class _Account:
    """One budget: what is spent, and what is set aside for calls under way."""

    def __init__(self, budget: Budget, now: float, keeps_for: Closing | None) -> None:
        self._budget = budget
        self._began = now
        self.keeps_for = keeps_for
        self.max_usd = budget.max_cost_usd
        self.spent = _NOTHING
        self.reserved = _NOTHING
        self.under_way = 0

    @property
    def state(self) -> Spent:
        return Spent(
            budget=self._budget,
            usd=self.spent.usd,
            tokens=self.spent.tokens,
            calls=self.spent.calls,
            reserved_usd=self.reserved.usd,
            reserved_tokens=self.reserved.tokens,
            reserved_calls=self.reserved.calls,
        )

    def check(self, llm: LLM) -> None:
        self._budget.check(llm)

    def ends(self, *, closing: bool) -> float | None:
        seconds = self._budget.max_seconds
        if seconds is None:
            return None
        keeps = self.keeps_for is not None and not closing
        return self._began + seconds * (1 - _KEPT_SECONDS if keeps else 1)

    def worst(self, llm: LLM, quote: Quote) -> _Amount:
        """A call's worst case, as far as it is known. Raises `BudgetError` (`Budget.check`)."""
        if quote.usd is None:
            self._budget.check(llm)
        usage = Usage(input_tokens=quote.input_tokens, output_tokens=quote.output_tokens or 0)
        usd = self.price(llm.provider, llm.model, usage, quote.usd)
        return _Amount(usd, usage.total_tokens, 1)

    def used(self, call: CallRecord, reserved: _Amount) -> _Amount:
        """What a call took; what was set aside for it, where that is not known."""
        if call.price_source == "not-billed":
            return _Amount(calls=1)
        if call.usage is None:
            return _Amount(reserved.usd if call.cost is None else call.cost, reserved.tokens, 1)
        usd = self.price(call.provider, call.requested_model, call.usage, call.cost)
        return _Amount(usd, call.usage.total_tokens, 1)

    def price(self, provider: str, model: str, usage: Usage, known: Decimal | None) -> Decimal:
        """US dollars as this budget counts them."""
        if known is not None or self.max_usd is None:
            return known or Decimal(0)
        rate = self._budget.on_unpriced
        if isinstance(rate, ModelPrice):
            return rate.cost(usage)
        if (provider, model) not in _warned:
            _warned.add((provider, model))
            _log.warning(
                "calls to %r at %r have no price: max_cost_usd does not limit them", model, provider
            )
        return Decimal(0)

    def take(self, llm: LLM, quote: Quote) -> _Amount:
        amount = self.worst(llm, quote)
        if quote.output_tokens is None:  # it may take all there is, so nobody else gets any
            usd = self.max_usd - self.spent.usd if self.max_usd is not None else amount.usd
            tokens = (self._budget.max_tokens or amount.tokens) - self.spent.tokens
            amount = _Amount(max(amount.usd, usd), max(amount.tokens, tokens), 1)
        self.reserved += amount
        self.under_way += 1
        return amount

    def settle(self, call: CallRecord | None, reserved: _Amount) -> None:
        self.reserved -= reserved
        self.under_way -= 1
        if call is not None:
            self.spent += self.used(call, reserved)

    def short_of(self, wanted: _Amount, kept: _Amount) -> Limit | None:
        """The limit that has no room for a call now."""
        return self._short_of(wanted + kept + self.spent + self.reserved)

    def short_of_ever(self, wanted: _Amount, kept: _Amount) -> bool:
        """There is no room even if the calls under way gave back all their money and tokens.

        They do not give back that they are calls.
        """
        under_way = _Amount(calls=self.reserved.calls)
        return self._short_of(wanted + kept + self.spent + under_way) is not None

    def _short_of(self, total: _Amount) -> Limit | None:
        budget = self._budget
        if budget.max_calls is not None and total.calls > budget.max_calls:
            return "max_calls"
        if budget.max_tokens is not None and total.tokens > budget.max_tokens:
            return "max_tokens"
        if self.max_usd is not None and total.usd > self.max_usd:
            return "max_cost_usd"
        return None

    def why(self, limit: Limit, llm: LLM, wanted: _Amount, kept: _Amount) -> str:
        """For the reader: what is spent, what was wanted, what is kept."""
        budget, spent = self._budget, self.spent
        if limit == "max_calls":
            calls = (spent + self.reserved).calls
            what, keeps = f"{calls} of {budget.max_calls} calls are made", f"{kept.calls} is"
        elif limit == "max_tokens":
            what = (
                f"{spent.tokens} of {budget.max_tokens} tokens are used, and a call to "
                f"{llm.model!r} may take {wanted.tokens}"
            )
            keeps = f"{kept.tokens} are"
        else:
            what = (
                f"{_dollars(spent.usd)} of {_dollars(self.max_usd)} is spent, and a call to "
                f"{llm.model!r} may cost {_dollars(wanted.usd)}"
            )
            keeps = f"{_dollars(kept.usd)} is"
        rest = f"; {keeps} kept for the answer" if kept.calls else ""
        return f"the budget's {limit} does not allow it: {what}{rest}"


_warned: Final[set[tuple[str, str]]] = set()


def _dollars(usd: Decimal | None) -> str:
    return f"${usd or 0:.6f}".rstrip("0").rstrip(".")
