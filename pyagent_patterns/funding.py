"""A run's purse, as it is when the run begins or goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from pyagent_providers.types import JSONObject

from .agent import Agent
from .budget import Budget
from .journal import Call, Earlier, Journal
from .purse import Closing, Purse, size_of
from .question import Question, Reply


async def purse_of(
    own: Sequence[Budget],
    given: Budget | None,
    journal: Journal,
    task: str,
    last: Agent | None,
    agents: Sequence[Agent],
) -> Purse | None:
    """The purse of a run; None where nothing limits it.

    `own` are the pattern's budgets. `given` is the run's, which is recorded; one that is given
    none has the one on record, as it was begun with or submitted. What earlier executions spent is
    counted. Raises `BudgetError` if a budget cannot hold for one of `agents`.
    """
    if given is not None:
        key = f"budget:{journal.execution}"  # another one may be given each time
        await journal.call(Call(key, "budget", _Given(given)), partial(_value, given))
    else:
        given = _on_record(await journal.earlier("budget"))
    budgets = [*own, given] if given else own
    if not budgets:
        return None
    for budget in budgets:
        for agent in agents:
            for llm in agent.llms:
                budget.check(llm)
    purse = Purse(budgets, closing_of(last, task))
    for call in await journal.earlier("ask"):
        _count(purse, call, agents)
    return purse


def closing_of(last: Agent | None, task: str) -> Closing | None:
    """The call in which `last` writes the answer to `task`."""
    if last is None:
        return None
    return Closing(
        llm=last.llm,
        max_tokens=last.sampling.max_tokens,
        prompt_bytes=size_of(task) + size_of(last.system_prompt) + _WORDS_AROUND,
    )


_WORDS_AROUND = 1024  # what a pattern writes around the task, at most


def _count(purse: Purse, call: Earlier, agents: Sequence[Agent]) -> None:
    """Count what an earlier execution paid, or may have."""
    if call.value is not None:
        for paid in Reply.from_dict(call.value, replayed=True).calls:
            purse.count_before(paid)
    elif call.input is not None:
        with suppress(LookupError):  # the team has no such model any more
            question = _as_recorded(call.input, agents)
            llm = question.agent.llm
            quote = llm.quote(
                question.messages,
                schema=question.schema,
                tools=question.tools,
                sampling=question.agent.sampling,
            )
            purse.count_doubtful(llm, quote)


def _as_recorded(asked: JSONObject, agents: Sequence[Agent]) -> Question:
    """A question on record, to one of `agents` or to one that is none of them any more.

    Those are agents that a planner defined, or that summarised, on the same models. Raises
    LookupError for a model that none of them has.
    """
    with suppress(LookupError):
        return Question.from_dict(asked, agents)
    model = asked["provider"], asked["model"]
    for llm in [llm for agent in agents for llm in agent.llms]:
        if (llm.provider, llm.model) == model:
            agent = Agent(
                cast(str, asked["agent"]),
                llm,
                system_prompt=cast(str, asked["system_prompt"]),
                **cast("dict[str, Any]", asked["sampling"]),
            )
            return Question.from_dict({**asked, "fingerprint": agent.fingerprint}, [agent])
    raise LookupError(f"no agent of the team has the model {model!r}")


def _on_record(earlier: Sequence[Earlier]) -> Budget | None:
    """The last budget that the run was given."""
    given = [call.value for call in earlier if call.value is not None]
    return Budget.from_dict(given[-1]) if given else None


@dataclass(frozen=True, slots=True, eq=False)
class _Given:
    """A budget, as a call that puts it on record."""

    budget: Budget

    def to_dict(self) -> JSONObject:
        return self.budget.to_dict()

    @property
    def input_hash(self) -> str:
        return json.dumps(self.to_dict())


async def _value(budget: Budget) -> JSONObject:
    return budget.to_dict()
