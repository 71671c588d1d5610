"""`LocalPostgres`, the server that the examples use, for tests; and whether it can run here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_PATH = Path(__file__).parents[2] / "examples" / "local_postgres.py"
_SPEC = importlib.util.spec_from_file_location("local_postgres", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
_module = importlib.util.module_from_spec(_SPEC)
sys.modules["local_postgres"] = _module
_SPEC.loader.exec_module(_module)

LocalPostgres = _module.LocalPostgres
LocalPostgresError = _module.LocalPostgresError


def missing() -> str | None:
    """What this machine lacks to run PostgreSQL; None if nothing."""
    try:
        LocalPostgres()
    except LocalPostgresError as error:
        return str(error)
    return None
