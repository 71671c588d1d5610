"""Skills: folders of instructions, whose names a model is told and whose rest it reads at need."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from .tools import Tool, ToolError, tool
from .workspace import Workspace

_FILE: Final = "SKILL.md"
_FENCE: Final = "---"
_LONGEST: Final = {"name": 64, "description": 1024}  # characters: they are in every prompt


class SkillError(ValueError):
    """A `SKILL.md` with a fault; the message names the file and the line."""

    def __init__(self, file: Path, line: int, why: str) -> None:
        super().__init__(f"{file}:{line}: {why}")
        self.file = file
        self.line = line


@dataclass(frozen=True, slots=True)
class Skill:
    """What a model is told of a skill from the start. The rest is in `folder`."""

    name: str
    description: str
    folder: Path


class Skills:
    """The skills in a folder: each a folder with a `SKILL.md`, and the files which that mentions.

    A `SKILL.md` opens with front matter, `name:` and `description:` between two lines of `---`;
    the description says what the skill is for and when to read it. The instructions follow.

    A model is told the `summary`, and reads the instructions, and then the further files, with
    the `tools`. Names and descriptions are read once, all else whenever a model asks for it, as
    in a `Workspace` that is read-only: nothing outside the skill's folder, and no links in it.

    Raises NotADirectoryError if there is no such folder, ValueError if there is no skill in it,
    and `SkillError`, which is one, for a skill with a fault.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        root = Path(folder)
        if not root.is_dir():
            raise NotADirectoryError(f"skills need a folder that exists; got {str(folder)!r}")
        skills: dict[str, Skill] = {}
        for file in sorted(root.glob(f"*/{_FILE}")):
            skill = _read(file)
            if skill.name in skills:
                other = skills[skill.name].folder / _FILE
                raise SkillError(file, 1, f"{other} has the name {skill.name!r} already")
            skills[skill.name] = skill
        if not skills:
            raise ValueError(f"{str(folder)!r} has no skills: folders with a {_FILE}")
        self.folder = root
        self._skills: Mapping[str, Skill] = skills

    def __iter__(self) -> Iterator[Skill]:
        return iter(self._skills.values())

    def __repr__(self) -> str:
        return f"Skills({list(self._skills)!r})"

    @cached_property
    def summary(self) -> str:
        """Names and descriptions, for an agent's system prompt."""
        listed = "\n".join(f"- {skill.name}: {skill.description}" for skill in self)
        return (
            "You have skills, which are instructions for certain kinds of work. When one fits, "
            f"read it with read_skill before you begin, and follow it.\n{listed}"
        )

    def tools(self) -> Sequence[Tool]:
        """`read_skill` and `read_skill_file`."""
        return [tool(effect="read")(self.read_skill), tool(effect="read")(self.read_skill_file)]

    def read_skill(self, name: str) -> str:
        """Read the instructions of a skill, and see which further files it has."""
        files = self._files_of(name)
        text = files.read_file(_FILE)
        instructions = text.split(f"\n{_FENCE}", 1)[-1].strip()
        heading = "[the files of this skill, for read_skill_file]"
        return f"{instructions}\n\n{heading}\n{files.list_files()}"

    def read_skill_file(self, name: str, path: str, offset: int = 0) -> str:
        """Read a file of a skill; of a long one, the part from `offset` (in bytes)."""
        return self._files_of(name).read_file(path, offset)

    def _files_of(self, name: str) -> Workspace:
        skill = self._skills.get(name)
        if skill is None:
            known = ", ".join(repr(name) for name in self._skills)
            raise ToolError(f"there is no skill {name!r}; there are {known}")
        try:
            return Workspace(skill.folder, writable=False)
        except NotADirectoryError as error:
            raise ToolError(f"the skill {name!r} is not there any more") from error


def _read(file: Path) -> Skill:
    try:
        text = Workspace(file.parent, writable=False).read_file(_FILE)
    except ToolError as error:
        raise SkillError(file, 1, str(error)) from error
    found = _front_matter(file, text.removeprefix("\ufeff").splitlines())
    for key, longest in _LONGEST.items():
        line, value = found.get(key, (1, ""))
        if not value:
            raise SkillError(file, line, f"it has no {key}; write '{key}: ...' in the front matter")
        if len(value) > longest or not value.isprintable():
            raise SkillError(file, line, f"a {key} has at most {longest} printable characters")
    return Skill(found["name"][1], found["description"][1], file.parent)


def _front_matter(file: Path, lines: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Keys with their lines and values. It is the part of YAML that front matter is written in:
    a value is on its key's line, quoted or not, or indented below.
    """
    if not lines or lines[0].rstrip() != _FENCE:
        raise SkillError(file, 1, f"it must open with front matter: a line of {_FENCE!r}")
    found: dict[str, tuple[int, str]] = {}
    last = ""
    for number, line in enumerate(lines[1:], 2):
        if line.rstrip() == _FENCE:
            return {key: (at, _unquoted(value)) for key, (at, value) in found.items()}
        if not line.strip() or line.startswith("#"):
            continue
        if line[0].isspace() and last:
            at, value = found[last]
            found[last] = at, f"{value} {line.strip()}".strip()
            continue
        last, colon, value = line.partition(":")
        if not colon or line[0].isspace():
            raise SkillError(
                file, number, f"front matter has lines such as 'name: ...'; got {line!r}"
            )
        if last in found:
            raise SkillError(file, number, f"{last!r} is on line {found[last][0]} already")
        # A mark of a text that is indented below says how to keep its lines; here it is one.
        value = value.strip()
        found[last] = number, "" if value in (">", ">-", "|", "|-") else value
    raise SkillError(file, len(lines), f"the front matter is not closed by a line of {_FENCE!r}")


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value
