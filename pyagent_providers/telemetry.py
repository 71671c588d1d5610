"""What is seen of a call to a model: the `chat` span and the client metrics.

Only `opentelemetry-api` is used. With no SDK configured every instrument is a no-op; nothing
here ever sets a global provider. An application or a test that wants other providers than the
global ones opens `using(Telemetry(tracer_provider=..., meter_provider=...))`.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, MeterProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.util.types import AttributeValue

from . import content, semconv
from .types import Completion, Request, Sampling, Usage

Attributes = dict[str, AttributeValue]

_MESSAGE_LIMIT: Final = 500


def _version() -> str:
    try:
        return version("pyagent-sdk")
    except PackageNotFoundError:  # run from a bare checkout
        return "0"


class Telemetry:
    """A tracer and every instrument this SDK records on.

    Without arguments it follows the global providers, also when they are set later.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self.tracer = trace.get_tracer(semconv.SCOPE, _version(), tracer_provider)
        meter = metrics.get_meter(semconv.SCOPE, _version(), meter_provider)

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


def error_type(error: BaseException) -> str:
    """The `error.type` of an exception: its name, qualified unless built in or this SDK's."""
    kind = type(error)
    if kind.__module__ == "builtins" or kind.__module__.startswith("pyagent_"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def mark_failed(span: Span, error: BaseException, *, record: bool) -> None:
    """Set the span's status from an error; `record` adds the exception event.

    An exception is recorded once, on the innermost span. Its stack trace is left out: the text
    of a cause is the provider SDK's own and may hold what must not leave the process.
    """
    kind = error_type(error)
    span.set_attribute(semconv.ERROR_TYPE, kind)
    message = str(error)[:_MESSAGE_LIMIT]
    span.set_status(Status(StatusCode.ERROR, message or kind))
    if record:
        span.add_event("exception", {"exception.type": kind, "exception.message": message})


class ModelIdentity:
    """What is the same for every call of one adapter object, computed once."""

    __slots__ = ("_at_start", "_metric", "_span_name", "_static")

    def __init__(
        self, provider: str, model: str, address: str | None = None, port: int | None = None
    ) -> None:
        self._span_name = f"chat {model}"
        self._static: Attributes = {
            semconv.OPERATION_NAME: "chat",
            semconv.PROVIDER_NAME: provider,
            semconv.REQUEST_MODEL: model,
        }
        if address:
            self._static[semconv.SERVER_ADDRESS] = address
        if port:
            self._static[semconv.SERVER_PORT] = port
        self._at_start: dict[tuple[Sampling, bool, bool], Attributes] = {}
        self._metric: dict[tuple[str | None, str | None], Attributes] = {}

    @property
    def span_name(self) -> str:
        return self._span_name

    def at_start(self, request: Request, *, stream: bool) -> Attributes:
        """The attributes a sampler may want to see."""
        key = (request.sampling, stream, request.schema is not None)
        known = self._at_start.get(key)
        if known is None:
            if len(self._at_start) > 128:
                self._at_start.clear()
            known = self._at_start[key] = self._static | _request_attributes(*key)
        return known

    def for_metrics(self, response_model: str | None, error: str | None) -> Attributes:
        key = (response_model, error)
        known = self._metric.get(key)
        if known is None:
            if len(self._metric) > 128:
                self._metric.clear()
            known = {
                name: self._static[name]
                for name in (semconv.OPERATION_NAME, semconv.PROVIDER_NAME, semconv.REQUEST_MODEL)
            }
            if response_model:
                known[semconv.RESPONSE_MODEL] = response_model
            if error:
                known[semconv.ERROR_TYPE] = error
            self._metric[key] = known
        return known


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
    dropped, from any task.
    """

    __slots__ = ("_first_chunk", "_identity", "_request", "_started", "_telemetry", "context",
                 "span")  # fmt: skip

    def __init__(self, identity: ModelIdentity, request: Request, *, stream: bool = False) -> None:
        self._identity = identity
        self._telemetry = current()
        self._request = request
        self._first_chunk: float | None = None
        self._started = time.perf_counter()
        self.span = self._telemetry.tracer.start_span(
            identity.span_name,
            kind=SpanKind.CLIENT,
            attributes=identity.at_start(request, stream=stream),
        )
        self.context: Context = trace.set_span_in_context(self.span)

    @contextmanager
    def active(self) -> Generator[None]:
        token = otel_context.attach(self.context)
        try:
            yield
        finally:
            otel_context.detach(token)

    def first_chunk(self) -> None:
        if self._first_chunk is None:
            self._first_chunk = time.perf_counter() - self._started

    def succeeded(self, completion: Completion) -> None:
        self._record(completion, None)
        self.span.end()

    def failed(self, error: BaseException, completion: Completion | None) -> None:
        if self.span.is_recording():
            mark_failed(self.span, error, record=True)
        self._record(completion, error_type(error))
        self.span.end()

    def _record(self, completion: Completion | None, error: str | None) -> None:
        seconds = time.perf_counter() - self._started
        span, telemetry = self.span, self._telemetry
        if span.is_recording():
            if completion is not None:
                span.set_attributes(_response_attributes(completion))
            if self._first_chunk is not None:
                span.set_attribute(semconv.RESPONSE_TIME_TO_FIRST_CHUNK, self._first_chunk)
            content.capture(span, self._request, completion)
        model = completion.model if completion is not None else None
        attributes = self._identity.for_metrics(model, error)
        # The context carries the span, so that exemplars point at it.
        telemetry.operation_duration.record(seconds, attributes, self.context)
        if self._first_chunk is not None:
            telemetry.time_to_first_chunk.record(self._first_chunk, attributes, self.context)
        if completion is not None and completion.usage is not None:
            self._record_tokens(completion.usage, attributes)

    def _record_tokens(self, usage: Usage, attributes: Mapping[str, AttributeValue]) -> None:
        record = self._telemetry.token_usage.record
        record(usage.input_tokens, {**attributes, semconv.TOKEN_TYPE: "input"}, self.context)
        record(usage.output_tokens, {**attributes, semconv.TOKEN_TYPE: "output"}, self.context)


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
