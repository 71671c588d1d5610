"""What is promised of a run that dies, of every pattern, of tools that do something, of people."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pyagent_patterns import Pattern
from pyagent_patterns.people import Decision, Human, Wanted
from pyagent_providers.types import JSONObject

from . import patterns
from .engines import RecordedRun
from .killers import Between, after, at_most, side_by_side, until_killed
from .processes import Child
from .suite import Killer, Suite, many

KILLS: Final = 20  # of each


async def test_every_pattern(suite: Suite) -> None:
    """Killed at random, a run of any pattern ends right, and pays for no answer again."""

    async def of(part: Suite, name: str) -> None:
        async def one(address: str, run_id: str) -> None:
            killer = at_most(4, sometime(part))
            ended = await part.to_the_end(address, run_id, killer, team=f"patterns:{name}")
            right = await expected(part, patterns.EVERY[name], run_id)
            await part.settle(address, run_id, ended, right)

        await until_killed(part, many(KILLS), one, lanes=2)
        part.check()

    left = iter([(suite.of(name), name) for name in patterns.EVERY])

    async def lane() -> None:
        for part, name in left:
            await of(part, name)

    await side_by_side(suite, lane, lanes=suite.engine.lanes // 2)


async def test_tools(suite: Suite) -> None:
    """Killed while tools work, a run asks before it does again what may have been done."""
    asked = 0

    async def one(address: str, run_id: str) -> None:
        nonlocal asked
        decisions = Decisions()
        killer = at_most(4, sometime(suite, "EFFECT", "TOLD"))
        job: dict[str, Any] = {"team": "patterns:tooled", "slow": {"tool": 0.05}}
        while "output" not in (ended := await suite.to_the_end(address, run_id, killer, **job)):
            suite.tally.others += 1
            recorded = await waits(suite, address, run_id, ended)
            for wanted in recorded.wanted.values():
                assert "before a crash" in wanted.text
                approved = suite.chance.random() < 0.6
                decisions.decide(wanted, Decision(approved=approved, reason=patterns.REASON))
                await send(suite, address, run_id, wanted.key, decisions.made[wanted.key])
        asked += len(decisions.made)
        right = await expected(suite, patterns.tooled, run_id, decisions)
        await suite.settle(address, run_id, ended, right)
        judge_tools(suite, run_id, decisions)

    await until_killed(suite, many(KILLS), one)
    suite.check()
    if suite.tally.kills >= KILLS:
        assert asked, "no kill came while an unsafe tool worked"


async def test_approvals(suite: Suite) -> None:
    """Killed before, at and after a decision, a run heeds it, once, and asks for it once."""
    opened, working = (
        Between(suite, first, ("ENDED",)) for first in (("OPEN",), ("START", "REPLAY"))
    )
    sending = Between(suite, ("OPEN",), ("ENDED",))

    async def sometimes(child: Child) -> None:
        await suite.chance.choice((opened, working))(child)

    async def one(address: str, run_id: str) -> None:
        decisions = Decisions()
        killer = at_most(6, sometimes)
        job: dict[str, Any] = {"team": "patterns:people"}
        while "output" not in (ended := await suite.to_the_end(address, run_id, killer, **job)):
            suite.tally.others += 1
            recorded = await waits(suite, address, run_id, ended)
            wanted = suite.chance.choice(list(recorded.wanted.values()))  # in any order
            before = len(suite.log.of(run_id))
            decisions.decide(wanted, decided(suite, run_id, wanted))
            decision = decisions.made[wanted.key]
            await send(suite, address, run_id, wanted.key, decision, sending)
            assert len(suite.log.of(run_id)) == before, "something ran while the run waited"
        right = await expected(suite, patterns.people, run_id, decisions)
        recorded = await suite.settle(address, run_id, ended, right)
        assert recorded.untaken == ()
        judge_tools(suite, run_id, decisions)

    await until_killed(suite, many(KILLS), one)
    suite.check()


@dataclass(slots=True)
class Decisions:
    """What people decided in one run, by the key under which they were asked, and when."""

    made: dict[str, Decision] = field(default_factory=dict[str, Decision])
    wanted: dict[str, Wanted] = field(default_factory=dict[str, Wanted])
    at: dict[str, float] = field(default_factory=dict[str, float])

    def decide(self, wanted: Wanted, decision: Decision) -> None:
        assert wanted.key not in self.made, f"{wanted.key!r} was decided, and is asked for again"
        self.made[wanted.key] = decision
        self.wanted[wanted.key] = wanted
        self.at[wanted.key] = time.monotonic()

    def in_doubt(self, key: str) -> bool:
        """Whether that was asked since a tool call may have been made already."""
        return "before a crash" in self.wanted[key].text

    def of_tool(self, call: str) -> list[str]:
        """The keys under which people decided on a tool call."""
        of_tools = [key for key, wanted in self.wanted.items() if wanted.kind == "tool"]
        return [key for key in of_tools if _arguments(self.wanted[key])["id"] == call]


def decided(suite: Suite, run_id: str, wanted: Wanted) -> Decision:
    """What somebody may decide: of a plan and an answer, perhaps another one."""
    yes = suite.chance.random() < 0.6
    match wanted.kind:
        case "plan":
            assignments: Any = wanted.details["assignments"]
            return Decision(approved=True, value=None if yes else [*assignments, _more(run_id)])
        case "tool":
            return Decision(approved=yes, reason="" if yes else patterns.REASON)
        case "answer":
            return Decision(approved=True, value=None if yes else f"{run_id} as edited")
        case "question":
            return Decision(approved=yes, value="42" if yes else None)


def _more(run_id: str) -> JSONObject:
    return {"id": "c", "worker": "asker", "subtask": f"{run_id} more", "depends_on": ["a", "b"]}


async def waits(suite: Suite, address: str, run_id: str, ended: Mapping[str, Any]) -> RecordedRun:
    """The record of a run that waits for people; it says what it waits for."""
    assert ended.get("waiting_for"), ended
    recorded = await suite.recorded(address, run_id)
    assert recorded is not None
    assert recorded.wanted.keys() == set(ended["waiting_for"])
    return recorded


async def send(
    suite: Suite,
    address: str,
    run_id: str,
    key: str,
    decision: Decision,
    killer: Killer | None = None,
) -> None:
    """Send a decision, again while a process that does so is killed before it is kept."""
    recorded = await suite.recorded(address, run_id)
    assert recorded is not None
    before, value = recorded.untaken, decision.to_dict()
    for tries in itertools.count():
        sender = await suite.start(address, "send", run_ids=[run_id], name=key, value=value)
        sent = await suite.watch(sender, killer if tries < 3 else None)
        suite.tally.others += sent is not None
        recorded = await suite.recorded(address, run_id)
        assert recorded is not None
        if recorded.untaken == (*before, value):
            return
        assert recorded.untaken == before
        assert sent is None, "a decision that was sent is lost"


def judge_tools(suite: Suite, run_id: str, decisions: Decisions) -> None:
    """What was done and told: nothing again that was told, nor unasked, nor when declined."""
    entries = suite.log.of(run_id)
    opened = [entry for entry in suite.log.all() if entry.what == "OPENED"]
    for call in {entry.call for entry in entries if entry.what == "TOLD"}:
        told = next(entry for entry in entries if (entry.what, entry.call) == ("TOLD", call))
        done = [entry for entry in entries if (entry.what, entry.call) == ("EFFECT", call)]
        assert all(entry.at <= told.at for entry in done), (
            f"tool call {call!r} of run {run_id!r} was made again after it was on record"
        )
        if call == "fetch1":  # the only one of its toolset
            later = {e.pid for e in entries if e.at > told.at} - {told.pid}
            assert later.isdisjoint(entry.pid for entry in opened), "a replay opened the toolset"
    for call in patterns.UNSAFE:
        done = [entry for entry in entries if (entry.what, entry.call) == ("EFFECT", call)]
        keys = decisions.of_tool(call)
        again = [key for key in keys if decisions.in_doubt(key) and decisions.made[key].approved]
        assert len(done) <= 1 + len(again), f"{call!r} of run {run_id!r} was made unasked"
        for key in keys:
            if not decisions.made[key].approved:
                assert all(e.at < decisions.at[key] for e in done), f"{call!r} was declined"


async def expected(
    suite: Suite, team: Pattern, run_id: str, decisions: Decisions | None = None
) -> str:
    """The answer of a run that nobody kills, where people decide the same."""
    made = Decisions() if decisions is None else decisions
    declined = {
        str(_arguments(made.wanted[key])["id"]): patterns.CRASHED
        for call in patterns.UNSAFE
        for key in made.of_tool(call)
        if made.in_doubt(key) and not made.made[key].approved
    }

    async def human(wanted: Wanted) -> Decision:
        return made.made[wanted.key]

    asks: Human | None = human if made.made else None
    scratch = suite.log.path.with_name("scratch")
    async with suite.one_world:
        return await patterns.right_answer(
            team, run_id, declined=declined, human=asks, scratch=scratch
        )


def sometime(suite: Suite, *also: str) -> Killer:
    """Kill at a random moment of what a process does for the first time."""

    async def kill(child: Child) -> None:
        times = suite.chance.randint(1, 12)
        what = ("START", "DONE", "ACK", *also)
        await after(suite, *what, times=times, within=0.02)(child)

    return kill


def _arguments(wanted: Wanted) -> Mapping[str, Any]:
    """Those of the tool call that a person is to decide on."""
    given: Any = wanted.details["arguments"]
    return given
