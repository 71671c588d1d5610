"""What is promised of a run that dies: results exactly once, no answer paid again once seen."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from . import provider, teams
from .processes import Child
from .suite import Killer, Suite, many

AS_IN_LIFE = (0.6, 3.6)  # seconds of a call: many times what storing its answer takes
SHORT_LEASE = 0.5


async def test_random_moments(suite: Suite) -> None:
    """Killed at random in a diamond, with other latencies each time, every run ends right."""
    wanted = many(suite.engine.kills)

    async def at_random(child: Child) -> None:
        await asyncio.sleep(suite.chance.uniform(0, 9))
        if suite.tally.kills < wanted:
            child.kill()

    async def lane(number: int) -> None:
        address = suite.new_store()
        runs = 0
        while suite.tally.kills < wanted:
            run_id = f"r{number}.{runs}"
            runs += 1
            await diamond(suite, address, run_id, at_random, latency=AS_IN_LIFE)

    async with asyncio.TaskGroup() as lanes:
        for number in range(min(suite.engine.lanes, wanted)):
            lanes.create_task(lane(number))
    suite.check(window=suite.engine.window)


async def test_latencies_reversed(suite: Suite) -> None:
    """Whatever was first is last on resume: the same result, and not one call is made again."""
    address = suite.new_store()
    slow = {call: 0.01 * (place + 1) for place, call in enumerate(teams.DIAMOND)}
    reverse = dict(zip(slow, reversed(slow.values()), strict=True))
    slow["synthesis"] = reverse["synthesis"] = 0.1  # so that it too is cut off
    for acknowledged in range(1, many(9) + 1):
        run_id = f"after{acknowledged}"
        killer = after(suite, "ACK", times=acknowledged)
        assert await suite.attempt(address, run_id, killer, team="diamond", slow=slow) is None
        seen = calls(suite, run_id, "ACK")

        ended = await suite.attempt(address, run_id, None, team="diamond", slow=reverse)
        assert ended is not None
        await suite.settle(address, run_id, ended, provider.expected(run_id, teams.DIAMOND))
        assert seen <= calls(suite, run_id, "REPLAY")

        before = len(suite.log.of(run_id))
        again = await suite.attempt(address, run_id, None, team="diamond", slow=slow)
        suite.tally.others += 1
        assert again is not None
        assert again["output"] == ended["output"]
        assert {entry.what for entry in suite.log.of(run_id)[before:]} == {"REPLAY"}
    suite.check()


async def test_during_the_plan(suite: Suite) -> None:
    """Killed while the plan is made, stored or begun, a run ends right."""
    await killed_during(suite, "plan")


async def test_during_the_synthesis(suite: Suite) -> None:
    """Killed while the final answer is made or stored, a run ends right."""
    await killed_during(suite, "synthesis")


async def test_while_suspending(suite: Suite) -> None:
    """Killed while it suspends, sleeps or is woken, a run loses no signal and takes none twice."""
    address, runs = suite.new_store(), 0
    while suite.tally.kills < many(30):
        run_id = f"r{runs}"
        runs += 1
        signals = iter("12")
        while True:
            killer = at_most(3, after(suite, "OPEN", within=0.025))
            ended = await suite.to_the_end(address, run_id, killer, team="waiting")
            if "output" in ended:
                break
            suite.tally.others += 1
            await wake(suite, address, run_id, ended, signals)
        right = teams.waited(run_id, "1", "2")
        recorded = await suite.settle(address, run_id, ended, right)
        assert recorded.untaken == ()
    suite.check()


async def test_while_sending_a_signal(suite: Suite) -> None:
    """A signal whose sender is killed is there once or not at all; what was sent is there."""
    address, runs = suite.new_store(), 0
    while suite.tally.kills < many(20):
        run_id = f"r{runs}"
        runs += 1
        assert "waiting_for" in await suite.to_the_end(address, run_id, never, team="approval")
        suite.tally.others += 1
        for tries in itertools.count():
            killer = after(suite, "OPEN", within=0.004 * 2**tries) if tries < 6 else never
            sender = await suite.start(address, "send", run_ids=[run_id], value="yes")
            sent = await suite.watch(sender, killer)
            suite.tally.others += sent is not None
            recorded = await suite.engine(address, SHORT_LEASE).recorded(run_id)
            assert recorded is not None
            assert recorded.untaken in (("yes",),) if sent is not None else ((), ("yes",))
            if recorded.untaken:
                break
        ended = await suite.to_the_end(address, run_id, never, team="approval")
        recorded = await suite.settle(address, run_id, ended, teams.waited(run_id, "yes"))
        assert recorded.untaken == ()
    suite.check()


async def test_while_writing_large_values(suite: Suite) -> None:
    """Killed while answers of 1 MB are stored, a run ends right, and every value is whole."""
    size, address, runs = 1_000_000, suite.new_store(), 0

    async def kill(child: Child) -> None:
        if await child.says("DONE", times=suite.chance.randint(1, 4)):
            await asyncio.sleep(suite.chance.uniform(0, 0.03))
            child.kill()

    while suite.tally.kills < many(30):
        run_id = f"r{runs}"
        runs += 1
        ended = await diamond(suite, address, run_id, at_most(5, kill), size=size)
        assert ended["output"].endswith(provider.FILLER * size)
    suite.check()


async def test_frozen_owner(suite: Suite) -> None:
    """A process stopped beyond its lease loses its run to a peer; awake, it changes nothing.

    Where it is stopped in the midst of a commit to a file, it keeps the file locked: nobody can
    take over, and the peer must be told so. Such a round does not count.
    """
    wanted = many(20)
    numbers = itertools.count()

    async def lane() -> None:
        while suite.tally.runs < wanted:
            await freeze(next(numbers))

    async def freeze(number: int) -> None:
        address, run_id = suite.new_store(), f"r{number}"
        right = provider.expected(run_id, teams.DIAMOND)
        job: dict[str, Any] = {"team": "diamond", "lease": SHORT_LEASE, "slow": {"b": 0.4}}
        by_itself = number % 4 < 2  # with an answer in its hands, which it will want to store
        owner = await suite.start(
            address, "run", run_id=run_id, freeze="b" if by_itself else "", **job
        )
        assert await owner.says("START", "b")
        if by_itself:
            assert await owner.says("DONE", "b")
        else:
            await asyncio.sleep(suite.chance.uniform(0.04, 0.1))  # the other calls are done
            owner.freeze()
        peer = await suite.start(address, "run", run_id=run_id, patience=30, **job)
        if number % 2 and await peer.says("START", "b"):
            owner.thaw()  # while the peer makes the same call
        ended = await suite.watch(peer, None)
        owner.thaw()
        lost = await suite.watch(owner, None)
        suite.tally.others += 1
        assert ended is not None
        assert lost is not None
        if ended.get("error") == "JournalError":
            assert "locked" in ended["text"]
            assert lost["output"] == right
            suite.tally.others += 1
            return
        assert lost.get("error") == "LeaseLost", lost
        recorded = await suite.settle(address, run_id, ended, right)
        by_peer = f"{peer.pid}-"
        assert recorded.calls["work/b/ask:0"].response_ids[0].startswith(by_peer)

    async with asyncio.TaskGroup() as lanes:
        for _ in range(5):
            lanes.create_task(lane())
    suite.check(counted=False)  # what the owner paid for is counted and not on record


async def test_two_healthy_processes(suite: Suite) -> None:
    """Two processes that begin, or go on with, the same runs at once make no call twice."""
    address = suite.new_store()
    run_ids = [f"r{number}" for number in range(many(20))]
    first = await suite.start(
        address, "run_many", team="diamond", run_ids=run_ids, latency=(0.01, 0.2)
    )
    assert await suite.watch(first, after(suite, "ACK", times=2 * len(run_ids))) is None
    sent = len(suite.log.all())

    async def both(do: str, expected: list[str], **having: Any) -> None:
        begin_at = time.time() + 0.2
        pair = [await suite.start(address, do, begin_at=begin_at, **having) for _ in range(2)]
        reports = [await suite.watch(child, None) for child in pair]
        suite.tally.others += 2
        for run_id in expected:
            ended = [report["runs"].get(run_id, {}) for report in reports if report is not None]
            results = [e for e in ended if "output" in e]
            assert results, ended
            assert {e["error"] for e in ended if "error" in e} <= {"RunBusyError"}
            doubtful = [key for result in results for key in result["doubtful"]]
            result = {**results[0], "doubtful": doubtful}
            await suite.settle(address, run_id, result, provider.expected(run_id, teams.DIAMOND))

    await both("resume_all", run_ids)
    new = [f"new{number}" for number in range(len(run_ids))]
    await both("run_many", new, team="diamond", run_ids=new)
    made = [(e.run, e.call) for e in suite.log.all()[sent:] if e.what == "START"]
    assert len(made) == len(set(made))
    suite.tally.others -= suite.tally.runs  # which ended many to a process
    suite.check()


async def test_cost_after_50_kills(suite: Suite) -> None:
    """After 50 kills the cost metric, the journal and the result are one amount.

    Each kill comes while the provider works. One in the millionths of a second between an answer's
    being stored and being counted would leave the metric short: it lives in the process.
    """
    address, run_id = suite.new_store(), "r"
    killer = at_most(many(50), after(suite, "ACK", within=0.02))
    ended = await suite.to_the_end(address, run_id, killer, team="chain", latency=(0.08, 0.1))
    right = provider.expected(run_id, teams.CHAIN)
    recorded = await suite.settle(address, run_id, ended, right)

    assert suite.tally.kills == many(50)
    price = sum(provider.cost(run_id, call) for call in ("plan", *teams.CHAIN, "synthesis"))
    assert suite.counted() == price
    assert recorded.cost == price
    assert sum(call.cost for call in recorded.calls.values()) == price
    assert Decimal(ended["cost"]) == price
    suite.check()


async def test_1000_suspended_runs(suite: Suite) -> None:
    """What waits costs nothing: no task, no thread that wakes up; signals wake it anywhere."""
    address = suite.new_store()
    run_ids = [f"r{number}" for number in range(many(1000))]
    process = await suite.start(  # with a short lease: what renews it would be seen to do so
        address, "suspend_many", lease=SHORT_LEASE, team="approval", run_ids=run_ids
    )
    suspended = await suite.watch(process, None)
    assert suspended == {"suspended": len(run_ids), "tasks": 0, "woken": {}}

    sender = await suite.start(address, "send", run_ids=run_ids, value="yes")
    assert await suite.watch(sender, None) == {}
    waker = await suite.start(address, "resume_all")
    woken = await suite.watch(waker, None)
    assert woken is not None
    assert woken["runs"].keys() == set(run_ids)
    for run_id, ended in woken["runs"].items():
        assert ended.get("output") == teams.waited(run_id, "yes"), ended
    made = [(e.run, e.call) for e in suite.log.all() if e.what == "START"]
    assert len(made) == len(set(made)) == 2 * len(run_ids)
    suite.tally.runs = len(run_ids)


async def diamond(
    suite: Suite, address: str, run_id: str, killer: Killer, **job: Any
) -> Mapping[str, Any]:
    """A run of the diamond, killed until it ends, and judged; its last report."""
    ended = await suite.to_the_end(address, run_id, killer, team="diamond", **job)
    await suite.settle(address, run_id, ended, provider.expected(run_id, teams.DIAMOND))
    return ended


async def killed_during(suite: Suite, call: str) -> None:
    address, runs = suite.new_store(), 0
    while suite.tally.kills < many(30):
        runs += 1
        killer = at_most(4, after(suite, "START", call, within=0.06))
        await diamond(suite, address, f"r{runs}", killer, slow={call: 0.05})
    suite.check()


async def wake(
    suite: Suite, address: str, run_id: str, ended: Mapping[str, Any], signals: Iterator[str]
) -> None:
    """Give a suspended run what it waits for."""
    if ended["wake_at"] is not None:
        await asyncio.sleep(max(0.0, ended["wake_at"] - time.time()))
        return
    assert ended["waiting_for"] == ["go"]
    sender = await suite.start(address, "send", run_ids=[run_id], value=next(signals))
    assert await suite.watch(sender, None) is not None
    suite.tally.others += 1


def after(
    suite: Suite, what: str, call: str | None = None, *, times: int = 1, within: float = 0.0
) -> Killer:
    """Kill at a random moment `within` seconds of what a process says of a call."""

    async def kill(child: Child) -> None:
        if await child.says(what, call, times=times):
            await asyncio.sleep(suite.chance.uniform(0, within))
            child.kill()

    return kill


def at_most(times: int, killer: Killer) -> Killer:
    """Kill so often, and then no more."""
    left = times

    async def kill(child: Child) -> None:
        nonlocal left
        if left:
            await killer(child)
            left -= child.killed

    return kill


async def never(child: Child) -> None:
    """Kill nothing."""


def calls(suite: Suite, run_id: str, what: str) -> set[str]:
    return {entry.call for entry in suite.log.of(run_id) if entry.what == what}
