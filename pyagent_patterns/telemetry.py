"""What is seen of a run: the pattern's and the agents' spans, and the cost metrics.

Every figure here is read from the ledger's records, so a span, a metric and the result cannot
disagree. With no SDK configured the spans do not record and nothing is computed for them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from pyagent_providers import content, semconv
from pyagent_providers.redaction import redacted, redacted_attributes
from pyagent_providers.semconv import Phase
from pyagent_providers.telemetry import (
    Attributes,
    current,
    error_type,
    mark_failed,
    tenant_label,
)
from pyagent_providers.types import ToolCall, ToolSpec

from . import ledger
from .agent import Agent
from .attribution import Attribution
from .budget import Spent
from .errors import RunSuspended
from .journal import Suspend
from .ledger import CallRecord
from .plan import Assignment
from .result import Result, ResultStatus


class _ActiveSpan:
    """A span that is the current one within its `with` block."""

    __slots__ = ("_started", "_token", "span", "telemetry")

    def __init__(self, name: str, at_start: Attributes, own: Attributes) -> None:
        """`at_start` are for samplers, too, and have no secrets; `own` are looked through first."""
        self.telemetry = current()
        self.span: Span = self.telemetry.tracer.start_span(
            name, kind=SpanKind.INTERNAL, attributes=at_start
        )
        if self.span.is_recording():
            self.span.set_attributes(redacted_attributes(own))

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        # Without an SDK and a parent there is nothing to make current.
        self._token = (
            None
            if self.span is trace.INVALID_SPAN
            else otel_context.attach(trace.set_span_in_context(self.span))
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended(time.perf_counter() - self._started, error)
        if self._token is not None:
            otel_context.detach(self._token)
        if error is not None and not isinstance(error, Suspend) and self.span.is_recording():
            mark_failed(self.span, error, record=False)  # recorded on the call's own span
        self.span.end()

    def _ended(self, seconds: float, error: BaseException | None) -> None:
        raise NotImplementedError


class PatternSpan(_ActiveSpan):
    """Around a whole run, or a pattern within one, with the totals at its end."""

    __slots__ = ("_name", "_status")

    def __init__(
        self, pattern: str, run_id: str, *, name: str | None = None, task_id: str | None = None
    ) -> None:
        self._name = name or pattern
        self._status: ResultStatus | None = None
        at_start: Attributes = {
            semconv.OPERATION_NAME: "invoke_workflow",
            semconv.WORKFLOW_NAME: redacted(self._name),
            semconv.PATTERN: pattern,
            semconv.OPENINFERENCE_KIND: "CHAIN",
        }
        own: Attributes = {semconv.RUN_ID: run_id}
        if task_id is not None:
            own[semconv.TASK_ID] = task_id
        super().__init__(semconv.PATTERN_SPAN + pattern, at_start, own)

    @property
    def trace_id(self) -> str | None:
        context = self.span.get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else None

    @property
    def traceparent(self) -> str | None:
        """The span's context in W3C form, to link to it from another process."""
        context = self.span.get_span_context()
        if not context.is_valid:
            return None
        trace_id, span_id = trace.format_trace_id(context.trace_id), context.span_id
        return f"00-{trace_id}-{trace.format_span_id(span_id)}-{context.trace_flags:02x}"

    def goes_on_from(self, traceparent: str) -> None:
        """Link to the run's first execution, in a trace of its own."""
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {"traceparent": traceparent}
        first = trace.get_current_span(TraceContextTextMapPropagator().extract(carrier, Context()))
        if self.span.is_recording() and first.get_span_context().is_valid:
            self.span.add_link(first.get_span_context())

    def planned(self, assignments: Sequence[Assignment]) -> None:
        if self.span.is_recording():
            plan: Attributes = {
                semconv.PLAN_TASKS: [a.id for a in assignments],
                semconv.PLAN_WORKERS: [a.worker for a in assignments],
                semconv.PLAN_DEPENDS_ON: [", ".join(a.depends_on) for a in assignments],
            }
            self.span.set_attributes(redacted_attributes(plan))

    def plan_rejected(self, faults: Sequence[str]) -> None:
        if self.span.is_recording():
            wrong = redacted_attributes({semconv.PLAN_FAULTS: tuple(faults)})
            self.span.add_event(semconv.PLAN_REJECTED_EVENT, wrong)

    def finished(self, result: Result) -> None:
        """Write the run's totals; also those of a run that failed."""
        self._status = result.status
        if not self.span.is_recording():
            return
        self.span.set_attributes(_totals(result.calls))
        used = [redacted(worker) for worker in result.metadata["workers_used"]]
        self.span.set_attribute(semconv.WORKERS_USED, used)

    def _ended(self, seconds: float, error: BaseException | None) -> None:
        attributes: Attributes = {semconv.WORKFLOW_NAME: self._name}
        if error is not None:
            attributes[semconv.ERROR_TYPE] = error_type(error)
        self.telemetry.workflow_duration.record(seconds, attributes)
        self.span.set_attribute(semconv.STATUS, self.ended_as(error))

    def ended_as(self, error: BaseException | None) -> str:
        """The run's status, given what ended it."""
        match error:
            case None:
                return self._status or "completed"
            case Suspend() | RunSuspended():
                return "suspended"
            case asyncio.CancelledError():
                return "cancelled"
            case _:
                return "failed"


class RunSpan(PatternSpan):
    """Around a whole run, which it counts."""

    __slots__ = ("_labels", "_spent", "_tenant")

    def __init__(self, pattern: str, run_id: str, *, name: str) -> None:
        super().__init__(pattern, run_id, name=name)
        self._labels: Attributes = {semconv.PATTERN: pattern, semconv.WORKFLOW_NAME: name}
        self._tenant: str | None = None
        self._spent: Callable[[], Sequence[Spent]] = tuple
        self.telemetry.runs_active.add(1, self._labels)

    def is_for(self, whom: Attribution) -> None:
        """Say whom the run is for."""
        self._tenant = tenant_label(whom.tenant)
        names = (
            (semconv.TENANT, whom.tenant),
            (semconv.USER_ID, whom.user),
            (semconv.CONVERSATION_ID, whom.conversation),
        )
        for attribute, name in names:
            if name is not None:
                self.span.set_attribute(attribute, redacted(name))

    def limited_to(self, spent: Callable[[], Sequence[Spent]]) -> None:
        """Say at its end how far its budgets were used; `spent` tells."""
        self._spent = spent

    def _ended(self, seconds: float, error: BaseException | None) -> None:
        super()._ended(seconds, error)
        telemetry, labels = self.telemetry, self._labels
        telemetry.runs_active.add(-1, labels)
        ended = {**labels, semconv.STATUS: self.ended_as(error)}
        if self._tenant is not None:
            ended[semconv.TENANT] = self._tenant
        telemetry.runs.add(1, ended)
        for spent in self._spent():
            if limit := spent.budget.max_cost_usd:
                telemetry.budget_used.record(float(spent.usd / limit), labels)


class AgentLabels:
    """What is the same whenever one agent is asked in one phase of one pattern for one tenant.

    An agent that is not `known` was made up by a planner, whose names metrics do not tell.
    """

    __slots__ = ("_costs", "at_start", "duration", "of_agent", "span_name")

    def __init__(
        self,
        pattern: str,
        agent: Agent,
        phase: Phase,
        tenant: str | None = None,
        *,
        known: bool = True,
    ) -> None:
        name = agent.name if known else semconv.OTHER
        shown = redacted(agent.name)
        self.span_name = semconv.AGENT_SPAN + shown
        self.at_start: Attributes = {
            semconv.OPERATION_NAME: "plan" if phase == "plan" else "invoke_agent",
            semconv.AGENT_NAME: shown,
            semconv.PHASE: phase,
            semconv.PATTERN: pattern,
        }
        if phase == "plan":  # an operation that Phoenix and Langfuse do not know by themselves
            self.at_start[semconv.OPENINFERENCE_KIND] = "CHAIN"
        self.of_agent: Attributes = {
            semconv.PATTERN: pattern,
            semconv.PHASE: phase,
            semconv.AGENT_NAME: name,
        }
        if (label := tenant_label(tenant)) is not None:
            self.of_agent[semconv.TENANT] = label
        self._costs: dict[tuple[str, str], Attributes] = {}
        self.duration: Attributes = {semconv.AGENT_NAME: name}

    def costs(self, provider: str, model: str) -> Attributes:
        """Of calls to one of the agent's models."""
        known = self._costs.get((provider, model))
        if known is None:
            known = self._costs[provider, model] = {
                **self.of_agent,
                semconv.REQUEST_MODEL: model,
                semconv.PROVIDER_NAME: provider,
            }
        return known


class AgentSpan(_ActiveSpan):
    """One question to one agent, its attempts and replays included."""

    __slots__ = ("_compressed", "_labels", "_replayed", "calls")

    def __init__(
        self,
        labels: AgentLabels,
        *,
        run_id: str,
        step: int,
        path: str,
        task_id: str | None,
        depends_on: Sequence[str],
        replayed: bool,
        compressed: Sequence[str] = (),
    ) -> None:
        self._labels = labels
        self._replayed = replayed
        self.calls: Sequence[CallRecord] = ()  # the attempts, whose totals it shows at its end
        own: Attributes = {
            semconv.RUN_ID: run_id,
            semconv.STEP: step,
            semconv.PATH: path,
        }
        if task_id is not None:
            own[semconv.TASK_ID] = task_id
            if depends_on:
                own[semconv.TASK_DEPENDS_ON] = tuple(depends_on)
        if replayed:
            own[semconv.REPLAYED] = True
        self._compressed = tuple(compressed)
        if compressed:
            own[semconv.CONTEXT_COMPRESSED] = self._compressed
        super().__init__(labels.span_name, labels.at_start, own)

    def replayed(self) -> None:
        """All of a longer exchange was on record."""
        self._replayed = True
        self.span.set_attribute(semconv.REPLAYED, True)

    def compressed(self, names: Sequence[str]) -> None:
        """Of a longer exchange, these results are there in summary from now on, too."""
        if names:
            clean = map(redacted, names)
            self._compressed += tuple(name for name in clean if name not in self._compressed)
            self.span.set_attribute(semconv.CONTEXT_COMPRESSED, self._compressed)

    def failed(self, error: BaseException) -> None:
        """Mark a question whose failure is on record."""
        if self.span.is_recording():
            mark_failed(self.span, error, record=False)

    def _ended(self, seconds: float, error: BaseException | None) -> None:
        if self.span.is_recording():
            totals = _totals(self.calls)
            if len(self.calls) > 1:
                totals[semconv.ATTEMPTS] = len(self.calls)
            self.span.set_attributes(totals)
        if self._replayed:
            return
        attributes = self._labels.duration
        if error is not None:
            attributes = {**attributes, semconv.ERROR_TYPE: error_type(error)}
        self.telemetry.agent_duration.record(seconds, attributes)


class ToolSpan(_ActiveSpan):
    """One call of a tool by an agent."""

    __slots__ = ("_arguments", "_error", "_replayed", "_tool")

    def __init__(self, agent: str, run_id: str, call: ToolCall, spec: ToolSpec | None) -> None:
        # A model can think of any name; only those of tools are labels.
        self._tool = _OTHER if spec is None else call.name
        self._arguments = call.arguments
        self._error: str | None = None
        self._replayed = False
        shown = redacted(self._tool)
        at_start: Attributes = {
            semconv.OPERATION_NAME: "execute_tool",
            semconv.TOOL_NAME: shown,
            semconv.TOOL_TYPE: "function",
            semconv.OPENINFERENCE_KIND: "TOOL",
        }
        own: Attributes = {
            semconv.TOOL_CALL_ID: call.id,
            semconv.AGENT_NAME: agent,
            semconv.RUN_ID: run_id,
        }
        if spec is not None:
            own[semconv.TOOL_DESCRIPTION] = spec.description
        super().__init__(semconv.TOOL_SPAN + shown, at_start, own)

    def gave(self, text: str, *, replayed: bool) -> None:
        """What it gave; `replayed` if that was on record."""
        self._replayed = replayed
        if self.span.is_recording():
            self.span.set_attributes(content.of_tool(self._arguments, text))

    def failed(self, kind: str, told: str, *, replayed: bool) -> None:
        """The model is told of it, and goes on. A tool's own words are content."""
        self.gave(told, replayed=replayed)
        self._error = kind
        if self.span.is_recording():
            self.span.set_attribute(semconv.ERROR_TYPE, kind)
            self.span.set_status(Status(StatusCode.ERROR, kind))

    def _ended(self, seconds: float, error: BaseException | None) -> None:
        if self._replayed:
            self.span.set_attribute(semconv.REPLAYED, True)
            return
        attributes: Attributes = {semconv.TOOL_NAME: self._tool}
        failure = self._error if error is None else error_type(error)
        if failure is not None:
            attributes[semconv.ERROR_TYPE] = failure
        self.telemetry.tool_duration.record(seconds, attributes)


_OTHER: Final = "_OTHER"  # OpenTelemetry's word for what is not among the known values


def count(labels: AgentLabels, calls: Sequence[CallRecord]) -> None:
    """Count attempts in the metrics; not replayed ones, which were counted when they were paid."""
    telemetry = current()
    for call in calls:
        attributes = labels.costs(call.provider, call.requested_model)
        if call.cost is None:
            telemetry.unpriced.add(1, attributes)
        elif call.cost:
            telemetry.cost.add(float(call.cost), attributes)
        if call.cache_savings:
            telemetry.cache_savings.add(float(call.cache_savings), attributes)
        if call.attempt > 1:
            telemetry.retries.add(1, attributes)


def count_rejection(labels: AgentLabels) -> None:
    """Count a call that was not made for want of budget."""
    current().budget_rejections.add(1, labels.of_agent)


def _totals(calls: Sequence[CallRecord]) -> Attributes:
    """Roll-ups live outside `gen_ai.usage.*`: backends add that up over all spans."""
    totals: Attributes = {}
    reported = [call.usage for call in calls if call.usage is not None]
    if reported:
        totals[semconv.PYAGENT_INPUT_TOKENS] = sum([usage.input_tokens for usage in reported])
        totals[semconv.PYAGENT_OUTPUT_TOKENS] = sum([usage.output_tokens for usage in reported])
    if unpriced := ledger.unpriced(calls):
        totals[semconv.UNPRICED] = unpriced
    cost = ledger.known_cost(calls)
    if cost is not None:
        totals[semconv.COST_USD] = float(cost)
    return totals
