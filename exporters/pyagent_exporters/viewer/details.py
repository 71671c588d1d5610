"""One span in words: what was asked of whom, what came back, what went wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from markupsafe import Markup

from pyagent_providers import semconv

from .spans import AttributeValue, Span, SpanEvent
from .templates import counted, dollars, duration
from .visible import visible

CONTENT: Final[Mapping[str, str]] = {
    semconv.SYSTEM_INSTRUCTIONS: "System prompt",
    semconv.INPUT_MESSAGES: "Prompt",
    semconv.OUTPUT_MESSAGES: "Answer",
    semconv.TOOL_ARGUMENTS: "Arguments",
    semconv.TOOL_RESULT: "Result",
}

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a message: `title` says what it is if it is not plain text."""

    title: str
    text: Markup


@dataclass(frozen=True, slots=True)
class Turn:
    """One message, by whom and with what in it."""

    role: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Content:
    """Something that was said, and was captured: `title` is what it is, in a word or two."""

    title: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Happening:
    """An event within a span, `seconds` after its beginning."""

    name: str
    seconds: float
    facts: Facts


@dataclass(frozen=True, slots=True)
class Details:
    """All of one span. `problem` is why it failed, in the words of whoever failed it."""

    span: Span
    problem: Markup | None
    facts: Facts
    content: tuple[Content, ...]
    happenings: tuple[Happening, ...]
    rest: Facts


def details(span: Span) -> Details:
    """What there is to tell of a span; what is not told in words is among the `rest`."""
    told: set[str] = set(_IN_WORDS)
    content = tuple(_content(span, told))
    return Details(
        span=span,
        problem=problem(span),
        facts=tuple(_facts(span)),
        content=content,
        happenings=tuple(_happening(span, event) for event in span.events if _is_news(event)),
        rest=tuple((k, _value(v)) for k, v in sorted(span.attributes.items()) if k not in told),
    )


def problem(span: Span) -> Markup | None:
    """Why a span failed: the type of the error and what it says; None if it did not."""
    kind = span.error_type
    if span.status != "error" and kind is None:
        return None
    said = span.message or next(
        (str(e.attributes.get("exception.message", "")) for e in span.events if _is_error(e)), ""
    )
    name = (kind or "error").rpartition(".")[2] or "error"
    return visible(f"{name}: {said}" if said and said != kind else name)


# Facts

_IN_WORDS: Final = (
    *(semconv.OPERATION_NAME, semconv.PROVIDER_NAME, semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL),
    *(semconv.INPUT_TOKENS, semconv.OUTPUT_TOKENS, semconv.CACHE_READ_TOKENS),
    *(semconv.CACHE_WRITE_TOKENS, semconv.REASONING_TOKENS, semconv.COST_USD, semconv.USAGE_COST),
    *(semconv.PRICE_SOURCE, semconv.PRICE_VERSION, semconv.RESPONSE_TIME_TO_FIRST_CHUNK),
    *(semconv.RESPONSE_FINISH_REASONS, semconv.ERROR_TYPE, semconv.AGENT_NAME, semconv.PHASE),
    *(semconv.TASK_ID, semconv.TASK_DEPENDS_ON, semconv.CONTEXT_COMPRESSED, semconv.ATTEMPTS),
    *(semconv.TOOL_NAME, semconv.TOOL_DESCRIPTION, semconv.SERVER_ADDRESS, semconv.SERVER_PORT),
    *(semconv.REQUEST_MAX_TOKENS, semconv.REQUEST_TEMPERATURE, semconv.REQUEST_TOP_P),
    *(semconv.REQUEST_SEED, semconv.REQUEST_STOP, semconv.REQUEST_STREAM, semconv.OUTPUT_TYPE),
)


def _facts(span: Span) -> Iterator[tuple[str, str]]:
    known = _known(span)
    return ((name, value) for name, value in known if value)


def _known(span: Span) -> Iterator[tuple[str, str | None]]:
    given = span.attributes
    yield "model", _model(span)
    yield "provider", _at(span.provider, span.text(semconv.SERVER_ADDRESS), given)
    if span.role in ("chat", "agent"):
        yield "tokens in", _tokens_in(span)
        yield "tokens out", _tokens_out(span)
    if span.role == "chat" and span.end is not None:
        yield "cost", dollars(span.cost) if span.cost is not None else "no price is known"
        yield "price from", _joined(semconv.PRICE_SOURCE, semconv.PRICE_VERSION, span)
    first = given.get(semconv.RESPONSE_TIME_TO_FIRST_CHUNK)
    yield "first chunk", f"after {duration(first)}" if isinstance(first, float) else None
    yield "ended because", ", ".join(span.texts(semconv.RESPONSE_FINISH_REASONS))
    yield "asked for", ", ".join(_asked(given))
    yield "phase", span.phase
    yield "assignment", span.task_id
    yield "after", ", ".join(span.depends_on)
    yield "attempts", str(span.attempts) if span.attempts > 1 else None
    yield "shown in summary", ", ".join(span.texts(semconv.CONTEXT_COMPRESSED))
    yield "description", span.text(semconv.TOOL_DESCRIPTION)


def _model(span: Span) -> str | None:
    asked, answered = span.model, span.text(semconv.RESPONSE_MODEL)
    return f"{asked}, answered by {answered}" if answered and answered != asked else asked


def _at(provider: str | None, address: str | None, given: Mapping[str, AttributeValue]) -> str:
    port = given.get(semconv.SERVER_PORT)
    where = f"{address}:{port}" if address and port is not None else address
    return ", ".join(said for said in (provider, where) if said)


def _tokens_in(span: Span) -> str | None:
    if span.input_tokens is None:
        return None
    parts = (("cached", span.cache_read_tokens), ("written to the cache", _written(span)))
    return _tokens(span.input_tokens, parts)


def _tokens_out(span: Span) -> str | None:
    if span.output_tokens is None:
        return None
    return _tokens(span.output_tokens, (("reasoning", span.reasoning_tokens),))


def _tokens(number: int, parts: Iterable[tuple[str, int | None]]) -> str:
    of_which = ", ".join(f"{counted(part)} {name}" for name, part in parts if part)
    return f"{counted(number)}, of which {of_which}" if of_which else counted(number)


def _written(span: Span) -> int | None:
    number = span.attributes.get(semconv.CACHE_WRITE_TOKENS)
    return number if isinstance(number, int) else None


def _joined(first: str, second: str, span: Span) -> str:
    return " ".join(text for text in (span.text(first), span.text(second)) if text)


_ASKED: Final[Mapping[str, str]] = {
    semconv.REQUEST_MAX_TOKENS: "at most {} tokens",
    semconv.REQUEST_TEMPERATURE: "temperature {}",
    semconv.REQUEST_TOP_P: "top-p {}",
    semconv.REQUEST_SEED: "seed {}",
    semconv.REQUEST_STOP: "stop at {}",
    semconv.OUTPUT_TYPE: "output as {}",
}


def _asked(given: Mapping[str, AttributeValue]) -> Iterator[str]:
    for name, words in _ASKED.items():
        if name in given:
            yield words.format(_value(given[name]))
    if given.get(semconv.REQUEST_STREAM) is True:
        yield "streamed"


def _value(value: AttributeValue) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


# Content


def _content(span: Span, told: set[str]) -> Iterator[Content]:
    for name, title in CONTENT.items():
        text = span.text(name)
        if text is not None:
            told.add(name)
            is_raw = name in (semconv.TOOL_ARGUMENTS, semconv.TOOL_RESULT)
            yield Content(title, _raw(text) if is_raw else _turns(text))


def _turns(text: str) -> tuple[Turn, ...]:
    """The messages in a JSON text; a text that is none as it stands."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    messages = _objects(given)
    if not messages:
        return _raw(text)
    if all("parts" not in message for message in messages):  # a system prompt is parts only
        return (Turn("", tuple(map(_part, messages))),)
    return tuple(
        Turn(_said(message.get("role")), tuple(map(_part, _objects(message.get("parts")))))
        for message in messages
    )


def _raw(text: str) -> tuple[Turn, ...]:
    return (Turn("", (Part("", visible(text)),)),)


def _objects(given: object) -> list[Mapping[str, object]]:
    if not isinstance(given, list):
        return []
    items = cast("list[object]", given)
    return [cast("Mapping[str, object]", item) for item in items if isinstance(item, dict)]


def _part(part: Mapping[str, object]) -> Part:
    kind = _said(part.get("type"))
    if kind == "tool_call":
        return Part(f"calls {_said(part.get('name'))}", visible(_said(part.get("arguments"))))
    if kind == "tool_call_response":
        given = part.get("response", part.get("result"))
        return Part("what the tool gave", visible(_said(given)))
    if "content" in part:
        return Part("" if kind == "text" else kind, visible(_said(part["content"])))
    return Part(kind, visible(_said(part)))


def _said(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


# Events


def _is_news(event: SpanEvent) -> bool:
    """Whether an event is not told elsewhere."""
    return not _is_error(event) and event.name != semconv.PLAN_REJECTED_EVENT


def _is_error(event: SpanEvent) -> bool:
    return event.name == "exception"


def _happening(span: Span, event: SpanEvent) -> Happening:
    facts = tuple((name, _value(value)) for name, value in sorted(event.attributes.items()))
    return Happening(event.name, (event.time - span.start) / 1e9, facts)
