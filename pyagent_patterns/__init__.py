"""Orchestration patterns whose every call is seen, priced and recorded."""

from .base import Agent, Outcome, Pattern, Result, RetryPolicy
from .errors import AgentError, PlanError, PyAgentError, WorkersFailedError
from .orchestration import OrchestratorWorkers

__all__ = [
    "Agent",
    "OrchestratorWorkers",
    "Pattern",
    "Result",
    "Outcome",
    "RetryPolicy",
    "PyAgentError",
    "AgentError",
    "PlanError",
    "WorkersFailedError",
]
