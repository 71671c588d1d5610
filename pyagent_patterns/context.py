"""What an agent is shown of long work: as much as fits, the oldest parts in summary.

Sizes are in tokens, at four bytes each: an estimate that holds for English, and needs no tokeniser
of any model. A summary is cut off at the room that there is for it, so that what is made to fit
does fit.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pyagent_providers.hostile import free_tag
from pyagent_providers.types import JSONObject, Message, ToolSpec

from .session import Conversation, Summary, messages_of
from .tools import Tool, ToolError

Summarise = Callable[[str, int], Awaitable[str]]
"""Makes a text of at most so many tokens of a longer one."""

SUMMARY_ROLE: Final = (
    "You summarise work so that who goes on from it misses nothing that they need: every finding, "
    "figure, name, decision and open question, without the way there. Be much shorter than what "
    "you are given. Answer with the summary alone."
)
READ: Final = "read_result"
_BYTES_PER_TOKEN: Final = 4
_WORDS_PER_TOKEN: Final = 0.6
_SUMMARY_OF: Final = 2  # a summary may be asked of a text that is half of what fits
_PART_OF: Final = 8  # what is read of a whole result at once is that part of what fits
_PARTS: Final = 2  # for which there is room at once, before what was read is summarised in turn
_LEAST: Final = 20  # tokens; in less there is no saying anything


@dataclass(frozen=True, slots=True)
class Fitted:
    """Pieces of work as they fit, and those in `full` that are there in summary only.

    At most `part` tokens of one of these are read at once.
    """

    pieces: Mapping[str, str]
    full: Mapping[str, str]
    part: int = 0

    @property
    def tools(self) -> tuple[Tool, ...]:
        """A tool that gives the whole of what is there in summary, if anything is."""
        return (_reader(self.full, self.part),) if self.full else ()


def tokens_in(text: str) -> int:
    """About how many tokens a text has."""
    return -(-len(text.encode(errors="replace")) // _BYTES_PER_TOKEN)


def tokens_of(messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> int:
    """About how many tokens a conversation has, with the tools that are offered in it."""
    said = sum(
        tokens_in(message.content) + sum(tokens_in(call.arguments) for call in message.tool_calls)
        for message in messages
    )
    return said + sum(
        tokens_in(f"{tool.name}{tool.description}{json.dumps(tool.parameters)}") for tool in tools
    )


async def fit(
    pieces: Mapping[str, str],
    build: Callable[[Mapping[str, str]], str],
    room: int,
    keep_recent: int,
    summarise: Summarise,
) -> Fitted:
    """Pieces of a prompt that `build` makes of them, so that it fits in `room`.

    Where some are in summary, a part of the room is left for reading them whole.
    """
    if tokens_in(build(pieces)) <= room:
        return Fitted(pieces, {})
    part = max(room // _PART_OF, _LEAST)
    heads = {name: f"(In summary. The whole: {READ}({name!r}).)\n" for name in pieces}
    around = tokens_in(build(heads)) + tokens_of((), [_reader(pieces, part).spec])
    left = room - around - _PARTS * part
    short = await _shortened(list(pieces.values()), left, keep_recent, summarise)
    shown, full = dict(pieces), dict[str, str]()
    for n, name in enumerate(pieces):
        if n in short:
            full[name], shown[name] = pieces[name], heads[name] + short[n]
    return Fitted(shown, full, part)


async def fit_turns(
    turns: Sequence[Message], room: int, keep_recent: int, summarise: Summarise
) -> tuple[Message, ...]:
    """A tool-using exchange with its oldest results in summary, so that it fits in `room`."""
    if tokens_of(turns) <= room:
        return tuple(turns)
    fitted = list(turns)
    results = [n for n, turn in enumerate(turns) if turn.role == "tool"]
    around = tokens_of([t if t.role != "tool" else replace(t, content=_SHORT) for t in turns])
    texts = [turns[n].content for n in results]
    short = await _shortened(texts, room - around, keep_recent, summarise)
    for n, text in short.items():
        fitted[results[n]] = replace(turns[results[n]], content=_SHORT + text)
    return tuple(fitted)


async def fit_conversation(
    conversation: Conversation, room: int, keep_recent: int, summarise: Summarise
) -> tuple[Message, ...]:
    """A conversation with its oldest turns as one summary, so that it fits in `room`.

    A summary on hand is gone on from. A new one is half as long as it may be, so that it serves
    for several more turns.
    """
    turns, known = conversation.turns, conversation.summary
    whole = messages_of(turns)
    if tokens_of(whole) <= room:
        return whole
    if known is not None:
        shown = (*_retold(known), *messages_of(turns[known.turns :]))
        if tokens_of(shown) <= room:
            return shown
    around = tokens_of(_retold(Summary(0, "")))
    for recent in range(-(-keep_recent // 2), -1, -1):  # a task stays with its answer
        old = max(len(turns) - recent, 0 if known is None else known.turns)
        left = room - around - tokens_of(messages_of(turns[old:]))
        if old and left >= _LEAST:
            break
    else:
        return whole  # it is too long, whatever is done
    since = messages_of(turns[0 if known is None else known.turns : old])
    texts = ([] if known is None else [known.text]) + [turn.content for turn in since]
    tag = free_tag(texts)
    said = "\n".join(f"<{tag} from={turn.role!r}>\n{turn.content}\n</{tag}>" for turn in since)
    if known is not None:
        said = f"<{tag} from='an earlier summary'>\n{known.text}\n</{tag}>\n{said}"
    made = conversation.made = Summary(old, await summarise(said, max(left // 2, _LEAST)))
    return (*_retold(made), *messages_of(turns[old:]))


def chunks(text: str, limit: int) -> list[str]:
    """A text in parts of which each can be summarised by an agent with that limit."""
    size = max(1, limit // _SUMMARY_OF) * _BYTES_PER_TOKEN
    data, start, parts = text.encode(errors="replace"), 0, list[str]()
    while start < len(data):
        parts.append(data[start : start + size].decode(errors="ignore"))  # no half characters
        start += len(parts[-1].encode())
    return parts


def asking_for_summary(text: str, tokens: int) -> str:
    """A question for a summary that has room in so many tokens."""
    tag = free_tag([text])
    words = max(1, int(tokens * _WORDS_PER_TOKEN))
    return f"Summarise this in at most {words} words:\n\n<{tag}>\n{text}\n</{tag}>"


def cut(text: str, tokens: int) -> str:
    """As much of a text as has room in so many tokens."""
    return text.encode(errors="replace")[: tokens * _BYTES_PER_TOKEN].decode(errors="ignore")


_SHORT: Final = "(In summary, to save room.)\n"


async def _shortened(
    texts: Sequence[str], room: int, keep_recent: int, summarise: Summarise
) -> dict[int, str]:
    """Those of the texts, by position, that are to be in summary for all to fit in `room`.

    The oldest come first, the last `keep_recent` only if there is no other way. None, where there
    is none at all.
    """
    sizes = [tokens_in(text) for text in texts]
    share = 0
    for recent in range(min(keep_recent, len(texts)), -1, -1):
        old = len(texts) - recent
        share = (room - sum(sizes[old:])) // old if old else 0
        if share >= _LEAST:
            break
    short = dict[int, str]()
    if share < _LEAST:
        return short
    for n, size in enumerate(sizes):
        if sum(sizes) <= room:
            break
        if size > share:
            short[n] = await summarise(texts[n], share)
            sizes[n] = tokens_in(short[n])
    return short


def _retold(summary: Summary) -> tuple[Message, Message]:
    """A summary as part of a conversation; what is in it is not the user's own words."""
    tag = free_tag([summary.text])
    told = f"What was said before, in summary:\n\n<{tag}>\n{summary.text}\n</{tag}>"
    return Message("user", told), Message("assistant", "I go on from there.")


def _reader(full: Mapping[str, str], part: int) -> Tool:
    """Gives a result in parts of at most so many tokens, since the whole was too much once."""
    size = part * _BYTES_PER_TOKEN

    async def read(arguments: JSONObject) -> str:
        name, start = arguments.get("id"), arguments.get("offset") or 0
        if not isinstance(name, str) or name not in full:
            known = ", ".join(repr(name) for name in full)
            raise ToolError(f"there is no result {name!r}; there are {known}")
        whole = full[name]
        if not isinstance(start, int) or not 0 <= start < max(len(whole), 1):
            raise ToolError(f"offset must be from 0 to {len(whole) - 1}; got {start!r}")
        text = whole[start : start + size].encode(errors="replace")[:size].decode(errors="ignore")
        end = start + len(text)
        more = f"\n(It goes on at offset={end}, of {len(whole)}.)" if end < len(whole) else ""
        return text + more

    return Tool(
        name=READ,
        description="The whole of a result that you see in summary. A long one comes in parts.",
        parameters={
            "type": "object",
            "properties": {
                "id": {"type": "string", "enum": list(full)},
                "offset": {"type": "integer", "description": "the character to begin at"},
            },
            "required": ["id"],
            "additionalProperties": False,
        },
        run=read,
        effect="read",
    )
