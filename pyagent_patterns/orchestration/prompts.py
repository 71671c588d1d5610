"""What the orchestrator's models are told. Wording lives here; the order of things does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from pyagent_patterns.agent import Member, on_one_line
from pyagent_patterns.plan import Assignment, Plan
from pyagent_patterns.result import Outcome, OutcomeStatus
from pyagent_patterns.standing_in import finished_work
from pyagent_providers.base import OutputSchema
from pyagent_providers.hostile import free_tag

SYNTHESIS_ROLE = (
    "You write the final answer to a task from the work that specialists did for it. "
    "Answer the task itself, completely and in the form it asks for, as one coherent whole. "
    "Use what the specialists found; do not describe the process."
)


def plan_for_reading(planner: str, plan: Plan, usd: Decimal | None, wrong: Sequence[str]) -> str:
    """A plan as a person sees it who is to approve it; `wrong` is with the edit they made."""
    lines = [f"{planner} plans:"]
    for assignment in plan:
        after = f", after {', '.join(assignment.depends_on)}" if assignment.depends_on else ""
        lines.append(f"  {assignment.id} {assignment.worker}{after}: {assignment.subtask}")
    for agent in plan.agents:
        lines += [f"  new agent {agent.name}: {agent.role}", f"    told: {agent.prompt}"]
    lines = ["\n        ".join(line.splitlines()) for line in lines]  # none passes for another
    lines.append("Expected cost: " + ("not known" if usd is None else f"${usd:.4f}"))
    lines += [f"That edit cannot be run: {fault}" for fault in wrong]
    return "\n".join(lines)


def planning(task: str, workers: Sequence[Member], schema: OutputSchema) -> str:
    """The task, who can do what, and the form of the plan."""
    return f"""Break the task into assignments for these workers:
{_listed(workers)}

{_in_tag("task", task)}

{_HOW_TO_ASSIGN}

{_as_json(schema)}"""


def next_step(
    task: str, workers: Sequence[Member], schema: OutputSchema, outcomes: Sequence[Outcome]
) -> str:
    """The task, what has come of the work so far, and the form of what is to be done next."""
    if outcomes:
        step = (
            "Give the assignments of the next step, one or several; or an empty list if the task "
            f"can be answered from what is finished. {_HOW_TO_ASSIGN} {_ON_FINISHED_WORK}"
        )
    else:
        step = (
            "Give the assignments of the first step, one or several; you will see what comes of "
            f"them before you give the next. {_HOW_TO_ASSIGN}"
        )
    return f"""A task is done in steps by these workers:
{_listed(workers)}

{_in_tag("task", task)}

{_so_far(outcomes)}{step}

{_as_json(schema)}"""


def replanning(
    task: str, workers: Sequence[Member], schema: OutputSchema, outcomes: Sequence[Outcome]
) -> str:
    """The task, what came of the plan, and the form of what is to be done about what failed."""
    return f"""A task was given to these workers, and part of the work came to nothing:
{_listed(workers)}

{_in_tag("task", task)}

{_so_far(outcomes)}Plan what came to nothing anew, in another way or for another worker where \
that helps, and only that; or give an empty list if the task can be answered from what is \
finished. {_HOW_TO_ASSIGN} {_ON_FINISHED_WORK}

{_as_json(schema)}"""


def with_new_agents(question: str, left: int) -> str:
    """The same question, where the planner may define agents of its own."""
    return f"""{question}

Where no worker fits, you may define up to {left} new agents under "agents", each with a name, \
its role and its system prompt, and give them assignments like the others."""


def _so_far(outcomes: Sequence[Outcome]) -> str:
    """What is finished, and what came to nothing and why."""
    if not outcomes:
        return ""
    done = finished_work(outcomes) or "Nothing is finished."
    lost = "\n".join(
        f"{_lost_one(outcome)}\n  {on_one_line(outcome.error or '')}"
        for outcome in outcomes
        if outcome.output is None
    )
    failed = f"This came to nothing:\n{lost}\n\n" if lost else ""
    return f"What is finished so far:\n\n{done}\n\n{failed}"


_HOW_TO_ASSIGN = (
    "Each assignment goes to one worker and is done once. A worker sees only its own subtask and "
    "the outputs of the assignments it depends on, so make every subtask complete in itself. List "
    "in depends_on the ids of the assignments whose output it needs, and only those: all others "
    "run at the same time. Use only the workers the task needs; a worker may have several "
    "assignments."
)
_ON_FINISHED_WORK = (
    "Assignments may also depend on finished work, by its id. What does anew what came to nothing "
    "takes its id; all others take new ids."
)


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


def synthesis(task: str, outcomes: Sequence[Outcome], shortfalls: Sequence[str] = ()) -> str:
    """The task, every outcome with its worker, and what is missing and why."""
    notes = [
        (
            "This part of the work is missing. Do not make it up; say in the answer what is "
            "missing:",
            "\n".join(_lost_one(outcome) for outcome in outcomes if outcome.output is None),
        ),
        (
            "These outputs were cut off before their end. Say so in the answer where it matters:",
            _named(outcomes, "truncated"),
        ),
        (
            "These outputs did not pass their review. Use them with care, and say so where it "
            "matters:",
            _named(outcomes, "rejected"),
        ),
        (
            "The work is not complete, for these reasons. Say so in the answer:",
            "\n".join(f"- {why}" for why in shortfalls),
        ),
    ]
    told = "".join(f"\n{words}\n{listed}\n" for words, listed in notes if listed)
    return f"""{_in_tag("task", task)}

The specialists' work:

{finished_work(outcomes)}
{told}
Write the final answer to the task."""


def with_outputs(outcomes: Sequence[Outcome], outputs: Mapping[str, str]) -> list[Outcome]:
    """The same outcomes, with these outputs by id."""
    return [
        outcome
        if outputs.get(outcome.id) is outcome.output
        else replace(outcome, output=outputs.get(outcome.id))
        for outcome in outcomes
    ]


def stage(task: str, given: Mapping[str, str]) -> str:
    """The task, and what the stages before made of it, by who did."""
    if not given:
        return task
    tag = free_tag([task, *given.values()])
    before = "\n\n".join(
        f'<{tag} from="{name}">\n{output}\n</{tag}>' for name, output in given.items()
    )
    return f"""{_in_tag("task", task)}

What was done before:

{before}

Do your part of the task, building on that."""


def side_by_side(outputs: Mapping[str, str]) -> str:
    """Several outputs as one text."""
    return "\n\n".join(f"## {name}\n\n{output}" for name, output in outputs.items())


def routing(task: str, routes: Mapping[str, str], top_k: int, schema: OutputSchema) -> str:
    """The task, the routes it can take, and the form of the choice."""
    listed = "\n".join(
        f"- {name}: {what}" if what else f"- {name}" for name, what in routes.items()
    )
    how_many = "the one route" if top_k == 1 else f"up to {top_k} routes, the best first,"
    return f"""Choose {how_many} that fits the task best:
{listed}

{_in_tag("task", task)}

Give each route by its exact name, with your confidence from 0 to 1, and the reason. If none \
fits, give an empty list.

{_as_json(schema)}"""


def repair_route(question: str, answer: str, fault: str) -> str:
    """The same question, with the answer that was given and what is wrong with it."""
    return f"""{question}

This answer was given before:
{answer}

It cannot be used: {fault}. Choose again."""


def judging(task: str, work: str, criteria: str) -> str:
    """The work, what it was for, and what it is judged by."""
    tag = free_tag([task, work])
    by = f"\nIt must meet these criteria:\n{criteria}\n" if criteria else ""
    return f"""Judge whether this work does its task well enough.

{_in_tag("task", task)}

<{tag}>
{work}
</{tag}>
{by}
Accept it if it does. If it does not, say in reasons what must be changed, so that who did it can \
mend it from that alone."""


def feedback(work: str, reasons: str) -> str:
    """What is told with a question that is put again: what was done, and what is wrong with it."""
    tag = free_tag([work, reasons])
    return f"""You did this before:

<{tag}>
{work}
</{tag}>

It was sent back:
{reasons}

Do the whole again with that mended."""


def with_feedback(question: str, feedback: str | None) -> str:
    """A question, put again if there is feedback."""
    return question if feedback is None else f"{question}\n\n{feedback}"


def _listed(members: Sequence[Member]) -> str:
    return "\n".join(
        f"- {member.name}: {purpose}" if (purpose := member.purpose) else f"- {member.name}"
        for member in members
    )


def _in_tag(tag: str, text: str) -> str:
    """A text whose end is where its tag says, whatever it has in it."""
    tag = free_tag([text], tag)
    return f"<{tag}>\n{text}\n</{tag}>"


def _as_json(schema: OutputSchema) -> str:
    return f"Answer with JSON that follows this schema, and nothing else:\n{schema.text}"


def _lost_one(outcome: Outcome) -> str:
    return f"- {outcome.worker} ({outcome.id}), {outcome.status}: {outcome.assignment.subtask}"


def _named(outcomes: Sequence[Outcome], status: OutcomeStatus) -> str:
    return "\n".join(
        f"- {outcome.worker} ({outcome.id})" for outcome in outcomes if outcome.status == status
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The wording of an orchestration; replace one to say it otherwise."""

    planning: Callable[[str, Sequence[Member], OutputSchema], str] = planning
    next_step: Callable[[str, Sequence[Member], OutputSchema, Sequence[Outcome]], str] = next_step
    replanning: Callable[[str, Sequence[Member], OutputSchema, Sequence[Outcome]], str] = replanning
    subtask: Callable[[Assignment, Mapping[Assignment, str]], str] = subtask
    synthesis: Callable[[str, Sequence[Outcome], Sequence[str]], str] = synthesis


DEFAULT = Prompts()
