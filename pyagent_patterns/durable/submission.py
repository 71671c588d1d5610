"""A run as it is handed in for other processes: all of how it is to go that is data."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self, TypedDict, Unpack, cast

from pyagent_patterns.attribution import NOBODY, Attribution
from pyagent_patterns.budget import Budget
from pyagent_patterns.errors import InputChanged
from pyagent_patterns.form import Form
from pyagent_patterns.task import whole_task
from pyagent_providers.redaction import redacted, redacted_json
from pyagent_providers.types import JSONObject

from . import teams


class HowSubmitted(TypedDict, total=False):
    """How a submitted run is to go; each as for `Pattern.run`."""

    run_id: str | None
    inputs: object
    budget: Budget | None
    tenant: str | None
    user: str | None


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A run that any process may carry. `task` has the inputs in it, and no secrets."""

    run_id: str
    team: str
    task: str
    whom: Attribution = NOBODY
    budget: Budget | None = None

    @classmethod
    def of(cls, team: str, task: str, **how: Unpack[HowSubmitted]) -> Self:
        """The run of a team that is named `package.module:object`.

        Where that can be imported, the inputs are checked against its own; else whoever carries
        the run does that. Raises TypeError or ValueError for a task, inputs, a tenant or a user
        that are none, ValueError for such a name that is not one.
        """
        if not all(team.rpartition(":")):
            raise ValueError(f"a team is named as package.module:object; got {team!r}")
        return cls(
            run_id=how.get("run_id") or uuid.uuid4().hex,
            team=team,
            task=redacted(whole_task(task, how.get("inputs"), _inputs_of(team))),
            whom=Attribution(how.get("tenant"), how.get("user")),
            budget=how.get("budget"),
        )

    @cached_property
    def on_record(self) -> dict[str, JSONObject]:
        """What is on the run's record before anybody carries it: values of calls, by activity.

        It is found there as what an earlier execution was given is (see `Journal.earlier`). So it
        holds for every execution, whichever process dies when, until the run is given another.
        """
        values: dict[str, JSONObject] = {}
        if self.whom != NOBODY:
            values["attribution"] = cast(JSONObject, redacted_json(self.whom.to_dict()))
        if self.budget is not None:
            values["budget"] = self.budget.to_dict()
        return values

    def check_same(self, before: Mapping[str, JSONObject]) -> None:
        """Raise InputChanged if a run of this id was submitted with another `on_record`."""
        for activity in {**before, **self.on_record}:
            if before.get(activity) != self.on_record.get(activity):
                raise InputChanged(self.run_id, activity)


def _inputs_of(team: str) -> Form | None:
    """The form of a team's inputs; None where it takes none, or cannot be imported."""
    try:
        form = getattr(teams.load(team), "inputs", None)
    except Exception:  # importing runs code: whatever it raises, whoever carries the run may do so
        return None
    return form if isinstance(form, Form) else None
