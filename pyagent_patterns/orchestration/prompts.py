"""What the orchestrator's models are told. Wording lives here; the order of things does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyagent_patterns.agent import Agent
from pyagent_patterns.plan import Assignment
from pyagent_patterns.result import Outcome
from pyagent_patterns.standing_in import finished_work
from pyagent_providers.base import OutputSchema
from pyagent_providers.hostile import free_tag

SYNTHESIS_ROLE = (
    "You write the final answer to a task from the work that specialists did for it. "
    "Answer the task itself, completely and in the form it asks for, as one coherent whole. "
    "Use what the specialists found; do not describe the process."
)


def planning(task: str, workers: Sequence[Agent], schema: OutputSchema) -> str:
    """The task, who can do what, and the form of the plan."""
    team = "\n".join(
        f"- {worker.name}: {worker.purpose}" if worker.purpose else f"- {worker.name}"
        for worker in workers
    )
    return f"""Break the task into assignments for these workers:
{team}

<task>
{task}
</task>

Each assignment goes to one worker and is done once. A worker sees only its own subtask and the \
outputs of the assignments it depends on, so make every subtask complete in itself. List in \
depends_on the ids of the assignments whose output it needs, and only those: all others run at \
the same time. Use only the workers the task needs; a worker may have several assignments.

Answer with JSON that follows this schema, and nothing else:
{schema.text}"""


def repair(question: str, answer: str, faults: Sequence[str]) -> str:
    """The same question, with the answer that was given and everything wrong with it."""
    listed = "\n".join(f"- {fault}" for fault in faults)
    return f"""{question}

This plan was given before:
{answer}

It cannot be run:
{listed}

Give the whole plan again with every one of these faults mended."""


def subtask(assignment: Assignment, outputs: Mapping[Assignment, str]) -> str:
    """The subtask, and the outputs it builds on."""
    if not outputs:
        return assignment.subtask
    tag = free_tag(outputs.values())
    given = "\n\n".join(
        f'<{tag} from="{source.worker}" id="{source.id}">\n{output}\n</{tag}>'
        for source, output in outputs.items()
    )
    return f"""{assignment.subtask}

You build on what was done before:

{given}"""


def synthesis(task: str, outcomes: Sequence[Outcome]) -> str:
    """The task, every outcome with its worker, and what is missing and why."""
    done = finished_work(outcomes)
    lost = "\n".join(
        f"- {outcome.worker} ({outcome.id}), {outcome.status}: {outcome.assignment.subtask}"
        for outcome in outcomes
        if outcome.output is None
    )
    cut_off = "\n".join(
        f"- {outcome.worker} ({outcome.id})"
        for outcome in outcomes
        if outcome.status == "truncated"
    )
    missing = (
        f"""
This part of the work is missing. Do not make it up; say in the answer what is missing:
{lost}
"""
        if lost
        else ""
    )
    incomplete = (
        f"""
These outputs were cut off before their end. Say so in the answer where it matters:
{cut_off}
"""
        if cut_off
        else ""
    )
    return f"""<task>
{task}
</task>

The specialists' work:

{done}
{missing}{incomplete}
Write the final answer to the task."""
