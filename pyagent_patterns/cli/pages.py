"""What `runs`, `show` and `replay` show: tables and text, in as many columns as there are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pyagent_patterns import ledger
from pyagent_patterns.durable import CallView, Replay, RunDetail, RunView
from pyagent_patterns.question import Reply
from pyagent_providers.hostile import shown

from .words import (
    age,
    call_state,
    counted,
    dollars,
    line,
    moment,
    names,
    run_state,
    short,
    span,
    total,
    waits,
)

_STYLES: Final = {
    "completed": "green",
    "partial": "yellow",
    "failed": "red",
    "new": "cyan",
    "running": "cyan",
    "interrupted": "yellow",
    "suspended": "magenta",
    "cancelled": "dim",
    "copied": "dim",
    "begun": "yellow",
    "done": "green",
}
_WIDE: Final = 100  # columns from which it is shown what a run's pattern is called too


def runs_table(runs: Sequence[RunView], width: int) -> RenderableType:
    table = _table()
    table.expand = True  # the task takes what the others leave
    table.add_column("run", no_wrap=True)
    table.add_column("status", max_width=18)
    if width >= _WIDE:
        table.add_column("pattern", no_wrap=True)
    table.add_column("task", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("calls", justify="right", no_wrap=True)
    table.add_column("tokens", justify="right", no_wrap=True)
    table.add_column("cost", justify="right", max_width=12)
    table.add_column("age", justify="right", no_wrap=True)
    for run in runs:
        pattern = [Text(line(run.name))] if width >= _WIDE else []
        table.add_row(
            Text(short(run.run_id), "bold"),
            _status(run),
            *pattern,
            Text(line(run.task)),
            f"{run.calls:,}",
            f"{run.tokens:,}",
            total(run.cost, run.unpriced),
            Text(age(run.created_at), "dim"),
        )
    return table


def run_page(detail: RunDetail, *, full: bool) -> RenderableType:
    """A run's facts, its calls, what is doubtful about them, and how it ended."""
    parts: list[RenderableType] = [_facts(detail)]
    if detail.calls:
        parts += ["", _calls(detail.calls), *_remarks(detail)]
    if full:
        parts += [part for call in detail.calls for part in _conversation(call)]
    if detail.run.error is not None:
        parts += _section("Error", detail.run.error)
    if detail.output:
        parts += _section("Answer", detail.output)
    return Group(*parts)


def comparison(replay: Replay, again: Reply) -> RenderableType:
    """The recorded answer and the new one, side by side, under what each of them cost."""
    table = Table(box=None, expand=True, padding=(0, 1), pad_edge=False, header_style="")
    for title, reply, cost in (
        ("recorded", replay.recorded, replay.cost),
        ("again", again, replay.cost_again),
    ):
        table.add_column(
            Text.assemble((title, "bold"), (f"\n{_figures(reply, cost)}\n", "dim")), ratio=1
        )
    table.add_row(_reply(replay.recorded), _reply(again))
    return table


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")


def _status(run: RunView) -> Text:
    state = run_state(run)
    return Text(waits(run) if state == "suspended" else state, _STYLES[state])


def _facts(detail: RunDetail) -> Table:
    run = detail.run
    status = _status(run)
    if run.execution > 1:
        status.append(f", execution {run.execution}")
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("run", Text(line(run.run_id), "bold"))
    facts.add_row("status", status)
    called = "" if run.name == run.pattern else f"{run.name}, "
    facts.add_row("pattern", line(f"{called}{run.pattern}"))
    facts.add_row("team", Text(line(run.team)) if run.team else Text("not recorded", "dim"))
    facts.add_row("task", Text(shown(run.task)))
    facts.add_row("started", f"{moment(run.created_at)}, {age(run.created_at)} ago")
    facts.add_row("cost", f"{total(run.cost, run.unpriced)}, {counted(run.tokens, 'token')}")
    copied = [call for call in detail.calls if call.copied]
    if run.forked_from is not None:
        before = ledger.total_cost(attempt for call in copied for attempt in call.attempts)
        origin = f"run {short(run.forked_from)}, which paid {dollars(before)} of it"
        facts.add_row("forked from", f"{origin} ({counted(len(copied), 'call')})")
    return facts


def _calls(calls: Sequence[CallView]) -> Table:
    table = _table()
    table.add_column("call", overflow="fold")
    table.add_column("agent", overflow="fold")
    table.add_column("model", overflow="fold")
    table.add_column("state", no_wrap=True)
    for name in ("tries", "tokens", "cost", "sec"):
        table.add_column(name, justify="right", no_wrap=True)
    for call in calls:
        state = call_state(call)
        status = Text(state, _STYLES[state])
        if call.begun > 1:
            status.append(" !", "bold yellow")
        attempts = call.attempts
        table.add_row(
            Text(line(call.key)),
            Text(line(call.asked("agent") or "")),
            Text(line(call.asked("model") or "")),
            status,
            str(len(attempts)) if attempts else "",
            f"{ledger.total_usage(attempts).total_tokens:,}" if attempts else "",
            dollars(ledger.known_cost(attempts)) if attempts else "",
            "" if call.ended_at is None else f"{call.ended_at - call.started_at:.1f}",
        )
    return table


def _remarks(detail: RunDetail) -> Iterator[RenderableType]:
    """What a reader has to know of the calls besides the figures."""
    doubtful = [f"{line(call.key)} ({_times(call.begun)})" for call in detail.doubtful]
    if doubtful:
        yield Text.assemble(
            ("\n! ", "bold yellow"),
            "sent more than once, since an execution ended before the answer was on record; each "
            f"may have been paid as often: {', '.join(doubtful)}",
        )
    lost = [call.key for call in detail.calls if call.value is None]
    if lost and not detail.run.is_owned:
        yield Text(
            f"\nSent, perhaps paid, and no answer on record: {names(lost)}. "
            "Going on with the run sends this again."
        )
    for call in detail.calls:
        reply = call.reply
        if reply is not None and reply.error is not None:
            yield Text.assemble(("\n" + line(call.key), "red"), f" failed: {line(reply.error)}")


def _times(number: int) -> str:
    return "twice" if number == 2 else f"{number} times"


def _conversation(call: CallView) -> Iterator[RenderableType]:
    yield Text(f"\n{line(call.key)}", "bold")
    if call.activity != "ask":
        yield from _quoted("given", json.dumps(call.input.get("input")))
        value = None if call.value is None else json.dumps(call.value.get("value"))
        yield from _quoted("gave", value or "nothing yet")
        return
    if call.asked("system_prompt"):
        yield from _quoted("system prompt", call.asked("system_prompt") or "")
    yield from _quoted("prompt", call.asked("prompt") or "")
    reply = call.reply
    if reply is None:
        yield from _quoted("answer", "none on record")
    else:
        yield from _quoted("answer" if reply.error is None else "error", _said(reply))


def _quoted(title: str, text: str) -> Iterator[RenderableType]:
    yield Text(f"  {title}", "dim")
    yield Padding(Text(shown(text)), (0, 0, 0, 4))


def _section(title: str, text: str) -> list[RenderableType]:
    return [Text(f"\n{title}", "bold"), Text(shown(text))]


def _said(reply: Reply) -> str:
    return (reply.error if reply.text is None else reply.text) or ""


def _reply(reply: Reply) -> Text:
    return Text(shown(_said(reply)), "red" if reply.text is None else "")


def _figures(reply: Reply, cost: Decimal | None) -> str:
    """Which model answered, and what it used."""
    last = reply.calls[-1]
    tokens = counted(ledger.total_usage(reply.calls).total_tokens, "token")
    return f"{line(last.model)}\n{tokens}, {dollars(cost)}, {_seconds(reply)}"


def _seconds(reply: Reply) -> str:
    seconds = sum(call.seconds for call in reply.calls)
    return f"{seconds:.1f} s" if seconds < 60 else span(seconds)
