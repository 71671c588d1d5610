"""Every span, event and metric that the SDK can emit is as the conventions have it, or as said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from opentelemetry.trace import SpanKind

from pyagent_providers import content, semconv

from .conventions import (
    CONVENTIONS,
    DEVIATIONS,
    LATER_METRICS,
    OWN,
    OWN_METRICS,
    faults_in_details,
    faults_in_metric,
    faults_in_span,
    role_of,
)
from .conventions.scenes import Seen, all_that_happens

# Names in `semconv` that are no name of an attribute, an event or a metric.
NO_NAMES = {"CONVENTIONS_REVISION", "SCOPE", "PATTERN_SPAN", "AGENT_SPAN", "TOOL_SPAN", "OTHER"}
# Emitted elsewhere than in a run, and seen there: where an export fails (tests/exporters), and on
# the spans that `pyagent ui` makes of a journal (tests/viewer).
ELSEWHERE = {"EXPORT_FAILURES", "EXPORT_DROPPED", "ATTEMPT"}
NAMES = {
    constant: name
    for constant, name in vars(semconv).items()
    if constant.isupper() and isinstance(name, str) and constant not in NO_NAMES
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """One run of everything, with content on spans and in events."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(content.VARIABLE, "SPAN_AND_EVENT")
        seen = Seen(tmp_path_factory.mktemp("scenes"))
        asyncio.run(all_that_happens(seen))
        yield seen


def test_there_is_nothing_wrong_with_any_span(seen: Seen):
    assert len(seen.spans) > 200
    assert sorted({fault for span in seen.spans for fault in faults_in_span(span)}) == []


def test_there_is_nothing_wrong_with_any_metric(seen: Seen):
    assert sorted({fault for metric in seen.metrics for fault in faults_in_metric(metric)}) == []


def test_there_is_nothing_wrong_with_any_event_that_has_content(seen: Seen):
    assert len(seen.events) > 100
    faults = {
        fault
        for event in seen.events
        for fault in faults_in_details(event.event_name, dict(event.attributes or {}))
    }
    assert sorted(faults) == []


def test_every_kind_of_span_was_seen_on_every_provider(seen: Seen):
    roles = {role_of(span) for span in seen.spans}
    assert roles == {"inference", "invoke_agent", "execute_tool", "invoke_workflow"}
    providers = {(span.attributes or {}).get("gen_ai.provider.name") for span in seen.spans}
    assert providers >= {"openai", "anthropic", "gcp.gemini"}


@pytest.mark.parametrize("constant", sorted(NAMES.keys() - ELSEWHERE))
def test_no_name_is_dead(seen: Seen, constant: str):
    assert NAMES[constant] in seen.names


def test_no_name_is_emitted_that_semconv_does_not_have(seen: Seen):
    standard = {"exception", "exception.type", "exception.message"}
    assert seen.names - set(NAMES.values()) - standard == set()


def test_every_value_that_a_label_of_ours_can_have_was_seen(seen: Seen):
    def values(attribute: str) -> set[object]:
        return {(span.attributes or {}).get(attribute) for span in seen.spans} - {None}

    assert values("pyagent.phase") == set(OWN["pyagent.phase"].values)
    assert values("pyagent.status") == set(OWN["pyagent.status"].values)
    assert values("openinference.span.kind") == set(OWN["openinference.span.kind"].values)


def test_every_attribute_and_metric_of_ours_was_seen_and_so_every_rule_was_put_to_use(seen: Seen):
    known = {*OWN, *OWN_METRICS, *LATER_METRICS}
    assert known - seen.names == set()
    used = {metric.name for metric in seen.metrics}
    assert used >= {*OWN_METRICS, *LATER_METRICS}
    assert {name for name in CONVENTIONS["metrics"] if name not in used} == {
        "gen_ai.client.operation.time_per_output_chunk"  # one point a chunk: dear, and of no use
    }


def test_a_required_attribute_is_there_from_the_start_where_samplers_need_it(seen: Seen):
    for span in seen.spans:
        if role_of(span) == "inference":
            assert span.kind is SpanKind.CLIENT
            assert list(span.attributes or {})[:3] == [
                "gen_ai.operation.name",
                "gen_ai.provider.name",
                "gen_ai.request.model",
            ]


def test_content_has_the_shape_of_the_conventions_schemas(seen: Seen):
    found = 0
    for span in seen.spans:
        for name in ("gen_ai.input.messages", "gen_ai.output.messages"):
            for message in json.loads(str((span.attributes or {}).get(name, "[]"))):
                found += 1
                assert message["role"] in ("user", "assistant", "tool")
                reasons = ("stop", "length", "content_filter", "tool_call", "error", "other")
                if name == "gen_ai.output.messages":
                    assert message["finish_reason"] in reasons
                for part in message["parts"]:
                    match part["type"]:
                        case "text":
                            assert part.keys() == {"type", "content"}
                        case "tool_call":
                            assert part.keys() == {"type", "id", "name", "arguments"}
                        case kind:
                            assert kind == "tool_call_response"
                            assert part.keys() == {"type", "id", "response"}
    assert found > 200


def on_spans(seen: Seen, role: str) -> set[str]:
    return {name for s in seen.spans if role_of(s) == role for name in s.attributes or {}}


@pytest.mark.parametrize("role", CONVENTIONS["spans"])
def test_what_the_conventions_require_was_seen_or_is_said_to_be_missing(seen: Seen, role: str):
    asked = CONVENTIONS["spans"][role]["attributes"]
    required = {name for name, level in asked.items() if level.endswith("required")}
    missing = required - on_spans(seen, role)
    assert {name for name in missing if (role, name) not in DEVIATIONS} == set()


@pytest.mark.parametrize(("where", "name"), DEVIATIONS)
def test_what_is_said_to_deviate_does(seen: Seen, where: str, name: str):
    """A deviation that is none any more is to be struck from the list."""
    if where == "event":
        assert any(name in (event.attributes or {}) for event in seen.events)
    elif name == "name":
        asked = CONVENTIONS["spans"][where]["name"].partition(" ")[0]
        names = [span.name for span in seen.spans if role_of(span) == where]
        assert not any(name.startswith(asked) for name in names)
    else:
        ours = name not in CONVENTIONS["spans"][where]["attributes"]
        assert (name in on_spans(seen, where)) is ours


def test_no_metric_has_a_label_that_grows_with_the_runs(seen: Seen):
    growing = {"pyagent.run.id", "user.id", "gen_ai.conversation.id", "pyagent.task.id",
               "gen_ai.response.id", "gen_ai.tool.call.id", "pyagent.path"}  # fmt: skip
    for metric in seen.metrics:
        for point in metric.data.data_points:
            assert not growing & set(point.attributes or {}), metric.name
            assert (point.attributes or {}).get("pyagent.tenant") in (None, "acme", "other")
            assert (point.attributes or {}).get("gen_ai.agent.name") != "poet"
