"""What OpenTelemetry's conventions for generative AI ask of spans and metrics, and ours beside it.

`gen_ai.json` is derived from their model, whose source and revision stand in it: names, kinds,
types and requirement levels. `OWN` are the names that are this SDK's, `DEVIATIONS` what differs
on purpose, and why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from opentelemetry.sdk.metrics.export import Histogram, Metric, Sum
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

CONVENTIONS: Final[Mapping[str, Any]] = json.loads(
    (Path(__file__).parent / "gen_ai.json").read_text()
)
Role = Literal["inference", "invoke_agent", "execute_tool", "invoke_workflow"]
Level = Literal["required", "optional"]

# What differs from the conventions on purpose: (span or metric, name) and why.
DEVIATIONS: Final[Mapping[tuple[str, str], str]] = {
    ("invoke_workflow", "name"): "by the pattern's kind, of which there are few; its name is in "
    "gen_ai.workflow.name, and backends that know neither still group runs rightly",
    ("invoke_agent", "name"): "begins like the pattern's, so that one filter finds what is ours",
    ("invoke_agent", "gen_ai.provider.name"): "an agent may try several models of several "
    "providers: each is on its own inference span, below this one",
    **{
        (
            "invoke_agent",
            f"gen_ai.{name}",
        ): "on each inference span, as the provider"
        for name in ("request.model", "request.seed", "output.type")
    },
    ("invoke_agent", "gen_ai.agent.description"): "it is long, the same each time, and of an "
    "agent that a planner defined a model's words",
    **{
        ("invoke_agent", f"gen_ai.{name}"): "agents have none"
        for name in ("agent.id", "agent.version", "data_source.id")
    },
    **{
        (role, "gen_ai.conversation.id"): "a run belongs to a conversation, and its span says so"
        for role in ("inference", "invoke_agent", "invoke_workflow")
    },
    **{
        (role, "gen_ai.request.choice.count"): "one answer is asked for, always"
        for role in ("inference", "invoke_agent")
    },
    ("execute_tool", "gen_ai.agent.name"): "who called the tool, for backends that show no parents",
    ("inference", "gen_ai.usage.cost"): "what Langfuse reads",
    ("event", "gen_ai.provider.name"): "their model leaves it out of the event's group for a fault "
    "in its tool, and their text has it",
}

# An operation that later revisions have: a plan is not an agent's answer.
LATER_OPERATIONS: Final = {"plan"}
# Metrics that later revisions have (the repository semantic-conventions-genai), as they have them.
LATER_METRICS: Final[Mapping[str, Mapping[str, Any]]] = {
    "gen_ai.invoke_agent.duration": {"attributes": {"gen_ai.agent.name": "required"}},
    "gen_ai.invoke_workflow.duration": {"attributes": {"gen_ai.workflow.name": "required"}},
    "gen_ai.execute_tool.duration": {"attributes": {"gen_ai.tool.name": "required"}},
}
# The conventions' page on metrics; their model does not have the buckets.
BUCKETS: Final[Mapping[str, tuple[float, ...]]] = {
    "gen_ai.client.token.usage": tuple(4**n for n in range(14)),
    **dict.fromkeys(
        ("gen_ai.client.operation.duration", "gen_ai.client.operation.time_to_first_chunk"),
        tuple(0.01 * 2**n for n in range(14)),
    ),
    **dict.fromkeys(
        ("gen_ai.invoke_agent.duration", "gen_ai.execute_tool.duration"),
        tuple(0.1 * 2**n for n in range(13)),
    ),
    "gen_ai.invoke_workflow.duration": (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200),
    "pyagent.budget.used": tuple(n / 10 for n in range(1, 11)),
}


@dataclass(frozen=True)
class Own:
    """An attribute of this SDK's: its type, and where it may or must be."""

    type: str
    on: Mapping[Role, Level]
    values: tuple[str, ...] = ()


_PHASES = ("plan", "worker", "synthesis", "route", "stage", "manage", "evaluate")
_STATUSES = ("completed", "partial", "failed", "cancelled", "suspended")
_SOURCES = ("provider", "user", "genai-prices", "litellm", "estimate", "not-billed")
_ROLL_UP: Mapping[Role, Level] = {"invoke_agent": "optional", "invoke_workflow": "optional"}
OWN: Final[Mapping[str, Own]] = {
    "pyagent.pattern": Own("string", {"invoke_agent": "required", "invoke_workflow": "required"}),
    "pyagent.run.id": Own(
        "string",
        {"invoke_agent": "required", "invoke_workflow": "required", "execute_tool": "required"},
    ),
    "pyagent.status": Own("string", {"invoke_workflow": "required"}, _STATUSES),
    "pyagent.tenant": Own("string", {"invoke_workflow": "optional"}),
    "user.id": Own("string", {"invoke_workflow": "optional"}),
    "pyagent.plan.tasks": Own("string[]", {"invoke_workflow": "optional"}),
    "pyagent.plan.depends_on": Own("string[]", {"invoke_workflow": "optional"}),
    "pyagent.plan.workers": Own("string[]", {"invoke_workflow": "optional"}),
    "pyagent.workers_used": Own("string[]", {"invoke_workflow": "required"}),
    "pyagent.phase": Own("string", {"invoke_agent": "required"}, _PHASES),
    "pyagent.path": Own("string", {"invoke_agent": "required"}),
    "pyagent.step": Own("int", {"invoke_agent": "required"}),
    "pyagent.attempts": Own("int", {"invoke_agent": "optional"}),
    "pyagent.task.id": Own("string", {"invoke_agent": "optional", "invoke_workflow": "optional"}),
    "pyagent.task.depends_on": Own("string[]", {"invoke_agent": "optional"}),
    "pyagent.context.compressed": Own("string[]", {"invoke_agent": "optional"}),
    "pyagent.replayed": Own("boolean", {"invoke_agent": "optional", "execute_tool": "optional"}),
    "pyagent.usage.input_tokens": Own("int", _ROLL_UP),
    "pyagent.usage.output_tokens": Own("int", _ROLL_UP),
    "pyagent.unpriced.calls": Own("int", _ROLL_UP),
    "pyagent.cost.usd": Own("double", {**_ROLL_UP, "inference": "optional"}),
    "pyagent.price.source": Own("string", {"inference": "optional"}, _SOURCES),
    "pyagent.price.version": Own("string", {"inference": "optional"}),
    "openinference.span.kind": Own(
        "string",
        {"invoke_workflow": "required", "invoke_agent": "optional", "execute_tool": "required"},
        ("CHAIN", "TOOL"),
    ),
}
_COST_LABELS = {
    "pyagent.pattern": "required",
    "pyagent.phase": "required",
    "gen_ai.agent.name": "required",
    "gen_ai.request.model": "required",
    "gen_ai.provider.name": "required",
    "pyagent.tenant": "optional",
}
_RUN_LABELS = {"pyagent.pattern": "required", "gen_ai.workflow.name": "required"}
_MODEL_LABELS = {"gen_ai.provider.name": "required", "gen_ai.request.model": "required"}
OWN_METRICS: Final[Mapping[str, tuple[str, str, Mapping[str, str]]]] = {
    "pyagent.cost.usd": ("counter", "{USD}", _COST_LABELS),
    "pyagent.unpriced.calls": ("counter", "{call}", _COST_LABELS),
    "pyagent.retries": ("counter", "{retry}", _COST_LABELS),
    "pyagent.cache.savings.usd": ("counter", "{USD}", _COST_LABELS),
    "pyagent.budget.rejections": (
        "counter",
        "{call}",
        {name: level for name, level in _COST_LABELS.items() if name not in _MODEL_LABELS},
    ),
    "pyagent.budget.used": ("histogram", "1", _RUN_LABELS),
    "pyagent.runs": (
        "counter",
        "{run}",
        {**_RUN_LABELS, "pyagent.status": "required", "pyagent.tenant": "optional"},
    ),
    "pyagent.runs.active": ("updowncounter", "{run}", _RUN_LABELS),
    "pyagent.breaker.opened": ("counter", "{opening}", _MODEL_LABELS),
    "pyagent.breaker.open": ("updowncounter", "{breaker}", _MODEL_LABELS),
}


def role_of(span: ReadableSpan) -> Role | None:
    match (span.attributes or {}).get("gen_ai.operation.name"):
        case "chat":
            return "inference"
        case "plan" | "invoke_agent":
            return "invoke_agent"
        case "execute_tool":
            return "execute_tool"
        case "invoke_workflow":
            return "invoke_workflow"
        case _:
            return None


def faults_in_span(span: ReadableSpan) -> Iterator[str]:
    """What is wrong with a span, in words."""
    role, given = role_of(span), dict(span.attributes or {})
    if role is None:
        yield f"{span.name}: no operation that there is"
        return
    asked = CONVENTIONS["spans"][role]
    if span.kind is not SpanKind[asked["kind"].upper()]:
        yield f"{span.name}: its kind is {span.kind.name}"
    if span.name != _name(role, asked["name"], given):
        yield f"{span.name}: not its name"
    levels = {**asked["attributes"], **_levels_of_own(role)}
    yield from _faults_in_attributes(role, given, levels)
    yield from _faults_in_conditions(role, span, given)
    for event in span.events:
        yield from _faults_in_event(role, event)


def faults_in_details(name: str | None, given: Mapping[str, object]) -> Iterator[str]:
    """What is wrong with an event of the logs API that has content."""
    if name not in CONVENTIONS["events"]:
        yield f"{name}: no event that there is"
        return
    levels = {
        **CONVENTIONS["events"][name]["attributes"],
        **_levels_of_own("inference"),
        **{extra: "optional" for where, extra in DEVIATIONS if where == "event"},
    }
    yield from _faults_in_attributes("inference", given, levels)


def faults_in_metric(metric: Metric) -> Iterator[str]:
    """What is wrong with a metric and its points, in words."""
    instrument, unit, levels = _metric(metric.name)
    if (_instrument(metric), metric.unit) != (instrument, unit):
        yield f"{metric.name}: a {_instrument(metric)} in {metric.unit}"
    if not metric.description:
        yield f"{metric.name}: nobody is told what it is"
    for point in metric.data.data_points:
        yield from _faults_in_attributes(metric.name, dict(point.attributes or {}), levels)
        if isinstance(metric.data, Histogram):
            bounds = tuple(point.explicit_bounds)  # type: ignore[union-attr]
            if [round(bound, 9) for bound in bounds] != [
                round(bound, 9) for bound in BUCKETS[metric.name]
            ]:
                yield f"{metric.name}: other buckets, {bounds}"


def _name(role: Role, form: str, given: Mapping[str, object]) -> str:
    if (role, "name") in DEVIATIONS:
        what = {"invoke_workflow": "pyagent.pattern", "invoke_agent": "gen_ai.agent.name"}[role]
        return {"invoke_workflow": "pyagent.pattern.", "invoke_agent": "pyagent.agent."}[
            role
        ] + str(given.get(what))
    for name, value in given.items():
        form = form.replace(f"{{{name}}}", str(value))
    return form


def _levels_of_own(role: Role) -> dict[str, str]:
    own = {name: attribute.on[role] for name, attribute in OWN.items() if role in attribute.on}
    allowed = {name: "optional" for where, name in DEVIATIONS if where == role}
    return own | allowed


def _faults_in_attributes(
    where: str, given: Mapping[str, object], levels: Mapping[str, str]
) -> Iterator[str]:
    for name, level in levels.items():
        if level == "required" and name not in given:
            yield f"{where}: {name} is missing"
    for name, value in given.items():
        if name not in levels:
            yield f"{where}: {name} does not belong there"
            continue
        kind, values = _type_of(name)
        if not _is_a(value, kind):
            yield f"{where}: {name}={value!r} is no {kind}"
        elif values and value not in values:
            yield f"{where}: {name}={value!r} is none of {sorted(values)}"


def _type_of(name: str) -> tuple[str, frozenset[str]]:
    if name in OWN:
        return OWN[name].type, frozenset(OWN[name].values)
    if name == "gen_ai.usage.cost":
        return "double", frozenset()
    known = CONVENTIONS["attributes"][name]
    values = frozenset(known.get("values", ()))
    match name:
        case "gen_ai.operation.name":
            return "string", values | LATER_OPERATIONS
        case "gen_ai.provider.name":  # any other provider goes by its own name
            return "string", values | {"scripted", "custom", "openrouter"}
        case "gen_ai.tool.type":
            return "string", frozenset({"function", "extension", "datastore"})
        case _:
            return known["type"], values


def _is_a(value: object, kind: str) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "double":
            return isinstance(value, float)
        case "boolean":
            return isinstance(value, bool)
        case "string[]":
            return _is_sequence(value) and all(isinstance(each, str) for each in value)  # type: ignore[union-attr]
        case "any":
            return isinstance(value, str) or _is_sequence(value)
        case _:
            return False


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _faults_in_conditions(
    role: Role, span: ReadableSpan, given: Mapping[str, object]
) -> Iterator[str]:
    """What is required where the conventions say on which condition."""
    failed = span.status.status_code is StatusCode.ERROR
    if failed != ("error.type" in given):
        yield f"{span.name}: status {span.status.status_code.name} and error.type differ"
    if span.status.status_code is StatusCode.OK:
        yield f"{span.name}: OK is for applications to set"
    if ("server.port" in given) and "server.address" not in given:
        yield f"{span.name}: a port without an address"
    if given.get("gen_ai.request.stream") is False:
        yield f"{span.name}: gen_ai.request.stream is said only where it is so"
    streamed = given.get("gen_ai.request.stream") is True
    if role == "inference" and "gen_ai.request.model" not in given:
        yield f"{span.name}: gen_ai.request.model is missing"
    if "gen_ai.response.time_to_first_chunk" in given and not streamed:
        yield f"{span.name}: a first chunk of what is not streamed"
    if role != "inference" and any(name.startswith("gen_ai.usage.") for name in given):
        yield f"{span.name}: backends add up gen_ai.usage over all spans"
    if role == "invoke_agent" and "gen_ai.agent.name" not in given:
        yield f"{span.name}: gen_ai.agent.name is missing"


def _faults_in_event(role: Role, event: Event) -> Iterator[str]:
    given = dict(event.attributes or {})
    match event.name:
        case "exception":
            if set(given) != {"exception.type", "exception.message"} or role != "inference":
                yield f"exception on {role} with {sorted(given)}"
        case "pyagent.plan.rejected":
            faults = given.get("pyagent.plan.faults")
            if role != "invoke_workflow" or not _is_a(faults, "string[]") or len(given) > 1:
                yield f"pyagent.plan.rejected on {role} with {given}"
        case _:
            yield f"{event.name}: no event that there is"


def _metric(name: str) -> tuple[str, str, Mapping[str, str]]:
    if name in OWN_METRICS:
        return OWN_METRICS[name]
    if name in LATER_METRICS:
        levels = {**LATER_METRICS[name]["attributes"], "error.type": "optional"}
        return "histogram", "s", levels
    asked = CONVENTIONS["metrics"][name]
    levels = {**asked["attributes"], "error.type": "optional"}
    return asked["instrument"], asked["unit"], levels


def _instrument(metric: Metric) -> str:
    match metric.data:
        case Histogram():
            return "histogram"
        case Sum(is_monotonic=True):
            return "counter"
        case Sum():
            return "updowncounter"
        case _:
            return "gauge"
