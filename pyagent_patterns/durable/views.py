"""What a store tells of its runs: plain values, read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from pyagent_patterns import ledger
from pyagent_patterns.journal import Status
from pyagent_patterns.ledger import CallRecord
from pyagent_patterns.people import Wanted
from pyagent_patterns.question import Reply
from pyagent_providers.types import JSONObject, JSONValue


@dataclass(frozen=True, slots=True, kw_only=True)
class CallView:
    """One recorded call. Times are Unix time in seconds.

    `begun` counts how often it was sent: more than once may have been paid more than once. `value`
    is None while there is none; for a question to an agent it is text, error and calls.
    """

    key: str
    activity: str
    input: JSONObject
    state: str
    begun: int
    copied: bool
    value: JSONObject | None
    started_at: float
    ended_at: float | None

    @property
    def reply(self) -> Reply | None:
        """How a question to an agent was answered; None for other calls and unanswered ones."""
        if self.activity != "ask" or self.value is None:
            return None
        return Reply.from_dict(self.value, replayed=False)

    @property
    def attempts(self) -> tuple[CallRecord, ...]:
        reply = self.reply
        return () if reply is None else reply.calls

    def asked(self, name: str) -> str | None:
        """A text of the recorded question: `agent`, `model`, `prompt`, `task_id`, ..."""
        value = self.input.get(name)
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """One run. `status` says how its last execution ended; `is_owned` that one goes on now.

    `pattern` is the kind of its pattern, `name` what that is called; the kind where it has no name.
    `cost` is US dollars of what is priced and on record, `unpriced` counts what is not priced.
    `due` says that a suspended run can go on. Times are Unix time in seconds.
    """

    run_id: str
    pattern: str
    name: str
    team: str | None
    task: str
    status: Status
    is_owned: bool
    due: bool
    execution: int
    error: str | None
    cost: Decimal
    unpriced: int
    tokens: int
    calls: int
    waiting_for: tuple[str, ...]
    wake_at: float | None
    forked_from: str | None
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetail:
    """A run with all its calls, in the order they were begun, and its result as JSON."""

    run: RunView
    calls: tuple[CallView, ...]
    result: JSONObject | None

    @property
    def output(self) -> str | None:
        return None if self.result is None else cast(str, self.result["output"])

    @property
    def doubtful(self) -> tuple[CallView, ...]:
        """The calls that were sent more than once: each may have been paid for as often."""
        return tuple(call for call in self.calls if call.begun > 1)

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """What people are asked and the run waits for: a signal named `key` decides it."""
        return tuple(
            Wanted.of_record(self.run.run_id, call.key, cast(JSONObject, call.input["input"]))
            for call in self.calls
            if call.activity == "consult" and call.key in self.run.waiting_for
        )

    @property
    def cost(self) -> Decimal:
        return ledger.total_cost(attempt for call in self.calls for attempt in call.attempts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One recorded question, and how it was answered again, if anything was changed.

    Without changes `again` is None: nothing was asked, and the record is the answer.
    """

    call: CallView
    recorded: Reply
    again: Reply | None

    @property
    def cost(self) -> Decimal | None:
        return ledger.known_cost(self.recorded.calls)

    @property
    def cost_again(self) -> Decimal | None:
        return None if self.again is None else ledger.known_cost(self.again.calls)


def waiting(stored: JSONValue) -> tuple[str, ...]:
    return tuple(cast("Sequence[str]", stored or ()))
