"""Orchestration patterns whose every call is seen, priced and recorded."""

from .base import Agent, Budget, Outcome, Pattern, Result, RetryPolicy, Timeouts
from .errors import (
    AgentError,
    BudgetError,
    BudgetExceeded,
    PlanError,
    PyAgentError,
    RunAborted,
    RunTimeoutError,
    WorkersFailedError,
)
from .orchestration import OrchestratorWorkers
from .traffic import Breaker, RateLimit, Traffic

__all__ = [
    "Agent",
    "OrchestratorWorkers",
    "Pattern",
    "Result",
    "Outcome",
    "RetryPolicy",
    "Timeouts",
    "Budget",
    "Traffic",
    "RateLimit",
    "Breaker",
    "PyAgentError",
    "AgentError",
    "BudgetExceeded",
    "BudgetError",
    "PlanError",
    "RunAborted",
    "RunTimeoutError",
    "WorkersFailedError",
]
