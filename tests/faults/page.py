"""Writes the fault matrix as a page: `python -m tests.faults.page > docs/faults.md`."""

from __future__ import annotations

from tests.faults.matrix import COLUMNS, FAULTS, MODES, Column, Ends, Fault, Mode

HEAD = """\
# The fault matrix

What goes wrong between a program and a provider, and how one attempt at a call then ends: in the
same error from every adapter, whatever its SDK makes of it. Every cell is a test: over HTTP, with
the provider's own SDK, asked by an agent, with the fault met once and met every time.

- **Retried**: it is safe to send again, and `RetryPolicy` does, after the wait that the provider
  asked for, if it did. So a fault met once ends in an answer; one that stays ends in an
  `AgentError`, with the last attempt's error as its cause.
- **Free**: the attempt was refused or never sent, and costs 0. **Priced**: by the usage that the
  provider had told. **In part**: by the usage that a stream had told before it broke off, or by
  what had come of the answer, if that is more. **Estimated**: it may be billed and nobody said for
  how much, so its worst case counts.

Every attempt is one request, one `chat` span with the error's name as its `error.type`, and one
entry in `result.calls`. No task and no connection is left behind.

| fault | the server ... | `complete` | `stream` |
| --- | --- | --- | --- |
"""


def page() -> str:
    return HEAD + "".join(f"{_row(fault)}\n" for fault in FAULTS) + _remarks()


def _row(fault: Fault) -> str:
    cells = (fault.name, fault.server, *(_cell(fault, mode) for mode in MODES))
    return f"| {' | '.join(cells)} |"


def _cell(fault: Fault, mode: Mode) -> str:
    """How most end, and by name those that do not."""
    columns: dict[Ends, list[Column]] = {}
    for column in COLUMNS:
        columns.setdefault(fault.ends_for(column, mode), []).append(column)
    (usual, _), *others = sorted(columns.items(), key=lambda item: -len(item[1]))
    told = [_told(usual)]
    for ends, who in others:
        how = ends.paid if ends.error is usual.error else _told(ends)
        told.append(f"{', '.join(COLUMNS[column] for column in who)}: {how}")
    return "<br>".join(told)


def _told(ends: Ends) -> str:
    if ends.error is None:
        return "an answer"
    retried = "retried" if ends.retried else "not retried"
    return f"`{ends.error.__name__}`, {retried}, {ends.paid}"


def _remarks() -> str:
    told = [f"- *{fault.name}*: {fault.remark}\n" for fault in FAULTS if fault.remark]
    return "\n" + "".join(told)


if __name__ == "__main__":
    print(page(), end="")
