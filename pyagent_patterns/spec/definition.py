"""`load`: a team from a YAML file, and the task that its objective makes of inputs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import cast

from pyagent_patterns.base import Pattern
from pyagent_patterns.form import Form, Unfit

from .building import Builder
from .checking import checked
from .faults import DefinitionError, Faults
from .objective import Objective
from .parts import FileSpec
from .reading import Unreadable, read
from .workshop import Workshop


@dataclass(frozen=True, slots=True)
class TeamDefinition:
    """A team as a file defines it: the same object that Python would have made."""

    path: File
    team: Pattern
    _objective: Objective | None = field(repr=False)

    @property
    def has_objective(self) -> bool:
        """Whether the definition says what the task is."""
        return self._objective is not None

    def task(self, inputs: Mapping[str, object] | None = None) -> str:
        """The task: the objective, with these inputs filled in.

        Raises ValueError for inputs that are not those of the team, and where there is no
        objective; `DefinitionError` for an objective that cannot be filled in with them.
        """
        if self._objective is None:
            raise ValueError(f"{str(self.path)!r} has no objective: give the task itself")
        return self._objective.task(_fitting(self.team.inputs, inputs))


def load(
    path: str | os.PathLike[str], *, environment: Mapping[str, str] | None = None
) -> TeamDefinition:
    """The team that a YAML file defines. Paths in it are from the folder it is in.

    A definition is a program: it names code, which is imported, and commands, which runs start.
    Load only what you would run. `environment` takes the place of this process's, for ${NAME}.

    Raises `DefinitionError` with every fault, OSError for a file that cannot be read, ImportError
    without the `spec` extra.
    """
    file = File(path)
    shown = str(path)
    try:
        document = read(_text(file))
    except Unreadable as error:
        raise DefinitionError([error.as_fault(shown)]) from None
    faults = Faults(shown, document.marks)
    spec = checked(document.value, faults)
    if spec is None:
        raise faults.error()
    environment = os.environ if environment is None else environment
    shop = Workshop(file.resolve().parent, environment, faults)
    team = Builder(spec, shop).team()
    inputs: object = getattr(spec.team, "inputs", None)  # where the team could not be made
    if team is not None:
        known = None if team.inputs is None else team.inputs.schema
        inputs = None if known is None else known.schema
    objective = _objective(spec.objective, shop, inputs)
    if team is None or faults:
        raise faults.error()
    return TeamDefinition(file, team, objective)


def _objective(spec: str | FileSpec | None, shop: Workshop, inputs: object) -> Objective | None:
    text = shop.text(spec, ("objective",))
    if text is None:
        return None
    source = str(shop.path(spec.file)) if isinstance(spec, FileSpec) else None
    return Objective.of(text, shop, source, _names(inputs))


def _names(inputs: object) -> list[str] | None:
    """The inputs there are; None if any may be."""
    schema = cast("Mapping[str, object]", inputs if isinstance(inputs, Mapping) else {})
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or schema.get("additionalProperties"):
        return None
    return list(cast("Mapping[str, object]", properties))


def _text(file: File) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(1, 1, f"the file is not UTF-8 text, from byte {error.start} on") from None


def _fitting(form: Form | None, inputs: Mapping[str, object] | None) -> Mapping[str, object]:
    """The inputs by name, as the team's own are."""
    value: object = dict(inputs or {})
    if form is not None:
        try:
            value = form.check(value)
        except Unfit as unfit:
            raise ValueError(f"inputs do not fit: {unfit}") from unfit
    if isinstance(value, Mapping):
        return cast("Mapping[str, object]", value)
    names = getattr(type(value), "model_fields", None) or vars(value)
    return {name: getattr(value, name) for name in names}
