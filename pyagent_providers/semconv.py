"""Every span, attribute and metric name this SDK emits, in one place.

The `gen_ai.*` names follow the OpenTelemetry GenAI conventions at revision v1.41 (their last
release in the core repository; all still "Development"). `pyagent.*` names are this SDK's own.
"""

from __future__ import annotations

from typing import Final, Literal

CONVENTIONS_REVISION: Final = "1.41.0"
SCOPE: Final = "pyagent"

Phase = Literal["plan", "worker", "synthesis", "route", "stage", "manage", "evaluate"]

# Span names
PATTERN_SPAN: Final = "pyagent.pattern."  # + the pattern's name
AGENT_SPAN: Final = "pyagent.agent."  # + the agent's name
TOOL_SPAN: Final = "execute_tool "  # + the tool's name

# gen_ai attributes
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
AGENT_NAME: Final = "gen_ai.agent.name"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_STOP: Final = "gen_ai.request.stop_sequences"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
OUTPUT_TYPE: Final = "gen_ai.output.type"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
USAGE_COST: Final = "gen_ai.usage.cost"  # what Langfuse reads; on inference spans only
TOKEN_TYPE: Final = "gen_ai.token.type"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
INFERENCE_DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"

# general attributes
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
OPENINFERENCE_KIND: Final = "openinference.span.kind"
USER_ID: Final = "user.id"

# pyagent attributes
PATTERN: Final = "pyagent.pattern"
PHASE: Final = "pyagent.phase"
RUN_ID: Final = "pyagent.run.id"
TENANT: Final = "pyagent.tenant"
PATH: Final = "pyagent.path"  # the patterns within the run's, and the agent: backend/coder
STEP: Final = "pyagent.step"  # the run's nth ask, from 1
TASK_ID: Final = "pyagent.task.id"  # the plan's assignment id
TASK_DEPENDS_ON: Final = "pyagent.task.depends_on"
ATTEMPT: Final = "pyagent.attempt"  # which try at the same question, from 1
ATTEMPTS: Final = "pyagent.attempts"
REPLAYED: Final = "pyagent.replayed"
STATUS: Final = "pyagent.status"
PLAN_WORKERS: Final = "pyagent.plan.workers"  # one name per assignment, in the plan's order
PLAN_TASKS: Final = "pyagent.plan.tasks"  # the assignment ids, in the same order
PLAN_DEPENDS_ON: Final = "pyagent.plan.depends_on"  # ids joined by ", ", in the same order
WORKERS_USED: Final = "pyagent.workers_used"
COST_USD: Final = "pyagent.cost.usd"
PRICE_SOURCE: Final = "pyagent.price.source"
PRICE_VERSION: Final = "pyagent.price.version"
UNPRICED: Final = "pyagent.unpriced.calls"  # attribute on roll-up spans, and the counter
PYAGENT_INPUT_TOKENS: Final = "pyagent.usage.input_tokens"  # roll-ups live outside gen_ai.usage
PYAGENT_OUTPUT_TOKENS: Final = "pyagent.usage.output_tokens"
CONTEXT_COMPRESSED: Final = "pyagent.context.compressed"  # what was shown in summary, by name
PLAN_REJECTED_EVENT: Final = "pyagent.plan.rejected"
PLAN_FAULTS: Final = "pyagent.plan.faults"

# metrics
OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
TOKEN_USAGE: Final = "gen_ai.client.token.usage"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
INVOKE_AGENT_DURATION: Final = "gen_ai.invoke_agent.duration"
INVOKE_WORKFLOW_DURATION: Final = "gen_ai.invoke_workflow.duration"
EXECUTE_TOOL_DURATION: Final = "gen_ai.execute_tool.duration"
COST_COUNTER: Final = "pyagent.cost.usd"
RETRIES: Final = "pyagent.retries"
CACHE_SAVINGS: Final = "pyagent.cache.savings.usd"
BUDGET_REJECTIONS: Final = "pyagent.budget.rejections"
BUDGET_USED: Final = "pyagent.budget.used"
RUNS: Final = "pyagent.runs"
RUNS_ACTIVE: Final = "pyagent.runs.active"
BREAKER_OPENED: Final = "pyagent.breaker.opened"
BREAKER_OPEN: Final = "pyagent.breaker.open"
EXPORT_FAILURES: Final = "pyagent.export.failures"
EXPORT_DROPPED: Final = "pyagent.export.dropped"

OTHER: Final = "other"  # for a label value that is not among the known ones

CLIENT_DURATION_BUCKETS: Final = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
TOKEN_BUCKETS: Final = tuple(4**n for n in range(14))
AGENT_DURATION_BUCKETS: Final = (
    0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6,
)  # fmt: skip
BUDGET_USED_BUCKETS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
WORKFLOW_DURATION_BUCKETS: Final = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
