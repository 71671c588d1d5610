"""Whom a run is for, as its spans and metrics tell: tenant, user, conversation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

from pyagent_providers.types import JSONObject

from .journal import Call, Earlier, Journal


@dataclass(frozen=True, slots=True)
class Attribution:
    """Whom a run is for. All three are on the run's span; metrics may tell the tenant."""

    tenant: str | None = None
    user: str | None = None
    conversation: str | None = None

    def __post_init__(self) -> None:
        """Raises TypeError or ValueError for a name that is none."""
        for what, name in (("tenant", self.tenant), ("user", self.user)):
            if name is None:
                continue
            if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"{what} must be a name, such as 'acme'; got {name!r}")
            if not name.strip() or not name.isprintable():
                raise ValueError(f"{what} must be a name that can be printed; got {name!r}")

    def to_dict(self) -> JSONObject:
        return asdict(self)

    @property
    def input_hash(self) -> str:
        return hashlib.sha256(json.dumps(self.to_dict()).encode()).hexdigest()  # it is recorded


NOBODY = Attribution()


async def attribution_of(given: Attribution, journal: Journal) -> Attribution:
    """Whom the run is for: as given, and recorded; else as it was begun or submitted for."""
    whom = given
    if given.tenant is None and given.user is None:
        whom = _on_record(await journal.earlier("attribution"))
        if given.conversation is not None:
            whom = replace(whom, conversation=given.conversation)
    if given != NOBODY:
        key = f"attribution:{journal.execution}"  # another one may be given each time
        await journal.call(Call(key, "attribution", whom), partial(_value, whom))
    return whom


def _on_record(earlier: Sequence[Earlier]) -> Attribution:
    """The last that the run was given."""
    given = [call.value for call in earlier if call.value is not None]
    return Attribution(**given[-1]) if given else NOBODY  # pyright: ignore[reportArgumentType]


async def _value(given: Attribution) -> JSONObject:
    return given.to_dict()
