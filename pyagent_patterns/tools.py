"""What a model may call: typed functions as tools, and the port for what brings several tools."""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Final,
    Literal,
    Protocol,
    TypeAlias,
    cast,
    get_args,
    get_type_hints,
    overload,
    runtime_checkable,
)

from pyagent_providers.hostile import shown
from pyagent_providers.types import JSONObject, JSONValue, ToolSpec

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

Effect = Literal["read", "idempotent", "unsafe"]

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")  # what every provider accepts


class ToolError(Exception):
    """Raised by a tool: the call failed, and the message says to the model why."""


class ToolArgumentsError(ToolError):
    """The arguments do not fit the tool. It was not run; the message lists all `faults`."""

    def __init__(self, tool: str, faults: Sequence[str]) -> None:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        super().__init__(shown(f"the arguments do not fit the tool {tool!r}:\n{listed}"))
        self.tool = tool
        self.faults = tuple(faults)


@dataclass(frozen=True, eq=False, kw_only=True)
class Tool:
    """Something a model may call. Make one of a typed function with `@tool`.

    `parameters` is the JSON Schema of an object, and `run` is given such an object. What it
    raises fails the call: a `ToolError` with a message that is meant for the model.

    `effect` says what running it twice does: "read" changes nothing, "idempotent" changes nothing
    more the second time, "unsafe" may. With `approve` a person is asked before each call.
    `timeout` is in seconds, for each call; the run holds to these three, `call` does not.

    `faults` lists what is wrong with arguments, beyond their being an object; nothing, for a tool
    that finds out when it runs. `made_of` is the function or the sandbox behind it, for who
    writes it down.

    Raises ValueError for a name that not every provider accepts: up to 64 letters, digits, "_"
    and "-", the first a letter or "_".
    """

    name: str
    description: str
    parameters: JSONObject
    run: Callable[[JSONObject], Awaitable[str]]
    faults: Callable[[JSONObject], Sequence[str]] = lambda arguments: ()
    effect: Effect = "unsafe"
    approve: bool = False
    timeout: float | None = None
    made_of: object = None

    def __post_init__(self) -> None:
        check_tool_name(self.name)
        if self.effect not in get_args(Effect):
            raise ValueError(
                f"tool {self.name!r}: effect must be 'read', 'idempotent' or 'unsafe'; "
                f"got {self.effect!r}"
            )
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(
                f"tool {self.name!r}: timeout must be more than 0 seconds, or None; "
                f"got {self.timeout!r}"
            )

    def __repr__(self) -> str:
        return f"Tool({self.name!r}, effect={self.effect!r})"

    @property
    def spec(self) -> ToolSpec:
        """What the model is told of it."""
        return ToolSpec(self.name, self.description, self.parameters)

    def check(self, arguments: str) -> JSONObject:
        """The arguments in the JSON text that the model wrote; no text is no arguments.

        Raises `ToolArgumentsError` if it is no JSON object, or one that does not fit.
        """
        from pydantic_core import from_json

        try:
            # Unlike `json.loads` this takes no NaN, no half of a surrogate pair, no deep nesting:
            # nothing that could not be stored and sent again.
            read: JSONValue = from_json(arguments or "{}", allow_inf_nan=False)
        except (ValueError, TypeError) as error:  # TypeError: the text itself has such a half
            raise ToolArgumentsError(self.name, [f"this is not JSON: {error}"]) from error
        if not isinstance(read, dict):
            raise ToolArgumentsError(self.name, ["write them as one JSON object"])
        if faults := self.faults(read):
            raise ToolArgumentsError(self.name, faults)
        return read

    async def call(self, arguments: JSONObject) -> str:
        """Run it on checked arguments; the text for the model. What it raises goes through."""
        text = await self.run(arguments)
        # A file name or a broken decoder may have put in what no provider and no store can take.
        return text.encode("utf-8", "replace").decode()


def check_tool_name(name: str) -> str:
    """The name, if every provider accepts it; raises ValueError otherwise."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            "a tool's name has up to 64 letters, digits, '_' and '-', and does not start with a "
            f"digit or '-'; got {name!r}: give it another, with name="
        )
    return name


@runtime_checkable
class Toolset(Protocol):
    """Something that brings several tools while it is open, such as an MCP server.

    `name` is for errors and for the record. A run opens it when the first agent that has it is
    asked, and closes it when the run ends; several runs may have it open at once.
    """

    name: str

    def open(self) -> AbstractAsyncContextManager[Sequence[Tool]]: ...


Function: TypeAlias = "Callable[..., object]"


@overload
def tool(function: Function, /) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    effect: Effect = "unsafe",
    approve: bool = False,
    timeout: float | None = None,
) -> Callable[[Function], Tool]: ...
def tool(
    function: Function | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    effect: Effect = "unsafe",
    approve: bool = False,
    timeout: float | None = None,
) -> Tool | Callable[[Function], Tool]:
    """Make a `Tool` of a typed function, sync or async; a decorator, bare or with options.

    Name and description are the function's own, the latter its docstring, unless given here. The
    types of its parameters become the JSON Schema; describe one with
    `Annotated[int, Field(description="...")]`. A pydantic model or a dataclass is an object.

    A string it returns is the model's to read as it is; None is "done"; anything else is written
    as JSON. An exception it raises fails the call; a `ToolError` tells the model why.

    A sync function runs in a thread, with the caller's context variables. It cannot be stopped:
    cancelled or timed out, it goes on unheard.

    Raises TypeError for a function whose parameters a model cannot fill in: without a type, of a
    type that JSON has no words for, positional-only, `*args` or `**kwargs`; ValueError as `Tool`.
    """

    def make(function: Function) -> Tool:
        own = name or getattr(function, "__name__", repr(function))
        arguments = _Arguments(function, own)
        return Tool(
            name=own,
            description=inspect.getdoc(function) or "" if description is None else description,
            parameters=arguments.schema(),
            run=functools.partial(_run, own, function, arguments),
            faults=arguments.faults,
            effect=effect,
            approve=approve,
            timeout=timeout,
            made_of=function,
        )

    return make if function is None else make(function)


def as_tool(candidate: Tool | Function) -> Tool:
    """A tool as it is, or a tool of a plain typed function. Raises TypeError for anything else."""
    return candidate if isinstance(candidate, Tool) else tool()(candidate)


class _Arguments:
    """What a function takes: its JSON Schema, and JSON values turned into what it expects."""

    def __init__(self, function: Function, name: str) -> None:
        self._tool = name
        self._adapter = _adapter(function, name)

    def schema(self) -> JSONObject:
        """The JSON Schema of the arguments."""
        from pydantic.errors import PydanticInvalidForJsonSchema
        from pydantic.json_schema import PydanticJsonSchemaWarning

        with warnings.catch_warnings():
            # A default that is not JSON is left out of the schema, which is all we want.
            warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
            try:
                schema = self._adapter.json_schema()
            except PydanticInvalidForJsonSchema as error:
                raise _unfit(self._tool, _NO_WORDS + error.message) from error
        return cast(JSONObject, _plain(schema))

    def faults(self, given: JSONObject) -> Sequence[str]:
        """All that is wrong with these arguments."""
        try:
            self.bind(given)
        except ToolArgumentsError as error:
            return error.faults
        return ()

    def bind(self, given: JSONObject) -> tuple[tuple[object, ...], dict[str, object]]:
        """Positional and keyword arguments for the function."""
        from pydantic import ValidationError
        from pydantic_core import to_json

        try:
            # As JSON again: what is strict about types is told that a date comes as a string.
            return self._adapter.validate_json(to_json(given))
        except ValidationError as error:
            raise ToolArgumentsError(self._tool, self._listed(error)) from error

    def _listed(self, error: ValidationError) -> list[str]:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        more = len(faults) - _LISTED
        return [
            *(_fault(fault["loc"], fault["type"], fault["msg"]) for fault in faults[:_LISTED]),
            *([f"and {more} more"] if more > 0 else []),
        ]


_LISTED = 20  # faults that a model is told at once; a long list of wrong values has thousands


def _adapter(
    function: Function, name: str
) -> TypeAdapter[tuple[tuple[object, ...], dict[str, object]]]:
    """Validates a function's arguments without calling it."""
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    if not inspect.isfunction(function) and not inspect.ismethod(function):
        raise TypeError(
            "a tool is a typed function, one decorated with @tool, or an agent's or pattern's "
            f"as_tool(); got {function!r}"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise _unfit(name, "it is a generator; return the whole result instead")
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise _unfit(name, f"it takes '{parameter}'; name each parameter")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise _unfit(name, f"{parameter.name!r} is positional-only, and a model goes by names")
        if parameter.annotation is parameter.empty:
            raise _unfit(name, f"{parameter.name!r} has no type; annotate it")

    def bound(*args: object, **kwargs: object) -> object:
        return args, kwargs

    # Without that of the result: it is not ours, and may name what only a type checker knows.
    bound.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    try:
        known = inspect.unwrap(function).__globals__
        bound.__annotations__ = get_type_hints(bound, known, include_extras=True)
    except NameError as error:
        raise _unfit(name, f"{error}; define what its types name at the top of a module") from error
    bound.__signature__ = signature  # type: ignore[attr-defined]
    try:
        return TypeAdapter(bound)  # type: ignore[arg-type]
    except PydanticUserError as error:
        raise _unfit(name, _NO_WORDS + error.message.splitlines()[0]) from error


_NO_WORDS: Final = "it takes a type that JSON has no words for: "


def _unfit(name: str, why: str) -> TypeError:
    return TypeError(f"a model cannot call {name!r}: {why}")


def _fault(location: Sequence[int | str], kind: str, message: str) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    if kind == "unexpected_keyword_argument":
        message = "there is no such argument"
    return f"{path}: {message[:1].lower()}{message[1:]}"


def _plain(schema: JSONValue) -> JSONValue:
    """A schema in the words that all providers know, and without pydantic's titles."""
    if not isinstance(schema, Mapping):
        return [_plain(s) for s in schema] if isinstance(schema, list) else schema
    plain: dict[str, JSONValue] = {}
    for word, value in schema.items():
        match word:
            case "title" | "discriminator":
                pass
            case "properties" | "$defs" if isinstance(value, Mapping):  # names, not words
                plain[word] = {name: _plain(inner) for name, inner in value.items()}
            case "const":
                plain["enum"] = [value]
            case "oneOf":  # of a tagged union, whose tags tell its members apart
                plain["anyOf"] = _plain(value)
            case "default" | "enum" | "examples":
                plain[word] = value
            case _:
                plain[word] = _plain(value)
    return plain


async def _run(name: str, function: Function, arguments: _Arguments, given: JSONObject) -> str:
    """Call the function, in a thread unless it is async, and write its result as text."""
    args, kwargs = arguments.bind(given)
    if inspect.iscoroutinefunction(function):
        result = await function(*args, **kwargs)
    else:
        result = await asyncio.to_thread(_in_thread, function, args, kwargs)
        if inspect.isawaitable(result):  # an async function behind a plain wrapper
            result = await result
    if result is None:
        return "done"
    if isinstance(result, str):
        return result
    from pydantic_core import PydanticSerializationError, to_json

    try:
        return to_json(result).decode()
    except PydanticSerializationError as error:
        raise TypeError(
            f"tool {name!r} returned a {type(result).__name__}, which cannot be written as JSON: "
            "return a string, or values that can"
        ) from error


def _in_thread(function: Function, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
    try:
        return function(*args, **kwargs)
    except StopIteration as error:
        # A future cannot hold one: whoever waits for it would wait for ever.
        raise RuntimeError("the tool raised StopIteration") from error
