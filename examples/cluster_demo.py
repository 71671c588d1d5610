"""Fifty runs on three workers, one of which is killed with -9: all answers arrive.

    make cluster-demo

PostgreSQL and the workers run on this machine, the model is a stub that takes its time; no
network, no key. The stub keeps a bill of its own, so that what was paid twice can be shown.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from local_postgres import LocalPostgres
from pyagent_patterns import Agent, OrchestratorWorkers
from pyagent_patterns.durable.dbos import Cluster
from pyagent_providers.base import Message

RUNS = 50
WORKERS = 3
TEAM = f"{Path(__file__).resolve()}:team"
BILL = "CLUSTER_DEMO_BILL"  # the environment variable with the stub's bill, a file


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the stub's bill: it was asked, or it answered."""

    at: float
    what: str
    process: int
    question: str
    run: str


def stub(agent: str) -> Agent:
    """An agent on a model that answers after a while, and notes what it is to be paid for."""

    async def model(messages: Sequence[Message]) -> str:
        text = "\n".join(message.content for message in messages)
        [run] = set(re.findall(r"report (\d\d)", text))
        note("asked", agent, run)
        await asyncio.sleep(random.uniform(0.2, 0.6))
        note("answered", agent, run)
        return plan(run) if agent == "planner" else f"the {agent}'s part of report {run}"

    return Agent(agent, model, description=f"is a good {agent}")


def plan(run: str) -> str:
    tasks = (("facts", "researcher", []), ("figures", "analyst", []),
             ("text", "writer", ["facts", "figures"]))  # fmt: skip
    return json.dumps(
        {
            "assignments": [
                {"id": id, "worker": worker, "subtask": f"{id} for report {run}", "depends_on": on}
                for id, worker, on in tasks
            ]
        }
    )


def note(what: str, agent: str, run: str) -> None:
    line = f"{time.time()} {what} {os.getpid()} {agent} {run}\n"
    bill = os.open(os.environ[BILL], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(bill, line.encode())
    os.close(bill)


team = OrchestratorWorkers(
    orchestrator=stub("planner"),
    workers=[stub("researcher"), stub("analyst"), stub("writer")],
    synthesizer=stub("editor"),
)


async def work(database_url: str) -> None:
    async with Cluster(database_url) as cluster:
        await cluster.join()
        print("ready", flush=True)
        await cluster.work()


def start_worker(database_url: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, database_url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def await_ready(worker: subprocess.Popen[str]) -> None:
    if worker.stdout is None or worker.stdout.readline() != "ready\n":
        raise SystemExit("a worker did not start")


async def show(database_url: str, workers: list[subprocess.Popen[str]]) -> None:
    async with Cluster(database_url) as cluster:
        began = time.time()
        for number in range(RUNS):
            await cluster.submit(TEAM, f"report {number:02}", run_id=f"report-{number:02}")
        print(f"submitted {RUNS} runs of 5 questions each to {WORKERS} workers")

        answers: list[Entry] = []
        while len(answers) < RUNS * 2:
            await asyncio.sleep(0.02)
            answers = [entry for entry in bill() if entry.what == "answered"]
        victim = workers[1]
        victim.kill()
        killed = time.time()
        print(f"killed worker {victim.pid} with -9, after {len(answers)} answers")

        results = [await cluster.result(f"report-{number:02}") for number in range(RUNS)]
        seconds = time.time() - began
        right = sum(
            result["output"] == f"the editor's part of report {number:02}"
            for number, result in enumerate(results)
        )
        print(f"{right} of {RUNS} answers arrived and are right, {seconds:.1f} s after the start")

        entries = bill()
        theirs = {entry.run for entry in entries if entry.process == victim.pid}
        again = [e for e in entries if e.at > killed and e.what == "asked" and e.run in theirs]
        elsewhere = [entry.at - killed for entry in again if entry.process != victim.pid]
        print(f"its runs went on elsewhere {min(elsewhere):.1f} s after the kill")

        details = [await cluster.get(f"report-{number:02}") for number in range(RUNS)]
        doubtful = [f"{d.run.run_id} {call.key}" for d in details for call in d.doubtful]
        asked = Counter((e.run, e.question) for e in entries if e.what == "asked")
        answered = Counter((e.run, e.question) for e in entries if e.what == "answered")
        print(
            f"the stub was asked {asked.total()} times for {len(asked)} questions, and answered "
            f"{answered.total()} times"
        )
        print(f"on record as perhaps paid twice, since they were in flight: {len(doubtful)}")
        for line in doubtful:
            print(f"  {line}")
        twice = asked.total() - len(asked)
        if right != RUNS or len(doubtful) < twice or min(elsewhere) > 5:
            raise SystemExit("that is not what was promised")


def bill() -> list[Entry]:
    path = Path(os.environ[BILL])
    lines = path.read_text().splitlines() if path.exists() else []
    split = [line.split() for line in lines]
    return [Entry(float(at), what, int(pid), agent, run) for at, what, pid, agent, run in split]


def main() -> None:
    if len(sys.argv) > 1:
        with suppress(KeyboardInterrupt):
            asyncio.run(work(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder, LocalPostgres() as server:
        os.environ[BILL] = str(Path(folder) / "bill")
        database_url = server.new_database()
        print(f"PostgreSQL is up on 127.0.0.1:{server.port}")
        workers: list[subprocess.Popen[str]] = []
        try:
            workers += [start_worker(database_url) for _ in range(WORKERS)]
            for worker in workers:
                await_ready(worker)
            asyncio.run(show(database_url, workers))
        finally:
            for worker in workers:
                worker.send_signal(signal.SIGINT)
            for worker in workers:
                worker.wait()


if __name__ == "__main__":
    main()
