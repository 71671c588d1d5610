"""The patterns."""

from .orchestrator_workers import OrchestratorWorkers

__all__ = ["OrchestratorWorkers"]
