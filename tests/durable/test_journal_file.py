"""The journal's file: the user's own, refused where it cannot be relied on, never silently lost."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyagent_patterns.durable import Runs, database, filesystem
from pyagent_patterns.durable.filesystem import file_system
from pyagent_patterns.durable.owner import Owner
from pyagent_patterns.durable.values import Values
from pyagent_patterns.errors import AgentError, JournalError
from tests.patterns.teams import item, plan_text, scripted, team

PLAN = plan_text(item("a", id="x"), item("b", id="y", depends_on=["x"]))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_what_is_written_is_for_the_users_own_eyes(file: Path) -> None:
    os.umask(os.umask(0))
    await team([PLAN], {"a": ["x" * 300_000], "b": ["beta"]}).run("t", durable=file)
    beside = file.with_name("runs.db.values")
    written = [file, *file.parent.glob("runs.db-*"), *beside.iterdir()]
    assert len(written) >= 3
    assert {mode(path) for path in written} == {0o600}
    assert mode(beside) == 0o700


async def test_a_large_value_lies_beside_the_file_once_and_comes_back_whole(file: Path) -> None:
    large = "ü" * 300_000
    plan = plan_text(item("a", id="x"), item("b", id="y"))
    first = await team([plan], {"a": [large], "b": [large]}).run("t", run_id="r", durable=file)
    beside = sorted(path.stat().st_size for path in (file.parent / "runs.db.values").iterdir())
    assert all(size > 256 * 1024 for size in beside)
    again = await team([], {"a": [], "b": []}, final="no").run("t", run_id="r", durable=file)
    assert (
        [o.output for o in again.outcomes] == [large, large] == [o.output for o in first.outcomes]
    )
    assert file.stat().st_size < 200_000


def test_a_large_value_has_its_name_only_when_it_is_whole_and_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[list[str]] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        fsync(descriptor)
        synced.append([path.name for path in tmp_path.iterdir() if len(path.name) == 64])

    monkeypatch.setattr(os, "fsync", noting)
    stored = Values(tmp_path).put("it", "x" * 300_000)
    name = stored.removeprefix("@")
    assert synced == [[], [name]]  # the content, before it has the name; then the folder

    def crash(*paths: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(JournalError, match="the value of it cannot be written"):
        Values(tmp_path).put("it", "y" * 300_000)
    assert [path.name for path in tmp_path.iterdir()] == [name]  # nothing is left of it


async def test_a_value_above_the_limit_is_refused_by_its_key_and_not_lost(file: Path) -> None:
    huge = "x" * (33 * 1024 * 1024)
    with pytest.raises(JournalError, match=r"call 'work/x/ask:0' is 33.0 MB .* at most 32 MB") as e:
        await team([PLAN], {"a": [huge], "b": []}).run("t", run_id="r", durable=file)
    assert e.value.unrecorded["work/x/ask:0"]["text"] == huge
    assert e.value.result is not None
    assert len(e.value.result.calls) == 2  # what it cost is told


async def test_a_large_value_that_was_changed_or_lost_is_not_used(file: Path) -> None:
    crew = team([PLAN], {"a": ["x" * 300_000], "b": ["beta"]})
    await crew.run("t", run_id="r", durable=file)
    for path in (file.parent / "runs.db.values").iterdir():
        path.write_text(path.read_text().replace("xxx", "yyy", 1))
    with pytest.raises(JournalError, match="corrupted: not what was stored"):
        await crew.run("t", run_id="r", durable=file)
    for path in (file.parent / "runs.db.values").iterdir():
        path.unlink()
    with pytest.raises(JournalError, match="cannot be read"):
        await crew.run("t", run_id="r", durable=file)


async def test_pruning_deletes_the_large_values_that_nobody_needs(file: Path) -> None:
    crew = team([PLAN], {"a": ["x" * 300_000], "b": ["beta"]})
    with Runs(file) as runs:
        await crew.run("t", run_id="r", durable=runs)
        beside = file.parent / "runs.db.values"
        for path in beside.iterdir():
            os.utime(path, (0, 0))
        unused = beside / ("0" * 64)
        unused.write_text("left by a process that died before its row")
        await runs.prune(older_than=3600)
        assert unused.exists()  # it may be another process's, which is about to refer to it
        os.utime(unused, (0, 0))
        await runs.prune(older_than=3600)
        assert not unused.exists()
        assert list(beside.iterdir())
        await runs.prune(older_than=0)
        assert not list(beside.iterdir())


async def test_a_surrogate_in_an_answer_comes_back_as_it_was(file: Path) -> None:
    crew = team([PLAN], {"a": ["half \ud83d of a face"], "b": ["beta"]})
    first = await crew.run("t", run_id="r", durable=file)
    again = await crew.run("t", run_id="r", durable=file)
    assert again.outcomes[0].output == first.outcomes[0].output == "half \ud83d of a face"


@pytest.mark.parametrize(
    "content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"?" * 5000]
)
async def test_a_corrupted_file_is_said_to_be_and_left_alone(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    crew = team([PLAN], {"a": [], "b": []})
    with pytest.raises(JournalError, match=r"runs.db' cannot be used: it is corrupted"):
        await crew.run("t", durable=file)
    assert file.read_bytes() == content
    assert not scripted(crew.orchestrator).requests  # before any money is spent


async def test_a_page_that_goes_bad_under_a_run_stops_it(file: Path) -> None:
    crew = team([PLAN], {"a": ["x" * 100_000], "b": ["beta"]})
    await crew.run("t", run_id="r", durable=file)
    content = bytearray(file.read_bytes())
    for page in range(4096, len(content), 4096):
        content[page : page + 200] = os.urandom(200)
    file.write_bytes(content)
    with pytest.raises(JournalError, match="corrupted"):
        await crew.run("t", run_id="r", durable=file)


async def test_a_database_of_something_else_is_left_alone(file: Path) -> None:
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE customers (name TEXT)")
    with pytest.raises(JournalError, match="is a SQLite database of something else"):
        await team([PLAN], {"a": [], "b": []}).run("t", durable=file)
    with sqlite3.connect(file) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]


async def test_a_journal_of_a_later_format_is_refused(file: Path) -> None:
    crew = team([PLAN], {"a": ["alpha"], "b": ["beta"]})
    await crew.run("t", durable=file)
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(JournalError, match=r"has format 2; this version .* knows format 1"):
        await crew.run("t", durable=file)


async def test_a_journal_that_another_process_keeps_locked_is_waited_for_then_named(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = team([PLAN], {"a": ["alpha"], "b": ["beta"]})
    await crew.run("t", run_id="r", durable=file)
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.1)
    with sqlite3.connect(file, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalError, match="another process has kept it locked"):
            await crew.run("t", run_id="r", durable=file)
        other.execute("ROLLBACK")
    assert (await crew.run("t", run_id="r", durable=file)).status == "completed"


async def test_a_folder_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(JournalError, match="has no folder to be in; make it first"):
        await team([PLAN], {"a": [], "b": []}).run("t", durable=file.parent / "no" / "runs.db")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which is soon full."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


async def test_a_full_disk_stops_the_run_and_loses_nothing(small_disk: Path) -> None:
    file = small_disk / "runs.db"
    answers = ["y" * 50_000, "z" * 50_000]
    plan = plan_text(item("a", id="x"), item("a", id="y", depends_on=["x"]), item("b", id="z"))
    with Runs(file) as runs:

        async def fill() -> None:
            for attempt in range(20):
                crew = team([plan], {"a": answers, "b": ["beta"]})
                await crew.run("t", run_id=f"r{attempt}", durable=runs)

        with pytest.raises(JournalError, match="the disk is full; free some space") as full:
            await fill()
        stopped = full.value.result
        assert stopped is not None
        done = {
            call.key for call in (await runs.get(stopped.run_id)).calls if call.value is not None
        }
        paid = {f"work/{c.task_id}/ask:0" if c.task_id else "plan/ask:0" for c in stopped.calls}
        assert paid - done == set(full.value.unrecorded)  # recorded, or handed to the caller

        subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
        left = [run for run in await runs.list() if run.run_id == stopped.run_id]
        assert left[0].status == "running"
        needed = ["y" * 50_000, "z" * 50_000]
        for key in done:
            if key.startswith(("work/x", "work/y")):
                needed.pop(0)
        beta = [] if "work/z/ask:0" in done else ["beta"]
        plans = [] if "plan/ask:0" in done else [plan]
        async with asyncio.timeout(10):
            result = await runs.resume(stopped.run_id, team(plans, {"a": needed, "b": beta}))
        assert result.status == "completed"


@pytest.mark.parametrize("made", ["now", "before runs had names"])
def test_a_read_only_journal_can_be_looked_at_and_not_written(tmp_path: Path, made: str) -> None:
    """In a process without root's rights, for which nothing is read-only."""
    program = """
        import asyncio, os, sqlite3, sys
        from pyagent_patterns import Agent, OrchestratorWorkers
        from pyagent_patterns.durable import Runs
        from pyagent_patterns.errors import JournalError

        async def model(messages):
            if "assignments" in messages[-1].content:
                return '{"assignments": [{"worker": "a", "subtask": "s"}]}'
            return "alpha"

        crew = OrchestratorWorkers(orchestrator=Agent("p", model), workers=[Agent("a", model)])
        os.chdir(sys.argv[1])

        async def main():
            await crew.run("t", run_id="r", durable="runs.db")
            if sys.argv[2] != "now":
                sqlite3.connect("runs.db").execute("ALTER TABLE run DROP COLUMN name")
            os.chmod("runs.db", 0o444)
            os.chmod(".", 0o555)
            if os.geteuid() == 0:
                for name in (".", *os.listdir()):
                    os.chown(name, 65534, 65534)
                os.setuid(65534)
            with Runs("runs.db") as runs:
                print((await runs.get("r")).output)
            try:
                await crew.run("t", run_id="new", durable="runs.db")
            except JournalError as error:
                print(error)

        asyncio.run(main())
    """
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path), made],
        capture_output=True,
        text=True,
    )
    tmp_path.chmod(0o755)
    assert done.stderr == ""
    output, error = done.stdout.splitlines()
    assert output == "alpha"
    assert "it is read-only; make it and its folder writable" in error


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:40 / /home rw,relatime shared:2 - nfs4 server:/home rw,vers=4.2
41 40 0:41 / /home/ada/local\\040disk rw - xfs /dev/vdb rw
42 22 0:42 / /mnt rw - ext4 /dev/vdc rw
43 42 0:43 / /mnt rw - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/runs.db", "ext4"),
        ("/home/runs.db", "nfs4"),
        ("/homes/runs.db", "ext4"),
        ("/home/ada/local disk/runs.db", "xfs"),
        ("/mnt/runs.db", "cifs"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


async def test_a_network_file_system_is_refused_before_anything_is_written(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = file.with_name("mountinfo")
    mounts.write_text(f"22 1 0:1 / / rw - ext4 a rw\n23 22 0:2 / {file.parent} rw - nfs4 b rw\n")
    monkeypatch.setattr(filesystem, "_MOUNTS", mounts)
    with pytest.raises(JournalError, match=r"network file system \(nfs4\).*PostgreSQL"):
        await team([PLAN], {"a": [], "b": []}).run("t", durable=file)
    assert not file.exists()


async def test_many_runs_and_several_event_loops_share_one_open_file(file: Path) -> None:
    with Runs(file) as runs:

        async def ten() -> list[str]:
            crews = [team([PLAN], {"a": ["alpha"], "b": ["beta"]}) for _ in range(10)]
            results = await asyncio.gather(*(crew.run("t", durable=runs) for crew in crews))
            return [result.status for result in results]

        here = asyncio.create_task(ten())
        there = asyncio.to_thread(asyncio.run, ten())
        assert [*await here, *await there] == ["completed"] * 20
        assert len(await runs.list()) == 20


async def test_a_closed_store_says_so(file: Path) -> None:
    runs = Runs(file)
    await team([PLAN], {"a": ["1"], "b": ["2"]}).run("t", durable=runs)
    runs.close()
    runs.close()
    with pytest.raises(JournalError, match="is closed"):
        await team([PLAN], {"a": [], "b": []}).run("t", durable=runs)


def test_a_lease_is_a_time() -> None:
    with pytest.raises(ValueError, match="lease must be a number of seconds above 0; got 0"):
        Runs("runs.db", lease=0)


def test_an_owner_is_gone_when_its_process_is() -> None:
    here = Owner.new()
    assert not here.is_gone()
    assert Owner.parse(str(here)) == here
    child = subprocess.run(
        [
            sys.executable,
            "-c",
            "from pyagent_patterns.durable.owner import Owner; print(Owner.new())",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert Owner.parse(child.stdout).is_gone()
    other = Owner(place="another machine", pid=here.pid, started="?", execution="x")
    assert not other.is_gone()  # it cannot be seen from here: only its lease tells


async def test_a_failing_agent_does_not_leave_the_run_owned(file: Path) -> None:
    crew = team([KeyError("bug")], {"a": []})
    with Runs(file) as runs:
        with pytest.raises(AgentError):
            await crew.run("t", run_id="r", durable=runs)
        assert not (await runs.get("r")).run.is_owned
