"""A span as the viewer keeps it, and what its attributes say of a run.

Whatever stands in one may come from a model or from a stranger: it is text to be escaped, and a
number only when it is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal

from pyagent_providers import semconv

AttributeValue = (
    str | bool | int | float | tuple[str, ...] | tuple[bool, ...] | tuple[int, ...]
    | tuple[float, ...]
)  # fmt: skip
Attributes = Mapping[str, AttributeValue]
Kind = Literal["internal", "client", "server", "producer", "consumer"]
SpanStatus = Literal["unset", "ok", "error"]
Role = Literal["pattern", "agent", "chat", "tool", "other"]

MOST_DOLLARS: Final = 1_000_000  # of one call; more is not believed
MOST_TOKENS: Final = 10**12  # likewise


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanEvent:
    """Something that happened within a span. `time` is Unix time in nanoseconds."""

    name: str
    time: int
    attributes: Attributes = field(default_factory=dict[str, AttributeValue])


@dataclass(frozen=True, slots=True)
class SpanLink:
    """Another span, perhaps of another trace, that a span has to do with."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span. Ids are lower-case hex; times are Unix time in nanoseconds.

    `end` is None while it goes on. `service` is the resource's `service.name`.
    """

    trace_id: str
    span_id: str
    parent_id: str | None = None
    name: str
    kind: Kind = "internal"
    start: int
    end: int | None
    status: SpanStatus = "unset"
    message: str = ""
    attributes: Attributes = field(default_factory=dict[str, AttributeValue])
    events: tuple[SpanEvent, ...] = ()
    links: tuple[SpanLink, ...] = ()
    service: str | None = None

    # What it is

    @property
    def role(self) -> Role:
        """Whose span it is, also when another SDK than ours wrote it."""
        if self.name.startswith(semconv.PATTERN_SPAN):
            return "pattern"
        if self.name.startswith(semconv.AGENT_SPAN):
            return "agent"
        operation = self.text(semconv.OPERATION_NAME)
        if operation is not None:
            return _ROLES.get(operation, "other")
        kind = self.text(semconv.OPENINFERENCE_KIND)
        if kind is not None and kind in _KINDS:
            return _KINDS[kind]
        is_call = self._first_text(*_MODEL) and self._first_number(*_INPUT_TOKENS) is not None
        return "chat" if is_call else "other"

    @property
    def run_id(self) -> str | None:
        return self.text(semconv.RUN_ID)

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it goes on."""
        return None if self.end is None else (self.end - self.start) / 1e9

    # Who and what for

    @property
    def pattern(self) -> str | None:
        """The kind of pattern, of its own span and of its agents'."""
        return self.text(semconv.PATTERN)

    @property
    def workflow(self) -> str | None:
        """The pattern's name, which is its kind if it was given none."""
        return self.text(semconv.WORKFLOW_NAME)

    @property
    def agent(self) -> str | None:
        return self.text(semconv.AGENT_NAME)

    @property
    def phase(self) -> str | None:
        return self.text(semconv.PHASE)

    @property
    def path(self) -> str | None:
        """The names of the patterns within the run's that it is in, and the agent's."""
        return self.text(semconv.PATH)

    @property
    def task_id(self) -> str | None:
        return self.text(semconv.TASK_ID)

    @property
    def depends_on(self) -> tuple[str, ...]:
        return self.texts(semconv.TASK_DEPENDS_ON)

    @property
    def step(self) -> int | None:
        return _whole(self._number(semconv.STEP))

    @property
    def tool(self) -> str | None:
        return self.text(semconv.TOOL_NAME)

    @property
    def tenant(self) -> str | None:
        return self.text(semconv.TENANT)

    @property
    def user(self) -> str | None:
        return self.text(semconv.USER_ID)

    @property
    def session(self) -> str | None:
        return self._first_text(semconv.CONVERSATION_ID, "session.id")

    # A call to a model

    @property
    def model(self) -> str | None:
        """The model that was asked; the one that answered where that is all that is known."""
        return self._first_text(*_MODEL)

    @property
    def provider(self) -> str | None:
        return self._first_text(semconv.PROVIDER_NAME, "gen_ai.system")

    @property
    def cost(self) -> Decimal | None:
        """US dollars; None if that is not known. On pattern and agent spans it is a roll-up."""
        dollars = self._first_number(semconv.COST_USD, semconv.USAGE_COST)
        if dollars is None or not 0 <= dollars <= MOST_DOLLARS:
            return None
        return Decimal(repr(dollars))

    @property
    def unpriced(self) -> int:
        """On pattern and agent spans: how many calls have no price."""
        return _whole(self._number(semconv.UNPRICED)) or 0

    @property
    def input_tokens(self) -> int | None:
        return _tokens(self._first_number(*_INPUT_TOKENS, semconv.PYAGENT_INPUT_TOKENS))

    @property
    def output_tokens(self) -> int | None:
        return _tokens(self._first_number(*_OUTPUT_TOKENS, semconv.PYAGENT_OUTPUT_TOKENS))

    @property
    def cache_read_tokens(self) -> int | None:
        return _tokens(self._number(semconv.CACHE_READ_TOKENS))

    @property
    def reasoning_tokens(self) -> int | None:
        return _tokens(self._number(semconv.REASONING_TOKENS))

    @property
    def finish_reason(self) -> str | None:
        return next(iter(self.texts(semconv.RESPONSE_FINISH_REASONS)), None)

    # How it went

    @property
    def attempts(self) -> int:
        """On agent spans: how many calls the question took."""
        return _whole(self._number(semconv.ATTEMPTS)) or 1

    @property
    def replayed(self) -> bool:
        """Taken from a record, and paid for before."""
        return self.attributes.get(semconv.REPLAYED) is True

    @property
    def error_type(self) -> str | None:
        return self.text(semconv.ERROR_TYPE)

    @property
    def run_status(self) -> str | None:
        """On pattern spans: what became of the run."""
        return self.text(semconv.STATUS)

    @property
    def plan(self) -> tuple[tuple[str, str], ...]:
        """On pattern spans: the plan's tasks, each with its worker."""
        tasks, workers = self.texts(semconv.PLAN_TASKS), self.texts(semconv.PLAN_WORKERS)
        return tuple(zip(tasks, workers, strict=False))

    # Any attribute

    def text(self, name: str) -> str | None:
        """An attribute that is text, and not empty."""
        value = self.attributes.get(name)
        return value if isinstance(value, str) and value else None

    def texts(self, name: str) -> tuple[str, ...]:
        """An attribute that is a list of texts."""
        value = self.attributes.get(name)
        if isinstance(value, tuple):
            return tuple(item for item in value if isinstance(item, str))
        return ()

    def _number(self, name: str) -> int | float | None:
        value = self.attributes.get(name)
        return value if type(value) is int or type(value) is float else None  # not a bool

    def _first_number(self, *names: str) -> int | float | None:
        for name in names:
            if (number := self._number(name)) is not None:
                return number
        return None

    def _first_text(self, *names: str) -> str | None:
        for name in names:
            if (text := self.text(name)) is not None:
                return text
        return None


_ROLES: Final[Mapping[str, Role]] = {  # by gen_ai.operation.name
    "invoke_workflow": "pattern",
    "plan": "agent",
    "invoke_agent": "agent",
    "chat": "chat",
    "text_completion": "chat",
    "generate_content": "chat",
    "embeddings": "chat",
    "execute_tool": "tool",
}
_KINDS: Final[Mapping[str, Role]] = {  # by openinference.span.kind
    "AGENT": "agent",
    "LLM": "chat",
    "EMBEDDING": "chat",
    "TOOL": "tool",
}
# Earlier revisions of the conventions had other names, and are still written.
_MODEL: Final = (semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL)
_INPUT_TOKENS: Final = (semconv.INPUT_TOKENS, "gen_ai.usage.prompt_tokens")
_OUTPUT_TOKENS: Final = (semconv.OUTPUT_TOKENS, "gen_ai.usage.completion_tokens")


def _whole(number: int | float | None) -> int | None:
    return int(number) if number is not None and 0 <= number <= MOST_TOKENS else None


def _tokens(number: int | float | None) -> int | None:
    return _whole(number)
