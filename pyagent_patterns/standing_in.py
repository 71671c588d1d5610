"""What a simpler pattern or agent is told that stands in for one that failed."""

from __future__ import annotations

from collections.abc import Sequence

from pyagent_providers.hostile import free_tag

from .result import Outcome


def hand_over(task: str, outcomes: Sequence[Outcome]) -> str:
    """The task, and all work that is done and paid for."""
    done = [outcome for outcome in outcomes if outcome.output is not None]
    if not done:
        return task
    tag = free_tag(outcome.output or "" for outcome in done)
    work = "\n\n".join(
        f'<{tag} from="{outcome.worker}" id="{outcome.id}">\n'
        f"Subtask: {outcome.assignment.subtask}\n\n{outcome.output}\n</{tag}>"
        for outcome in done
    )
    return f"""{task}

This part of the work is done already. Build on it:

{work}"""
