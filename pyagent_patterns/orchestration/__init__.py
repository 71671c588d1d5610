"""The patterns."""

from .hierarchical import Hierarchical, Team
from .loop import Loop, loop
from .orchestrator_workers import OrchestratorWorkers
from .parallel import Parallel, parallel
from .pipeline import Pipeline
from .prompts import Prompts
from .review import Review, Verdict
from .router import Router
from .routes import Choice, EmbeddingClassifier, Route

__all__ = [
    "OrchestratorWorkers",
    "Pipeline",
    "Router",
    "Route",
    "Choice",
    "EmbeddingClassifier",
    "Hierarchical",
    "Team",
    "Parallel",
    "parallel",
    "Loop",
    "loop",
    "Review",
    "Verdict",
    "Prompts",
]
