"""Runs and calls as JSON values, for `--json`: money as decimal strings, times as ISO 8601 UTC."""

from __future__ import annotations

from pyagent_patterns.durable import CallView, RunDetail, RunView
from pyagent_providers.types import JSONObject

from .words import iso, run_state


def run_record(run: RunView) -> JSONObject:
    return {
        "run_id": run.run_id,
        "pattern": run.pattern,
        "name": run.name,
        "team": run.team,
        "task": run.task,
        "status": run_state(run),
        "due": run.due,
        "waiting_for": list(run.waiting_for),
        "wake_at": iso(run.wake_at),
        "execution": run.execution,
        "forked_from": run.forked_from,
        "error": run.error,
        "calls": run.calls,
        "tokens": run.tokens,
        "cost": str(run.cost),
        "unpriced": run.unpriced,
        "created_at": iso(run.created_at),
        "updated_at": iso(run.updated_at),
    }


def detail_record(detail: RunDetail) -> JSONObject:
    """A run with its calls; `calls` is then the list of them."""
    return {
        **run_record(detail.run),
        "calls": [call_record(call) for call in detail.calls],
        "doubtful": [call.key for call in detail.doubtful],
        "result": detail.result,
    }


def call_record(call: CallView) -> JSONObject:
    return {
        "key": call.key,
        "activity": call.activity,
        "state": call.state,
        "begun": call.begun,
        "copied": call.copied,
        "input": call.input,
        "value": call.value,
        "started_at": iso(call.started_at),
        "ended_at": iso(call.ended_at),
    }
