"""What is promised of a run that dies: results exactly once, no answer paid again once seen."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from . import provider, teams
from .killers import Between, after, at_most, never, side_by_side, until_killed
from .processes import Child
from .suite import Killer, Suite, many

AS_IN_LIFE = (0.6, 3.6)  # seconds of a call: many times what storing its answer takes
LONG_LEASE = 15.0  # seconds; a process that has much to do is not silent for that long


async def test_random_moments(suite: Suite) -> None:
    """Killed at random in a diamond, with other latencies each time, every run ends right."""
    wanted = many(suite.engine.kills)

    async def at_random(child: Child) -> None:
        await asyncio.sleep(suite.chance.uniform(0, 9))
        if suite.tally.kills < wanted:
            child.kill()

    async def one(address: str, run_id: str) -> None:
        await diamond(suite, address, run_id, at_random, latency=AS_IN_LIFE)

    await until_killed(suite, wanted, one, lanes=wanted)
    suite.check(window=suite.engine.window)


async def test_latencies_reversed(suite: Suite) -> None:
    """Whatever was first is last on resume: the same result, and not one call is made again."""
    slow = {call: 0.01 * (place + 1) for place, call in enumerate(teams.DIAMOND)}
    reverse = dict(zip(slow, reversed(slow.values()), strict=True))
    slow["synthesis"] = reverse["synthesis"] = 0.1  # so that it too is cut off

    async def cut_off(acknowledged: int) -> None:
        address, run_id = suite.new_store(), f"after{acknowledged}"
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
        replayed = {"REPLAY"} if suite.engine.driven_by == "caller" else set[str]()
        assert {entry.what for entry in suite.log.of(run_id)[before:]} == replayed

    left = iter(range(1, many(9) + 1))

    async def lane() -> None:
        for acknowledged in left:
            await cut_off(acknowledged)

    await side_by_side(suite, lane)
    suite.check()


async def test_during_the_plan(suite: Suite) -> None:
    """Killed while the plan is made, stored or begun, a run ends right."""
    await killed_during(suite, "plan")


async def test_during_the_synthesis(suite: Suite) -> None:
    """Killed while the final answer is made or stored, a run ends right."""
    await killed_during(suite, "synthesis")


async def test_while_suspending(suite: Suite) -> None:
    """Killed while it suspends, sleeps or is woken, a run loses no signal and takes none twice."""
    opened, working = (
        Between(suite, first, ("ENDED",)) for first in (("OPEN",), ("START", "REPLAY"))
    )

    async def sometime(child: Child) -> None:
        await suite.chance.choice((opened, working))(child)

    async def one(address: str, run_id: str) -> None:
        signals = iter("12")
        while True:
            ended = await suite.to_the_end(address, run_id, at_most(3, sometime), team="waiting")
            if "output" in ended:
                break
            suite.tally.others += 1
            await wake(suite, address, run_id, ended, signals)
        right = teams.waited(run_id, "1", "2")
        recorded = await suite.settle(address, run_id, ended, right)
        assert recorded.untaken == ()

    await until_killed(suite, many(30), one)
    suite.check()


async def test_while_sending_a_signal(suite: Suite) -> None:
    """A signal whose sender is killed is there once or not at all; what was sent is there."""
    sending = Between(suite, ("OPEN",), ("ENDED",))

    async def one(address: str, run_id: str) -> None:
        assert "waiting_for" in await suite.to_the_end(address, run_id, never, team="approval")
        suite.tally.others += 1
        for tries in itertools.count():
            sender = await suite.start(address, "send", run_ids=[run_id], value="yes")
            sent = await suite.watch(sender, sending if tries < 6 else never)
            suite.tally.others += sent is not None
            recorded = await suite.recorded(address, run_id)
            assert recorded is not None
            assert recorded.untaken in (("yes",),) if sent is not None else ((), ("yes",))
            if recorded.untaken:
                break
        ended = await suite.to_the_end(address, run_id, never, team="approval")
        recorded = await suite.settle(address, run_id, ended, teams.waited(run_id, "yes"))
        assert recorded.untaken == ()

    await until_killed(suite, many(20), one)
    suite.check()


async def test_while_writing_large_values(suite: Suite) -> None:
    """Killed while large answers (of 1 MB) are stored, a run ends right; every value is whole."""
    size = suite.engine.large
    storing = Between(suite, ("DONE",), ("ACK",), times=4)

    async def one(address: str, run_id: str) -> None:
        ended = await diamond(suite, address, run_id, at_most(5, storing), size=size)
        assert ended["output"].endswith(provider.FILLER * size)

    await until_killed(suite, many(30), one)
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
        job: dict[str, Any] = {"team": "diamond", "lease": suite.engine.short_lease}
        by_itself = number % 4 < 2  # with an answer in its hands, which it will want to store
        owner = await suite.start(
            *(address, "run"),
            run_id=run_id,
            slow={"b": 2.0},
            freeze="b" if by_itself else "",
            **job,
        )
        assert await owner.says("START", call="b")
        # Seen are all but b and what waits for it: none that it was just about to send.
        assert await owner.says("ACK", times=len(teams.DIAMOND) - 1)
        if by_itself:
            assert await owner.says("DONE", call="b")
        else:
            await asyncio.sleep(suite.chance.uniform(0, 0.1))
            owner.freeze()
        slow = {"b": 0.4}
        peer = await suite.start(address, "run", run_id=run_id, slow=slow, patience=30, **job)
        if number % 2 and await peer.says("REPLAY") and await peer.says("START", call="b"):
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

    await side_by_side(suite, lane, lanes=5)
    suite.check(counted=False)  # what the owner paid for is counted and not on record


async def test_two_healthy_processes(suite: Suite) -> None:
    """Two processes that begin, or go on with, the same runs at once make no call twice."""
    address = suite.new_store()
    run_ids = [f"r{number}" for number in range(many(20))]
    job: dict[str, Any] = {"team": "diamond", "run_ids": run_ids, "latency": (0.01, 0.2)}
    first = await suite.start(address, "run_many", lease=LONG_LEASE, **job)
    assert await suite.watch(first, after(suite, "ACK", times=2 * len(run_ids))) is None
    sent = len(suite.log.all())

    async def both(do: str, expected: list[str], **having: Any) -> None:
        begin_at = time.time() + 0.2
        job = {"lease": LONG_LEASE, "begin_at": begin_at, **having}
        pair = [await suite.start(address, do, **job) for _ in range(2)]
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
    killer = at_most(many(50), after(suite, "START", times=2, within=0.05))
    ended = await suite.to_the_end(  # never two processes at once: the lease may be short
        address, run_id, killer, team="chain", latency=(0.08, 0.1), lease=1.0
    )
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
    # With a short lease, where it is the run's: what renews it would be seen to do so.
    lease = suite.engine.short_lease if suite.engine.driven_by == "caller" else LONG_LEASE
    process = await suite.start(
        address, "suspend_many", lease=lease, team="approval", run_ids=run_ids
    )
    suspended = await suite.watch(process, None)
    assert suspended is not None
    assert suspended["suspended"] == len(run_ids)
    assert suspended["with_all"] == suspended["with_one"]
    if suite.engine.driven_by == "caller":
        assert suspended["with_all"] == {"tasks": 0, "woken": {}}

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
    killer = Between(suite, ("START",), ("ACK",), call=call)

    async def one(address: str, run_id: str) -> None:
        await diamond(suite, address, run_id, at_most(4, killer), slow={call: 0.05})

    await until_killed(suite, many(30), one)
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


def calls(suite: Suite, run_id: str, what: str) -> set[str]:
    return {entry.call for entry in suite.log.of(run_id) if entry.what == what}
