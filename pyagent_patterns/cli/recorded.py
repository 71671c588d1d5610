"""Recorded runs as the spans that a viewer shows, also while they go on.

A journal has what was asked and answered, so these spans have it too, whatever telemetry captures.
Their ids come from the run's id and its calls' keys: the same each time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

from pyagent_exporters.viewer.spans import AttributeValue, Span, SpanStatus
from pyagent_patterns import ledger
from pyagent_patterns.durable import CallView, RunDetail
from pyagent_patterns.ledger import CallRecord
from pyagent_providers import content, semconv
from pyagent_providers.types import Completion, FinishReason, JSONObject, Message, Request, ToolCall

from .exchanges import (
    Asked,
    Exchange,
    Task,
    ToolUse,
    depends_on,
    exchanges_of,
    given_by_tool,
    last_of,
    messages_of,
    name_of,
    objects,
    pattern_scopes,
    scopes_around,
    task_of,
    tasks_in,
)

_Attributes = dict[str, AttributeValue | None]

_INTERRUPTED: Final = "interrupted: it was begun, and its end is not on record"
_NOT_SHOWN: Final = ("ask", "begin", "tool", "attribution", "estimate", "rules", "tools")


def spans_of(detail: RunDetail) -> list[Span]:
    """The run as spans: its pattern, those within, the agents, their calls and tools.

    What a fork was given by the run it was forked from is there as replayed: it was paid for there.
    """
    return _Recording(detail).spans()


class _Recording:
    """One run. What is within a pattern or a tool is known by the scope that its key is in."""

    def __init__(self, detail: RunDetail) -> None:
        run = detail.run
        self._detail = detail
        self._run = run
        self._goes_on = run.status == "running" and run.is_owned
        times = [time for call in detail.calls for time in (call.started_at, call.ended_at)]
        self._latest = max([run.updated_at, *(time for time in times if time is not None)])
        self._trace_id = _digest(run.run_id, "trace")[:32]
        self._exchanges = list(exchanges_of(detail.calls))
        self._around = {"": self._span_id("pattern", "")}  # the span around a scope's contents
        self._patterns: dict[str, list[Exchange]] = {"": []}  # with what was asked in them directly
        self._tools: dict[str, list[CallView]] = {}  # with what was called in them
        for use in (use for exchange in self._exchanges for use in exchange.tools):
            self._tools[use.scope] = []
            self._around[use.scope] = self._span_id("tool", use.scope)
        for exchange in self._exchanges:
            names = exchange.pattern_names
            for scope in pattern_scopes(exchange.first.key, names, self._tools):
                self._patterns.setdefault(scope, [])
                self._around[scope] = self._span_id("pattern", scope)
            self._patterns[self._pattern_around(exchange.first.key)].append(exchange)
        for call in detail.calls:
            for scope in scopes_around(call.key):
                if scope in self._tools:
                    self._tools[scope].append(call)

    def spans(self) -> list[Span]:
        plans = {scope: self._plan(scope) for scope in self._patterns}
        return [
            self._of_run(plans[""]),
            *(self._of_pattern(scope, plans) for scope in self._patterns if scope),
            *(span for exchange in self._exchanges for span in self._of_exchange(exchange)),
            *(self._other(call) for call in self._detail.calls if _is_shown(call.activity)),
        ]

    # Patterns

    def _of_run(self, plan: Mapping[str, Task]) -> Span:
        run, detail = self._run, self._detail
        is_lost = run.status == "running" and not run.is_owned
        task = Message("user", run.task)
        said = content.read(Request(messages=(task,)), _completion(detail.output), failed=False)
        whom = next((c.value for c in reversed(detail.calls) if c.activity == "attribution"), None)
        names = cast("Mapping[str, str | None]", whom or {})
        return self._span(
            self._around[""],
            None,
            semconv.PATTERN_SPAN + run.pattern,
            run.created_at,
            None if self._goes_on else self._latest,
            {
                **self._of_any_pattern("", run.pattern, run.name, plan),
                semconv.STATUS: "unknown" if is_lost else run.status,
                semconv.TENANT: names.get("tenant"),
                semconv.USER_ID: names.get("user"),
                semconv.CONVERSATION_ID: names.get("conversation"),
                **content.as_json(said),
            },
            error=(run.error or run.status) if run.status in ("failed", "cancelled") else None,
        )

    def _of_pattern(self, scope: str, plans: Mapping[str, Mapping[str, Task]]) -> Span:
        """A pattern within the run's."""
        name, within = name_of(scope), self._within(scope)
        asked_as = (exchange.first.asked("pattern") for exchange in self._patterns[scope])
        kind = next(asked_as, None) or name
        around = self._pattern_around(scope)
        steps = (last_of(s) for s in scopes_around(scope) if len(s) > len(around))
        task = next((plans[around][step] for step in steps if step in plans[around]), None)
        outcome = self._outcome_of(scope, task)
        failed = outcome is not None and outcome["status"] != "completed"
        is_over = not self._goes_on or self._is_needed_no_more(around, task)
        latest = max(e.last.call.ended_at or e.last.call.started_at for e in within)
        return self._span(
            self._around[scope],
            self._enclosing(scope),
            semconv.PATTERN_SPAN + kind,
            min(exchange.first.started_at for exchange in within),
            latest if is_over else None,
            {
                **self._of_any_pattern(scope, kind, name, plans[scope]),
                semconv.TASK_ID: task and task.id,
                semconv.TASK_DEPENDS_ON: (task and task.depends_on) or None,
                semconv.STATUS: ("failed" if failed else "completed") if outcome else None,
            },
            error=cast("str | None", outcome["error"]) if outcome and failed else None,
        )

    def _of_any_pattern(
        self, scope: str, kind: str, name: str, plan: Mapping[str, Task]
    ) -> _Attributes:
        return {
            semconv.OPERATION_NAME: "invoke_workflow",
            semconv.WORKFLOW_NAME: name,
            semconv.PATTERN: kind,
            semconv.RUN_ID: self._run.run_id,
            semconv.PLAN_TASKS: tuple(plan) or None,
            semconv.PLAN_WORKERS: tuple(task.worker for task in plan.values()) or None,
            semconv.PLAN_DEPENDS_ON: tuple(", ".join(task.depends_on) for task in plan.values())
            or None,
            **_totals([call for exchange in self._within(scope) for call in exchange.attempts]),
        }

    def _plan(self, scope: str) -> Mapping[str, Task]:
        """A pattern's plan, by id: from the result, or from what was asked and answered so far."""
        path = self._path_of(scope)
        outcomes = objects(self._detail.result or {}, "outcomes")
        settled = [task_of(o) for o in outcomes if _folder(str(o.get("path") or "")) == path]
        if settled:
            return {task.id: task for task in settled}
        tasks: dict[str, Task] = {}
        for exchange in self._patterns[scope]:
            call, reply = exchange.first, exchange.last.reply
            if call.asked("phase") in ("plan", "manage") and reply is not None:
                tasks |= {task.id: task for task in tasks_in(reply.text or "")}
            elif (task_id := call.asked("task_id")) is not None and task_id not in tasks:
                tasks[task_id] = Task(task_id, call.asked("agent") or "", depends_on(call))
        return tasks

    def _outcome_of(self, scope: str, task: Task | None) -> JSONObject | None:
        """What the result says of the assignment that a pattern within worked on."""
        if task is None:
            return None
        its = (self._path_of(scope), task.id)
        outcomes = objects(self._detail.result or {}, "outcomes")
        return next((o for o in outcomes if (o.get("path"), o.get("id")) == its), None)

    def _is_needed_no_more(self, around: str, task: Task | None) -> bool:
        """Whether something has begun for which this assignment must be done."""
        return any(
            (task is not None and task.id in depends_on(exchange.first))
            or exchange.first.asked("phase") == "synthesis"
            for exchange in self._patterns[around]
        )

    def _path_of(self, scope: str) -> str:
        """The names of the patterns that a pattern is in, and its own; "" for the run's."""
        scopes = [scope, *scopes_around(scope)] if scope else []
        return "/".join(name_of(s) for s in reversed(scopes) if s and s in self._patterns)

    def _within(self, scope: str) -> list[Exchange]:
        """What was asked in a pattern, and in those within."""
        inner = [scopes for scopes in self._patterns if scopes.startswith(scope)]
        return [exchange for each in inner for exchange in self._patterns[each]]

    def _pattern_around(self, key: str) -> str:
        """The scope of the pattern that a call, or another pattern, is in."""
        return next(scope for scope in scopes_around(key) if scope in self._patterns)

    # Agents, and what they call

    def _of_exchange(self, exchange: Exchange) -> Iterator[Span]:
        first, last = exchange.first, exchange.last
        span_id = self._span_id("agent", first.key)
        is_over = exchange.is_answered or not self._goes_on
        is_cut_off = is_over and last.reply is None
        phase, attempts = first.asked("phase") or "", exchange.attempts
        yield self._span(
            span_id,
            self._enclosing(first.key),
            semconv.AGENT_SPAN + (first.asked("agent") or ""),
            first.started_at,
            (last.call.ended_at or self._latest) if is_over else None,
            {
                semconv.OPERATION_NAME: "plan" if phase == "plan" else "invoke_agent",
                semconv.AGENT_NAME: first.asked("agent"),
                semconv.PHASE: phase,
                semconv.PATTERN: first.asked("pattern"),
                semconv.RUN_ID: self._run.run_id,
                semconv.STEP: cast("int | None", first.input.get("step")),
                semconv.PATH: first.asked("path"),
                semconv.TASK_ID: first.asked("task_id"),
                semconv.TASK_DEPENDS_ON: depends_on(first) or None,
                semconv.REPLAYED: all(asked.call.copied for asked in exchange.asked) or None,
                semconv.ATTEMPTS: len(attempts) if len(attempts) > 1 else None,
                **_totals(attempts),
            },
            error=_INTERRUPTED if is_cut_off else last.reply and last.reply.error,
            error_type=None if is_cut_off else "AgentError",
        )
        for asked in exchange.asked:
            if not asked.call.copied:
                yield from self._of_question(asked, span_id)
        for use in exchange.tools:
            yield self._of_tool(use, exchange, span_id)

    def _of_question(self, asked: Asked, agent: str) -> Iterator[Span]:
        """Its attempts; while it has no answer, the one that is being made."""
        call, reply = asked.call, asked.reply
        request = Request(messages=messages_of(call))
        if reply is None:
            if self._goes_on:
                yield self._of_call_being_made(call, request, agent)
            return
        for n, attempt in enumerate(reply.calls):
            answer: Completion | None = None
            if attempt.status == "ok" and n == len(reply.calls) - 1:
                reason = cast("FinishReason | None", attempt.finish_reason)
                answer = _completion(reply.text, reply.tool_calls, reason)
            failed = attempt.status != "ok"
            said = content.read(request, answer, failed=failed)
            yield self._span(
                self._span_id("chat", f"{call.key}#{n}"),
                agent,
                f"chat {attempt.requested_model}",
                attempt.started_at,
                attempt.started_at + attempt.seconds,
                {**_attempt(attempt), **content.as_json(said)},
                error=(attempt.error or attempt.status) if failed else None,
                error_type=attempt.error,
                is_call=True,
            )

    def _of_call_being_made(self, call: CallView, request: Request, agent: str) -> Span:
        model = call.asked("model") or ""
        return self._span(
            self._span_id("chat", call.key),
            agent,
            f"chat {model}",
            call.started_at,
            None,
            {
                semconv.OPERATION_NAME: "chat",
                semconv.PROVIDER_NAME: call.asked("provider"),
                semconv.REQUEST_MODEL: model,
                **content.as_json(content.read(request, None, failed=False)),
            },
            is_call=True,
        )

    def _of_tool(self, use: ToolUse, exchange: Exchange, agent: str) -> Span:
        within = self._tools[use.scope]
        made = next((call for call in reversed(within) if call.activity == "tool"), None)
        told, gave = exchange.told.get(use.wish.id), given_by_tool(made)
        start = min([call.started_at for call in within] or [use.wished_at])
        end = max([call.ended_at or start for call in within] or [start])
        is_over = told is not None or bool(gave) or not self._goes_on
        error = gave.get("error")
        if error is None and told is not None and told.startswith(_FAILED):
            error = told.removeprefix(_FAILED)
        result = gave.get("text", told)
        return self._span(
            self._around[use.scope],
            agent,
            semconv.TOOL_SPAN + use.wish.name,
            start,
            end if is_over else None,
            {
                semconv.OPERATION_NAME: "execute_tool",
                semconv.TOOL_NAME: use.wish.name,
                semconv.TOOL_CALL_ID: use.wish.id,
                semconv.TOOL_TYPE: "function",
                semconv.AGENT_NAME: exchange.first.asked("agent"),
                semconv.RUN_ID: self._run.run_id,
                semconv.TOOL_ARGUMENTS: _part(use.wish.arguments),
                semconv.TOOL_RESULT: None if result is None else _part(result),
                semconv.REPLAYED: (bool(within) and all(c.copied for c in within)) or None,
            },
            error=error,
            error_type=gave.get("type", "ToolError"),
        )

    def _other(self, call: CallView) -> Span:
        """What else is on record: a person asked, a wait, work of the pattern's own."""
        is_over = call.value is not None or not self._goes_on
        given = call.input.get("input")
        return self._span(
            self._span_id(call.activity, call.key),
            self._enclosing(call.key),
            call.activity,
            call.started_at,
            (call.ended_at or self._latest) if is_over else None,
            {
                semconv.RUN_ID: self._run.run_id,
                semconv.TOOL_ARGUMENTS: None if given is None else _json(given),
                semconv.TOOL_RESULT: None if call.value is None else _json(call.value),
                semconv.REPLAYED: call.copied or None,
            },
        )

    # Spans

    def _enclosing(self, key: str) -> str:
        """The span around a call or a scope."""
        return next(self._around[scope] for scope in scopes_around(key) if scope in self._around)

    def _span_id(self, what: str, key: str) -> str:
        return _digest(self._run.run_id, what, key)[:16]

    def _span(
        self,
        span_id: str,
        parent_id: str | None,
        name: str,
        start: float,
        end: float | None,
        attributes: _Attributes,
        *,
        error: str | None = None,
        error_type: str | None = None,
        is_call: bool = False,
    ) -> Span:
        known = {name: value for name, value in attributes.items() if value is not None}
        if error is not None and error_type is not None:
            known[semconv.ERROR_TYPE] = error_type
        status: SpanStatus = "unset" if error is None else "error"
        return Span(
            trace_id=self._trace_id,
            span_id=span_id,
            parent_id=parent_id,
            name=name,
            kind="client" if is_call else "internal",
            start=_nanoseconds(start),
            end=None if end is None else _nanoseconds(max(start, end)),
            status=status,
            message=error or "",
            attributes=known,
        )


_FAILED: Final = "Error: "  # how a model is told that a tool failed


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _is_shown(activity: str) -> bool:
    return activity not in _NOT_SHOWN and not activity.startswith("signal-")


def _completion(
    text: str | None,
    tool_calls: tuple[ToolCall, ...] = (),
    finish_reason: FinishReason | None = "stop",
) -> Completion | None:
    if text is None:
        return None
    return Completion(text=text, tool_calls=tool_calls, finish_reason=finish_reason)


def _attempt(call: CallRecord) -> _Attributes:
    usage, cost = call.usage, None if call.cost is None else float(call.cost)
    return {
        semconv.OPERATION_NAME: "chat",
        semconv.PROVIDER_NAME: call.provider,
        semconv.REQUEST_MODEL: call.requested_model,
        semconv.RESPONSE_MODEL: call.model,
        semconv.RESPONSE_ID: call.response_id,
        semconv.RESPONSE_FINISH_REASONS: (call.finish_reason,) if call.finish_reason else None,
        semconv.INPUT_TOKENS: usage and usage.input_tokens,
        semconv.OUTPUT_TOKENS: usage and usage.output_tokens,
        semconv.CACHE_READ_TOKENS: (usage and usage.cache_read_tokens) or None,
        semconv.CACHE_WRITE_TOKENS: (usage and usage.cache_write_tokens) or None,
        semconv.REASONING_TOKENS: (usage and usage.reasoning_tokens) or None,
        semconv.COST_USD: cost,
        semconv.USAGE_COST: cost,
        semconv.PRICE_SOURCE: call.price_source,
        semconv.PRICE_VERSION: call.price_version,
        semconv.ATTEMPT: call.attempt if call.attempt > 1 else None,
    }


def _totals(calls: Sequence[CallRecord]) -> _Attributes:
    usage, cost = ledger.total_usage(calls), ledger.known_cost(calls)
    return {
        semconv.PYAGENT_INPUT_TOKENS: usage.input_tokens or None,
        semconv.PYAGENT_OUTPUT_TOKENS: usage.output_tokens or None,
        semconv.COST_USD: None if cost is None or not calls else float(cost),
        semconv.UNPRICED: ledger.unpriced(calls) or None,
    }


def _json(value: object) -> str:
    return _part(json.dumps(value, ensure_ascii=False))


def _part(text: str) -> str:
    return text[: content.PART_LIMIT]


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
