"""What can be wrong with how exporters are set up; nothing here is raised once a run has begun."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

Extra = Literal["otlp", "prometheus", "console"]


class ExporterError(ValueError):
    """The exporters cannot be set up as asked. Nothing was started; the message has the remedy."""


class MissingExtraError(ExporterError, ImportError):
    """A package the asked exporter needs is not installed. The message has the command."""


@contextmanager
def needs(extra: Extra) -> Generator[None]:
    """Turn a failed import within this block into the command that mends it."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"a package that this needs is not installed, or too old ({error}); "
            f'run: pip install "pyagent-sdk[{extra}]"'
        ) from error
