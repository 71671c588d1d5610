"""A result as a tree with costs, in HTML: what a notebook shows of it.

Everything that a model or a user wrote is escaped; there is no script, no style sheet and no link.
Colours stand on a light page and on a dark one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from html import escape
from typing import Final, Protocol

from pyagent_providers.base import Usage
from pyagent_providers.hostile import shown
from pyagent_providers.redaction import redacted

from . import ledger
from .ledger import CallRecord
from .plan import Assignment


class ShownOutcome(Protocol):
    """What is shown of an `Outcome`."""

    @property
    def assignment(self) -> Assignment: ...
    @property
    def status(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def output(self) -> str | None: ...
    @property
    def error(self) -> str | None: ...
    @property
    def calls(self) -> tuple[CallRecord, ...]: ...


class ShownResult(Protocol):
    """What is shown of a `Result`, which stands above this module."""

    @property
    def pattern(self) -> str: ...
    @property
    def run_id(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def output(self) -> str: ...
    @property
    def outcomes(self) -> Sequence[ShownOutcome]: ...
    @property
    def calls(self) -> tuple[CallRecord, ...]: ...
    @property
    def shortfalls(self) -> tuple[str, ...]: ...
    @property
    def duration_seconds(self) -> float: ...
    @property
    def trace_id(self) -> str | None: ...


def as_html(result: ShownResult) -> str:
    """The result as one HTML element."""
    facts = [f"run {result.run_id}"]
    if result.trace_id:
        facts.append(f"trace {result.trace_id}")
    figures = _figures(result.calls, f"{result.duration_seconds:.1f} s")
    parts = [
        _row(f"<b>{_text(result.pattern)}</b> {_status(result.status)}", figures),
        f'<div style="{_FAINT}">{_text(" · ".join(facts))}</div>',
        *(f'<div style="color:{_AMBER}">{_text(why)}</div>' for why in result.shortfalls),
        f'<div style="margin:.5em 0">{"".join(_branch(_tree(result), Decimal(0)))}</div>',
    ]
    if result.output:
        parts.append(_folded("<b>answer</b>", "", [_quoted(result.output)], is_open=True))
    return f'<div style="{_PAGE}">{"".join(parts)}</div>'


_PAGE: Final = (
    "font:13px/1.5 system-ui,sans-serif;color:inherit;max-width:60em;"
    "border:1px solid rgba(128,128,128,.35);border-radius:6px;padding:.7em 1em"
)
_FAINT: Final = "opacity:.65;font-size:12px"
_FIGURES: Final = "float:right;opacity:.75;font-variant-numeric:tabular-nums;padding-left:1em"
_INDENT: Final = "margin-left:.45em;padding-left:.9em;border-left:1px solid rgba(128,128,128,.35)"
_QUOTED: Final = (
    "white-space:pre-wrap;overflow-wrap:anywhere;margin:.3em 0;padding:.4em .7em;"
    "background:rgba(128,128,128,.12);border-radius:4px;max-height:24em;overflow:auto"
)
_GREEN, _AMBER, _RED, _GREY = "#1f9d55", "#c07a00", "#e0483e", "#888"
_COLOURS: Final = {
    "completed": _GREEN,
    "ok": _GREEN,
    "partial": _AMBER,
    "truncated": _AMBER,
    "rejected": _AMBER,
    "skipped": _GREY,
    "cancelled": _GREY,
}


@dataclass(slots=True)
class _Node:
    """An agent, or a pattern with what is within it."""

    name: str
    calls: list[CallRecord] = field(default_factory=list[CallRecord])
    outcomes: list[ShownOutcome] = field(default_factory=list[ShownOutcome])
    within: dict[str, _Node] = field(default_factory=dict[str, "_Node"])

    def at(self, path: str) -> Iterator[_Node]:
        """The nodes along a path, made where there is none."""
        node = self
        yield node
        for name in path.split("/"):
            node = node.within.setdefault(name, _Node(name))
            yield node


def _tree(result: ShownResult) -> _Node:
    """The agents that were asked, in the order in which they first were."""
    root = _Node("")
    for call in sorted(result.calls, key=lambda call: call.step):
        for node in root.at(call.path or call.agent):
            node.calls.append(call)
    for outcome in result.outcomes:
        *_, last = root.at(outcome.path or outcome.assignment.worker)
        last.outcomes.append(outcome)
    return root


def _branch(node: _Node, total: Decimal) -> Iterator[str]:
    total = total or ledger.total_cost(node.calls)
    for child in node.within.values():
        title = f"<b>{_text(child.name)}</b>{_what(child)}"
        content = [*_work(child), *_branch(child, total)]
        figures = _figures(child.calls, _share(child.calls, total))
        yield _folded(title, figures, content, is_open=bool(child.within))


def _what(node: _Node) -> str:
    """What an agent was asked for, and how it went."""
    phases = dict.fromkeys(call.phase for call in node.calls) if not node.within else {}
    statuses = dict.fromkeys(outcome.status for outcome in node.outcomes)
    words = f' <span style="{_FAINT}">{_text(", ".join(phases))}</span>' if phases else ""
    return words + "".join(f" {_status(status)}" for status in statuses)


def _work(node: _Node) -> Iterator[str]:
    """The assignments of an agent, and each attempt at a question."""
    for outcome in node.outcomes:
        assignment = outcome.assignment
        after = ", ".join(assignment.depends_on)
        title = f"{_text(assignment.id)} {_status(outcome.status)}"
        if after:
            title += f' <span style="{_FAINT}">after {_text(after)}</span>'
        said = [_quoted(assignment.subtask)]
        if outcome.error is not None:
            said.append(f'<div style="color:{_RED}">{_text(outcome.error)}</div>')
        if outcome.output is not None:
            said.append(_quoted(outcome.output))
        yield _folded(title, _figures(outcome.calls, ""), said)
    if not node.within and node.calls:
        yield "".join(_attempt(call) for call in node.calls)


def _attempt(call: CallRecord) -> str:
    what = f"{call.model} · {call.phase} · {call.seconds:.1f} s"
    if call.replayed:
        what += " · on record"
    if call.error is not None:
        what += f" · {call.error}"
    left = f'<span style="{_FAINT}">{_text(what)}</span>'
    if call.status != "ok":
        left += f" {_status(call.status)}"
    return _row(left, _figures([call], ""))


def _folded(title: str, figures: str, content: Iterable[str], *, is_open: bool = False) -> str:
    """Something that is opened by a click, without a script."""
    opened = " open" if is_open else ""
    return (
        f"<details{opened}><summary style='cursor:pointer'>{_right(figures)}{title}</summary>"
        f'<div style="{_INDENT}">{"".join(content)}</div></details>'
    )


def _row(left: str, figures: str) -> str:
    return f"<div>{_right(figures)}{left}</div>"


def _right(figures: str) -> str:
    return f'<span style="{_FIGURES}">{figures}</span>' if figures else ""


def _status(status: str) -> str:
    return f'<span style="color:{_COLOURS.get(status, _RED)}">{_text(status)}</span>'


def _quoted(text: str) -> str:
    return f'<div style="{_QUOTED}">{_text(text)}</div>'


def _figures(calls: Sequence[CallRecord], more: str) -> str:
    if not calls:
        return _text(more)
    usage: Usage = ledger.total_usage(calls)
    figures = [
        f"{len(calls)} calls" if len(calls) > 1 else "",
        f"{usage.input_tokens:,}+{usage.output_tokens:,} tokens" if usage.total_tokens else "",
        _dollars(calls),
        more,
    ]
    return _text(" · ".join(figure for figure in figures if figure))


def _dollars(calls: Sequence[CallRecord]) -> str:
    known = ledger.known_cost(calls)
    if known is None:
        return "unpriced"
    unpriced = ledger.unpriced(calls)
    return f"${known:.6f}".rstrip("0").rstrip(".") + (f" + {unpriced} unpriced" if unpriced else "")


def _share(calls: Sequence[CallRecord], total: Decimal) -> str:
    return f"{ledger.total_cost(calls) / total:.0%}" if total and calls else ""


def _text(text: str) -> str:
    return escape(redacted(shown(text)))
