"""What a reader of the dashboards can choose."""

from __future__ import annotations

from panels import choice, source

DATASOURCE = source("datasource", "Metrics", "prometheus")
TRACES = source("traces", "Traces", "jaeger")
JOB = choice("job", "Job", "pyagent_runs_active", "job")
PATTERN = choice("pattern", "Pattern", "pyagent_runs_active", "pyagent_pattern")
TENANT = choice("tenant", "Tenant", "pyagent_runs_total", "pyagent_tenant")
MODEL = choice(
    "model", "Model", "gen_ai_client_operation_duration_seconds_count", "gen_ai_request_model"
)
SERVICE = choice("service", "Service (of traces)", "target_info", "service_name", several=False)
