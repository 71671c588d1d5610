"""What is outside a definition and named in it: objects of the user's, files, the environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path as File
from typing import Any, Final, TypeVar

from pyagent_patterns.durable import teams
from pyagent_patterns.sandbox import SandboxError
from pyagent_providers.secret import Secret

from .faults import Faults, Path, meant
from .parts import FAULTY, FileSpec, Spec

T = TypeVar("T")

_PLACEHOLDER: Final = re.compile(r"\$(\$?)\{([^{}]*)\}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LEAST_SECRET: Final = 4  # characters; what is shorter is no secret, and is in many a message
_WHOLE: Final = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


class Workshop:
    """Looks things up for a definition, and tells what is not there.

    `troubles` counts what went wrong: what is made of parts is not, if it grew meanwhile. Each
    method gives None for what was told to be wrong.
    """

    def __init__(self, folder: File, environment: Mapping[str, str], faults: Faults) -> None:
        self.folder = folder
        self.faults = faults
        self.troubles = 0
        self._environment = environment
        self._used: dict[str, str] = {}  # values of the environment, and whose they are

    def trouble(self, at: Path, message: str, *, line: int | None = None) -> None:
        """Tell what is wrong. Nothing that came from the environment is in it."""
        self.troubles += 1
        for value, name in self._used.items():
            for form in (value, repr(value)[1:-1]):
                message = message.replace(form, f"${{{name}}}")
        self.faults.add(at, message, line=line)

    def is_faulty(self, value: object) -> bool:
        """Whether this stands for something that is wrong and was told before."""
        if value == FAULTY:
            self.troubles += 1
        return value == FAULTY

    def made(self, at: Path, since: int, make: Callable[[], T]) -> T | None:
        """What `make` gives, unless there was trouble `since`. What it raises is told."""
        if self.troubles > since:
            return None
        try:
            return make()
        except (TypeError, ValueError, OSError, ImportError, SandboxError) as error:
            self.trouble(at, str(error))
        except NotImplementedError as error:
            self.trouble(at, str(error))
        return None

    def imported(self, name: str, at: Path) -> object:
        """What stands at `module:object` or `path/to/file.py:object`."""
        if self.is_faulty(name):
            return None
        where, colon, attribute = name.rpartition(":")
        if not colon or not where or not attribute:
            self.trouble(at, f"{name!r} is not module:object or path/to/file.py:object")
            return None
        if where.endswith(".py"):
            where = str(self.folder / where)
        try:
            return teams.load(f"{where}:{attribute}")
        except LookupError as error:
            why = error.__cause__
            said = f"has no {attribute!r}" if why is None else f"cannot be imported: {why}"
            self.trouble(at, f"{name.rpartition(':')[0]!r} {said}")
        except Exception as error:  # whatever the module's own code raises
            self.trouble(at, f"{where!r} cannot be imported: {type(error).__name__}: {error}")
        return None

    def function(self, name: str, at: Path) -> Callable[..., object] | None:
        """The same, of something that can be called."""
        found = self.imported(name, at)
        if found is not None and not callable(found):
            self.trouble(at, f"{name!r} is a {type(found).__name__}, not a function")
            return None
        return found

    def filled(self, text: str, at: Path) -> str | None:
        """The text with each ${NAME} as the environment has it; $${NAME} stays ${NAME}."""
        if self.is_faulty(text):
            return None
        since = self.troubles

        def value(found: re.Match[str]) -> str:
            escaped, name = found.groups()
            return f"${{{name}}}" if escaped else self._variable(name, at)

        filled = _PLACEHOLDER.sub(value, text)
        if self.troubles > since:
            return None
        if all(escaped for escaped, _ in _PLACEHOLDER.findall(text)):
            return filled
        return Secret(filled, text)

    def filled_all(self, texts: Mapping[str, str] | None, at: Path) -> dict[str, str]:
        """A mapping with its values filled in."""
        found = {key: self.filled(text, (*at, key)) for key, text in (texts or {}).items()}
        return {key: text for key, text in found.items() if text is not None}

    def key(self, text: str | None, at: Path) -> str | None:
        """An API key, which stands in the environment and not in the file."""
        if text is None or self.is_faulty(text):
            return None
        if not _WHOLE.fullmatch(text):
            self.trouble(
                at,
                "a key does not belong in a file: put it in a variable of the environment and "
                "write api_key: ${NAME}",
            )
            return None
        return self.filled(text, at)

    def text(self, spec: str | FileSpec | None, at: Path) -> str | None:
        """A text that stands here or in a file."""
        if not isinstance(spec, FileSpec):
            return None if self.is_faulty(spec) else spec
        if self.is_faulty(spec.file):
            return None
        try:
            return self.path(spec.file).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            self.trouble((*at, "file"), f"{spec.file!r} cannot be read: {why}")
            return None

    def path(self, name: str) -> File:
        """A path from the definition's folder."""
        return self.folder / name

    def schema(self, spec: dict[str, object] | str | None, at: Path) -> object:
        """A JSON Schema, or the type that is named."""
        return self.imported(spec, at) if isinstance(spec, str) else spec

    def _variable(self, name: str, at: Path) -> str:
        value = self._environment.get(name)
        if value is not None:
            if len(value) >= _LEAST_SECRET:
                self._used[value] = name
            return value
        if not _VARIABLE.fullmatch(name):
            self.trouble(at, f"${{{name}}} is no variable's name; write $${{ for a plain ${{")
        else:
            like = meant(name, self._environment)
            self.trouble(at, f"the environment has no variable {name!r}{like or '; set it'}")
        return ""


def given(spec: Spec, *, but: Collection[str] = ()) -> dict[str, Any]:
    """The values of all keys but these, as far as they are given."""
    values = {name: getattr(spec, name) for name in type(spec).model_fields if name not in but}
    return {name: value for name, value in values.items() if value is not None}
