"""A person lets a pattern's answer through, writes it anew, or declines it."""

from __future__ import annotations

import json
from typing import Final

from .errors import DeclinedError
from .form import Form, Unfit
from .run import RunContext

_EDITS: Final = 5  # of one answer, after which it is taken as declined


async def approved(ctx: RunContext, name: str, form: Form | None, answer: str) -> str:
    """The answer of the pattern of that name as a person wants it: in its form, too.

    Where there is no gate, the answer itself. Raises DeclinedError.
    """
    if not ctx.gated("answer"):
        return answer
    shown = f"The answer of {name}:\n\n{answer}"
    scope, text = ctx.child("approval"), shown
    for _ in range(_EDITS):
        decision = await scope.consult("answer", name, text, {"text": answer})
        if not decision.approved:
            raise DeclinedError("answer", name, decision.reason, answer)
        if decision.value is None:
            return answer
        value = decision.value
        edited = value if isinstance(value, str) else json.dumps(value)
        try:
            if form is not None:
                form.read(edited)
            return edited
        except Unfit as unfit:
            text = f"{shown}\n\nThat edit does not fit: {unfit}"
    raise DeclinedError("answer", name, f"{_EDITS} edits of it did not fit", answer)
