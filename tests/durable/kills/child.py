"""The processes that are killed: `python -m tests.durable.kills.child SOCKET ENGINE`.

It imports the engine once, then forks a process for each job, a line of JSON on standard input;
so a child starts in some milliseconds. Each child connects to SOCKET, tells who it is and what
happens in it, then how its job ended, as lines of JSON. When it dies, the kernel closes that.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pyagent_patterns.errors import RunBusyError, RunSuspended
from pyagent_patterns.events import ApprovalWanted, Event, StepEnded, ToolEnded
from pyagent_patterns.plan import InvalidPlan, Plan
from pyagent_patterns.result import Result
from pyagent_providers.types import JSONValue

from . import metric, provider
from .engines import Engine, Opened, load
from .log import Log
from .teams import named

Said = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a child does: `do` names a function of this module, `having` its arguments.

    A call takes `latency[0]` to `latency[1]` seconds, or what `slow` says of it. For `size` and
    `freeze` see `provider.World`. `begin_at` is Unix time: for processes that are to do something
    at once.
    """

    number: int
    address: str
    lease: float
    log: str
    do: str
    having: Mapping[str, Any]
    latency: tuple[float, float]
    slow: Mapping[str, float]
    seed: int
    size: int
    freeze: str
    begin_at: float


def main() -> None:
    path, engine_name = sys.argv[1:]
    engine = load(engine_name)
    assert engine is not None, f"{engine_name} cannot be imported"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here
    with suppress(InvalidPlan):
        Plan.parse("", ())  # pydantic too is imported once
    gc.freeze()  # what is here stays shared
    for line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            code = 1
            try:
                code = _child(path, engine, Job(**json.loads(line)))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)


def _child(path: str, engine: type[Engine], job: Job) -> int:
    line = socket.socket(socket.AF_UNIX)
    line.connect(path)

    def say(said: Said) -> None:
        line.sendall(json.dumps(said).encode() + b"\n")

    say({"number": job.number, "pid": os.getpid()})
    log = Log(Path(job.log), also=lambda entry: say(asdict(entry)))
    drawn = provider.between(*job.latency, job.seed)

    def latency(call: str) -> float:
        name = call.partition(".")[0]
        return job.slow[name] if name in job.slow else drawn(call)

    provider.world = provider.World(log, latency, job.size, job.freeze)
    metric.count_into(log)
    if job.begin_at:
        time.sleep(max(0.0, job.begin_at - time.time()))

    async def work() -> Said:
        async with engine(job.address, job.lease).opened() as store:
            say({"what": "OPEN"})
            return await _JOBS[job.do](store, log, **job.having)

    say({"what": "ENDED", "ended": asyncio.run(work())})
    return 0


async def run(store: Opened, log: Log, *, team: str, run_id: str, patience: float = 5.0) -> Said:
    """Begin a run or go on with it; while another process has it, try again for `patience` s."""
    found = named(team)
    until = time.monotonic() + patience
    while True:
        try:
            return _ended(await store.run(found, run_id, run_id, _acknowledge(log, run_id)))
        except RunBusyError as error:
            if time.monotonic() > until:
                return _failed(error)
        except Exception as error:
            return _failed(error)
        await asyncio.sleep(0.01)


async def run_many(store: Opened, log: Log, *, team: str, run_ids: list[str]) -> Said:
    """`run`, for several runs at once."""
    ended = await asyncio.gather(*(run(store, log, team=team, run_id=run_id) for run_id in run_ids))
    return {"runs": dict(zip(run_ids, ended, strict=True))}


async def send(
    store: Opened, log: Log, *, run_ids: list[str], value: JSONValue, name: str = "go"
) -> Said:
    """Send each run a signal."""
    await asyncio.gather(*(store.signal(run_id, name, value) for run_id in run_ids))
    return {}


async def resume_all(store: Opened, log: Log) -> Said:
    """Go on with all runs that can, again for some time while other processes have some."""
    ended: dict[str, Said] = {}
    for _ in range(100):
        outcomes = await store.resume_all()
        for run_id, outcome in outcomes.items():
            ended[run_id] = _ended(outcome) if isinstance(outcome, Result) else _failed(outcome)
        if not any(isinstance(outcome, RunBusyError) for outcome in outcomes.values()):
            break
        await asyncio.sleep(0.1)
    return {"runs": ended}


async def suspend_many(store: Opened, log: Log, *, team: str, run_ids: list[str]) -> Said:
    """Begin a run, then the others, many at once; see what goes on with one, and all, suspended."""
    one, others = run_ids[:1], run_ids[1:]
    at_once = asyncio.Semaphore(200)

    async def suspend(run_id: str) -> Said:
        async with at_once:
            return await run(store, log, team=team, run_id=run_id, patience=0.0)

    seen: list[Said] = []
    suspended = 0
    for some in (one, others):
        ended = await asyncio.gather(*map(suspend, some))
        suspended += sum("waiting_for" in e for e in ended)
        tasks = await _idle_tasks()
        time.sleep(0.3)  # what goes to sleep does so now
        before = _wakeups()
        time.sleep(0.5)  # the event loop stands still too: only threads could do anything
        after = _wakeups()
        woken = {name: after[name] - count for name, count in before.items() if after[name] > count}
        seen.append({"tasks": tasks, "woken": woken})
    return {"suspended": suspended, "with_one": seen[0], "with_all": seen[1]}


_JOBS: Final[Mapping[str, Callable[..., Awaitable[Said]]]] = {
    job.__name__: job for job in (run, run_many, send, resume_all, suspend_many)
}


def _acknowledge(log: Log, run_id: str) -> Callable[[Event], None]:
    def observe(event: Event) -> None:
        if isinstance(event, StepEnded):
            for answer in (call.response_id for call in event.calls if call.status == "ok"):
                what = "REPLAY" if event.replayed else "ACK"
                log.write(what, run=run_id, call=(answer or "").partition(":")[2])
        elif isinstance(event, ToolEnded):
            log.write("TOLD", run=run_id, call=event.call_id)
        elif isinstance(event, ApprovalWanted):
            log.write("WANTED", run=run_id, call=event.wanted.key)

    return observe


def _ended(result: Result) -> Said:
    resumed = result.resumed
    return {
        "output": result.output,
        "cost": str(result.cost_estimate),
        "execution": 1 if resumed is None else resumed.execution,
        "replayed": 0 if resumed is None else resumed.replayed,
        "doubtful": [] if resumed is None else list(resumed.doubtful),
    }


def _failed(error: Exception) -> Said:
    said: Said = {"error": type(error).__name__, "text": str(error)}
    if isinstance(error, RunSuspended):
        said |= {"waiting_for": list(error.waiting_for), "wake_at": error.wake_at}
    return said


async def _idle_tasks() -> int:
    """How many tasks there are besides this one when least happens: a worker polls its server."""
    counts: list[int] = []
    for _ in range(20):
        await asyncio.sleep(0.02)
        counts.append(len(asyncio.all_tasks()) - 1)
    return min(counts)


def _wakeups() -> dict[str, int]:
    """How often each thread but this one has gone to sleep so far, by its name and number.

    Only Linux tells; elsewhere there are none.
    """
    counts: dict[str, int] = {}
    threads = Path("/proc/self/task")
    for thread in threads.iterdir() if threads.exists() else ():
        if thread.name != str(os.getpid()):
            status = dict(
                line.split(":", 1) for line in (thread / "status").read_text().splitlines()
            )
            name = f"{status['Name'].strip()} {thread.name}"
            counts[name] = int(status["voluntary_ctxt_switches"])
    return counts


if __name__ == "__main__":
    main()
