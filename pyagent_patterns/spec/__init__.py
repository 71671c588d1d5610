"""Teams in YAML: `load` a file, `dump` a team. Needs `pip install "pyagent-sdk[spec]"`."""

from .definition import TeamDefinition, load
from .describing import CannotWriteError
from .dumping import dump
from .faults import DefinitionError, Fault
from .published import json_schema

__all__ = [
    "load",
    "TeamDefinition",
    "DefinitionError",
    "Fault",
    "dump",
    "CannotWriteError",
    "json_schema",
]
