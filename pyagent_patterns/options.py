"""What every pattern, and every run of one, can be told."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, TypedDict

from .agent import Member
from .budget import Budget
from .form import OutputType
from .journal import Store
from .people import Gate, Human
from .policy import OnError
from .retry import RetryPolicy
from .session import Session
from .timeouts import Timeouts
from .traffic import Traffic

if TYPE_CHECKING:
    from .events import Observer


class How(TypedDict, total=False):
    """How a run is to go; see `Pattern.run`."""

    inputs: object
    on_event: Observer | None
    run_id: str | None
    durable: str | PathLike[str] | Store | None
    budget: Budget | None
    human: Human | None
    session: Session | None
    tenant: str | None
    user: str | None


class Policies(TypedDict, total=False):
    """What every pattern can be told of failure, time, money, people and its answer.

    `retry`, `timeouts` and `on_error` hold for agents without their own: see
    `pyagent_patterns.policy`. `budget` holds in every run, beside one that `run` is given.
    `degrade_to` are simpler patterns or single agents, tried in turn when a run fails: they are
    given the task and all work that is done. `traffic` has the rate limits and circuit breakers;
    all patterns share one unless they are given their own. Within another pattern's run, what is
    not said here is as it is there; time limits of a run are its own.

    `approve` are the gates at which a person is asked (see `pyagent_patterns.people`): the "plan",
    before any of it runs; "tools", each call of an unsafe tool, also in patterns within; the
    "answer".

    `output_type`, a type that pydantic knows or a JSON Schema, is what the answer must be; it is
    then `result.data`. An answer that is not is sent back once. `inputs` is what `run(inputs=)`
    must be.
    """

    retry: RetryPolicy | None
    timeouts: Timeouts | None
    on_error: OnError | None
    budget: Budget | None
    degrade_to: Sequence[Member]
    traffic: Traffic | None
    approve: Sequence[Gate]
    output_type: OutputType | None
    inputs: OutputType | None


class Options(Policies, total=False):
    """What every pattern can be told.

    `name` and `description` say what it is where it works within another pattern; the description
    is what a planner is told of it.
    """

    name: str | None
    description: str
