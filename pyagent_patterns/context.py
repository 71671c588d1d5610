"""What an agent is shown of long work: as much as fits, the oldest parts in summary.

Sizes are in tokens, at four bytes each: an estimate that holds for English, and needs no tokeniser
of any model.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pyagent_providers.hostile import free_tag
from pyagent_providers.types import JSONObject, Message

from .tools import Tool, ToolError

Summarise = Callable[[str], Awaitable[str]]
"""Makes a short text of a long one."""

SUMMARY_ROLE: Final = (
    "You summarise work so that who goes on from it misses nothing that they need: every finding, "
    "figure, name, decision and open question, without the way there. Be much shorter than what "
    "you are given. Answer with the summary alone."
)
_BYTES_PER_TOKEN: Final = 4
_SUMMARY_OF: Final = 2  # a summary may be asked of a text that is half of what fits
READ: Final = "read_result"


@dataclass(frozen=True, slots=True)
class Fitted:
    """Pieces of work as they fit, and those in `full` that are there in summary only."""

    pieces: Mapping[str, str]
    full: Mapping[str, str]

    @property
    def tools(self) -> tuple[Tool, ...]:
        """A tool that gives the whole of what is there in summary, if anything is."""
        return (_reader(self.full),) if self.full else ()


def tokens_in(text: str) -> int:
    """About how many tokens a text has."""
    return -(-len(text.encode(errors="replace")) // _BYTES_PER_TOKEN)


def tokens_of(messages: Sequence[Message]) -> int:
    """About how many tokens a conversation has."""
    return sum(
        tokens_in(message.content) + sum(tokens_in(call.arguments) for call in message.tool_calls)
        for message in messages
    )


async def fit(
    pieces: Mapping[str, str],
    build: Callable[[Mapping[str, str]], str],
    room: int,
    summarise: Summarise,
) -> Fitted:
    """As many pieces in summary, the oldest first, as it takes for the whole to fit in `room`."""
    shown, full = dict(pieces), dict[str, str]()
    for name in pieces:
        if tokens_in(build(shown)) <= room:
            break
        full[name] = pieces[name]
        shown[name] = f"(In summary. The whole: {READ}({name!r}).)\n{await summarise(pieces[name])}"
    return Fitted(shown, full)


async def fit_turns(
    turns: Sequence[Message], room: int, keep_recent: int, summarise: Summarise
) -> tuple[Message, ...]:
    """A tool-using exchange with its oldest results in summary, so that it fits in `room`."""
    fitted = list(turns)
    results = [n for n, turn in enumerate(turns) if turn.role == "tool"]
    for n in results[: max(0, len(results) - keep_recent)]:
        if tokens_of(fitted) <= room:
            break
        if not turns[n].content.startswith(_IN_SUMMARY):
            short = await summarise(turns[n].content)
            fitted[n] = replace(turns[n], content=f"{_IN_SUMMARY}\n{short}")
    return tuple(fitted)


async def fit_history(
    history: Sequence[Message], room: int, keep_recent: int, summarise: Summarise
) -> tuple[Message, ...]:
    """A conversation with its oldest turns as one summary, so that it fits in `room`."""
    if tokens_of(history) <= room:
        return tuple(history)
    kept = len(history) - keep_recent
    kept += kept % 2  # a question stays with its answer
    old, recent = history[: max(kept, 0)], history[max(kept, 0) :]
    if not old:
        return tuple(history)
    said = "\n\n".join(f"{turn.role}: {turn.content}" for turn in old)
    return (
        Message("user", f"What was said before, in summary:\n{await summarise(said)}"),
        Message("assistant", "I go on from there."),
        *recent,
    )


def chunks(text: str, limit: int) -> list[str]:
    """A text in parts of which each can be summarised by an agent with that limit."""
    size = max(1, limit * _BYTES_PER_TOKEN // _SUMMARY_OF)
    data = text.encode(errors="replace")
    return [
        data[start : start + size].decode(errors="ignore") for start in range(0, len(data), size)
    ]


def asking_for_summary(text: str) -> str:
    tag = free_tag([text])
    return f"Summarise this:\n\n<{tag}>\n{text}\n</{tag}>"


_IN_SUMMARY: Final = "(In summary, to save room.)"


def _reader(full: Mapping[str, str]) -> Tool:
    async def read(arguments: JSONObject) -> str:
        name = arguments.get("id")
        if not isinstance(name, str) or name not in full:
            known = ", ".join(repr(name) for name in full)
            raise ToolError(f"there is no result {name!r}; there are {known}")
        return full[name]

    return Tool(
        name=READ,
        description="The whole of a result that you see in summary.",
        parameters={
            "type": "object",
            "properties": {"id": {"type": "string", "enum": list(full)}},
            "required": ["id"],
            "additionalProperties": False,
        },
        run=read,
        effect="read",
    )
