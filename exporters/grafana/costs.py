"""The dashboard "Cost attribution": who spent what on which model, and what was saved."""

from __future__ import annotations

import variables
from panels import Panel, Query, Row, chart, dashboard, stat, table, totals
from promql import COSTS, JOB, RUNS, gained, or_zero, quantile, share

SPENT = "pyagent_cost_usd_total"
SAVED = "pyagent_cache_savings_usd_total"
UNPRICED = "pyagent_unpriced_calls_total"
REFUSED = "pyagent_budget_rejections_total"
BUDGET = f'{JOB}, pyagent_pattern=~"$pattern"'
ENDED = f'{RUNS}, pyagent_status!="suspended"'


def spend(title: str, label: str, what: str, *, traces: str | None = None) -> tuple[Panel, Panel]:
    """One way to split the bill: over time, and in all."""
    legend = f"{{{{{label}}}}}"
    return (
        chart(
            f"By {title}, over time",
            Query(gained(SPENT, COSTS, "$__interval", by=label), legend),
            description=f"US dollars spent in each span of time, by {what}.",
            unit="currencyUSD",
            bars=True,
            width=16,
            empty="nothing was spent in this time",
        ),
        totals(
            f"By {title}",
            Query(gained(SPENT, COSTS, "$__range", by=label), legend),
            description=f"US dollars spent in the time shown, by {what}.",
            unit="currencyUSD",
            empty="nothing was spent in this time",
            traces=traces,
        ),
    )


DASHBOARD = dashboard(
    "costs",
    "PyAgent: cost attribution",
    "Who spent what on which model: by tenant, pattern, phase, agent, model and provider. The "
    "figures are those of the runs' own results; calls without a known price are in none of them.",
    [
        variables.DATASOURCE,
        variables.JOB,
        variables.TENANT,
        variables.PATTERN,
        variables.MODEL,
        variables.SERVICE,
        variables.TRACES,
    ],
    stat(
        "Spent",
        or_zero(gained(SPENT, COSTS, "$__range")),
        "US dollars spent on calls to models in the time shown.",
        unit="currencyUSD",
    ),
    stat(
        "Per run",
        share(gained(SPENT, COSTS, "$__range"), gained("pyagent_runs_total", ENDED, "$__range")),
        "US dollars spent, by runs that ended. The model that is chosen limits the dollars only.",
        unit="currencyUSD",
        empty="no run ended",
    ),
    stat(
        "Saved by caches",
        or_zero(gained(SAVED, COSTS, "$__range")),
        "What tokens read from prompt caches would have cost more, in US dollars.",
        unit="currencyUSD",
    ),
    stat(
        "Saved, of the bill",
        f"{gained(SAVED, COSTS, '$__range')} /"
        f" ({gained(SAVED, COSTS, '$__range')} + {gained(SPENT, COSTS, '$__range')})",
        "The share of the bill that prompt caches took off.",
        unit="percentunit",
        empty="nothing was saved",
    ),
    stat(
        "Calls without a price",
        or_zero(gained(UNPRICED, COSTS, "$__range")),
        "Calls to models whose price nobody knows: they are in no sum here. Set one.",
        limits=(1, 100),
    ),
    stat(
        "Calls refused",
        or_zero(gained(REFUSED, RUNS, "$__range")),
        "Calls that were not made, for want of budget.",
        limits=(1, 100),
    ),
    Row("Who spends"),
    *spend("tenant", "pyagent_tenant", "tenant; those that are not allowed as labels are other"),
    *spend(
        "pattern",
        "pyagent_pattern",
        "the pattern that asked",
        traces="pyagent.pattern.${__field.labels.pyagent_pattern}",
    ),
    *spend("phase", "pyagent_phase", "what was done: planning, work, writing the answer"),
    *spend(
        "agent",
        "gen_ai_agent_name",
        "agent; those that a planner made up are other",
        traces="pyagent.agent.${__field.labels.gen_ai_agent_name}",
    ),
    Row("On what"),
    *spend(
        "model",
        "gen_ai_request_model",
        "the model that was asked for",
        traces="chat ${__field.labels.gen_ai_request_model}",
    ),
    *spend("provider", "gen_ai_provider_name", "provider"),
    table(
        "Top workers",
        Query(
            "topk(10, "
            + gained(
                SPENT,
                f'{COSTS}, pyagent_phase="worker"',
                "$__range",
                by="gen_ai_agent_name, gen_ai_request_model",
            )
            + ")"
        ),
        description="The ten dearest pairs of worker and model. A click finds their traces.",
        unit="currencyUSD",
        value="US dollars",
        columns={"gen_ai_agent_name": "Worker", "gen_ai_request_model": "Model"},
        traces="pyagent.agent.${__data.fields.Worker}",
    ),
    table(
        "Calls without a price",
        Query(
            gained(
                UNPRICED,
                COSTS,
                "$__range",
                by="gen_ai_agent_name, gen_ai_request_model, gen_ai_provider_name",
            )
        ),
        description="Which agents call models that nobody knows the price of.",
        unit="short",
        value="Calls",
        columns={
            "gen_ai_agent_name": "Agent",
            "gen_ai_request_model": "Model",
            "gen_ai_provider_name": "Provider",
        },
        traces="chat ${__data.fields.Model}",
        empty="every call has a price",
    ),
    Row("Savings and budgets"),
    chart(
        "Saved by caches",
        Query(
            gained(SAVED, COSTS, "$__interval", by="gen_ai_request_model"),
            "{{gen_ai_request_model}}",
        ),
        description="What tokens read from prompt caches would have cost more, in US dollars.",
        unit="currencyUSD",
        bars=True,
        width=8,
        empty="no model's cache was read in this time",
    ),
    chart(
        "How far budgets are used",
        Query(
            quantile(0.5, "pyagent_budget_used", BUDGET, by="gen_ai_workflow_name"),
            "{{gen_ai_workflow_name}} p50",
        ),
        Query(
            quantile(0.95, "pyagent_budget_used", BUDGET, by="gen_ai_workflow_name"),
            "{{gen_ai_workflow_name}} p95",
        ),
        description="The share of their budget in US dollars that runs had used when they ended.",
        unit="percentunit",
        limits=(0.8, 1),
        width=8,
        empty="no run with a budget ended in this time",
    ),
    chart(
        "Calls refused",
        Query(
            gained(REFUSED, RUNS, "$__interval", by="gen_ai_agent_name"), "{{gen_ai_agent_name}}"
        ),
        description="Calls that were not made for want of budget, by the agent that wanted them.",
        bars=True,
        width=8,
        empty="no call was refused in this time",
    ),
)
