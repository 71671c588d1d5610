"""What an address of the viewer asks for: which runs, in which order; and addresses that ask so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, cast, get_args

from .runs import STATUSES, Bucket, Dimension, RunQuery, RunStatus, Sort
from .templates import address

PAGE_SIZE: Final = 50  # runs
TIMES: Final[Mapping[str, str]] = {
    "15m": "Last 15 minutes",
    "1h": "Last hour",
    "24h": "Last 24 hours",
    "7d": "Last 7 days",
    "30d": "Last 30 days",
}
DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)
BUCKETS: Final[tuple[Bucket, ...]] = get_args(Bucket)

_SORTS: Final[tuple[Sort, ...]] = get_args(Sort)
_LENGTHS: Final = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
_LAST_PAGE: Final = 1_000_000
_FILTERS: Final = ("q", "status", "pattern", "model", "tenant", "time", "since", "until")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The parameters of a page that shows runs, or what they cost.

    `time` is one of TIMES, or "" for any; `since` and `until` are ISO 8601, or "". `by` and
    `bucket` are of the costs only; `page` counts from 1.
    """

    text: str = ""
    status: RunStatus | None = None
    pattern: str | None = None
    model: str | None = None
    tenant: str | None = None
    time: str = ""
    since: str = ""
    until: str = ""
    sort: Sort = "start"
    descending: bool = True
    page: int = 1
    by: Dimension = "agent"
    bucket: Bucket | None = None

    @classmethod
    def of(cls, params: Mapping[str, str]) -> Asked:
        """Raises ValueError, for the reader, where a parameter makes no sense."""
        said = {name: value.strip() for name, value in params.items()}

        def one_of(name: str, values: tuple[str, ...]) -> str | None:
            value = said.get(name) or None
            if value is not None and value not in values:
                raise ValueError(f"{name} is one of {', '.join(values)}, not {value!r}")
            return value

        for name in ("since", "until"):
            _nanoseconds(name, said.get(name, ""))
        return cls(
            text=said.get("q", ""),
            status=cast("RunStatus | None", one_of("status", STATUSES)),
            pattern=said.get("pattern") or None,
            model=said.get("model") or None,
            tenant=said.get("tenant") or None,
            time=one_of("time", tuple(TIMES)) or "",
            since=said.get("since", ""),
            until=said.get("until", ""),
            sort=cast(Sort, one_of("sort", _SORTS) or "start"),
            descending=one_of("order", ("asc", "desc")) != "asc",
            page=_page(said.get("page") or "1"),
            by=cast(Dimension, one_of("by", DIMENSIONS) or "agent"),
            bucket=cast("Bucket | None", one_of("bucket", BUCKETS)),
        )

    def query(self, now: datetime) -> RunQuery:
        """The same, as a question to the store."""
        since = _nanoseconds("since", self.since)
        if self.time:
            recent = _unix_nanoseconds(now - _LENGTHS[self.time])
            since = recent if since is None else max(since, recent)
        return RunQuery(
            text=self.text,
            status=self.status,
            pattern=self.pattern,
            model=self.model,
            tenant=self.tenant,
            since=since,
            until=_nanoseconds("until", self.until),
            sort=self.sort,
            descending=self.descending,
            limit=PAGE_SIZE,
            offset=(self.page - 1) * PAGE_SIZE,
        )

    # What templates ask

    @property
    def times(self) -> Mapping[str, str]:
        return TIMES

    @property
    def is_limited(self) -> bool:
        """Whether some runs are left out."""
        return any(self._params()[name] for name in _FILTERS)

    @property
    def span_words(self) -> str:
        """The time that `since` and `until` bound, as people say it."""
        since = f"from {self.since}" if self.since else ""
        until = f"until {self.until}" if self.until else ""
        return " ".join(filter(None, (since, until))).capitalize()

    def at(self, path: str, **changes: str) -> str:
        """The address of a page that asks for the same but for some parameters."""
        return address(path, {**self._params(), **changes})

    def cleared(self, path: str) -> str:
        """The address of a page that asks for all runs, otherwise alike."""
        return self.at(path, **dict.fromkeys((*_FILTERS, "page"), ""))

    def sorted_by(self, path: str, sort: Sort) -> str:
        """The address where that comes first; of what is the order already, its reverse."""
        order = "asc" if self.sort == sort and self.descending else ""
        return self.at(path, sort=sort, order=order, page="")

    def _params(self) -> dict[str, str]:
        default = Asked()
        return {
            "q": self.text,
            "status": self.status or "",
            "pattern": self.pattern or "",
            "model": self.model or "",
            "tenant": self.tenant or "",
            "time": self.time,
            "since": self.since,
            "until": self.until,
            "sort": "" if self.sort == default.sort else self.sort,
            "order": "" if self.descending else "asc",
            "page": "" if self.page == 1 else str(self.page),
            "by": "" if self.by == default.by else self.by,
            "bucket": self.bucket or "",
        }


def _page(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:8]) <= _LAST_PAGE):
        raise ValueError(f"page is a number from 1 on, not {text!r}")
    return int(text)


def _nanoseconds(name: str, text: str) -> int | None:
    """A moment in ISO 8601, which is UTC if it does not say."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return _unix_nanoseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise ValueError(f"{name} is a time such as 2026-05-01T12:00, not {text!r}") from None


def _unix_nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000
