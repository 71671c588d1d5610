"""The dashboard "Runs": how many, how they end, how long they take, what does not move."""

from __future__ import annotations

import variables
from panels import Query, Row, chart, dashboard, stat, table
from promql import ERRORS, JOB, RUNS, gained, or_zero, quantile, share

RUN_SECONDS = "gen_ai_invoke_workflow_duration_seconds"
AGENT_SECONDS = "gen_ai_invoke_agent_duration_seconds"
TOOL_SECONDS = "gen_ai_execute_tool_duration_seconds"

ENDED = f'{RUNS}, pyagent_status!~"suspended|cancelled"'
FAILED = f'{RUNS}, pyagent_status="failed"'
ACTIVE = f'pyagent_runs_active{{{JOB}, pyagent_pattern=~"$pattern"}}'
CALLS = f"gen_ai_client_operation_duration_seconds_count{{{JOB}}}"
STUCK = (
    f"sum by (job, instance) ({ACTIVE}) > 0 unless on (job, instance)"
    f" sum by (job, instance) (changes({CALLS}[30m])) > 0"
)


def both(histogram: str, label: str, *, exemplars: bool = False) -> tuple[Query, Query]:
    """The median and the 95th percentile of each value of a label."""
    return (
        Query(quantile(0.5, histogram, JOB, by=label), f"{{{{{label}}}}} p50"),
        Query(quantile(0.95, histogram, JOB, by=label), f"{{{{{label}}}}} p95", exemplars),
    )


DASHBOARD = dashboard(
    "runs",
    "PyAgent: runs",
    "How many runs there were, how they ended, how long they took, and what does not move.",
    [
        variables.DATASOURCE,
        variables.JOB,
        variables.PATTERN,
        variables.TENANT,
        variables.SERVICE,
        variables.TRACES,
    ],
    stat(
        "Runs ended",
        or_zero(gained("pyagent_runs_total", RUNS, "$__range")),
        "Runs of outermost patterns that ended in the time shown, whatever their status.",
    ),
    stat(
        "Failed",
        or_zero(
            share(
                gained("pyagent_runs_total", FAILED, "$__range"),
                gained("pyagent_runs_total", ENDED, "$__range"),
            )
        ),
        "The share of runs that raised an error. Cancelled and suspended runs are not counted.",
        unit="percentunit",
        limits=(0.02, 0.1),
    ),
    stat(
        "Partial",
        or_zero(gained("pyagent_runs_total", f'{RUNS}, pyagent_status="partial"', "$__range")),
        "Runs that have an answer although some of the work did not come to anything.",
    ),
    stat(
        "Under way",
        f"sum({ACTIVE})",
        "Runs that go on right now.",
        empty="no process is scraped",
    ),
    stat(
        "Stuck",
        or_zero(f"sum({STUCK})"),
        "Runs under way in processes where no call to a model has ended for 30 minutes.",
        limits=(1, 5),
    ),
    stat(
        "p95",
        quantile(0.95, RUN_SECONDS, JOB),
        "One run in twenty takes this long or longer, lately.",
        unit="s",
        limits=(120, 300),
        empty="no run ended lately",
    ),
    Row("How runs end"),
    chart(
        "Runs by status",
        Query(
            gained("pyagent_runs_total", RUNS, "$__interval", by="pyagent_status"),
            "{{pyagent_status}}",
        ),
        description="Runs that ended in each span of time.",
        bars=True,
    ),
    chart(
        "Failed, by workflow",
        Query(
            share(
                gained("pyagent_runs_total", FAILED, "$__interval", by="gen_ai_workflow_name"),
                gained("pyagent_runs_total", ENDED, "$__interval", by="gen_ai_workflow_name"),
            ),
            "{{gen_ai_workflow_name}}",
        ),
        description="The share of each workflow's runs that raised an error.",
        unit="percentunit",
        limits=(0.02, 0.1),
        empty="no run failed in this time",
    ),
    table(
        "By pattern",
        Query(
            gained(
                "pyagent_runs_total",
                RUNS,
                "$__range",
                by="pyagent_pattern, gen_ai_workflow_name, pyagent_status, pyagent_tenant",
            )
        ),
        description="Runs that ended in the time shown. A click finds their traces.",
        unit="short",
        value="Runs",
        columns={
            "pyagent_pattern": "Pattern",
            "gen_ai_workflow_name": "Workflow",
            "pyagent_status": "Status",
            "pyagent_tenant": "Tenant",
        },
        traces="pyagent.pattern.${__data.fields.Pattern}",
    ),
    chart(
        "What went wrong",
        Query(
            gained(
                f"{AGENT_SECONDS}_count",
                f"{JOB}, {ERRORS}",
                "$__interval",
                by="gen_ai_agent_name, error_type",
            ),
            "{{gen_ai_agent_name}}: {{error_type}}",
        ),
        description="Questions to agents that got no answer, by agent and kind of error.",
        bars=True,
        empty="no question failed in this time",
    ),
    Row("How long they take"),
    chart(
        "Runs",
        *both(RUN_SECONDS, "gen_ai_workflow_name", exemplars=True),
        description="Duration of runs, by workflow. A dot is a run's trace.",
        unit="s",
    ),
    chart(
        "Agents",
        *both(AGENT_SECONDS, "gen_ai_agent_name", exemplars=True),
        description="Duration of one question to an agent, retries included. A dot is its trace.",
        unit="s",
    ),
    chart(
        "Tools",
        *both(TOOL_SECONDS, "gen_ai_tool_name"),
        description="Duration of one call of a tool.",
        unit="s",
        empty="no tool was called in this time",
    ),
    chart(
        "Calls of tools",
        Query(
            gained(
                f"{TOOL_SECONDS}_count",
                JOB,
                "$__interval",
                by="gen_ai_tool_name, error_type",
            ),
            "{{gen_ai_tool_name}} {{error_type}}",
        ),
        description="Calls of each tool, those that failed with the kind of error.",
        bars=True,
        empty="no tool was called in this time",
    ),
    Row("Now"),
    chart(
        "Under way",
        Query(f"sum by (gen_ai_workflow_name) ({ACTIVE})", "{{gen_ai_workflow_name}}"),
        description="Runs that go on, by workflow.",
    ),
    chart(
        "Telemetry lost",
        Query(
            gained("pyagent_export_failures_total", JOB, "$__interval", by="destination, signal"),
            "{{signal}} to {{destination}}: batches",
        ),
        Query(
            gained("pyagent_export_dropped_total", JOB, "$__interval", by="destination, signal"),
            "{{signal}} to {{destination}}: no room",
        ),
        description="What did not reach its destination. Runs are not slowed by it.",
        bars=True,
        empty="nothing was lost in this time",
    ),
)
