"""The work that is done, as it is handed over to who goes on from it."""

from __future__ import annotations

from collections.abc import Sequence

from pyagent_providers.hostile import free_tag

from .result import Outcome


def finished_work(outcomes: Sequence[Outcome]) -> str:
    """Every output with its worker and subtask; empty when there is none."""
    told = [(o.output, o.assignment.subtask, o.error) for o in outcomes]  # wherever it is told
    tag = free_tag([text for texts in told for text in texts if text])
    return "\n\n".join(
        [
            f'<{tag} from="{outcome.worker}" id="{outcome.id}">\n'
            f"Subtask: {outcome.assignment.subtask}\n\n{outcome.output}\n</{tag}>"
            for outcome in outcomes
            if outcome.output is not None
        ]
    )


def hand_over(task: str, outcomes: Sequence[Outcome]) -> str:
    """What a simpler pattern or agent is told that stands in for one that failed."""
    work = finished_work(outcomes)
    if not work:
        return task
    return f"""{task}

This part of the work is done already. Build on it:

{work}"""
