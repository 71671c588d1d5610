"""`pyagent run`: a team does a task, under the user's eyes."""

from __future__ import annotations

import uuid
from collections.abc import Generator, Mapping
from contextlib import AsyncExitStack, aclosing, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from pyagent_patterns.base import How, Pattern
from pyagent_patterns.durable import Runs, teams
from pyagent_patterns.errors import NobodyToAskError, PyAgentError
from pyagent_patterns.event_json import error_record, event_record
from pyagent_patterns.events import CallSettled, Event, RunDone, TextDelta
from pyagent_patterns.form import Unfit
from pyagent_patterns.people import ask_at_terminal, at_terminal
from pyagent_patterns.result import Result
from pyagent_providers.errors import ProviderError
from pyagent_providers.types import JSONValue

from . import arguments
from .going_on import account, accounted, carry_out_runs, explained
from .options import Dollars, InputsFile, InputsGiven, Tenant, User
from .screen import Screen
from .stores import DB_VARIABLE, DEFAULT_DB, Place


def run(
    team: Annotated[
        str,
        typer.Argument(
            metavar="TEAM", help="package.module:object, path/to/file.py:object or a YAML file."
        ),
    ],
    task: Annotated[
        str | None,
        typer.Argument(metavar="TASK", help="What to do; not needed where a file says it."),
    ] = None,
    inputs_given: InputsGiven = None,
    inputs_file: InputsFile = None,
    budget: Dollars = None,
    tenant: Tenant = None,
    user: User = None,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Add its trace to this file, for `pyagent ui`."),
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="The answer as it comes.")] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="The result as JSON; with --stream, a line for each event."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    db: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Keep the run in this journal.", envvar=DB_VARIABLE),
    ] = None,
    run_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help=f"Go on with this run, or begin it; kept in {DEFAULT_DB}."),
    ] = None,
) -> None:
    """Have a team do a task; the answer is all that is on stdout."""
    screen = Screen()

    async def work() -> None:
        found, whole, inputs = _asked(team, task, arguments.inputs(inputs_file, inputs_given))
        how = How(inputs=inputs, budget=budget, tenant=tenant, user=user)
        if at_terminal():
            how["human"] = ask_at_terminal
        async with AsyncExitStack() as stack:
            if db is not None or run_id is not None:
                place = Place(db or DEFAULT_DB)
                runs = stack.enter_context(Runs(place.file))
                known_as = run_id or uuid.uuid4().hex
                how["durable"], how["run_id"] = runs, known_as
                named = None if teams.locate(found) else team
                again = explained(screen, place, runs, known_as, team_name=named)
                await stack.enter_async_context(again)
            elif not quiet:
                stack.enter_context(accounted(screen))
            if as_json:
                stack.enter_context(_errors_as_json(screen, how.get("run_id"), lines=stream))
            if as_json and stream:
                await _tell(screen, found, whole, how)
                return
            try:
                result = await _done(screen, found, whole, how, stream=stream, quiet=quiet)
            except NobodyToAskError as error:
                error.add_note("with --run-id ID the run is kept, and waits for `pyagent approve`")
                raise
        if as_json:
            screen.json(result.to_dict())
        elif not stream:
            screen.answer(result.output)
        if not quiet:
            account(screen, result)

    carry_out_runs(screen, work(), trace)


async def _tell(screen: Screen, team: Pattern, task: str, how: How) -> None:
    """Each event as a line of JSON."""
    async with aclosing(team.stream(task, **how)) as events:
        async for event in events:
            screen.json_line(event_record(event))


async def _done(
    screen: Screen, team: Pattern, task: str, how: How, *, stream: bool, quiet: bool
) -> Result:
    """The result, with what happens shown meanwhile."""
    # A display that keeps up and an answer that grows cannot share a terminal.
    with screen.watch(live=not (stream and screen.is_terminal)) as progress:
        if not stream:
            how["on_event"] = None if quiet else progress
            return await team.run(task, **how)
        answer = _Answer(screen)
        async with aclosing(team.stream(task, **how)) as events:
            async for event in events:
                if not isinstance(event, TextDelta):
                    screen.fresh_line()
                answer.take(event)
                if not quiet:
                    progress(event)
    return answer.result


class _Answer:
    """The run's answer, written as it comes. One that breaks off, or is not taken, begins anew."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._step: int | None = None
        self._written = ""
        self._result: Result | None = None

    @property
    def result(self) -> Result:
        assert self._result is not None  # noqa: S101 - how every stream ends
        return self._result

    def take(self, event: Event) -> None:
        match event:
            case TextDelta(closing=True):
                if event.step != self._step:
                    self._begin_anew()
                    self._step = event.step
                self._write(event.text)
            case CallSettled() if event.call.step == self._step and event.call.status != "ok":
                self._step = None
            case RunDone(result=result):
                if self._written != result.output:
                    self._begin_anew()
                    self._write(result.output)
                self._screen.fresh_line()
                self._result = result
            case _:
                pass

    def _write(self, text: str) -> None:
        self._written += text
        self._screen.piece(text)

    def _begin_anew(self) -> None:
        if self._written:
            self._screen.fresh_line()
            if not self._screen.is_terminal:
                self._screen.piece("\n")
            self._screen.note("the answer begins anew", "yellow")
        self._written = ""


@contextmanager
def _errors_as_json(screen: Screen, run_id: str | None, *, lines: bool) -> Generator[None]:
    try:
        yield
    except (PyAgentError, ProviderError) as error:
        record = error_record(run_id, error)
        if lines:
            screen.json_line(record)
        else:
            screen.json(record)
        raise


def _asked(name: str, task: str | None, inputs: JSONValue) -> tuple[Pattern, str, JSONValue]:
    """The team, what it is to do, and what its run is given. Raises typer.BadParameter."""
    definition = arguments.definition(name) if arguments.is_file(name) else None
    team = arguments.team_called(name) if definition is None else definition.team
    if team.inputs is not None:
        try:
            team.inputs.check(inputs)
        except Unfit as unfit:
            raise typer.BadParameter(f"the inputs do not fit: {unfit}") from None
    if task is None and definition is not None and definition.has_objective:
        if inputs is not None and not isinstance(inputs, Mapping):
            raise typer.BadParameter("an objective's inputs are a JSON object")
        try:
            whole = definition.task(inputs)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        return team, whole, inputs if team.inputs is not None else None
    if task is None or not task.strip():
        raise typer.BadParameter(f"say what to do: pyagent run {name} TASK")
    return team, task, inputs
