"""Secrets, taken out of every text before it leaves the process or is kept: spans, logs, journals.

What is found becomes `[redacted: bearer token]`, or whatever it was. Found are what looks like a
secret beyond doubt, the API keys that adapters of this process hold, and what the application
names with `redact`. It runs on whole texts, before any is cut: half a secret is not recognised.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol, cast
from weakref import WeakKeyDictionary, finalize

from opentelemetry.util.types import AttributeValue

from .looks_secret import RULES, SHORTEST, may_have_one
from .types import JSONValue

__all__ = ["Filter", "Substitutes", "hold", "redact", "redacted", "redacted_attributes",
           "redacted_json"]  # fmt: skip

SHORTEST_KEY: Final = 8  # characters; a placeholder such as "none" is a word, and no secret

_log: Final = logging.getLogger("pyagent.redaction")


class Substitutes(Protocol):
    """A compiled pattern: of `re`, or of another library, such as one that is always linear."""

    def sub(self, repl: str, string: str, /) -> str: ...


def redacted(text: str) -> str:
    """The text without secrets; the text itself where there are none.

    Never raises: where a pattern of the application's does, nothing of the text is left.
    """
    known = _seen.clean
    if text in known:
        return text
    try:
        clean = _marked_apart(text) if _OPENING in text else _cleaned(text)
    except Exception as error:
        _complain_once(error)
        return _FAILED
    if clean is text and len(text) <= _SHORT:
        if len(known) >= _MOST_SEEN:
            known.clear()
        known[text] = None
    return clean


def redact(pattern: str | Substitutes, kind: str = "secret") -> Callable[[], None]:
    """Take out what matches the pattern, too, everywhere in this process; a call takes that back.

    It becomes `[redacted: kind]`; a kind is letters, digits and spaces. Every text goes through
    every pattern, on the event loop: give one whose time does not grow faster than the text, or
    one of `google-re2`, whose never does. Raises ValueError for a pattern that matches the empty
    text, re.error for one that is none.
    """
    compiled = re.compile(pattern) if isinstance(pattern, str) else pattern
    if not re.fullmatch(_KIND, kind):
        raise ValueError(f"a kind is up to 40 letters, digits and spaces; got {kind!r}")
    if compiled.sub("x", ""):
        raise ValueError(f"{pattern!r} matches the empty text, which is everywhere")
    given = _Given(compiled, kind)
    _own.add(given)
    return lambda: _own.remove(given)


def hold(owner: object, *secrets: object) -> None:
    """Take out these very texts, as long as `owner` lives, which has them anyway.

    What is no text, or shorter than eight characters, is passed over.
    """
    found = frozenset(s for s in secrets if isinstance(s, str) and len(s) >= SHORTEST_KEY)
    if found:
        _keys.add(owner, found)


def redacted_attributes(attributes: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
    """Attributes of a span, each text in them without secrets."""
    return {name: _redacted_value(value) for name, value in attributes.items()}


def _redacted_value(value: AttributeValue) -> AttributeValue:
    if isinstance(value, str):
        return redacted(value)
    if value is None or isinstance(value, _FIGURES):
        return value
    clean = tuple(redacted(each) if isinstance(each, str) else each for each in value)
    return cast(AttributeValue, clean)


def redacted_json(value: JSONValue) -> JSONValue:
    """A JSON value, each text in it without secrets, names too; itself where there are none."""
    if isinstance(value, str):
        return redacted(value)
    if value is None or isinstance(value, _FIGURES):
        return value
    same = True  # kept count of on the way: this is done to all that a store is given
    if isinstance(value, _MAPPINGS):
        clean: dict[str, JSONValue] = {}
        for name, each in value.items():
            shown, new = redacted(name), redacted_json(each)
            clean[shown] = new
            same = same and new is each and shown is name
        return value if same else clean
    if not isinstance(value, _SEQUENCES):  # pyright: ignore[reportUnnecessaryIsInstance]
        # No JSON: it is for whoever writes it down to say so.
        return value
    items: list[JSONValue] = []
    for each in value:
        new = redacted_json(each)
        items.append(new)
        same = same and new is each
    return value if same else items


_FIGURES: Final = (int, float)
# A dict is a Mapping and a list a Sequence, but to ask that takes ten times as long.
_MAPPINGS: Final = (dict, Mapping)
_SEQUENCES: Final = (list, tuple, Sequence)


class Filter(logging.Filter):
    """Takes secrets out of a logger's records: message, attributes and traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # told by `logging` itself, when it is written
            return True
        clean = redacted(message)
        if clean != message:
            record.msg, record.args = clean, None
        for name, value in vars(record).items():
            if isinstance(value, str) and name not in _OF_EVERY_RECORD:
                setattr(record, name, redacted(value))
        if record.exc_info:
            told = _formatter.formatException(record.exc_info)
            record.exc_text = redacted(told)
            if record.exc_text != told:  # not all formatters look at the text first
                record.exc_info = None
        return True


# What there is in every record, besides the message; nobody else's text is in it.
_OF_EVERY_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"taskName"}
_formatter: Final = logging.Formatter()

_KIND: Final = r"[A-Za-z0-9](?:[A-Za-z0-9 ]{0,38}[A-Za-z0-9])?"
_OPENING: Final = "[redacted: "
_FAILED: Final = "[redacted: all of it, for a pattern failed]"


_SHORT: Final = 100  # characters: names and ids, which come again and again
_MOST_SEEN: Final = 20_000


class _Seen:
    """Short texts that were looked at and have no secrets. No other is remembered."""

    def __init__(self) -> None:
        self.clean: dict[str, None] = {}

    def look_again(self) -> None:
        """There is more to look for. Whoever is just looking writes in the old one."""
        self.clean = {}


_seen: Final = _Seen()


def _marker(kind: str) -> str:
    return f"{_OPENING}{kind}]"


def _marked_apart(text: str) -> str:
    """Also where something was redacted before: that is not looked at again, only what is between.

    Nothing else that begins like a marker is one: a model can write what it likes.
    """
    parts = _markers(_own.kinds).split(text)
    clean = "".join(part if n % 2 else _cleaned(part) for n, part in enumerate(parts))
    return text if clean == text else clean


def _cleaned(text: str) -> str:
    for key in _keys.all():
        if key in text:
            text = text.replace(key, _marker(_KEY))
    if len(text) >= SHORTEST and may_have_one(text):
        for rule in RULES:
            if any(literal in text for literal in rule.literals):
                text = rule.pattern.sub(_REPLACED[rule.kind], text)
    for given in _own.given:
        text = given.pattern.sub(_marker(given.kind), text)
    return text


_KEY: Final = "API key"
_REPLACED: Final = {rule.kind: rf"\g<before>{_marker(rule.kind)}" for rule in RULES}


@dataclass(frozen=True, eq=False)
class _Given:
    """A pattern of the application's."""

    pattern: Substitutes
    kind: str


class _Own:
    """The application's patterns, and the kinds of all that there may be markers of."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.given: tuple[_Given, ...] = ()
        self.kinds = frozenset({_KEY, *(rule.kind for rule in RULES)})

    def add(self, given: _Given) -> None:
        with self._lock:
            self.given = (*self.given, given)
            self.kinds |= {given.kind}
        _seen.look_again()

    def remove(self, given: _Given) -> None:
        with self._lock:
            self.given = tuple(other for other in self.given if other is not given)


@lru_cache(maxsize=1)
def _markers(kinds: frozenset[str]) -> re.Pattern[str]:
    every = sorted({_FAILED, *map(_marker, kinds)})
    return re.compile(f"({'|'.join(map(re.escape, every))})")


class _Keys:
    """The texts that are held, each as long as somebody who holds it lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_owner: WeakKeyDictionary[object, frozenset[str]] = WeakKeyDictionary()
        self._all: tuple[str, ...] | None = ()

    def add(self, owner: object, secrets: frozenset[str]) -> None:
        with self._lock:
            before = self._by_owner.get(owner)
            if before is not None and secrets <= before:
                return
            self._by_owner[owner] = _as_written(secrets) | (before or frozenset())
            self._all = None
            if before is None:
                finalize(owner, self._forget).atexit = False
        _seen.look_again()

    def all(self) -> tuple[str, ...]:
        """All of them, the longest first, for one may begin as another does."""
        known = self._all
        if known is None:
            with self._lock:
                every = frozenset[str]().union(*self._by_owner.values())
                known = self._all = tuple(sorted(every, key=len, reverse=True))
        return known

    def _forget(self) -> None:
        """An owner is gone. It may be so at any moment, within `add` too: nothing is locked."""
        self._all = None


def _as_written(secrets: Iterable[str]) -> frozenset[str]:
    """Secrets as they are, and as they stand in JSON."""
    return frozenset(form for s in secrets for form in (s, json.dumps(s)[1:-1]))


_keys: Final = _Keys()
_own: Final = _Own()


def _complain_once(error: Exception) -> None:
    global _complained
    if not _complained:
        _complained = True
        _log.error(
            "a pattern given to redact() raised %s; texts that it should have looked at are "
            "replaced as a whole",
            type(error).__name__,
        )


_complained = False
