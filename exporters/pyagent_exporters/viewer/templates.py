"""The viewer's templates: everything is escaped, nothing hides itself; figures in words."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Final, Literal, cast
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pyagent_providers.hostile import shown

from .visible import visible

STATIC_TYPES: Final[Mapping[str, str]] = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

_PACKAGE: Final = "pyagent_exporters.viewer"
_ID_LENGTH: Final = 8  # of 32 random digits; what a user chose is shown whole


def render(template: str, **values: object) -> str:
    """A page of `pages/`. Raises jinja2.UndefinedError for a value that it lacks."""
    return environment().get_template(template).render(values)


@cache
def environment() -> Environment:
    """What every page is made with; its filters are the functions below."""
    jinja = Environment(
        loader=PackageLoader(_PACKAGE, "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cast(dict[str, object], jinja.filters).update(
        dollars=dollars,
        counted=counted,
        duration=duration,
        clock=clock,
        day_and_time=day_and_time,
        iso=iso,
        utc=utc,
        short=short,
        label=label,
        visible=visible,
    )
    cast(dict[str, object], jinja.globals).update(run_url=run_url, static_url=static_url)
    return jinja


def dollars(usd: Decimal | None) -> str:
    """An amount in US dollars; small ones with more digits, None as "unpriced"."""
    if usd is None:
        return "unpriced"
    if usd < 0:
        return f"−{dollars(-usd)}"
    if 0 < usd < Decimal("0.0000005"):
        return "<$0.000001"
    if usd >= 100 or not usd:
        return f"${usd:,.2f}"
    return f"${usd:.4f}" if usd >= Decimal("0.01") else f"${usd:.6f}"


def counted(number: int) -> str:
    """A number of things, with thousands apart."""
    return f"{number:,}"


def duration(seconds: float | None) -> str:
    """A length of time in the units that people say it in; None, which goes on, as "–"."""
    if seconds is None:
        return "–"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds >= 9.995 else f"{seconds:.2f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def clock(nanoseconds: int | None) -> str:
    """A moment on the clock of the machine that the viewer runs on; None as "–"."""
    if nanoseconds is None:
        return "–"
    return _moment(nanoseconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def day_and_time(nanoseconds: int) -> str:
    """The same, shorter: the year only where it is another than this one."""
    then = _moment(nanoseconds).astimezone()
    year = "" if then.year == datetime.now(UTC).astimezone().year else f" {then.year}"
    return f"{then.day} {then:%b}{year} {then:%H:%M:%S}"


def iso(nanoseconds: int) -> str:
    """A moment for machines: ISO 8601, in UTC."""
    return _moment(nanoseconds).isoformat(timespec="seconds")


def utc(nanoseconds: int, unit: Literal["hour", "day"]) -> str:
    """The beginning of an hour or a day in UTC."""
    return _moment(nanoseconds).strftime("%Y-%m-%d" if unit == "day" else "%Y-%m-%d %H:%M")


def short(run_id: str) -> str:
    """An id to recognise: random ones are cut, what a user chose is whole."""
    is_random = len(run_id) == 32 and all(digit in "0123456789abcdef" for digit in run_id)
    return run_id[:_ID_LENGTH] if is_random else run_id


def label(key: str) -> str:
    """What a row is about; one without a name says so."""
    return key or "(none)"


def run_url(run_id: str) -> str:
    """The page of a run."""
    return f"/runs/{quote(run_id, safe='')}"


def address(path: str, params: Mapping[str, str]) -> str:
    """A path with those parameters that say something."""
    said = {name: value for name, value in params.items() if value}
    return f"{path}?{urlencode(said)}" if said else path


def static_url(name: str) -> str:
    """Where a browser finds a file of `static/`, which it may keep until its content changes."""
    return f"/static/{name}?v={hashlib.sha256(static_file(name)).hexdigest()[:12]}"


@cache
def static_file(name: str) -> bytes:
    """A file of `static/`. Raises KeyError for one that is not there."""
    if name not in _static_names():
        raise KeyError(name)
    return (files(_PACKAGE) / "static" / name).read_bytes()


@cache
def _static_names() -> frozenset[str]:
    found = (entry.name for entry in (files(_PACKAGE) / "static").iterdir())
    return frozenset(name for name in found if name.rpartition(".")[2] in STATIC_TYPES)


def _moment(nanoseconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(nanoseconds / 1e9, UTC)
    except (OverflowError, ValueError, OSError):  # a sender's clock may say anything
        return datetime.fromtimestamp(0, UTC)


def _harmless(value: object) -> object:
    """Every text on its way into a page without the characters that hide or turn it around.

    `visible`, which a page uses for longer texts, names them instead; in an attribute of an
    element there is no place for its markup.
    """
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value
