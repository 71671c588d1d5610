"""A workspace gives what is in its folder, all its limits said, and nothing from outside."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pyagent_patterns.tools import Tool, ToolError
from pyagent_patterns.workspace import Workspace

SECRET = "the outside is secret"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the workspace, with a secret in it."""
    folder = tmp_path / "outside"
    (folder / "deep").mkdir(parents=True)
    (folder / "secret.txt").write_text(SECRET)
    (folder / "deep" / "secret.txt").write_text(SECRET)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "src" / "lib").mkdir(parents=True)
    (folder / "notes.txt").write_text("one\ntwo\nthree\n")
    (folder / "src" / "main.py").write_text("print('hello')\n")
    (folder / "src" / "lib" / "sea.py").write_text("salt = True\n")
    return folder


@pytest.fixture
def workspace(root: Path, outside: Path) -> Iterator[Workspace]:
    yield Workspace(root)
    # Whatever a test tried, the outside is as it was.
    assert sorted(p.name for p in outside.rglob("*")) == ["deep", "secret.txt", "secret.txt"]
    assert (outside / "secret.txt").read_text() == SECRET
    assert (outside / "deep" / "secret.txt").read_text() == SECRET


# The tools


def test_a_workspace_gives_tools_that_say_what_they_do(root: Path) -> None:
    effects = {made.name: made.effect for made in Workspace(root).tools()}
    assert effects == {
        "list_files": "read",
        "read_file": "read",
        "search_files": "read",
        "write_file": "idempotent",
        "edit_file": "idempotent",
    }
    assert all(made.description for made in Workspace(root).tools())


def test_a_read_only_workspace_has_no_tool_that_changes_anything(root: Path) -> None:
    workspace = Workspace(root, writable=False)
    assert [made.name for made in workspace.tools()] == ["list_files", "read_file", "search_files"]
    with pytest.raises(ToolError, match="this workspace is read-only"):
        workspace.write_file("new.txt", "x")
    with pytest.raises(ToolError, match="this workspace is read-only"):
        workspace.edit_file("notes.txt", "one", "1")
    assert not (root / "new.txt").exists()


async def test_a_model_lists_reads_writes_edits_and_searches(root: Path) -> None:
    tools = {made.name: made for made in Workspace(root).tools()}

    async def call(name: str, **arguments: object) -> str:
        return await _call(tools[name], **arguments)

    assert await call("list_files") == (
        "notes.txt (14 bytes)\nsrc/\nsrc/lib/\nsrc/lib/sea.py (12 bytes)\nsrc/main.py (15 bytes)"
    )
    assert await call("list_files", path="src/lib") == "src/lib/sea.py (12 bytes)"
    assert await call("read_file", path="./src//main.py") == "print('hello')\n"
    assert (
        await call("write_file", path="new/a/b.txt", content="é") == "'new/a/b.txt' has 2 bytes now"
    )
    assert (root / "new" / "a" / "b.txt").read_text() == "é"
    await call("edit_file", path="notes.txt", old="two", new="2")
    assert (root / "notes.txt").read_text() == "one\n2\nthree\n"
    assert await call("search_files", text="salt") == "src/lib/sea.py:1: salt = True"
    assert await call("search_files", text="salt", path="new") == "[no line has 'salt']"


async def _call(made: Tool, **arguments: object) -> str:
    return await made.call(made.check(json.dumps(arguments)))


# Nothing outside


@pytest.mark.parametrize(
    "path",
    [
        "../outside/secret.txt",
        "src/../../outside/secret.txt",
        "src/lib/../../../outside/secret.txt",
        "..",
        "src/..",
        "./../outside/secret.txt",
        "/etc/passwd",
        "//etc/passwd",
        "\0",
        "notes.txt\0.md",
        "a\nb",
        "\u202egnp.txt",
        "a" * 2000,
        "a/" * 40 + "b",
        "\udcff",
    ],
    ids=lambda path: ascii(path)[:30],
)
def test_a_path_that_could_lead_out_is_refused_by_every_tool(
    path: str, workspace: Workspace
) -> None:
    for refused in (
        lambda: workspace.read_file(path),
        lambda: workspace.list_files(path),
        lambda: workspace.search_files("secret", path),
        lambda: workspace.write_file(path, "changed"),
        lambda: workspace.edit_file(path, SECRET, "changed"),
    ):
        with pytest.raises(ToolError, match="path"):
            refused()


def test_an_absolute_path_into_the_workspace_is_refused_too(
    workspace: Workspace, root: Path
) -> None:
    with pytest.raises(ToolError, match="paths are relative to the workspace"):
        workspace.read_file(str(root / "notes.txt"))


@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_to_a_file_is_not_followed(
    absolute: bool, workspace: Workspace, root: Path, outside: Path
) -> None:
    target = outside / "secret.txt" if absolute else Path("../outside/secret.txt")
    (root / "link.txt").symlink_to(target)
    assert (root / "link.txt").read_text() == SECRET  # it does lead there
    for refused in (
        lambda: workspace.read_file("link.txt"),
        lambda: workspace.write_file("link.txt", "changed"),
        lambda: workspace.edit_file("link.txt", SECRET, "changed"),
    ):
        with pytest.raises(ToolError, match="it is a link, and links are not followed"):
            refused()
    assert workspace.search_files("secret") == "[no line has 'secret']"
    assert "link.txt [a link, not followed]" in workspace.list_files()


def test_a_link_to_a_folder_is_not_followed(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    (root / "way").symlink_to(outside)
    (root / "src" / "way").symlink_to("../../outside")
    for way in ("way", "src/way"):
        for refused in (
            lambda way=way: workspace.read_file(f"{way}/secret.txt"),
            lambda way=way: workspace.read_file(f"{way}/deep/secret.txt"),
            lambda way=way: workspace.list_files(way),
            lambda way=way: workspace.list_files(f"{way}/deep"),
            lambda way=way: workspace.search_files("secret", way),
            lambda way=way: workspace.write_file(f"{way}/new.txt", "changed"),
            lambda way=way: workspace.write_file(f"{way}/deeper/still/new.txt", "changed"),
            lambda way=way: workspace.edit_file(f"{way}/secret.txt", SECRET, "changed"),
        ):
            with pytest.raises(ToolError, match="a link, and links are not followed"):
                refused()
    assert workspace.search_files("secret") == "[no line has 'secret']"
    assert "secret" not in workspace.list_files()
    assert "src/way [a link, not followed]" in workspace.list_files()


def test_links_that_lead_inside_in_circles_or_nowhere_are_not_followed_either(
    workspace: Workspace, root: Path
) -> None:
    (root / "again").symlink_to(".")
    (root / "circle").symlink_to("circle")
    (root / "gone").symlink_to("not-there")
    (root / "notes-link").symlink_to("notes.txt")
    for path in ("again/notes.txt", "circle", "gone", "notes-link"):
        with pytest.raises(ToolError, match="links are not followed"):
            workspace.read_file(path)
        with pytest.raises(ToolError, match="links are not followed"):
            workspace.write_file(path, "changed")
    assert not (root / "not-there").exists()
    assert workspace.list_files().count("notes.txt") == 1


def test_the_workspace_itself_may_be_reached_through_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "to-root").symlink_to(root)
    assert Workspace(tmp_path / "to-root").read_file("notes.txt").startswith("one")


def test_a_folder_that_is_swapped_for_a_link_meanwhile_leads_nowhere(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    """A thread swaps them as fast as it can, while every tool is used through both."""
    real, link, door = root / "real", root / "link", root / "door"
    (real / "deep").mkdir(parents=True)
    for folder in (real, real / "deep"):
        (folder / "secret.txt").write_text("inside")
    link.symlink_to(outside)
    stop = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not stop.is_set():
            for other in (real, link):
                try:
                    os.rename(other, door)
                except OSError:  # there is one that `write_file` made
                    shutil.rmtree(door, ignore_errors=True)
                else:
                    os.rename(door, other)
            swaps += 1

    swapping = threading.Thread(target=swap)
    swapping.start()
    refused = 0
    try:
        for number in range(400):
            path = "door/deep/secret.txt" if number % 2 else "door/secret.txt"
            for attempt in (
                lambda path=path: workspace.read_file(path),
                lambda: workspace.list_files("door"),
                lambda: workspace.search_files(SECRET, "door"),
                lambda path=path: workspace.write_file(path, "inside"),
                lambda path=path: workspace.edit_file(path, SECRET, "changed"),
            ):
                try:
                    assert SECRET not in attempt().replace(f"[no line has {SECRET!r}]", "")
                except ToolError:
                    refused += 1
    finally:
        stop.set()
        swapping.join()
    assert swaps > 100
    assert refused  # and the fixture looks at the outside


def test_a_file_that_is_swapped_for_a_link_meanwhile_is_never_followed(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    file, link, door = root / "file", root / "link", root / "door"
    file.write_text("inside")
    link.symlink_to(outside / "secret.txt")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for other in (file, link):
                os.link(other, root / "next", follow_symlinks=False)
                os.rename(root / "next", door)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(400):
            for attempt in (
                lambda: workspace.read_file("door"),
                lambda: workspace.edit_file("door", SECRET, "changed"),
                lambda: workspace.search_files(SECRET, "."),
            ):
                with suppress(ToolError):
                    assert SECRET not in attempt().replace(f"[no line has {SECRET!r}]", "")
    finally:
        stop.set()
        swapping.join()


def test_a_file_put_there_while_another_is_written_is_replaced_and_never_followed(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    link, door = root / "link", root / "door"
    link.symlink_to(outside / "secret.txt")
    stop = threading.Event()

    def put() -> None:
        while not stop.is_set():
            try:
                os.link(link, door, follow_symlinks=False)
            except FileExistsError:
                os.unlink(door)

    putting = threading.Thread(target=put)
    putting.start()
    try:
        for _ in range(300):
            with suppress(ToolError):
                workspace.write_file("door", "inside")
    finally:
        stop.set()
        putting.join()


# What is no text file


def test_a_pipe_a_socket_a_device_and_a_folder_are_no_files(
    workspace: Workspace, root: Path
) -> None:
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket"))
    names = ["pipe", "socket"]
    if os.getuid() == 0:
        os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero
        names.append("device")
    for name in names:
        for refused in (
            lambda name=name: workspace.read_file(name),
            lambda name=name: workspace.edit_file(name, "a", "b"),
            lambda name=name: workspace.write_file(name, "a"),
        ):
            with pytest.raises(ToolError, match="it is not a file"):
                refused()
        assert f"{name} [not a file]" in workspace.list_files()
    assert workspace.search_files("\0") == "[no line has '\\x00']"
    for path in ("src", "."):
        with pytest.raises(ToolError, match=r"it is not a file|it is a folder"):
            workspace.read_file(path)
        with pytest.raises(ToolError, match="it is a folder"):
            workspace.write_file(path, "a")


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n\0\0",
        b"caf\xe9",
        "utf-16".encode("utf-16"),
        b"text\0more",
        b"\xff" * 9000,
    ],
    ids=["png", "latin-1", "utf-16", "nul", "binary"],
)
def test_a_binary_file_is_refused_clearly(data: bytes, workspace: Workspace, root: Path) -> None:
    (root / "data").write_bytes(data)
    with pytest.raises(ToolError, match=r"'data': it is not a text file \(UTF-8\)"):
        workspace.read_file("data")
    with pytest.raises(ToolError, match="it is not a text file"):
        workspace.edit_file("data", "a", "b")
    assert workspace.search_files("text") == "[no line has 'text']"


def test_what_is_not_there_is_said_without_the_place_of_the_workspace(
    workspace: Workspace, root: Path
) -> None:
    for path, why in (
        ("nothing.txt", "there is no such file or folder"),
        ("no/thing.txt", "there is no such file or folder"),
        ("notes.txt/more", "a part of it is not a folder"),
        ("n" * 300, "a name in it is too long"),
    ):
        with pytest.raises(ToolError, match=why) as refused:
            workspace.read_file(path)
        assert str(root) not in str(refused.value)


def test_a_workspace_of_no_folder_is_refused(root: Path) -> None:
    for nowhere in (root / "nothing", root / "notes.txt"):
        with pytest.raises(NotADirectoryError, match="a workspace needs a folder that exists"):
            Workspace(nowhere)
    with pytest.raises(ValueError, match="max_read must be 1000 bytes or more"):
        Workspace(root, max_read=10)


# Hostile names


def test_a_name_cannot_pass_for_another_in_a_listing(workspace: Workspace, root: Path) -> None:
    (root / "a\nsecret.txt").write_text("")
    (root / "b\x1b[2J").mkdir()
    (root / "b\x1b[2J" / "below").write_text("")
    os.mkdir(os.fsencode(root) + b"/\xff")
    listed = workspace.list_files()
    assert "'a\\nsecret.txt' [cannot be opened: characters that do not print]" in listed
    assert "\x1b" not in listed
    assert "below" not in listed
    assert len(listed.splitlines()) == 8
    listed.encode()


@pytest.mark.parametrize(
    "name", ["-rf", "~", "$HOME", "%s", "a b", "naïve", "文件", ".hidden", "..."]
)
def test_an_odd_name_is_only_a_name(name: str, workspace: Workspace, root: Path) -> None:
    workspace.write_file(name, "odd")
    assert (root / name).read_text() == "odd"
    assert workspace.read_file(name) == "odd"
    assert f"{name} (3 bytes)" in workspace.list_files()


# Limits


def test_a_long_file_is_read_in_parts_that_give_all_of_it(root: Path) -> None:
    text = "".join(random.Random(1).choices("aé文😀\n", k=4000))
    (root / "long.txt").write_text(text)
    workspace = Workspace(root, max_read=1000)
    read, offset, size = "", 0, len(text.encode())
    while True:
        part, _, note = workspace.read_file("long.txt", offset).rpartition("\n")
        read += part
        if note.endswith("this is the end]"):
            break
        assert f"of {size}; go on with offset=" in note
        offset = int(note.rpartition("=")[2].removesuffix("]"))
    assert read == text
    for beyond in (size, size + 1, 10**30):
        assert workspace.read_file("long.txt", beyond) == f"[the end: it has {size} bytes]"


def test_an_offset_within_a_character_begins_with_the_next(
    workspace: Workspace, root: Path
) -> None:
    (root / "a.txt").write_text("文文b")
    assert workspace.read_file("a.txt", 1) == "文b\n[bytes 3 to 7 of 7; this is the end]"
    assert workspace.read_file("a.txt", -5) == "文文b"


def test_an_empty_file_or_folder_is_said_to_be_empty(workspace: Workspace, root: Path) -> None:
    (root / "empty.txt").write_text("")
    (root / "empty").mkdir()
    assert workspace.read_file("empty.txt") == "[the file is empty]"
    assert workspace.list_files("empty") == "[the folder is empty]"


def test_a_long_listing_is_cut_and_says_so_the_nearest_first(
    workspace: Workspace, root: Path
) -> None:
    many = root / "many"
    many.mkdir()
    for number in range(600):
        (many / f"{number:03}").touch()
    lines = workspace.list_files().splitlines()
    assert len(lines) == 501
    assert lines[-1] == "[500 are listed, and there are more: list one folder at a time]"
    assert "notes.txt (14 bytes)" in lines
    assert "src/lib/sea.py (12 bytes)" not in lines or "many/599 (0 bytes)" not in lines


def test_folders_too_deep_for_any_path_are_not_looked_into(
    workspace: Workspace, root: Path
) -> None:
    deep = root.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    (deep / "needle.txt").write_text("needle")
    assert workspace.list_files().count("d/\n") == 33
    assert workspace.search_files("needle") == "[no line has 'needle']"


def test_a_search_gives_a_hundred_lines_and_says_that_there_are_more(
    workspace: Workspace, root: Path
) -> None:
    (root / "many.txt").write_text("needle " + "x" * 1000 + "\n" + "needle\n" * 500)
    lines = workspace.search_files("needle").splitlines()
    assert len(lines) == 101
    assert len(lines[0]) < 250
    assert lines[-1] == "[there are more: search one folder, or for a longer text]"
    with pytest.raises(ToolError, match="give a text to search for"):
        workspace.search_files("")


def test_a_search_of_very_many_files_ends_and_says_so(
    workspace: Workspace, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyagent_patterns.workspace._SEARCHED", 20)
    for number in range(30):
        (root / f"{number:02}").write_text("")
    assert workspace.search_files("needle").startswith("[the search ended here, there is more")
    monkeypatch.setattr("pyagent_patterns.workspace._SEARCHED", 5000)
    monkeypatch.setattr("pyagent_patterns.workspace._SEARCHED_BYTES", 10)
    assert workspace.search_files("needle").startswith("[the search ended here, there is more")


def test_what_is_too_large_is_not_written_or_edited(workspace: Workspace, root: Path) -> None:
    with pytest.raises(ToolError, match="that is 5000001 bytes, of at most 5000000"):
        workspace.write_file("new.txt", "x" * 5_000_001)
    assert not (root / "new.txt").exists()
    (root / "huge.txt").write_text("x" * 5_000_001)
    with pytest.raises(ToolError, match="it is larger than 5000000 bytes"):
        workspace.edit_file("huge.txt", "x", "y")
    assert workspace.search_files("xxx") == "[no line has 'xxx']"


# Changes


def test_a_file_is_replaced_as_a_whole_and_keeps_its_permissions(
    workspace: Workspace, root: Path
) -> None:
    script = root / "run.sh"
    script.write_text("old " * 100_000)
    script.chmod(0o750)
    stop = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(script.read_text()[:4] + str(script.stat().st_size))

    reading = threading.Thread(target=read)
    reading.start()
    try:
        for number in range(50):
            workspace.write_file("run.sh", ("new " if number % 2 else "old ") * 100_000)
    finally:
        stop.set()
        reading.join()
    assert seen <= {"new 400000", "old 400000"}
    assert stat.S_IMODE(script.stat().st_mode) == 0o750


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    workspace: Workspace, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ToolError, match=r"'notes\.txt': there is no space left"):
        workspace.write_file("notes.txt", "new")
    monkeypatch.undo()
    assert (root / "notes.txt").read_text() == "one\ntwo\nthree\n"
    assert sorted(os.listdir(root)) == ["notes.txt", "src"]


def test_a_hard_link_is_not_written_through(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    os.link(outside / "secret.txt", root / "hard.txt")
    workspace.write_file("hard.txt", "changed")
    assert (root / "hard.txt").read_text() == "changed"  # and the fixture looks at the outside


def test_line_ends_are_kept_as_they_are(workspace: Workspace, root: Path) -> None:
    (root / "dos.txt").write_bytes(b"one\r\ntwo\r\n")
    assert workspace.read_file("dos.txt") == "one\r\ntwo\r\n"
    workspace.edit_file("dos.txt", "two", "2")
    assert (root / "dos.txt").read_bytes() == b"one\r\n2\r\n"


def test_an_edit_needs_a_text_that_is_there_exactly_once(workspace: Workspace, root: Path) -> None:
    (root / "a.txt").write_text("aaa b")
    for old, why in (("", "`old` is empty"), ("c", "`old` is not in it"), ("aa", "more than once")):
        with pytest.raises(ToolError, match=why):
            workspace.edit_file("a.txt", old, "x")
    assert (root / "a.txt").read_text() == "aaa b"


def test_a_line_can_be_put_before_or_after_another_and_only_once(
    workspace: Workspace, root: Path
) -> None:
    for old, new in (("two\n", "two\n2.5\n"), ("two\n", "1.5\ntwo\n")):
        for _ in range(2):
            said = workspace.edit_file("notes.txt", old, new)
        assert said == "'notes.txt' reads so already; nothing was changed"
    assert (root / "notes.txt").read_text() == "one\n1.5\ntwo\n2.5\nthree\n"


def test_an_edit_that_was_made_before_a_crash_is_no_error_after_it(workspace: Workspace) -> None:
    workspace.edit_file("notes.txt", "two", "2")
    again = workspace.edit_file("notes.txt", "two", "2")
    assert again == "'notes.txt' reads so already; nothing was changed"


def test_an_edit_made_twice_is_the_edit_made_once(workspace: Workspace, root: Path) -> None:
    """Of short texts of two letters, where everything that can overlap does."""
    chance = random.Random(7)
    made = 0

    def word(most: int) -> str:
        return "".join(chance.choices("ab", k=chance.randint(0, most)))

    for _ in range(1500):
        text, old, new = word(8), word(4), word(6)
        (root / "a.txt").write_text(text)
        try:
            workspace.edit_file("a.txt", old, new)
        except ToolError:
            assert (root / "a.txt").read_text() == text
            continue
        once = (root / "a.txt").read_text()
        made += once != text
        assert once in (text, text.replace(old, new))
        with suppress(ToolError):
            workspace.edit_file("a.txt", old, new)
        assert (root / "a.txt").read_text() == once, (text, old, new)
    assert made > 100


def test_edits_of_one_file_at_once_are_all_made(workspace: Workspace, root: Path) -> None:
    (root / "a.txt").write_text("".join(f"<{n}>\n" for n in range(30)))
    threads = [
        threading.Thread(target=workspace.edit_file, args=("a.txt", f"<{n}>", f"[{n}]"))
        for n in range(30)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (root / "a.txt").read_text() == "".join(f"[{n}]\n" for n in range(30))


def test_a_workspace_whose_folder_is_gone_says_so(workspace: Workspace, root: Path) -> None:
    shutil.rmtree(root)
    with pytest.raises(ToolError, match="there is no such file or folder"):
        workspace.list_files()
