"""What is seen of a call to a model: the `chat` span and the client metrics.

Only `opentelemetry-api` is used. With no SDK configured every instrument is a no-op; nothing
here ever sets a global provider. An application or a test that wants other providers than the
global ones opens `using(Telemetry(tracer_provider=..., meter_provider=...))`.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, MeterProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.util.types import AttributeValue

from . import content, semconv
from .instrumentation import reported_here
from .redaction import redacted, redacted_attributes
from .types import Completion, Request, Sampling
from .version import __version__

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

Attributes = dict[str, AttributeValue]

_MESSAGE_LIMIT: Final = 500


class Telemetry:
    """A tracer and every instrument this SDK records on.

    Without arguments it follows the global providers, also when they are set later. The logger
    provider gets content that is asked for as events (see `content`), and nothing else.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
    ) -> None:
        self.logger_provider = logger_provider
        self.tracer = trace.get_tracer(semconv.SCOPE, __version__, tracer_provider)
        meter = metrics.get_meter(semconv.SCOPE, __version__, meter_provider)

        def seconds(name: str, description: str, buckets: tuple[float, ...]) -> Histogram:
            return meter.create_histogram(
                name, "s", description, explicit_bucket_boundaries_advisory=buckets
            )

        self.operation_duration = seconds(
            semconv.OPERATION_DURATION,
            "Duration of one call to a model.",
            semconv.CLIENT_DURATION_BUCKETS,
        )
        self.time_to_first_chunk = seconds(
            semconv.TIME_TO_FIRST_CHUNK,
            "Time until the first piece of a streamed answer.",
            semconv.CLIENT_DURATION_BUCKETS,
        )
        self.agent_duration = seconds(
            semconv.INVOKE_AGENT_DURATION,
            "Duration of one question to an agent, retries included.",
            semconv.AGENT_DURATION_BUCKETS,
        )
        self.tool_duration = seconds(
            semconv.EXECUTE_TOOL_DURATION,
            "Duration of one call of a tool.",
            semconv.AGENT_DURATION_BUCKETS,
        )
        self.workflow_duration = seconds(
            semconv.INVOKE_WORKFLOW_DURATION,
            "Duration of one run of a pattern.",
            semconv.WORKFLOW_DURATION_BUCKETS,
        )
        self.token_usage = meter.create_histogram(
            semconv.TOKEN_USAGE,
            "{token}",
            "Tokens of one call to a model.",
            explicit_bucket_boundaries_advisory=semconv.TOKEN_BUCKETS,
        )
        # The braces make Prometheus name it pyagent_cost_usd_total.
        self.cost = meter.create_counter(
            semconv.COST_COUNTER, "{USD}", "Cost of calls to models, in US dollars."
        )
        self.unpriced = meter.create_counter(
            semconv.UNPRICED, "{call}", "Calls to models whose price is not known."
        )
        self.retries = meter.create_counter(
            semconv.RETRIES, "{retry}", "Attempts after the first at the same question."
        )
        self.cache_savings = meter.create_counter(
            semconv.CACHE_SAVINGS,
            "{USD}",
            "What tokens read from prompt caches would have cost more, in US dollars.",
        )
        self.budget_rejections = meter.create_counter(
            semconv.BUDGET_REJECTIONS, "{call}", "Calls not made for want of budget."
        )
        self.budget_used = meter.create_histogram(
            semconv.BUDGET_USED,
            "1",
            "Share of its budget in US dollars that a run had used when it ended.",
            explicit_bucket_boundaries_advisory=semconv.BUDGET_USED_BUCKETS,
        )
        self.runs = meter.create_counter(semconv.RUNS, "{run}", "Runs that ended, by status.")
        self.runs_active = meter.create_up_down_counter(
            semconv.RUNS_ACTIVE, "{run}", "Runs under way."
        )
        self.breaker_opened = meter.create_counter(
            semconv.BREAKER_OPENED, "{opening}", "Times that a model was taken to be down."
        )
        self.breaker_open = meter.create_up_down_counter(
            semconv.BREAKER_OPEN, "{breaker}", "Models that are taken to be down."
        )


_global = Telemetry()
_current: ContextVar[Telemetry] = ContextVar("pyagent_telemetry", default=_global)


def current() -> Telemetry:
    """The telemetry in force here: the one `using` opened, else the global providers'."""
    return _current.get()


@contextmanager
def using(telemetry: Telemetry) -> Generator[Telemetry]:
    """Record on `telemetry` within this block and the tasks started in it."""
    token = _current.set(telemetry)
    try:
        yield telemetry
    finally:
        _current.reset(token)


_tenants: frozenset[str] = frozenset()


def allow_tenants(tenants: Iterable[str]) -> None:
    """Have metrics tell these tenants apart, process-wide; any other is "other" there.

    By default, and with none, no metric names a tenant: each adds a series to every cost metric.
    """
    global _tenants
    _tenants = frozenset(tenants)


def tenant_label(tenant: str | None) -> str | None:
    """What metrics call a tenant; None if they do not tell."""
    if tenant is None or not _tenants:
        return None
    return tenant if tenant in _tenants else semconv.OTHER


def error_type(error: BaseException) -> str:
    """The `error.type` of an exception: its name, qualified unless built in or this SDK's."""
    kind = type(error)
    if kind.__module__ == "builtins" or kind.__module__.startswith("pyagent_"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def mark_failed(span: Span, error: BaseException, *, record: bool) -> None:
    """Set the span's status from an error; `record` adds the exception event.

    An exception is recorded once, on the innermost span, by the first line of its message, without
    secrets: what a model said, such as an invalid plan, comes below that. Its stack trace is left
    out: the text of a cause is the provider SDK's own and may hold what must not leave the process.
    """
    kind = error_type(error)
    span.set_attribute(semconv.ERROR_TYPE, kind)
    message = redacted(str(error)).partition("\n")[0][:_MESSAGE_LIMIT]
    span.set_status(Status(StatusCode.ERROR, message or kind))
    if record:
        span.add_event("exception", {"exception.type": kind, "exception.message": message})


class _MetricLabels(NamedTuple):
    """One call's metric attributes: the call's own, and those of its tokens."""

    call: Attributes
    input_tokens: Attributes
    output_tokens: Attributes


class ModelIdentity:
    """What is the same for every call of one adapter object, computed once."""

    __slots__ = ("_at_start", "_metric", "_static", "span_name")

    def __init__(
        self, provider: str, model: str, address: str | None = None, port: int | None = None
    ) -> None:
        self.span_name = f"chat {redacted(model)}"
        self._static: Attributes = {
            semconv.OPERATION_NAME: "chat",
            semconv.PROVIDER_NAME: provider,
            semconv.REQUEST_MODEL: model,
        }
        if address:
            self._static[semconv.SERVER_ADDRESS] = address
        if address and port:
            self._static[semconv.SERVER_PORT] = port
        self._at_start: dict[tuple[Sampling, bool, bool], Attributes] = {}
        self._metric: dict[tuple[str | None, str | None], _MetricLabels] = {}

    def at_start(self, request: Request, *, stream: bool) -> Attributes:
        """The attributes a sampler may want to see."""
        key = (request.sampling, stream, request.schema is not None)
        known = self._at_start.get(key)
        if known is None:
            if len(self._at_start) >= _CACHE_LIMIT:
                self._at_start.clear()
            its = self._static | _request_attributes(*key)
            known = self._at_start[key] = redacted_attributes(its)
        return known

    def for_metrics(self, response_model: str | None, error: str | None) -> _MetricLabels:
        key = (response_model, error)
        known = self._metric.get(key)
        if known is None:
            if len(self._metric) >= _CACHE_LIMIT:
                self._metric.clear()
            known = self._metric[key] = self._metric_labels(*key)
        return known

    def _metric_labels(self, response_model: str | None, error: str | None) -> _MetricLabels:
        call = {name: self._static[name] for name in _METRIC_STATIC}
        if response_model:
            call[semconv.RESPONSE_MODEL] = response_model
        if error:
            call[semconv.ERROR_TYPE] = error
        call = redacted_attributes(call)
        return _MetricLabels(
            call, call | {semconv.TOKEN_TYPE: "input"}, call | {semconv.TOKEN_TYPE: "output"}
        )


_CACHE_LIMIT: Final = 128  # of sampling parameters, and of models that answered, per adapter
_METRIC_STATIC: Final = (semconv.OPERATION_NAME, semconv.PROVIDER_NAME, semconv.REQUEST_MODEL)


def _request_attributes(sampling: Sampling, stream: bool, structured: bool) -> Attributes:
    given: dict[str, AttributeValue | None] = {
        semconv.REQUEST_MAX_TOKENS: sampling.max_tokens,
        semconv.REQUEST_TEMPERATURE: sampling.temperature,
        semconv.REQUEST_TOP_P: sampling.top_p,
        semconv.REQUEST_STOP: sampling.stop or None,
        semconv.REQUEST_SEED: sampling.seed,
        semconv.REQUEST_STREAM: True if stream else None,
        semconv.OUTPUT_TYPE: "json" if structured else None,
    }
    return {name: value for name, value in given.items() if value is not None}


class Inference:
    """One call to a model, from the request to the settled answer or error.

    The span is current only inside `active()`, so that a streamed answer can be consumed, or
    dropped, from any task. Other instrumentations of the model's SDK are silent there.
    """

    __slots__ = ("_first_chunk", "_identity", "_request", "_started", "_stream", "_telemetry",
                 "context", "span")  # fmt: skip

    def __init__(self, identity: ModelIdentity, request: Request, *, stream: bool = False) -> None:
        self._identity = identity
        self._telemetry = current()
        self._request = request
        self._stream = stream
        self._first_chunk: float | None = None
        self._started = time.perf_counter()
        self.span = self._telemetry.tracer.start_span(
            identity.span_name,
            kind=SpanKind.CLIENT,
            attributes=identity.at_start(request, stream=stream),
        )
        around = otel_context.get_current()
        if self.span is not trace.INVALID_SPAN:  # without an SDK and a parent there is none
            around = trace.set_span_in_context(self.span, around)
        self.context: Context = reported_here(around)

    def active(self) -> _Active:
        """A block in which the span is the current one. May be opened many times, in any task."""
        return _Active(self.context)

    def first_chunk(self) -> None:
        if self._first_chunk is None:
            self._first_chunk = time.perf_counter() - self._started

    def succeeded(self, completion: Completion) -> None:
        self._record(completion, None)
        self.span.end()

    def failed(self, error: BaseException, completion: Completion | None) -> None:
        """End the span with the error. A caller that stops reading a stream is not one."""
        if isinstance(error, GeneratorExit):
            self._record(completion, None)
        else:
            if self.span.is_recording():
                mark_failed(self.span, error, record=True)
            self._record(completion, error)
        self.span.end()

    def _record(self, completion: Completion | None, error: BaseException | None) -> None:
        seconds = time.perf_counter() - self._started
        first_chunk, telemetry = self._first_chunk, self._telemetry
        if self.span.is_recording():
            self._describe(completion, failed=error is not None)
        model = completion.model if completion is not None else None
        labels = self._identity.for_metrics(model, None if error is None else error_type(error))
        # The context carries the span, so that exemplars point at it.
        telemetry.operation_duration.record(seconds, labels.call, self.context)
        if first_chunk is not None:
            telemetry.time_to_first_chunk.record(first_chunk, labels.call, self.context)
        if completion is not None and (usage := completion.usage) is not None:
            record = telemetry.token_usage.record
            record(usage.input_tokens, labels.input_tokens, self.context)
            record(usage.output_tokens, labels.output_tokens, self.context)

    def _describe(self, completion: Completion | None, *, failed: bool) -> None:
        """Write what came back on the span; usage first, for a full span drops the oldest."""
        facts = {} if completion is None else redacted_attributes(_response_attributes(completion))
        if self._first_chunk is not None:
            facts[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = self._first_chunk
        if facts:
            self.span.set_attributes(facts)
        if place := content.wanted():
            self._add_content(place, completion, facts, failed=failed)

    def _add_content(
        self,
        place: content.Place,
        completion: Completion | None,
        facts: Attributes,
        *,
        failed: bool,
    ) -> None:
        said = content.read(self._request, completion, failed=failed)
        if place != "EVENT_ONLY":
            self.span.set_attributes(content.as_json(said))
        if place != "SPAN_ONLY":
            asked = self._identity.at_start(self._request, stream=self._stream)
            content.emit_event(
                {**asked, **facts, **said},
                context=self.context,
                provider=self._telemetry.logger_provider,
            )


class _Active:
    """`contextlib.contextmanager` would cost more than the block does."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token: Token[Context] = otel_context.attach(self._context)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        otel_context.detach(self._token)


def _response_attributes(completion: Completion) -> Attributes:
    attributes: Attributes = {}
    if completion.model:
        attributes[semconv.RESPONSE_MODEL] = completion.model
    if completion.response_id:
        attributes[semconv.RESPONSE_ID] = completion.response_id
    if completion.finish_reason:
        attributes[semconv.RESPONSE_FINISH_REASONS] = (completion.finish_reason,)
    if (usage := completion.usage) is not None:
        attributes[semconv.INPUT_TOKENS] = usage.input_tokens
        attributes[semconv.OUTPUT_TOKENS] = usage.output_tokens
        if usage.cache_read_tokens:
            attributes[semconv.CACHE_READ_TOKENS] = usage.cache_read_tokens
        if usage.cache_write_tokens:
            attributes[semconv.CACHE_WRITE_TOKENS] = usage.cache_write_tokens
        if usage.reasoning_tokens:
            attributes[semconv.REASONING_TOKENS] = usage.reasoning_tokens
    if (cost := completion.cost) is not None:
        dollars = float(cost.usd)
        attributes[semconv.COST_USD] = dollars
        attributes[semconv.USAGE_COST] = dollars
        attributes[semconv.PRICE_SOURCE] = cost.source
        if cost.version:
            attributes[semconv.PRICE_VERSION] = cost.version
    return attributes
