"""What a run's spans come to: its summary, and one entry for each call that was paid for.

Spans come in any order, some twice, some never: what is known is worked out anew from all that are
there, so that nothing depends on the order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple

from .runs import STATUSES, RunStatus
from .spans import Role, Span

DOLLAR: Final = 10**12  # money is counted in whole numbers of 1e-12 US dollars
_LARGEST: Final = 2**63 - 1  # that SQLite keeps
_MOST_WORDS: Final = 4000  # characters of a run that a search looks in
Key = tuple[str, str]  # trace id, span id


class Fact(NamedTuple):
    """What the store's columns have of one span, in the order of its table."""

    trace: str
    id: str
    parent: str | None
    begun: int
    ended: int | None
    role: Role
    own_run: str | None
    name: str
    service: str | None
    pattern: str | None
    agent: str | None
    phase: str | None
    path: str | None
    model: str | None
    provider: str | None
    tenant: str | None
    user: str | None
    session: str | None
    failed: bool
    error: str | None
    run_status: str | None
    replayed: bool
    cost: int | None
    unpriced: int
    input: int | None
    output: int | None

    @property
    def key(self) -> Key:
        return self.trace, self.id

    @property
    def above(self) -> Key | None:
        return None if self.parent is None else (self.trace, self.parent)

    @classmethod
    def of(cls, span: Span) -> Fact:
        cost, failed = span.cost, span.status == "error"
        return cls(
            trace=span.trace_id,
            id=span.span_id,
            parent=span.parent_id,
            begun=span.start,
            ended=span.end,
            role=span.role,
            own_run=span.run_id,
            name=span.workflow or span.name,
            service=span.service,
            pattern=span.pattern,
            agent=span.agent,
            phase=span.phase,
            path=span.path,
            model=span.model,
            provider=span.provider,
            tenant=span.tenant,
            user=span.user,
            session=span.session,
            failed=failed,
            error=(span.error_type or span.message or "error") if failed else None,
            run_status=span.run_status,
            replayed=span.replayed,
            cost=None if cost is None else round(cost * DOLLAR),
            unpriced=span.unpriced,
            input=span.input_tokens,
            output=span.output_tokens,
        )


class PaidCall(NamedTuple):
    """One call, and whom its cost falls to, in the order of the store's table."""

    begun: int
    agent: str
    phase: str
    model: str
    provider: str
    path: str
    tenant: str
    pattern: str
    cost: int
    unpriced: int
    input: int
    output: int


class Totals(NamedTuple):
    """One run's row, in the order of the store's table, from `trace` to `words`."""

    trace: str
    pattern: str
    name: str
    service: str | None
    tenant: str | None
    user: str | None
    session: str | None
    status: RunStatus
    quiet_since: int | None
    begun: int
    ended: int | None
    duration: int | None
    cost: int
    unpriced: int
    calls: int
    input: int
    output: int
    tokens: int
    errors: int
    spans: int
    words: str


def dollars(amount: int) -> Decimal:
    return Decimal(amount) / DOLLAR


def tally(run_id: str, facts: Iterable[Fact]) -> tuple[Totals, list[PaidCall]]:
    """What the spans of one run, at least one, come to."""
    facts = sorted(facts, key=lambda fact: fact.begun)
    places = _places(facts)
    executions = _executions(facts, places)
    about = executions or facts
    tenant = _first(about, facts, "tenant")
    calls = _paid_calls(facts, places, tenant or "")
    status, is_told = _status(executions)
    latest = max(fact.ended or fact.begun for fact in facts)
    goes_on = status == "running"
    worked = sum((e.ended or latest) - e.begun for e in executions)
    spent_in, spent_out = sum(call.input for call in calls), sum(call.output for call in calls)
    totals = Totals(
        trace=facts[0].trace,
        pattern=_pattern(executions, facts),
        name=_name(executions, facts),
        service=_first(about, facts, "service"),
        tenant=tenant,
        user=_first(about, facts, "user"),
        session=_first(about, facts, "session"),
        status=status,
        quiet_since=latest if goes_on and not is_told else None,
        begun=facts[0].begun,
        ended=None if goes_on else max(e.ended or latest for e in executions),
        duration=None if goes_on else worked,
        cost=min(sum(call.cost for call in calls), _LARGEST),
        unpriced=sum(call.unpriced for call in calls),
        calls=len(calls),
        input=min(spent_in, _LARGEST),
        output=min(spent_out, _LARGEST),
        tokens=min(spent_in + spent_out, _LARGEST),
        errors=_errors(facts),
        spans=len(facts),
        words=_words(run_id, facts),
    )
    return totals, calls


@dataclass(frozen=True, slots=True)
class _Place:
    """What a span is within, itself included."""

    pattern: Fact | None = None  # the nearest
    agent: Fact | None = None
    within: str = ""  # the names of the patterns within the run's, as agents' paths have them
    in_pattern: bool = False  # the span is within another's pattern
    in_call: bool = False  # the span is within another call: the same, seen twice
    tenant: str | None = None


_NOWHERE: Final = _Place()


def _places(facts: Sequence[Fact]) -> Mapping[Key, _Place]:
    """Where each span is. A chain can be as long as somebody pleases, or be a ring."""
    by_key = {fact.key: fact for fact in facts}
    places: dict[Key, _Place] = {}
    for fact in facts:
        chain: list[Fact] = []
        on_chain: set[Key] = set()
        at: Fact | None = fact
        while at is not None and at.key not in places and at.key not in on_chain:
            chain.append(at)
            on_chain.add(at.key)
            at = by_key.get(at.above) if at.above is not None else None
        above = at if at is not None and at.key in places else None  # else a root, or a ring
        place = _NOWHERE if above is None else places[above.key]
        for below in reversed(chain):
            place = places[below.key] = _placed(below, place, above)
            above = below
    return places


def _placed(fact: Fact, outside: _Place, above: Fact | None) -> _Place:
    pattern, within = outside.pattern, outside.within
    if fact.role == "pattern":
        within = f"{within}{fact.name}/" if pattern is not None else ""
        pattern = fact
    return _Place(
        pattern=pattern,
        agent=fact if fact.role == "agent" else outside.agent,
        within=within,
        in_pattern=outside.pattern is not None,
        in_call=outside.in_call or (above is not None and above.role == "chat"),
        tenant=fact.tenant or outside.tenant,
    )


# How it stands


def _executions(facts: Sequence[Fact], places: Mapping[Key, _Place]) -> Sequence[Fact]:
    """The spans around the whole run, one for each of its executions that has come, by time.

    A pattern's span that has no other around it may still be one within the run, whose outer ones
    have not come: its agents' paths tell, or what else there is beside it.
    """
    patterns = [fact for fact in facts if fact.role == "pattern"]
    if not patterns:
        return [fact for fact in facts if fact.parent is None][:1]
    present = {fact.key for fact in facts}
    beside: set[str] = set()  # the traces that have more in them than is within a pattern
    inner: set[Key] = set()  # the patterns whose agents' paths have more than a name
    for fact in facts:
        pattern = places[fact.key].pattern
        if pattern is None and fact.role != "other" and fact.above not in present:
            beside.add(fact.trace)
        elif pattern is not None and fact.role == "agent" and fact.path not in (None, fact.agent):
            inner.add(pattern.key)
    return [
        pattern
        for pattern in patterns
        if not places[pattern.key].in_pattern
        and (pattern.parent is None or (pattern.trace not in beside and pattern.key not in inner))
    ]


def _status(executions: Sequence[Fact]) -> tuple[RunStatus, bool]:
    """What became of the run; and whether its last span says so in words."""
    if not executions:
        return "running", False
    last = executions[-1]
    for status in STATUSES:
        if last.run_status == status and (status == "running") == (last.ended is None):
            return status, True
    if last.ended is None:
        return "running", False
    if not last.failed:
        return "completed", False
    is_cancelled = last.error is not None and "Cancelled" in last.error
    return ("cancelled" if is_cancelled else "failed"), False


def _pattern(executions: Sequence[Fact], facts: Sequence[Fact]) -> str:
    """The run's pattern; while its own span has not come, what its outermost agents say."""
    if executions:
        return executions[-1].pattern or ""
    said = (f.pattern for f in facts if f.role == "agent" and f.path == f.agent and f.pattern)
    return next(said, "")


def _name(executions: Sequence[Fact], facts: Sequence[Fact]) -> str:
    if executions:
        return executions[-1].name
    return "" if any(fact.own_run for fact in facts) else facts[0].name


def _first(about: Sequence[Fact], facts: Sequence[Fact], name: str) -> str | None:
    values = (getattr(fact, name) for fact in (*about, *facts))
    return next((value for value in values if value), None)


def _errors(facts: Sequence[Fact]) -> int:
    """What failed by itself, and not because something within it did. To wait is no failure."""
    failed = [fact for fact in facts if fact.failed and fact.run_status != "suspended"]
    passed_on = {fact.above for fact in failed}
    return sum(fact.key not in passed_on for fact in failed)


def _words(run_id: str, facts: Sequence[Fact]) -> str:
    said: dict[str, None] = {run_id: None}
    for fact in facts:
        for word in (fact.trace, fact.name, fact.agent, fact.pattern, fact.model, fact.error,
                     fact.tenant, fact.user, fact.session, fact.service):  # fmt: skip
            if word:
                said[word] = None
    return "\n".join(said).lower()[:_MOST_WORDS]


# What it cost


def _paid_calls(facts: Sequence[Fact], places: Mapping[Key, _Place], tenant: str) -> list[PaidCall]:
    """The calls to models, each with its cost, as it falls to the nearest agent around it."""
    chats = [
        fact
        for fact in facts
        if fact.role == "chat" and fact.ended is not None and not places[fact.key].in_call
    ]
    unpriced = _unpriced(chats, places)
    calls: list[PaidCall] = []
    for chat in chats:
        place = places[chat.key]
        agent, pattern = place.agent, place.pattern
        name = (agent and agent.agent) or chat.agent or ""
        calls.append(
            PaidCall(
                begun=chat.begun,
                agent=name,
                phase=(agent and agent.phase) or "",
                model=chat.model or "",
                provider=chat.provider or "",
                path=(agent and agent.path) or place.within + name,
                tenant=place.tenant or tenant,
                pattern=(agent and agent.pattern) or (pattern and pattern.pattern) or "",
                cost=chat.cost or 0,
                unpriced=chat.key in unpriced,
                input=chat.input or 0,
                output=chat.output or 0,
            )
        )
    return calls


def _unpriced(chats: Sequence[Fact], places: Mapping[Key, _Place]) -> set[Key]:
    """The calls that have no price.

    One that failed may have cost nothing: only its agent's span says, which counts those that have
    no price. Until that has come it is one of them if it reported any tokens.
    """
    found: set[Key] = set()
    doubtful: dict[Key, list[Fact]] = {}
    known: dict[Key, int] = {}
    for chat in chats:
        if chat.cost is not None:
            continue
        agent = places[chat.key].agent
        says = agent is not None and agent.own_run is not None and agent.ended is not None
        if not chat.failed or (not says and chat.input is not None):
            found.add(chat.key)
            if agent is not None:
                known[agent.key] = known.get(agent.key, 0) + 1
        elif agent is not None and says:
            doubtful.setdefault(agent.key, []).append(chat)
            known.setdefault(agent.key, 0)
    for key, failed in doubtful.items():
        agent = places[failed[0].key].agent
        left = (agent.unpriced if agent is not None else 0) - known[key]
        found.update(chat.key for chat in failed[: max(0, left)])
    return found
