"""A model is told of skills by name, and reads the rest of them when it needs it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pyagent_patterns.skills import Skill, SkillError, Skills
from pyagent_patterns.tools import Tool, ToolError


def write(folder: Path, text: str, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SKILL.md").write_text(text)
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_md", ".md")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    return folder


def skill(name: str, description: str, instructions: str = "Do it well.") -> str:
    return f"---\nname: {name}\ndescription: {description}\n---\n\n{instructions}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two skills, and beside them what is none."""
    skills = tmp_path / "skills"
    write(
        skills / "invoices",
        skill(
            "invoices", "How we write invoices: use it for any bill.", "# Invoices\n\n---\nSee tax."
        ),
        reference__tax_md="Tax is 19%.",
    )
    write(skills / "tone", skill("tone", "Our tone of voice."))
    (skills / "notes").mkdir()
    (skills / "README.md").write_text("none")
    (tmp_path / "secret.txt").write_text("the outside is secret")
    return skills


async def call(made: Tool, **arguments: object) -> str:
    return await made.call(made.check(json.dumps(arguments)))


def test_the_summary_has_names_and_descriptions_and_nothing_of_the_rest(folder: Path) -> None:
    skills = Skills(folder)
    assert list(skills) == [
        Skill("invoices", "How we write invoices: use it for any bill.", folder / "invoices"),
        Skill("tone", "Our tone of voice.", folder / "tone"),
    ]
    assert skills.summary == (
        "You have skills, which are instructions for certain kinds of work. When one fits, read "
        "it with read_skill before you begin, and follow it.\n"
        "- invoices: How we write invoices: use it for any bill.\n"
        "- tone: Our tone of voice."
    )


async def test_a_model_reads_the_instructions_and_then_a_file_they_mention(folder: Path) -> None:
    tools = {made.name: made for made in Skills(folder).tools()}
    assert {name: made.effect for name, made in tools.items()} == {
        "read_skill": "read",
        "read_skill_file": "read",
    }
    assert await call(tools["read_skill"], name="invoices") == (
        "# Invoices\n\n---\nSee tax.\n\n"
        "[the files of this skill, for read_skill_file]\n"
        "SKILL.md (106 bytes)\n"
        "reference/\n"
        "reference/tax.md (11 bytes)"
    )
    said = await call(tools["read_skill_file"], name="invoices", path="reference/tax.md")
    assert said == "Tax is 19%."
    assert await call(
        tools["read_skill_file"], name="invoices", path="reference/tax.md", offset=7
    ) == ("19%.\n[bytes 7 to 11 of 11; this is the end]")


def test_instructions_that_change_are_read_anew(folder: Path) -> None:
    skills = Skills(folder)
    write(folder / "tone", skill("tone", "Our tone of voice.", "Be brief."))
    assert skills.read_skill("tone").startswith("Be brief.\n")


def test_a_model_that_names_no_skill_is_told_which_there_are(folder: Path) -> None:
    for name in ("invoice", "", "../skills/tone", "notes"):
        with pytest.raises(
            ToolError, match=r"there is no skill '.*'; there are 'invoices', 'tone'"
        ):
            Skills(folder).read_skill(name)
        with pytest.raises(ToolError, match="there is no skill"):
            Skills(folder).read_skill_file(name, "SKILL.md")


def test_nothing_outside_the_skills_own_folder_can_be_read(folder: Path) -> None:
    skills = Skills(folder)
    (folder / "tone" / "link.md").symlink_to(folder.parent / "secret.txt")
    (folder / "tone" / "way").symlink_to(folder.parent)
    for path in (
        *("../invoices/SKILL.md", "../../secret.txt", str(folder.parent / "secret.txt")),
        *("link.md", "way/secret.txt"),
    ):
        with pytest.raises(ToolError):
            skills.read_skill_file("tone", path)
    assert "link.md [a link, not followed]" in skills.read_skill("tone")


def test_a_skill_that_is_gone_is_said_to_be(folder: Path) -> None:
    skills = Skills(folder)
    (folder / "tone" / "SKILL.md").unlink()
    with pytest.raises(ToolError, match="there is no such file"):
        skills.read_skill("tone")
    (folder / "tone").rmdir()
    with pytest.raises(ToolError, match="the skill 'tone' is not there any more"):
        skills.read_skill("tone")


@pytest.mark.parametrize(
    "matter",
    [
        "name: tone\ndescription: Our tone: of voice",
        "name: 'tone'\ndescription: \"Our tone: of voice\"",
        "# a comment\nname: tone\n\nlicense: MIT\ndescription: >-\n  Our tone:\n  of voice",
        "name:   tone\ndescription: Our tone:\n  of voice\nmetadata:\n  a: b\n  c: d",
        "description: |\n  Our tone:\n  of voice\nname: tone",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_front_matter_can_be_written_as_people_write_it(
    matter: str, end: str, tmp_path: Path
) -> None:
    (tmp_path / "tone").mkdir()
    text = f"---\n{matter}\n---\nBe brief.\n".replace("\n", end)
    (tmp_path / "tone" / "SKILL.md").write_bytes(text.encode())
    (found,) = Skills(tmp_path)
    assert (found.name, found.description) == ("tone", "Our tone: of voice")
    assert Skills(tmp_path).read_skill("tone").startswith("Be brief.")


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("", 1, "it must open with front matter: a line of '---'"),
        ("# Tone\n", 1, "it must open with front matter"),
        ("---\nname: tone\n", 2, "the front matter is not closed by a line of '---'"),
        ("---\nname: tone\n---\n", 1, "it has no description; write 'description: ...'"),
        ("---\ndescription: x\nname:\n---\n", 3, "it has no name"),
        ("---\nname tone\n---\n", 2, "lines such as 'name: ...'; got 'name tone'"),
        ("---\n  name: tone\n---\n", 2, "lines such as 'name: ...'"),
        ("---\nname: a\nname: b\n---\n", 3, "'name' is on line 2 already"),
        (skill("a" * 65, "x"), 2, "a name has at most 64 printable characters"),
        (skill("a", "x" * 1025), 3, "a description has at most 1024 printable characters"),
        (skill("a\x1b[2J", "x"), 2, "a name has at most 64 printable characters"),
    ],
)
def test_a_fault_is_told_with_its_file_and_line(
    text: str, line: int, why: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "bad", text) / "SKILL.md"
    with pytest.raises(
        SkillError, match=re.escape(f"{file}:{line}: ") + ".*" + re.escape(why)
    ) as e:
        Skills(tmp_path)
    assert (e.value.file, e.value.line) == (file, line)


def test_what_cannot_be_read_is_told_with_its_file(tmp_path: Path) -> None:
    file = write(tmp_path / "bad", "") / "SKILL.md"
    file.write_bytes(b"---\nname: \xff\n---\n")
    with pytest.raises(SkillError, match="it is not a text file"):
        Skills(tmp_path)


def test_two_skills_cannot_have_one_name(folder: Path) -> None:
    write(folder / "voice", skill("tone", "Another."))
    with pytest.raises(SkillError, match=r"voice/SKILL.md:1: .*/tone/SKILL.md has the name 'tone'"):
        Skills(folder)


def test_a_folder_without_skills_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no skills: folders with a SKILL\.md"):
        Skills(tmp_path)
    with pytest.raises(NotADirectoryError, match="skills need a folder that exists"):
        Skills(tmp_path / "nothing")
