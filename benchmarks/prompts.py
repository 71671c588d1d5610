"""What every contender asks: the same task, roles and size of prompt."""

from __future__ import annotations

TASK = "Build a production-ready async HTTP client with pooling, retries and timeouts."
PLANNER = "You plan. Split the task into subtasks and give each to the worker it suits."
WORKER = "You are an experienced engineer. Do your subtask, briefly and completely."
