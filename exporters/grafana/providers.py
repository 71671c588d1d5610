"""The dashboard "Providers": how fast models answer, what they refuse, what was done about it."""

from __future__ import annotations

import variables
from panels import Query, Row, chart, dashboard, stat
from promql import CALLS, ERRORS, NOT_CANCELLED, gained, or_zero, quantile, share

SECONDS = "gen_ai_client_operation_duration_seconds"
FIRST = "gen_ai_client_operation_time_to_first_chunk_seconds"
TOKENS = "gen_ai_client_token_usage_sum"
RETRIES = "pyagent_retries_total"
MODEL = "gen_ai_request_model"
SLOWED = f'{CALLS}, error_type="RateLimitError"'

DASHBOARD = dashboard(
    "providers",
    "PyAgent: providers",
    "How fast models answer, how much they read and write, what they refuse, and what was done.",
    [
        variables.DATASOURCE,
        variables.JOB,
        variables.MODEL,
        variables.SERVICE,
        variables.TRACES,
    ],
    stat(
        "Calls",
        or_zero(gained(f"{SECONDS}_count", CALLS, "$__range")),
        "Calls to models that ended in the time shown, well or not.",
    ),
    stat(
        "Failed",
        or_zero(
            share(
                gained(f"{SECONDS}_count", f"{CALLS}, {ERRORS}", "$__range"),
                gained(f"{SECONDS}_count", f"{CALLS}, {NOT_CANCELLED}", "$__range"),
            )
        ),
        "The share of calls that failed, before any retry. Cancelled calls have not failed.",
        unit="percentunit",
        limits=(0.05, 0.2),
    ),
    stat(
        "Told to slow down",
        or_zero(gained(f"{SECONDS}_count", SLOWED, "$__range")),
        "Calls that were answered with 429: too many requests or tokens.",
        limits=(1, 100),
    ),
    stat(
        "Retries",
        or_zero(gained(RETRIES, CALLS, "$__range")),
        "Attempts after the first at the same question.",
    ),
    stat(
        "p95",
        quantile(0.95, SECONDS, CALLS),
        "One call in twenty takes this long or longer, lately.",
        unit="s",
        limits=(10, 30),
        empty="no call ended lately",
    ),
    stat(
        "Taken to be down",
        or_zero(f"sum(pyagent_breaker_open{{{CALLS}}})"),
        "Models that no calls are sent to right now, after too many failures in a row.",
        limits=(1, 2),
    ),
    Row("How fast"),
    chart(
        "Latency",
        Query(quantile(0.5, SECONDS, CALLS, by=MODEL), "{{gen_ai_request_model}} p50"),
        Query(quantile(0.95, SECONDS, CALLS, by=MODEL), "{{gen_ai_request_model}} p95", True),
        description="Duration of one call, by model. A dot is a call's trace.",
        unit="s",
        limits=(10, 30),
    ),
    chart(
        "Time to the first piece",
        Query(quantile(0.5, FIRST, CALLS, by=MODEL), "{{gen_ai_request_model}} p50"),
        Query(quantile(0.95, FIRST, CALLS, by=MODEL), "{{gen_ai_request_model}} p95", True),
        description="Of streamed answers: how long until something can be read. A dot is a trace.",
        unit="s",
        empty="no answer was streamed in this time",
    ),
    Row("How much"),
    chart(
        "Calls",
        Query(gained(f"{SECONDS}_count", CALLS, "$__interval", by=MODEL), f"{{{{{MODEL}}}}}"),
        description="Calls that ended in each span of time, by model.",
        bars=True,
        width=8,
    ),
    chart(
        "Tokens read",
        Query(
            gained(TOKENS, f'{CALLS}, gen_ai_token_type="input"', "$__interval", by=MODEL),
            "{{gen_ai_request_model}}",
        ),
        description="Tokens of prompts, those read from caches included, by model.",
        bars=True,
        width=8,
    ),
    chart(
        "Tokens written",
        Query(
            gained(TOKENS, f'{CALLS}, gen_ai_token_type="output"', "$__interval", by=MODEL),
            "{{gen_ai_request_model}}",
        ),
        description="Tokens of answers, reasoning included, by model.",
        bars=True,
        width=8,
    ),
    Row("What goes wrong"),
    chart(
        "Errors",
        Query(
            gained(
                f"{SECONDS}_count",
                f"{CALLS}, {ERRORS}",
                "$__interval",
                by="gen_ai_provider_name, error_type",
            ),
            "{{gen_ai_provider_name}}: {{error_type}}",
        ),
        description="Calls that failed, by provider and kind of error.",
        bars=True,
        empty="no call failed in this time",
    ),
    chart(
        "Told to slow down",
        Query(gained(f"{SECONDS}_count", SLOWED, "$__interval", by=MODEL), f"{{{{{MODEL}}}}}"),
        description="Calls that were answered with 429, by model.",
        bars=True,
        empty="no provider asked to slow down",
    ),
    chart(
        "Retries",
        Query(gained(RETRIES, CALLS, "$__interval", by=MODEL), f"{{{{{MODEL}}}}}"),
        description="Attempts after the first at the same question, by model.",
        bars=True,
        width=8,
        empty="nothing was asked twice",
    ),
    chart(
        "Taken to be down",
        Query(f"sum by ({MODEL}) (pyagent_breaker_open{{{CALLS}}})", f"{{{{{MODEL}}}}}"),
        description="Circuit breakers that are open: nothing is sent until the model recovers.",
        width=8,
        empty="no model was ever taken to be down",
    ),
    chart(
        "Breakers opened",
        Query(
            gained("pyagent_breaker_opened_total", CALLS, "$__interval", by=MODEL),
            f"{{{{{MODEL}}}}}",
        ),
        description="How often a model was taken to be down.",
        bars=True,
        width=8,
        empty="no model was taken to be down",
    ),
)
