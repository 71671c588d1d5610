"""The objective of a definition: a Jinja template over the team's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .faults import DefinitionError, Fault, meant_or_all
from .workshop import Workshop

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import ImmutableSandboxedEnvironment


@dataclass(frozen=True, slots=True)
class Objective:
    """A template that was read. It reaches the inputs and nothing else."""

    template: Template
    place: Fault

    @classmethod
    def of(
        cls, text: str, shop: Workshop, source: str | None, known: Sequence[str] | None
    ) -> Objective | None:
        """The objective of this text, from the file `source` if it is not in the definition.

        What is wrong with it is told, also a name that is not of the `known` inputs; None is any.
        """
        from jinja2 import TemplateSyntaxError, meta

        environment = _environment()
        at = ("objective",)
        try:
            tree = environment.parse(text)
        except TemplateSyntaxError as error:
            where = f"{source}:{error.lineno}: " if source else ""
            line = None if source else error.lineno
            shop.trouble(at, f"{where}this is no Jinja template: {error.message}", line=line)
            return None
        for name in sorted(meta.find_undeclared_variables(tree)):
            if known is not None and name not in known:
                shop.trouble(at, f"the team's inputs have no {name!r}{meant_or_all(name, known)}")
        return cls(environment.from_string(text), shop.faults.at(at))

    def task(self, inputs: Mapping[str, object]) -> str:
        """The text with the inputs filled in. Raises `DefinitionError` if it cannot be."""
        from jinja2 import TemplateError

        try:
            return self.template.render(inputs)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            why = f"it cannot be filled in: {error}"
            raise DefinitionError([self.place.saying(why)]) from error


def _environment() -> ImmutableSandboxedEnvironment:
    try:
        from jinja2 import StrictUndefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise ImportError('an objective needs Jinja: pip install "pyagent-sdk[spec]"') from error
    # Plain text, so nothing is escaped.
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
